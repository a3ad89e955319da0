"""What a connection may cost before the application is called: uvicorn's HTTP protocol, with limits of its own.

uvicorn keeps whatever headers somebody sends, however many, and waits for their end for ever. The limits of the application
(:mod:`serving.api.middleware`) begin after that.
"""

from http import HTTPStatus
from typing import Any, Final

from uvicorn import config as uvicorn_config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

MAX_HEAD_BYTES: Final = 32_768  # of a request's line and headers; a token may have 8 KB
HEAD_SECONDS: Final = 10.0  # from the first byte of a request, or the connection, to the end of its headers
# Connections without a request under way: those that send nothing, or not yet all headers, or are kept for the next. Of more
# the one that has waited longest is closed. Whoever has a request to send has sent it before so many others have come.
MOST_WAITING: Final = 500

_EACH_HEADER: Final = 32  # bytes a header counts beside its own: ten thousand empty ones cost memory, too


class _HeadTooLargeError(Exception):
    """Ends the parsing."""


class LimitedProtocol(HttpToolsProtocol):
    """One connection."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self._reading_head = True
        self._unparsed = self._parsed = 0  # bytes of this request's head: that came, and that were made headers of
        self._ended = False  # a request, within the bytes at hand
        self._too_large = False
        self._deadline: Any = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._await_head()
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_has_come()
        _waiting.pop(self, None)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._reading_head and self._deadline is None:
            self._await_head()
        self._ended = False
        super().data_received(data)
        if self._reading_head and not self._ended and not self.transport.is_closing():
            self._unparsed += len(data)
            if self._unparsed > MAX_HEAD_BYTES:
                self._too_large = True
                self.send_400_response("")

    def on_message_begin(self) -> None:
        self._reading_head, self._unparsed, self._parsed = True, 0, 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count(len(name) + len(value) + _EACH_HEADER)
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._head_has_come()
        _waiting.pop(self, None)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._reading_head, self._ended, self._unparsed = True, True, 0
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self.pipeline and not self.transport.is_closing():
            self._wait()

    def send_400_response(self, msg: str) -> None:
        """431 where the head is too large. Nothing of what came is repeated."""
        if not self._too_large:
            super().send_400_response(msg)
            return
        status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
        self.transport.write(STATUS_LINE[status] + b"content-length: 0\r\nconnection: close\r\n\r\n")
        self.transport.close()

    def _count(self, size: int) -> None:
        self._parsed += size
        if self._parsed > MAX_HEAD_BYTES:
            self._too_large = True
            raise _HeadTooLargeError

    def _await_head(self) -> None:
        self._deadline = self.loop.call_later(HEAD_SECONDS, self._head_is_late)

    def _head_has_come(self) -> None:
        self._reading_head = False
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _head_is_late(self) -> None:
        self._deadline = None
        self.close()

    def _wait(self) -> None:
        _waiting[self] = None
        if len(_waiting) > MOST_WAITING:
            longest = next(iter(_waiting))
            del _waiting[longest]
            longest.close()

    def close(self) -> None:
        """Without a word: who sends nothing would not read it, and what is half sent must not hold the end up."""
        if not self.transport.is_closing():
            self.transport.abort()


_waiting: Final[dict[LimitedProtocol, None]] = {}  # the longest first


def limit() -> None:
    """Let every uvicorn server of this process speak this protocol: BentoML, which makes ours, cannot be told otherwise."""
    uvicorn_config.HTTP_PROTOCOLS["auto"] = f"{__name__}:{LimitedProtocol.__name__}"
