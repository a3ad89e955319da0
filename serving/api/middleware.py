"""ASGI middleware for every request. Each class does one thing."""

import logging
import time
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from fastapi.responses import RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vigil.serving.api import problems
from vigil.serving.api.known_paths import KnownPaths
from vigil.serving.observability.logs import error_location
from vigil.serving.observability.metrics import Metrics

logger = logging.getLogger("vigil.serving")

_BENTOML_PATHS: Final = ("/livez", "/readyz", "/healthz", "/metrics")
_BENTOML_ASSETS: Final = "/static_content/"  # used by /v1/docs
# The page /v1/docs has an inline script. Nothing is loaded from other servers.
_CONTENT_SECURITY_POLICY: Final = (
    b"default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
_HEADERS: Final = [
    (b"cache-control", b"no-store"),
    (b"content-security-policy", _CONTENT_SECURITY_POLICY),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
]
_TLS_HEADER: Final = (b"strict-transport-security", b"max-age=31536000")


def security_headers(scope: Scope) -> list[tuple[bytes, bytes]]:
    """Return the headers of every answer to a request."""
    return [*_HEADERS, _TLS_HEADER] if scope.get("scheme") == "https" else _HEADERS


def receive_again(message: Message, receive: Receive) -> Receive:
    """Return what receives a message that was received already, and then what follows it."""
    messages = [message]

    async def receive_first() -> Message:
        return messages.pop() if messages else await receive()

    return receive_first


class AllowedPathsMiddleware:
    """Middleware that answers 404 for every path that is not documented, and redirects ``/`` to the pages.

    BentoML's own pages are among the refused paths: they would load scripts from other servers.
    """

    def __init__(self, app: ASGIApp, paths: KnownPaths) -> None:
        self.app = app
        self.paths = paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] == "/":
            await RedirectResponse("/wards")(scope, receive, send)
        elif scope["type"] == "http" and not self._is_allowed(scope["path"]):
            await problems.to_response(problems.not_found())(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    def _is_allowed(self, path: str) -> bool:
        return path in _BENTOML_PATHS or self.paths.template(path) is not None or path.startswith(_BENTOML_ASSETS)


class RequestMetricsMiddleware:
    """Middleware that measures the time until each answer begins, by route and status.

    Other paths are counted as ``other``, because a path that a caller invents could hold patient data.
    """

    def __init__(self, app: ASGIApp, paths: KnownPaths, metrics: Metrics) -> None:
        self.app = app
        self.paths = paths
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in _BENTOML_PATHS:
            await self.app(scope, receive, send)
            return
        start, path = time.perf_counter(), self.paths.template(scope["path"]) or "other"

        async def send_and_record(message: Message) -> None:
            if message["type"] == "http.response.start":
                self.metrics.observe_request(path, message["status"], time.perf_counter() - start)
            await send(message)

        await self.app(scope, receive, send_and_record)


class SecurityHeadersMiddleware:
    """Middleware that adds security headers: answers must not be cached, framed, or read as another media type."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = security_headers(scope)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                present = {name.lower() for name, _ in message["headers"]}
                missing = [(name, value) for name, value in headers if name not in present]
                message = {**message, "headers": [*message["headers"], *missing]}
            await send(message)

        await self.app(scope, receive, send_with_headers if scope["type"] == "http" else send)


class BodySizeLimitMiddleware:
    """Middleware that refuses large bodies with 413, with or without ``Content-Length``, and compressed ones with 415.

    It reads the whole body before it calls the application. Bodies under some paths may be larger.
    """

    def __init__(self, app: ASGIApp, max_bytes: int, larger: Mapping[str, int] = MappingProxyType({})) -> None:
        self.app = app
        self.max_bytes = max_bytes
        self.larger = larger

    def _limit(self, path: str) -> int:
        """Return the largest body of requests to a path."""
        return next(
            (limit for base, limit in self.larger.items() if path == base or path.startswith(f"{base}/")), self.max_bytes
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if any(name == b"content-encoding" and value != b"identity" for name, value in scope["headers"]):
            await problems.to_response(problems.encoded_body())(scope, receive, send)
            return
        body, more_body, limit = bytearray(), True, self._limit(scope["path"])
        while more_body and len(body) <= limit:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message.get("body", b"")
            more_body = message.get("more_body", False)
        if len(body) > limit:
            await problems.to_response(problems.body_too_large(limit))(scope, receive, send)
            return
        whole: Message = {"type": "http.request", "body": bytes(body), "more_body": False}
        await self.app(scope, receive_again(whole, receive), send)


class UnhandledErrorMiddleware:
    """Middleware that answers an unhandled error with 500. It logs type and place; the message may hold patient data."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        has_started = False

        async def send_and_note(message: Message) -> None:
            nonlocal has_started
            has_started = has_started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self.app(scope, receive, send_and_note)
        except Exception as error:  # noqa: BLE001 - every error of the application ends here
            logger.error("unexpected %s at %s", type(error).__name__, error_location(error))  # noqa: TRY400 - a traceback says more
            if not has_started:  # an answer that has started can only be cut off
                await problems.to_response(problems.unexpected_error())(scope, receive, send)
