"""Sends notifications to the endpoints of subscriptions, each by itself: one that does not answer delays no other.

It runs in a thread of the process that rescores. An event is sent until its endpoint takes it (2xx), and only then that is
stored: after a crash in between it is sent again, with the same number. The pauses between attempts grow; none is the last.
"""

import asyncio
import json
import logging
import ssl
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import httpx

from vigil.features.errors import VigilError
from vigil.serving.auth.tokens import Caller
from vigil.serving.fhir.outcomes import MEDIA_TYPE
from vigil.serving.fhir.settings import FhirSettingsFile
from vigil.serving.fhir.subscriptions.header import open_header
from vigil.serving.fhir.subscriptions.notifications import NotificationType, Told, notification, status_parameters
from vigil.serving.fhir.subscriptions.numbering import Numbering
from vigil.serving.fhir.subscriptions.telling import Telling
from vigil.serving.observability.logs import error_location
from vigil.serving.observability.metrics import Metrics
from vigil.serving.records.subscriptions import Subscription, Subscriptions
from vigil.serving.records.timestamps import microsecond, present

logger = logging.getLogger("vigil.subscriptions")

LOOK_SECONDS: Final = 0.25  # between looks for what is new
_LOOK_ANYWAY_SECONDS: Final = 5.0  # time passes, and settings change
_TIMEOUT_SECONDS: Final = 10  # for an answer, where the client says nothing
_MAX_EVENTS: Final = 20  # of a notification, likewise
_LONGEST_PAUSE_SECONDS: Final = 300
_MOST_BYTES: Final = 16_384  # of an answer; a longer one is cut off, and so is the connection
_UNREGISTERED: Final = "the client's registration does not allow this any more"
_UNLISTED: Final = "the endpoint is not among subscription_endpoints any more"
_UNREADABLE: Final = "the header cannot be decrypted; send it again"
_UNMADE: Final = "the notification could not be made"


@dataclass(frozen=True, slots=True)
class _Due:
    """What has to be done for a subscription now.

    Attributes:
        bundle: to be sent; None: nothing is.
        progress: what is stored once it was taken.
        error: why it cannot be sent.
    """

    bundle: dict[str, Any] | None
    progress: Mapping[str, Any] = field(default_factory=dict)
    error: str | None = None


class _Worker:
    """The task that sends to one endpoint. ``news``: something may be due. ``edited``: the client wrote the subscription."""

    def __init__(self, version: int) -> None:
        self.version = version
        self.news, self.edited = asyncio.Event(), asyncio.Event()
        self.task: asyncio.Task[None] | None = None

    def wake(self, subscription: Subscription | None, *, anyway: bool) -> None:
        """Let it look again, if anything is new, or ``anyway``. Without a subscription, it is not live any more."""
        version = 0 if subscription is None else subscription.version
        if version != self.version:
            self.edited.set()
            self.version = version
        if anyway or self.edited.is_set() or (subscription is not None and subscription.waiting):
            self.news.set()


