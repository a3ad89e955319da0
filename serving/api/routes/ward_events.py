"""A ward's events as they happen, to one who follows them: server-sent events, each with its number."""

import asyncio
import json
import logging
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any, Final

from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from serving.api import problems
from serving.auth.tokens import Caller
from serving.composition import Parts
from serving.records.database import DatabaseError
from serving.records.timestamps import moment, present

logger = logging.getLogger("vigil.serving")

_LOOK_SECONDS: Final = 0.25  # between looks at the board
_KEEP_ALIVE_SECONDS: Final = 15.0  # so that proxies do not close a silent stream
_MOST_EVENTS: Final = 200
_KINDS: Final = (
    "risk",
    "silent",
    "left",
    "alarm",
    "alarm_moved",
    "alarm_withheld",
    "alarm_ended",
    "acknowledged",
    "overridden",
    "reset",
)
_OF_ALARMS: Final = frozenset(_KINDS) - {"risk", "silent", "left", "reset"}
_TIMES: Final = ("index_time", "latest_reading_at")
_HEADERS: Final = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
MOST_STREAMS: Final = 20  # of one caller at a time; each looks at the board
EVENT: Final = {  # one of the stream, as those write it who describe such streams; ``data`` is a JSON object
    "type": "object",
    "properties": {"id": {"type": "string"}, "event": {"enum": [*_KINDS]}, "data": {"type": "string"}},
    "required": ["id", "event", "data"],
}
_open: Final[Counter[str]] = Counter()  # streams by subject


class EventStream(StreamingResponse):
    """The answer to one who follows; 429 where he follows :data:`MOST_STREAMS` times already."""

    def __init__(self, content: AsyncIterator[str], caller: Caller) -> None:
        super().__init__(content, media_type="text/event-stream", headers=_HEADERS)
        self.subject = caller.subject
        self.expires = caller.expires

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if _open[self.subject] >= MOST_STREAMS:
            await problems.response(problems.too_many_streams(MOST_STREAMS))(scope, receive, send)
            return
        _open[self.subject] += 1
        try:
            async with asyncio.timeout(self.expires - present().timestamp()):  # also while nobody reads what was sent
                await super().__call__(scope, receive, send)
        except TimeoutError:
            return  # the connection is closed in the middle of the answer, which is all that can be said
        finally:
            _open[self.subject] -= 1
            if not _open[self.subject]:
                del _open[self.subject]


def beginning(ward: str, last_event_id: int | None, kept: tuple[int, int]) -> tuple[int, str]:
    """After which event a stream begins, and what it says first.

    Who names an event that is not of what is ``kept`` missed some (retention) or knows others (a restored home): he is told.
    0 asks for whatever there is.
    """
    first, last = kept
    if last_event_id is None:
        return last, f"id: {last}\n\n"  # an event without data: from where to go on, whatever comes first
    if last_event_id == 0 or first <= last_event_id <= last:
        return last_event_id, "\n"
    data = {"ward": ward, "at": present().isoformat()}
    return first, f"\nid: {first}\nevent: reset\ndata: {json.dumps(data)}\n\n"


async def stream(parts: Parts, caller: Caller, ward: str, after: int, seconds: float | None, begin: str) -> AsyncIterator[str]:
    """What happens in a ward after an event, as far as the caller may see it, until his token expires.

    Where the board cannot be read the stream ends, too: whoever comes again is told how it stands.
    """
    loop = asyncio.get_running_loop()
    left = caller.expires - present().timestamp()
    expiry = loop.time() + left
    end = expiry if seconds is None else min(loop.time() + seconds, expiry)
    hidden = frozenset() if caller.may("alarms:read") else _OF_ALARMS
    yield f": listening\n{begin}"  # the client learns at once that it is connected
    said = loop.time()
    while True:
        try:
            found = await asyncio.to_thread(parts.board.events, ward, after, _MOST_EVENTS)
            names = await asyncio.to_thread(parts.identities.names, {event["patient"] for event in found})
        except DatabaseError as error:
            logger.error("a stream of events ends: %s", type(error).__name__)  # noqa: TRY400 - nothing is wrong with the stream
            return
        if found:
            for event in found:
                if loop.time() >= expiry:  # events may come so fast that the end of the loop is never reached
                    return
                if event["kind"] not in hidden:
                    yield _event(event, names[event["patient"]])
                    said = loop.time()
            after = found[-1]["event_id"]
            if len(found) == _MOST_EVENTS:
                continue
        if loop.time() - said > _KEEP_ALIVE_SECONDS:
            yield ": still here\n\n"
            said = loop.time()
        if loop.time() >= end:
            return
        await asyncio.sleep(_LOOK_SECONDS)


def _event(event: dict[str, Any], patient_id: str) -> str:
    body = {name: value for name, value in event["body"].items() if name not in _TIMES}
    body |= {name: _iso(event["body"][name]) for name in _TIMES if name in event["body"]}
    data = {"patient_id": patient_id, "ward": event["ward"], "at": _iso(event["at"]), **body}
    return f"id: {event['event_id']}\nevent: {event['kind']}\ndata: {json.dumps(data)}\n\n"


def _iso(microseconds: int | None) -> str | None:
    at = moment(microseconds)
    return None if at is None else at.isoformat()
