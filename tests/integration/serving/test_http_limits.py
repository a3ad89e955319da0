"""Limits on connections and request heads, tested on a uvicorn server."""

import asyncio
import socket
import threading
import time

import pytest
import uvicorn

from vigil.serving import http_limits
from vigil.serving.http_limits import MAX_HEAD_BYTES, LimitedProtocol


async def echo(scope, receive, send):
    """Answer with the length of the body."""
    assert scope["type"] == "http"
    size, more = 0, True
    while more:
        message = await receive()
        size, more = size + len(message.get("body", b"")), message.get("more_body", False)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(str(size)))]})
    await send({"type": "http.response.body", "body": str(size).encode()})


@pytest.fixture(scope="module")
def port():
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(echo, http=LimitedProtocol, log_config=None, lifespan="off", timeout_keep_alive=2)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve([listener])), daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield listener.getsockname()[1]
    server.should_exit = True
    thread.join()


def exchange(port, *chunks, pause=0.0):
    """Send chunks and return the answer, until the server closes the connection or sends nothing for 3 s."""
    with socket.create_connection(("127.0.0.1", port), timeout=3) as connection:
        try:
            for chunk in chunks:
                connection.sendall(chunk)
                time.sleep(pause)
        except OSError:
            pass
        answer = b""
        try:
            while received := connection.recv(65_536):
                answer += received
        except OSError:
            pass
        return answer


def request(body=b"", *headers):
    lines = [b"POST / HTTP/1.1", b"host: x", b"content-length: %d" % len(body), *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def test_head_limit_does_not_count_the_body(port):
    body = b"a" * 500_000
    assert exchange(port, request(body, b"connection: close")).endswith(b"500000")
    whole = request(body, b"connection: close")
    assert exchange(port, *(whole[first : first + 50_000] for first in range(0, len(whole), 50_000)), pause=0.001).endswith(
        b"500000"
    )


def test_head_limit_counts_each_request_of_a_connection_alone(port):
    one = request(b"x", b"a: " + b"b" * 20_000)
    assert exchange(port, one * 10).count(b"200 OK") == 10
    assert exchange(port, one, one, one, pause=0.05).count(b"200 OK") == 3


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\na: " + b"b" * MAX_HEAD_BYTES,
        b"GET / HTTP/1.1\r\na: " + b"b" * MAX_HEAD_BYTES + b"\r\n\r\n",
        b"GET /" + b"b" * MAX_HEAD_BYTES,
        b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 2_000 + b"\r\n",
        b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 2_000,
        b"A" * MAX_HEAD_BYTES * 2,
    ],
    ids=["value", "whole value", "address", "many headers", "endless headers", "method"],
)
def test_head_above_the_limit_is_refused_and_the_connection_closed(port, head):
    answer = exchange(port, head)
    assert answer.startswith((b"HTTP/1.1 431 ", b"HTTP/1.1 400 "))
    assert answer.count(b"HTTP/1.1") == 1


def test_head_just_below_the_limit_is_accepted(port):
    assert exchange(port, request(b"x", b"a: " + b"b" * (MAX_HEAD_BYTES - 400), b"connection: close")).endswith(b"1")


@pytest.mark.parametrize("sent", [b"", b"GET / HTT", b"GET / HTTP/1.1\r\nhost: x\r\n"])
def test_head_timeout_closes_a_connection_with_an_incomplete_head(port, monkeypatch, sent):
    monkeypatch.setattr(http_limits, "HEAD_TIMEOUT_SECONDS", 0.3)
    start = time.monotonic()
    assert exchange(port, sent) == b""
    assert time.monotonic() - start < 2


def test_head_timeout_closes_a_connection_that_sends_a_head_slowly(port, monkeypatch):
    monkeypatch.setattr(http_limits, "HEAD_TIMEOUT_SECONDS", 0.5)
    start = time.monotonic()
    assert exchange(port, *(b"GET / HTTP/1.1\r\n", *[b"a: b\r\n"] * 30), pause=0.1) == b""
    assert time.monotonic() - start < 4


def test_head_timeout_starts_again_for_each_request_of_a_connection(port, monkeypatch):
    monkeypatch.setattr(http_limits, "HEAD_TIMEOUT_SECONDS", 0.4)
    assert exchange(port, request(b"x"), request(b"y"), pause=0.3).count(b"200 OK") == 2
    assert exchange(port, request(b"x"), b"GET / HTT", pause=0.1).count(b"200 OK") == 1


def test_idle_connections_above_the_limit_are_closed_longest_first(port, monkeypatch):
    monkeypatch.setattr(http_limits, "MAX_IDLE_CONNECTIONS", 5)
    idle = [socket.create_connection(("127.0.0.1", port), timeout=2) for _ in range(12)]
    try:
        assert exchange(port, request(b"x", b"connection: close")).endswith(b"1")
        time.sleep(0.2)
        still_open = 0
        for connection in idle:
            connection.setblocking(False)
            try:
                connection.recv(1)
            except BlockingIOError:
                still_open += 1
            except OSError:
                pass
        assert 3 <= still_open <= 5
    finally:
        for connection in idle:
            connection.close()
