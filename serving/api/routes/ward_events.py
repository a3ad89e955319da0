"""The events of a ward as they happen: server-sent events, each with its number."""

import asyncio
import json
import logging
import re
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final, get_args

from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from vigil.serving.api import problems
from vigil.serving.auth.tokens import Caller
from vigil.serving.identity.identities import Identities
from vigil.serving.records.database import DatabaseError
from vigil.serving.records.silence_rows import SILENCE_KINDS
from vigil.serving.records.timestamps import moment, present
from vigil.serving.records.ward_rows import EventKind, NumberedEvent
from vigil.serving.records.ward_state import WardState

logger = logging.getLogger("vigil.serving")

MAX_STREAMS: Final = 20  # of one caller at a time; each reads the ward state
_LOOK_SECONDS: Final = 0.25  # between reads of the ward state
_KEEP_ALIVE_SECONDS: Final = 15.0  # so that proxies do not close a quiet stream
_MAX_EVENTS: Final = 200  # read at a time
_KINDS: Final = (*get_args(EventKind), "reset")
_PUBLIC_KINDS: Final = frozenset({"risk", "beyond_range", "silent", "left", "reset", *SILENCE_KINDS})  # others: alarms:read
_NUMBER: Final = re.compile(r"[0-9]{1,18}")  # of an event; longer ones would not fit the database
_TIMES: Final = ("index_time", "latest_reading_at", "observed_at", "since")
_HEADERS: Final = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
EVENT: Final = {  # the schema of one event in the OpenAPI document; ``data`` is a JSON object
    "type": "object",
    "properties": {"id": {"type": "string"}, "event": {"enum": [*_KINDS]}, "data": {"type": "string"}},
    "required": ["id", "event", "data"],
}


class OpenStreams:
    """Counts the open streams of each caller."""

    def __init__(self) -> None:
        self._open: Counter[str] = Counter()

    def open(self, caller: Caller) -> bool:
        """Count one more stream, and return True; return False if the caller has :data:`MAX_STREAMS` already."""
        if self._open[caller.sub] >= MAX_STREAMS:
            return False
        self._open[caller.sub] += 1
        return True

    def close(self, caller: Caller) -> None:
        """Count one stream less."""
        self._open[caller.sub] -= 1
        if not self._open[caller.sub]:
            del self._open[caller.sub]


class EventStream(StreamingResponse):
    """The answer to a follower of a ward; 429 if the caller has too many open streams."""

    def __init__(self, content: AsyncIterator[str], caller: Caller, streams: OpenStreams) -> None:
        super().__init__(content, media_type="text/event-stream", headers=_HEADERS)
        self._caller = caller
        self._streams = streams

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not self._streams.open(self._caller):
            await problems.to_response(problems.too_many_streams(MAX_STREAMS))(scope, receive, send)
            return
        try:
            # Also while the client reads nothing of what was sent.
            async with asyncio.timeout(self._caller.expires_at - present().timestamp()):
                await super().__call__(scope, receive, send)
        except TimeoutError:
            return  # the connection is closed in the middle of the answer: there is no other way to end it
        finally:
            self._streams.close(self._caller)


def first_message(ward: str, last_event_id: str | None, stored: tuple[int, int]) -> tuple[int, str]:
    """Return the event after which a stream starts, and its first message.

    A client that resumes from an event outside of the ``stored`` range missed some (retention deleted them) or knows others
    (the home was restored): it is sent ``reset``. So is one whose id is no number: a browser that got an error would not
    connect again (HTML Living Standard, section 9.2). A client without an event has an empty id. 0 asks for every stored event.
    """
    first, last = stored
    text = (last_event_id or "").strip()
    if not text:
        return last, f"id: {last}\n\n"  # an id without data: where to resume, whatever comes first
    number = int(text) if _NUMBER.fullmatch(text) else -1
    if number == 0 or first <= number <= last:
        return number, "\n"
    data = {"ward": ward, "at": present().isoformat()}
    return first, f"\nid: {first}\nevent: reset\ndata: {json.dumps(data)}\n\n"


async def stream_events(
    ward_state: WardState,
    identities: Identities,
    caller: Caller,
    ward: str,
    after: int,
    seconds: float | None,
    message: str,
) -> AsyncIterator[str]:
    """Yield the events of a ward after one event, as far as the caller may see them, until the token expires.

    If the ward state cannot be read, the stream ends: a client that connects again gets an error or the events.
    """
    loop = asyncio.get_running_loop()
    expiry = loop.time() + caller.expires_at - present().timestamp()
    end = expiry if seconds is None else min(loop.time() + seconds, expiry)
    shows_alarms = caller.has_scope("alarms:read")
    yield f": listening\n{message}"  # the client learns at once that it is connected
    sent_at = loop.time()
    while True:
        try:
            events = await asyncio.to_thread(ward_state.events, ward, after, _MAX_EVENTS)
            subjects = {event.subject_id for event in events if event.subject_id is not None}
            subjects |= {event.body["merged_into"] for event in events if "merged_into" in event.body}
            names = await asyncio.to_thread(identities.find_or_empty, subjects)
        except DatabaseError as error:
            logger.error("a stream of events ends: %s", type(error).__name__)  # noqa: TRY400 - nothing is wrong with the stream
            return
        for event in events:
            if loop.time() >= expiry:  # events may come so fast that the end of the loop is never reached
                return
            if shows_alarms or event.kind in _PUBLIC_KINDS:
                yield _format(event, names, caller)
                sent_at = loop.time()
        if events:
            after = events[-1].number
            if len(events) == _MAX_EVENTS:
                continue
        if loop.time() - sent_at > _KEEP_ALIVE_SECONDS:
            yield ": still here\n\n"
            sent_at = loop.time()
        if loop.time() >= end:
            return
        await asyncio.sleep(_LOOK_SECONDS)


def _format(event: NumberedEvent, names: Mapping[str, str], caller: Caller) -> str:
    body = _with_iso_times(event.body)
    if "bounds" in body:
        body["bounds"] = [_with_iso_times(bound) for bound in body["bounds"]]
    if (survivor := body.pop("merged_into", None)) is not None:  # hidden from those who may not see where the patient is
        body["merged_into"] = names[survivor] if caller.can_see(body.pop("survivor_ward")) else None
    patient = None if event.subject_id is None else names[event.subject_id]
    data = {"patient_id": patient, "ward": event.ward, "at": _iso(event.at), **body}
    return f"id: {event.number}\nevent: {event.kind}\ndata: {json.dumps(data)}\n\n"


def _with_iso_times(body: Mapping[str, Any]) -> dict[str, Any]:
    return dict(body) | {name: _iso(body[name]) for name in _TIMES if name in body}


def _iso(microseconds: int | None) -> str | None:
    at = moment(microseconds)
    return None if at is None else at.isoformat()
