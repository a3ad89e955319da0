"""Group commit: observations of requests that arrive together become durable together.

A commit to the disk takes about as long for one observation as for a thousand. So one thread writes, and what arrives meanwhile
waits for the next group. Each request is answered when its own observations are on the disk.
"""

import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Final

from vigil.features.declarations import UNDECLARED, Declarations
from vigil.features.errors import VigilError
from vigil.serving.identity.identities import Identities
from vigil.serving.observability.metrics import Metrics
from vigil.serving.records.journal import Journal
from vigil.serving.records.journal_rows import Receipt

_MAX_REQUESTS: Final = 1_000  # waiting
_MAX_OBSERVATIONS: Final = 50_000  # in them: memory is bounded, too
_GROUP_OBSERVATIONS: Final = 10_000  # written as one group, or a little more


class OverloadedError(VigilError):
    """More arrives than can be written; nothing of this request was stored."""


@dataclass
class _Request:
    observations: Sequence[Mapping[str, Any]]
    identifiers: Mapping[str, str]
    check: Callable[[], None]
    declared: Declarations
    answer: "Future[list[Receipt]]" = field(default_factory=Future)


class GroupCommit:
    """Writes observations into one journal, group after group."""

    def __init__(self, journal: Journal, identities: Identities, metrics: Metrics) -> None:
        self._journal = journal
        self._identities = identities
        self._metrics = metrics
        self._waiting: queue.Queue[_Request | None] = queue.Queue(_MAX_REQUESTS)
        self._observations = 0  # waiting
        self._counting = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="group commit", daemon=True)
        self._thread.start()

    def submit(
        self,
        observations: Sequence[Mapping[str, Any]],
        identifiers: Mapping[str, str],
        check: Callable[[], None] = lambda: None,
        declared: Declarations = UNDECLARED,
    ) -> "Future[list[Receipt]]":
        """Return a future of what became of each observation, done when they are on the disk.

        Args:
            observations: as for :meth:`vigil.serving.records.journal.Journal.append`.
            identifiers: by subject key.
            check: called inside the transaction, before anything is written; if it raises, the request is refused with that
                error, and the others of the group go on.
            declared: what sources declare; for the whole group, that of its latest request counts.

        Raises:
            OverloadedError: too many requests are waiting already.
        """
        request = _Request(observations, identifiers, check, declared)
        request.answer.set_running_or_notify_cancel()  # a caller who stops waiting must not hinder the others of the group
        with self._counting:
            if self._waiting.full() or self._observations + len(observations) > _MAX_OBSERVATIONS:
                raise OverloadedError("observations: more than can be written; send them again later")
            self._waiting.put(request)
            self._observations += len(observations)
        return request.answer

    def stop(self) -> None:
        """Write what is waiting, and end."""
        self._waiting.put(None)
        self._thread.join()

    def _run(self) -> None:
        while group := self._next_group():
            with self._counting:
                self._observations -= sum(len(request.observations) for request in group)
            admitted: list[_Request] = []
            try:
                receipts = self._journal.append(
                    lambda: self._admit(group, admitted),  # noqa: B023 - called at once
                    group[-1].declared,
                )
            except Exception as error:  # noqa: BLE001 - every waiting caller gets it
                for request in group:
                    if not request.answer.done():
                        request.answer.set_exception(error)
                continue
            for request in admitted:
                request.answer.set_result(receipts[: len(request.observations)])
                receipts = receipts[len(request.observations) :]
            self._metrics.count_receipts(receipt for request in admitted for receipt in request.answer.result())

    def _admit(self, group: Sequence[_Request], admitted: list[_Request]) -> list[Mapping[str, Any]]:
        """Check each request; store the identifiers of the admitted ones, and return their observations.

        It runs inside the journal's transaction, so no patient moves between the check and the write. An identifier is stored
        before an observation, also for patients removed by retention.
        """
        admitted.clear()
        for request in group:
            try:
                request.check()
            except VigilError as error:
                request.answer.set_exception(error)
            else:
                admitted.append(request)
        self._identities.store({key: name for request in admitted for key, name in request.identifiers.items()})
        return [observation for request in admitted for observation in request.observations]

    def _next_group(self) -> list[_Request]:
        """Return the waiting requests, at least one; none: it is time to end."""
        request = self._waiting.get()
        group: list[_Request] = []
        observations = 0
        while request is not None:
            group.append(request)
            observations += len(request.observations)
            if observations >= _GROUP_OBSERVATIONS or self._waiting.empty():
                break
            request = self._waiting.get()
        if request is None and group:
            self._waiting.put(None)  # end after these
        return group
