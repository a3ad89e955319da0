"""Limits of a connection before the application is called, on a server of their own."""

import asyncio
import socket
import threading
import time

import pytest
import uvicorn

from serving import http_limits
from serving.http_limits import MAX_HEAD_BYTES, LimitedProtocol


async def echo(scope, receive, send):
    """Says how long the body was."""
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


def talk(port, *parts, pause=0.0):
    """What comes back, until the other side closes or is silent for a while."""
    with socket.create_connection(("127.0.0.1", port), timeout=3) as connection:
        try:
            for part in parts:
                connection.sendall(part)
                time.sleep(pause)
        except OSError:
            pass
        found = b""
        try:
            while more := connection.recv(65_536):
                found += more
        except OSError:
            pass
        return found


def request(body=b"", *headers):
    lines = [b"POST / HTTP/1.1", b"host: x", b"content-length: %d" % len(body), *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def test_a_body_is_no_head_however_large_and_however_it_comes(port):
    body = b"a" * 500_000
    assert talk(port, request(body, b"connection: close")).endswith(b"500000")
    whole = request(body, b"connection: close")
    assert talk(port, *(whole[first : first + 50_000] for first in range(0, len(whole), 50_000)), pause=0.001).endswith(
        b"500000"
    )


def test_requests_on_one_connection_are_counted_one_by_one(port):
    one = request(b"x", b"a: " + b"b" * 20_000)
    assert talk(port, one * 10).count(b"200 OK") == 10
    assert talk(port, one, one, one, pause=0.05).count(b"200 OK") == 3


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
def test_a_head_too_large_is_refused_and_closed(port, head):
    found = talk(port, head)
    assert found.startswith((b"HTTP/1.1 431 ", b"HTTP/1.1 400 "))
    assert found.count(b"HTTP/1.1") == 1


def test_a_head_just_small_enough_is_taken(port):
    assert talk(port, request(b"x", b"a: " + b"b" * (MAX_HEAD_BYTES - 400), b"connection: close")).endswith(b"1")


@pytest.mark.parametrize("sent", [b"", b"GET / HTT", b"GET / HTTP/1.1\r\nhost: x\r\n"])
def test_who_does_not_send_a_head_in_time_is_closed(port, monkeypatch, sent):
    monkeypatch.setattr(http_limits, "HEAD_SECONDS", 0.3)
    began = time.monotonic()
    assert talk(port, sent) == b""
    assert time.monotonic() - began < 2


def test_who_drips_a_head_is_closed_in_the_same_time(port, monkeypatch):
    monkeypatch.setattr(http_limits, "HEAD_SECONDS", 0.5)
    began = time.monotonic()
    assert talk(port, *(b"GET / HTTP/1.1\r\n", *[b"a: b\r\n"] * 30), pause=0.1) == b""
    assert time.monotonic() - began < 4


def test_a_second_head_on_a_kept_connection_has_its_own_time(port, monkeypatch):
    monkeypatch.setattr(http_limits, "HEAD_SECONDS", 0.4)
    assert talk(port, request(b"x"), request(b"y"), pause=0.3).count(b"200 OK") == 2
    assert talk(port, request(b"x"), b"GET / HTT", pause=0.1).count(b"200 OK") == 1


def test_of_too_many_silent_connections_the_longest_is_closed_and_others_are_served(port, monkeypatch):
    monkeypatch.setattr(http_limits, "MOST_WAITING", 5)
    silent = [socket.create_connection(("127.0.0.1", port), timeout=2) for _ in range(12)]
    try:
        assert talk(port, request(b"x", b"connection: close")).endswith(b"1")
        time.sleep(0.2)
        open_still = 0
        for connection in silent:
            connection.setblocking(False)
            try:
                connection.recv(1)
            except BlockingIOError:
                open_still += 1
            except OSError:
                pass
        assert 3 <= open_still <= 5
    finally:
        for connection in silent:
            connection.close()
