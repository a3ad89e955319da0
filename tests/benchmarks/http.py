"""A minimal HTTP/1.1 client with persistent connections, so that its own cost does not hide that of the server."""

import asyncio
import time

_OVERLOADED = (429, 503, 504)


class Connection:
    """A persistent connection, with one request at a time."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def send(self, request: bytes) -> tuple[int, bytes]:
        """Send a request, and return status and body of the answer. It reopens a connection that the server closed."""
        was_open = self._streams is not None
        try:
            return await self._send(request)
        except (asyncio.IncompleteReadError, ConnectionError):
            if not was_open:
                raise
            self.close()
            return await self._send(request)

    async def _send(self, request: bytes) -> tuple[int, bytes]:
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._streams
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        return int(head[9:12]), await reader.readexactly(length)

    def close(self) -> None:
        """Close the connection."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


def format_request(path: str, body: bytes, token: str = "") -> bytes:
    """Return the bytes of a POST request."""
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    if token:
        head += f"Authorization: Bearer {token}\r\n"
    return f"{head}\r\n".encode() + body


async def closed_loop(port: int, requests: list[bytes], connections: int, seconds: float) -> list[float]:
    """Send requests over several connections, each waiting for its answer, and return the latencies in seconds."""
    latencies: list[float] = []
    end = time.perf_counter() + seconds

    async def send_repeatedly(first: int) -> None:
        connection, number = Connection(port), first
        while (started := time.perf_counter()) < end:
            status, body = await connection.send(requests[number % len(requests)])
            latencies.append(time.perf_counter() - started)
            if status != 200:
                raise RuntimeError(f"status {status}: {body[:500]!r}")
            number += connections
        connection.close()

    await asyncio.gather(*(send_repeatedly(first) for first in range(connections)))
    return latencies


async def send_each(port: int, requests: list[bytes]) -> list[float]:
    """Send each request once, one after the other, and return the latencies in seconds."""
    connection, latencies = Connection(port), []
    for request in requests:
        started = time.perf_counter()
        status, body = await connection.send(request)
        latencies.append(time.perf_counter() - started)
        if status != 200:
            raise RuntimeError(f"status {status}: {body[:500]!r}")
    connection.close()
    return latencies


async def open_loop(port: int, requests: list[bytes], rate: float, seconds: float) -> tuple[list[float], int]:
    """Send requests at a fixed rate per second, whether or not earlier ones were answered.

    Returns:
        The latencies in seconds of what was answered, and how many requests were refused (429, 503), timed out (504) or found
        more connections open than the server takes. A latency counts from the time the request was due, so the waiting time
        behind a slow server is included.
    """
    latencies: list[float] = []
    refused = 0
    free: list[Connection] = []
    started = time.perf_counter()

    async def send_one(number: int, due: float) -> None:
        nonlocal refused
        connection = free.pop() if free else Connection(port)
        try:
            status, _ = await connection.send(requests[number % len(requests)])
        except (asyncio.IncompleteReadError, ConnectionError):
            connection.close()
            refused += 1
            return
        if status == 200:
            latencies.append(time.perf_counter() - due)
        elif status in _OVERLOADED:
            refused += 1
        else:
            raise RuntimeError(f"status {status}")
        free.append(connection)

    async with asyncio.TaskGroup() as group:
        for number in range(round(rate * seconds)):
            due = started + number / rate
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            group.create_task(send_one(number, due))
    for connection in free:
        connection.close()
    return latencies, refused