class Deliverer:
    """The deliverer of one home. Only one may run at a time."""

    def __init__(
        self,
        *,
        subscriptions: Subscriptions,
        telling: Telling,
        settings: FhirSettingsFile,
        secret: bytes,
        home: Path,
        metrics: Metrics,
    ) -> None:
        """Deliver for a home.

        Args:
            subscriptions: what clients want.
            telling: makes what they are told.
            settings: which endpoints are allowed.
            secret: encrypts headers.
            home: where the settings' files are.
            metrics: count what was sent.
        """
        self._subscriptions, self._telling, self._settings = subscriptions, telling, settings
        self._secret, self._home, self._metrics = secret, home, metrics
        self._base = telling.directory.base_url
        self._numbering = Numbering(subscriptions, telling)
        self._workers: dict[str, _Worker] = {}
        self._stopped = threading.Event()
        self._looked_at = self._woken_at = -_LOOK_ANYWAY_SECONDS
        self._has_more = False
        self._client: httpx.AsyncClient | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Deliver in a thread, until stopped."""
        self._thread = threading.Thread(target=self._run, name="subscriptions", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End. What was being sent is sent again after the next start."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                asyncio.run(self._deliver())
            except VigilError as error:
                logger.error("%s; subscriptions wait", error)  # noqa: TRY400 - the message says it all
                self._stopped.wait(_LOOK_ANYWAY_SECONDS)
            except Exception as error:  # noqa: BLE001 - monitoring goes on; the message may hold patient data
                logger.error("subscriptions: %s at %s; starting again", type(error).__name__, error_location(error))  # noqa: TRY400
                self._stopped.wait(_LOOK_ANYWAY_SECONDS)

    async def _deliver(self) -> None:
        self._workers = {}
        # Nothing of the environment, such as a proxy, and no redirects: a notification goes where it was checked that it may.
        async with httpx.AsyncClient(verify=self._certificates(), trust_env=False, follow_redirects=False) as client:
            self._client = client
            try:
                while not self._stopped.is_set():
                    await self._look()
                    await asyncio.sleep(LOOK_SECONDS)
            finally:
                tasks = [worker.task for worker in self._workers.values() if worker.task is not None]
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    def _certificates(self) -> ssl.SSLContext:
        """Return the context by which the certificates of endpoints are verified."""
        file = self._settings.content.subscription_ca_file
        try:
            return ssl.create_default_context(cafile=None if file is None else self._home / file)
        except (OSError, ssl.SSLError) as error:
            raise VigilError(f"subscription_ca_file: cannot be read ({type(error).__name__}); expected PEM") from None

    async def _look(self) -> None:
        """Number what is new, and wake the workers."""
        try:
            live = await asyncio.to_thread(self._read)
        except VigilError as error:
            logger.error("%s; subscriptions wait", error)  # noqa: TRY400 - the message says it all
            return
        if live is None:
            return
        now = time.monotonic()
        anyway = now - self._woken_at >= _LOOK_ANYWAY_SECONDS
        self._woken_at = now if anyway else self._woken_at
        by_id = {subscription.id: subscription for subscription in live}
        self._workers = {
            identity: worker for identity, worker in self._workers.items() if worker.task is None or not worker.task.done()
        }
        for identity, subscription in by_id.items():
            if identity not in self._workers:
                worker = self._workers[identity] = _Worker(subscription.version)
                worker.task = asyncio.create_task(self._work(identity, worker))
        for identity, worker in self._workers.items():
            worker.wake(by_id.get(identity), anyway=anyway)

    def _read(self) -> list[Subscription] | None:
        """Return the live subscriptions; None: nothing has changed."""
        now = time.monotonic()
        has_changed = self._subscriptions.has_changed() | self._telling.ward_state.has_changed()
        if not (has_changed or self._has_more or now - self._looked_at >= _LOOK_ANYWAY_SECONDS):
            return None
        self._looked_at = now
        for subscription in self._subscriptions.live():
            if _has_ended(subscription):
                self._subscriptions.set_state(subscription, status="off")
        self._has_more = self._numbering.step(self._subscriptions.live())
        live = self._subscriptions.live()
        self._metrics.set_waiting_notifications(sum(subscription.waiting for subscription in live))
        return live

    async def _work(self, identity: str, worker: _Worker) -> None:
        """Send what is due for one subscription, until it is off or gone."""
        loop = asyncio.get_running_loop()
        failures, sent_at = 0, loop.time()
        while True:
            worker.news.clear()
            worker.edited.clear()
            error: str | None
            try:
                subscription = await asyncio.to_thread(self._subscriptions.find, identity)
                if subscription is None or subscription.status == "off" or _has_ended(subscription):
                    return
                silent = loop.time() - sent_at
                due = await asyncio.to_thread(self._find_due, subscription, silent)
                if due is None:
                    rest = None if subscription.heartbeat is None else max(0.0, subscription.heartbeat - silent)
                    await _wait(worker.news, rest)
                    continue
                error = due.error if due.bundle is None else await self._send(subscription, due.bundle)
                await asyncio.to_thread(self._record, subscription, due, error)
                if due.bundle is not None and error is None:
                    sent_at = loop.time()
            except Exception as unexpected:  # noqa: BLE001 - it is tried again; the message may hold patient data
                error = _UNMADE
                logger.error("a subscription waits: %s at %s", type(unexpected).__name__, error_location(unexpected))  # noqa: TRY400
            failures = 0 if error is None else failures + 1
            if failures:
                await _wait(worker.edited, min(2 ** min(failures - 1, 20), _LONGEST_PAUSE_SECONDS))
                failures = 0 if worker.edited.is_set() else failures

    def _find_due(self, subscription: Subscription, silent: float) -> _Due | None:
        """Return what is due after so many seconds of silence; None: nothing."""
        try:
            return self._make_due(subscription, silent)
        except Exception as error:  # noqa: BLE001 - it is tried again; the message may hold patient data
            logger.error("subscription %s: %s at %s", subscription.id, type(error).__name__, error_location(error))  # noqa: TRY400
            return _Due(None, error=_UNMADE)

    def _make_due(self, subscription: Subscription, silent: float) -> _Due | None:
        reader = self._telling.reader(subscription)
        if reader is None:
            return _Due(None, error=_UNREGISTERED)
        if not subscription.confirmed:
            bundle = self._bundle(replace(subscription, status="requested", error=None), "handshake", subscription.numbered)
            return _Due(bundle)
        if subscription.waiting:
            return self._due_events(subscription, reader)
        if subscription.heartbeat is not None and silent >= subscription.heartbeat:
            return _Due(self._bundle(replace(subscription, status="active", error=None), "heartbeat", subscription.numbered))
        if subscription.error == _UNREGISTERED:
            return _Due(None, {"status": "active", "error": None})
        return None

    def _due_events(self, subscription: Subscription, reader: Caller) -> _Due:
        """Return the next events that wait. Those that retention took are counted as lost."""
        first, most = subscription.delivered + 1, subscription.max_count or _MAX_EVENTS
        numbered = self._subscriptions.events(subscription.id, first, subscription.numbered, most)
        last = numbered[-1].number if numbered else subscription.numbered
        told, missing = self._telling.tell(subscription, numbered, reader, subscription.content)
        lost = subscription.lost + len(missing) + (last - subscription.delivered - len(numbered))
        progress = {"delivered": last, "lost": lost}
        if not told:
            return _Due(None, progress)
        shown = replace(subscription, status="active", error=None, lost=lost)
        return _Due(self._bundle(shown, "event-notification", last, told), progress)

    def _bundle(
        self, subscription: Subscription, kind: NotificationType, count: int, events: list[Told] | None = None
    ) -> dict[str, Any]:
        status = status_parameters(
            subscription, kind, self._base, content=subscription.content, count=count, events=events or ()
        )
        return notification(status, subscription, self._base, events or ())

    async def _send(self, subscription: Subscription, bundle: dict[str, Any]) -> str | None:
        """Send a bundle, and return why it was not taken; None: it was. Nothing of the answer but its status counts."""
        endpoint = self._settings.find_endpoint(subscription.endpoint)
        if endpoint is None:
            return _UNLISTED
        header = open_header(self._secret, subscription.sealed_header)
        if header is None:
            return _UNREADABLE
        seconds = subscription.timeout or _TIMEOUT_SECONDS
        assert self._client is not None
        try:
            async with (
                asyncio.timeout(seconds),
                self._client.stream(
                    "POST",
                    endpoint.url,
                    content=json.dumps(bundle).encode(),
                    headers=[("Content-Type", MEDIA_TYPE), *header],
                    timeout=seconds,
                ) as answer,
            ):
                if int(answer.headers.get("Content-Length", _MOST_BYTES)) < _MOST_BYTES:
                    async for _ in answer.aiter_raw():  # so that the connection can be used again
                        pass
                return None if answer.is_success else f"HTTP {answer.status_code}"
        except (TimeoutError, httpx.TimeoutException):
            return f"no answer within {seconds} s"
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError):
            return "no connection"

    def _record(self, subscription: Subscription, due: _Due, error: str | None) -> None:
        """Store what became of an attempt."""
        if error is not None:
            self._metrics.count_notification(delivered=False)
            if error != subscription.error:
                logger.warning("subscription %s: %s; trying again", subscription.id, error)
                self._subscriptions.set_state(subscription, status="error", error=error)
            return
        if (lost := due.progress.get("lost", 0) - subscription.lost) > 0:
            logger.warning("subscription %s: %d events were deleted before delivery", subscription.id, lost)
        if due.bundle is None:
            self._subscriptions.set_state(subscription, **due.progress)
            return
        self._metrics.count_notification(delivered=True)
        if due.progress or subscription.status != "active" or not subscription.confirmed:
            self._subscriptions.set_state(subscription, status="active", error=None, confirmed=True, **due.progress)
        if subscription.error is not None:
            logger.info("subscription %s: delivered again", subscription.id)


def _has_ended(subscription: Subscription) -> bool:
    return subscription.ends_at is not None and subscription.ends_at <= microsecond(present())


async def _wait(event: asyncio.Event, seconds: float | None) -> None:
    with suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), seconds)
