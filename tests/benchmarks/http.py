"""A plain HTTP/1.1 client over kept connections: what it costs itself must not hide what the server does."""

import asyncio
import time

_OVERLOADED = (429, 503, 504)


class Connection:
    """One connection; one request at a time."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, request: bytes) -> tuple[int, bytes]:
        """Status and body of the answer."""
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._streams
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        return int(head[9:12]), await reader.readexactly(length)

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


def request(path: str, body: bytes, token: str = "") -> bytes:
    """The bytes of a POST."""
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    if token:
        head += f"Authorization: Bearer {token}\r\n"
    return f"{head}\r\n".encode() + body


async def closed_loop(port: int, requests: list[bytes], connections: int, seconds: float) -> list[float]:
    """Latencies, seconds, of as many requests as so many connections get answered in that time, one after the other each."""
    took: list[float] = []
    end = time.perf_counter() + seconds

    async def ask_on(first: int) -> None:
        connection, place = Connection(port), first
        while (began := time.perf_counter()) < end:
            status, body = await connection.ask(requests[place % len(requests)])
            took.append(time.perf_counter() - began)
            if status != 200:
                raise RuntimeError(f"status {status}: {body[:500]!r}")
            place += connections
        connection.close()

    await asyncio.gather(*(ask_on(first) for first in range(connections)))
    return took


async def open_loop(port: int, requests: list[bytes], rate: float, seconds: float) -> tuple[list[float], int]:
    """Requests that come at a rate a second, whether or not the ones before were answered.

    Returns:
        Latencies, seconds, and how many were turned away (429, 503) or given up (504). Each counts from when it was due: a
        server that falls behind is not spared the requests it kept waiting.
    """
    took: list[float] = []
    refused = 0
    free: list[Connection] = []
    began = time.perf_counter()

    async def one(number: int, due: float) -> None:
        nonlocal refused
        connection = free.pop() if free else Connection(port)
        status, _ = await connection.ask(requests[number % len(requests)])
        took.append(time.perf_counter() - due)
        if status in _OVERLOADED:
            refused += 1
        elif status != 200:
            raise RuntimeError(f"status {status}")
        free.append(connection)

    async with asyncio.TaskGroup() as group:
        for number in range(round(rate * seconds)):
            due = began + number / rate
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            group.create_task(one(number, due))
    for connection in free:
        connection.close()
    return took, refused
