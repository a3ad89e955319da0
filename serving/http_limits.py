"""Limits on connections and request heads, enforced by uvicorn's HTTP protocol before the application is called.

Without them uvicorn accepts any number of headers and waits for the end of a head without a limit. The limits on bodies are in
:mod:`vigil.serving.api.middleware`.
"""

import asyncio
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final

from starlette.types import ASGIApp
from uvicorn import config as uvicorn_config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

ARRIVED: Final = "arrived"  # in a request's state: when its head was complete, by time.perf_counter
MAX_HEAD_BYTES: Final = 32_768  # of a request's line and headers; a token may take 8 KB of it
HEAD_TIMEOUT_SECONDS: Final = 10.0  # from the first byte of a request, or the connection, to the end of its headers
# Idle connections have no request in progress. They have sent nothing or part of a head, or are kept for the next request.
# Above this limit, the connection that has been idle longest is closed. A client with a request to send has sent it by then.
MAX_IDLE_CONNECTIONS: Final = 500

_HEADER_OVERHEAD_BYTES: Final = 32  # counted for each header, because ten thousand empty ones cost memory, too


class _HeadTooLargeError(Exception):
    """Ends the parsing of a request."""


class LimitedProtocol(HttpToolsProtocol):
    """uvicorn's protocol for one connection, with limits on the size and duration of a head and on idle connections."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._is_reading_head = True
        self._received_head_bytes = 0  # of this request's head, received in chunks without the end of the head
        self._parsed_head_bytes = 0  # of this request's head, parsed into the URL and headers
        self._request_ended = False  # a request has ended within the current chunk
        self._head_is_too_large = False
        self._head_timeout: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Start the timeout of the first head."""
        super().connection_made(transport)
        self._start_head_timeout()
        self._mark_idle()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._end_head()
        _idle.pop(self, None)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse a chunk, and count it if it belongs to an unfinished head."""
        if self._is_reading_head and self._head_timeout is None:
            self._start_head_timeout()
        self._request_ended = False
        super().data_received(data)
        if self._is_reading_head and not self._request_ended and not self.transport.is_closing():
            self._received_head_bytes += len(data)
            if self._received_head_bytes > MAX_HEAD_BYTES:
                self._head_is_too_large = True
                self.send_400_response("")

    def on_message_begin(self) -> None:
        """Begin to count a new head."""
        self._is_reading_head, self._received_head_bytes, self._parsed_head_bytes = True, 0, 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """Count the URL."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Count a header."""
        self._count(len(name) + len(value) + _HEADER_OVERHEAD_BYTES)
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """End the timeout: a request is in progress, and waits until the application is called."""
        self._end_head()
        _idle.pop(self, None)
        self.scope["state"][ARRIVED] = time.perf_counter()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Expect the next head."""
        self._is_reading_head, self._request_ended, self._received_head_bytes = True, True, 0
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Mark the connection idle if no further request is queued."""
        super().on_response_complete()
        if not self.pipeline and not self.transport.is_closing():
            self._mark_idle()

    def send_400_response(self, msg: str) -> None:
        """Answer a bad request: 431 if the head is too large, else uvicorn's 400. Nothing of the request is repeated."""
        if not self._head_is_too_large:
            super().send_400_response(msg)
            return
        status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
        self.transport.write(STATUS_LINE[status] + b"content-length: 0\r\nconnection: close\r\n\r\n")
        self.transport.close()

    def _count(self, size: int) -> None:
        self._parsed_head_bytes += size
        if self._parsed_head_bytes > MAX_HEAD_BYTES:
            self._head_is_too_large = True
            raise _HeadTooLargeError

    def _start_head_timeout(self) -> None:
        self._head_timeout = self.loop.call_later(HEAD_TIMEOUT_SECONDS, self._on_head_timeout)

    def _end_head(self) -> None:
        self._is_reading_head = False
        if self._head_timeout is not None:
            self._head_timeout.cancel()
            self._head_timeout = None

    def _on_head_timeout(self) -> None:
        self._head_timeout = None
        self.close()

    def _mark_idle(self) -> None:
        _idle[self] = None
        if len(_idle) > MAX_IDLE_CONNECTIONS:
            longest = next(iter(_idle))
            del _idle[longest]
            longest.close()

    def close(self) -> None:
        """Close the connection at once, without an answer: a client that sends nothing would not read it."""
        if not self.transport.is_closing():
            self.transport.abort()


_idle: Final[dict[LimitedProtocol, None]] = {}  # idle connections of this process, the longest idle first


def install(front: Callable[[ASGIApp], ASGIApp]) -> None:
    """Make every uvicorn server of this process use :class:`LimitedProtocol`. BentoML creates them and has no option for it.

    Args:
        front: returns what a server calls in place of its application.
    """

    class Protocol(LimitedProtocol):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.app = front(self.app)

    uvicorn_config.HTTP_PROTOCOLS["auto"] = Protocol  # type: ignore[assignment]  # uvicorn takes a class as well
