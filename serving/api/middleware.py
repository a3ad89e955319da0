"""What every request passes on its way in and out. Each class is ASGI middleware and keeps one promise."""

import logging
import time
from collections.abc import Collection
from typing import Any, Final

from fastapi.responses import RedirectResponse

from serving.api import problems
from serving.observability.logs import place_of
from serving.observability.metrics import Metrics

logger = logging.getLogger("vigil.serving")

_OF_BENTOML: Final = ("/livez", "/readyz", "/healthz", "/metrics")
_ASSETS: Final = "/static_content/"  # BentoML's; the page of our API uses them
# The page of our API runs a script of its own, inline; nothing comes from elsewhere.
_POLICY: Final = (
    b"default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
_HEADERS: Final = [
    (b"cache-control", b"no-store"),
    (b"content-security-policy", _POLICY),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
]
_ONLY_TLS: Final = (b"strict-transport-security", b"max-age=31536000")


class KnownPaths:
    """Only what we document is offered: the server's own pages would load scripts from elsewhere."""

    def __init__(self, app: Any, paths: Collection[str]) -> None:
        self.app = app
        self.paths = frozenset(paths)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and scope["path"] == "/":
            await RedirectResponse("/v1/docs")(scope, receive, send)
        elif scope["type"] == "http" and not self._is_known(scope["path"]):
            await problems.response(problems.no_such_path())(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    def _is_known(self, path: str) -> bool:
        return path in self.paths or path in _OF_BENTOML or path.startswith(_ASSETS)


class RequestMetrics:
    """How long requests took until their answer began, by route and status. A path that is not ours is nobody's label."""

    def __init__(self, app: Any, paths: Collection[str], metrics: Metrics) -> None:
        self.app = app
        self.paths = frozenset(paths)
        self.metrics = metrics

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http" or scope["path"] in _OF_BENTOML:
            await self.app(scope, receive, send)
            return
        began, path = time.perf_counter(), scope["path"] if scope["path"] in self.paths else "other"

        async def noted(message: Any) -> None:
            if message["type"] == "http.response.start":
                self.metrics.answered(path, message["status"], time.perf_counter() - began)
            await send(message)

        await self.app(scope, receive, noted)


class SecurityHeaders:
    """What browsers and proxies are told of every answer: it is not theirs to keep, to guess at, or to frame."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        headers = [*_HEADERS, _ONLY_TLS] if scope.get("scheme") == "https" else _HEADERS

        async def with_headers(message: Any) -> None:
            if message["type"] == "http.response.start":
                given = {name.lower() for name, _ in message["headers"]}
                added = [(name, value) for name, value in headers if name not in given]
                message = {**message, "headers": [*message["headers"], *added]}
            await send(message)

        await self.app(scope, receive, with_headers if scope["type"] == "http" else send)


class BodyLimit:
    """A request body larger than the limit is answered with 413, whether or not it says its length."""

    def __init__(self, app: Any, max_bytes: int) -> None:
        self.app = app
        self.max_bytes = max_bytes

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if any(name == b"content-encoding" and value != b"identity" for name, value in scope["headers"]):
            await problems.response(problems.encoded_body())(scope, receive, send)
            return
        body, more = bytearray(), True
        while more and len(body) <= self.max_bytes:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message.get("body", b"")
            more = message.get("more_body", False)
        if len(body) > self.max_bytes:
            await problems.response(problems.body_too_large(self.max_bytes))(scope, receive, send)
            return
        messages = [{"type": "http.request", "body": bytes(body), "more_body": False}]

        async def replay() -> Any:
            return messages.pop() if messages else await receive()

        await self.app(scope, replay, send)


class LastResort:
    """An error nobody foresaw is answered with 500 and logged by type and place: its message may hold patient data."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        began = False

        async def noted(message: Any) -> None:
            nonlocal began
            began = began or message["type"] == "http.response.start"
            await send(message)

        try:
            await self.app(scope, receive, noted)
        except Exception as error:  # noqa: BLE001 - the last resort
            logger.error("unexpected %s at %s", type(error).__name__, place_of(error))  # noqa: TRY400 - a traceback says more
            if not began:  # an answer that has begun can only break off
                await problems.response(problems.unexpected())(scope, receive, send)
