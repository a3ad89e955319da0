"""Readings on their way into the journal: requests that come together become durable together.

A commit to the disk takes about as long for one reading as for a thousand. So one thread writes, and what arrives while it
writes waits for the next group; each request is answered when its own readings are on the disk.
"""

import queue
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from features.errors import VigilError
from serving.identity.identities import Identities
from serving.observability.metrics import Metrics
from serving.records.journal import Journal, Received

_MOST_WAITING: Final = 1_000  # requests
_MOST_WAITING_READINGS: Final = 50_000  # in them: memory is bounded, too
_MOST_READINGS: Final = 10_000  # written as one group, or a little more


class OverloadedError(VigilError):
    """More is sent than can be written; nothing of this request was kept."""


@dataclass
class _Request:
    readings: Sequence[Mapping[str, Any]]
    identities: Mapping[str, str]
    answer: "Future[list[Received]]" = field(default_factory=Future)


class Intake:
    """Writes readings into one journal, group after group."""

    def __init__(self, journal: Journal, identities: Identities, metrics: Metrics) -> None:
        self._journal = journal
        self._identities = identities
        self._metrics = metrics
        self._waiting: queue.Queue[_Request | None] = queue.Queue(_MOST_WAITING)
        self._readings = 0  # that wait
        self._counting = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="intake", daemon=True)
        self._thread.start()

    def submit(self, readings: Sequence[Mapping[str, Any]], identities: Mapping[str, str]) -> "Future[list[Received]]":
        """What became of each reading, once that is on the disk.

        Args:
            readings: as for :meth:`serving.records.journal.Journal.append`.
            identities: identifiers by pseudonym.

        Raises:
            OverloadedError: too many requests wait already.
        """
        request = _Request(readings, identities)
        request.answer.set_running_or_notify_cancel()  # who waits no longer must not hinder those in his group
        with self._counting:
            if self._waiting.full() or self._readings + len(readings) > _MOST_WAITING_READINGS:
                raise OverloadedError("observations: more than can be written; send them again later")
            self._waiting.put(request)
            self._readings += len(readings)
        return request.answer

    def stop(self) -> None:
        """Write what waits, and end."""
        self._waiting.put(None)
        self._thread.join()

    def _run(self) -> None:
        while group := self._next():
            readings = [reading for request in group for reading in request.readings]
            with self._counting:
                self._readings -= len(readings)
            try:
                results = self._journal.append(readings, first=partial(self._identify, group))
            except Exception as error:  # noqa: BLE001 - whoever waits for it is told
                for request in group:
                    request.answer.set_exception(error)
                continue
            for request in group:
                request.answer.set_result(results[: len(request.readings)])
                results = results[len(request.readings) :]
            self._metrics.received(result for request in group for result in request.answer.result())

    def _identify(self, group: Sequence[_Request]) -> None:
        """Before a reading is kept it is kept whose it is, also of those whom retention has forgotten."""
        self._identities.keep({code: identifier for request in group for code, identifier in request.identities.items()})

    def _next(self) -> list[_Request]:
        """The requests that wait, at least one; none: it is time to end."""
        request = self._waiting.get()
        group: list[_Request] = []
        readings = 0
        while request is not None:
            group.append(request)
            readings += len(request.readings)
            if readings >= _MOST_READINGS or self._waiting.empty():
                break
            request = self._waiting.get()
        if request is None and group:
            self._waiting.put(None)  # end after these
        return group
