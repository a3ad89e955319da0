"""The front of the API: what is answered before BentoML and FastAPI look at a request.

A risk that stands is read, in a tenth of the time that the whole way takes. A question that has waited too long is refused, in
less. Everything else goes the whole way.
"""

import json
import time
from typing import Final, Protocol

from starlette.datastructures import State
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vigil.serving.api import problems
from vigil.serving.api.authentication import extract_bearer_token
from vigil.serving.api.concurrency import MAX_WAIT_SECONDS
from vigil.serving.api.middleware import receive_again, security_headers
from vigil.serving.api.standing_answers import StandingAnswers
from vigil.serving.auth.access import Access
from vigil.serving.auth.tokens import TokenVerifier
from vigil.serving.http_limits import ARRIVED
from vigil.serving.observability.metrics import Metrics

_PATH: Final = "/v1/risk"
# Refused where they would wait. Observations, alarms and lists of wards are not.
_QUESTIONS: Final = frozenset(
    {_PATH, "/v1/risks", "/v1/risk/observations", "/v1/risk/history", "/v1/risk/anomalies", "/v1/visit-summary"}
)
_SCOPE: Final = "risk:read"
_BUSY: Final = problems.to_response(problems.busy())
_JSON: Final = (b"content-type", b"application/json")
_MOST_BYTES: Final = 1_000  # of a body that names one patient
_decode: Final = json.JSONDecoder(object_pairs_hook=tuple).decode  # pairs show a key that is repeated


class FrontComponents(Protocol):
    """The components that the front uses."""

    @property
    def access(self) -> Access: ...

    @property
    def metrics(self) -> Metrics: ...

    @property
    def standing_answers(self) -> StandingAnswers: ...

    @property
    def tokens(self) -> TokenVerifier: ...


class Front:
    """ASGI application in front of another one."""

    def __init__(self, app: ASGIApp, state: State) -> None:
        """Stand in front of ``app``. ``state.components`` are those of the process, once it has started."""
        self._app, self._state = app, state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] not in _QUESTIONS:
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        components: FrontComponents = self._state.components
        message = None
        if began - scope["state"].pop(ARRIVED, began) > MAX_WAIT_SECONDS:
            status, headers, answer = _BUSY.status_code, _BUSY.raw_headers, bytes(_BUSY.body)
        else:
            if scope["path"] == _PATH and scope["method"] == "POST" and not scope["query_string"]:
                message = await receive()
            found = None if message is None else _find(components, scope["headers"], message)
            if found is None:
                await self._app(scope, receive if message is None else receive_again(message, receive), send)
                return
            status, headers, answer = 200, [_JSON, (b"content-length", b"%d" % len(found))], found
        components.metrics.observe_request(scope["path"], status, time.perf_counter() - began)
        await send({"type": "http.response.start", "status": status, "headers": [*headers, *security_headers(scope)]})
        await send({"type": "http.response.body", "body": answer})


def _find(components: FrontComponents, headers: list[tuple[bytes, bytes]], message: Message) -> bytes | None:
    """Return the answer to a request that names a patient and nothing else; None: it goes the whole way."""
    body = message.get("body", b"")
    if message.get("more_body") or len(body) > _MOST_BYTES or _JSON not in headers:
        return None
    if any(name == b"content-encoding" for name, _ in headers):
        return None
    try:
        if components.tokens.may_block:
            return None
        caller = components.tokens.verify(extract_bearer_token(headers))
        match _decode(body.decode()):
            case (("patient_id", str(patient_id)),) if caller.has_scope(_SCOPE):
                answer = components.standing_answers.find(caller, patient_id)
                return answer if answer is not None and components.access.is_within_rate(caller) else None
    except Exception:  # noqa: BLE001 - whatever it is, the whole way says what is wrong, and without patient data
        return None
    return None
