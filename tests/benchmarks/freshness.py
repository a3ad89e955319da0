"""How fast an accepted reading becomes a risk: gateways send, and somebody watches the board for what comes of it."""

import asyncio
import json
import sqlite3
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from features.pseudonyms import open_pseudonyms
from pipelines.operations.server import running_server
from serving.auth.local_tokens import local_token
from tests.benchmarks.http import Connection, request

SIGNALS = {"heart_rate": 80, "respiratory_rate": 16, "spo2": 96, "systolic_bp": 125, "body_temperature": 37}
LOOK_SECONDS = 0.02
WARM_UP_SECONDS = 15.0


@dataclass(frozen=True)
class Fresh:
    """What was measured.

    Attributes:
        patients, gateways, lasted: how many, and for how long (seconds).
        seconds: from a reading acknowledged to a risk on the board that knows it.
        memory: of the server's processes, MB, at a third of the time and at its end; memory_idle: before the first reading.
        cores: processor time of the server a second; cores_idle: before the first reading.
        most: readings accepted a second from gateways that send without pause.
        bytes_a_reading, bytes_a_risk: on the disk.
    """

    patients: int
    gateways: int
    lasted: float
    seconds: NDArray[np.float64]
    memory: tuple[float, float]
    memory_idle: float
    cores: float
    cores_idle: float
    most: float
    refreshes: float
    bytes_a_reading: float
    bytes_a_risk: float

    @property
    def cores_a_refresh(self) -> float:
        return (self.cores - self.cores_idle) / self.refreshes

    @property
    def megabytes_a_patient(self) -> float:
        return max(0.0, self.memory[1] - self.memory_idle) / self.patients


class _Board:
    """Looks at the board all the time, and notes when a risk as of which time appeared."""

    def __init__(self, home: Path) -> None:
        self.seen: dict[str, list[tuple[int, float]]] = {}
        self._home = home
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        board = sqlite3.connect(f"file:{self._home / 'board.db'}?mode=ro", uri=True)
        last = 0
        while not self._stop.wait(LOOK_SECONDS):
            rows = board.execute("SELECT patient, index_time FROM risks WHERE index_time > ?", (last - 120_000_000,)).fetchall()
            now = time.time()
            for patient, index_time in rows:
                known = self.seen.setdefault(patient, [])
                if not known or known[-1][0] < index_time:
                    known.append((index_time, now))
                last = max(last, index_time)


def fresh(home: Path, task: str, *, patients: int, seconds: float, gateways: int = 25) -> Fresh:
    """Let gateways send a reading a second of each patient, spread over the second, and measure."""
    pseudonyms = open_pseudonyms(home)
    names = [f"bench-{number}" for number in range(patients)]
    token = local_token(home, subject="bench", scopes=None, wards=None, lifetime=timedelta(hours=4))
    with running_server(home, task) as url:
        port = int(url.rpartition(":")[2])
        asyncio.run(_register(port, token, names))
        time.sleep(20)  # until all of them are in the feature store
        idle_memory, idle = _memory(home), _processor(home)
        time.sleep(3)
        cores_idle = (_processor(home) - idle) / 3
        with _Board(home) as board:
            began, before = time.time(), _processor(home)
            sent = asyncio.run(_send(port, token, names, gateways, seconds + WARM_UP_SECONDS, home))
            lasted, spent = time.time() - began, _processor(home) - before
            time.sleep(3)
        sizes = _sizes(home)
        most = asyncio.run(_most(port, token, names))
    took = [
        when - acknowledged
        for name, readings in sent.acknowledged.items()
        for at, acknowledged in readings
        if acknowledged > began + WARM_UP_SECONDS
        for when in [_first(board.seen.get(pseudonyms.of(name), []), at)]
    ]
    readings = sum(map(len, sent.acknowledged.values()))
    return Fresh(
        patients=patients,
        gateways=gateways,
        lasted=seconds,
        seconds=np.array(took),
        memory=sent.memory,
        memory_idle=idle_memory,
        cores=spent / lasted,
        cores_idle=cores_idle,
        most=most,
        refreshes=readings / lasted,
        bytes_a_reading=sizes["journal.db"] / readings,
        bytes_a_risk=sizes["predictions.db"] / readings,
    )


@dataclass
class _Sent:
    acknowledged: dict[str, list[tuple[float, float]]]
    memory: tuple[float, float] = (0, 0)


def _first(seen: list[tuple[int, float]], sent_at: float) -> float:
    """When a risk was up that knows a reading: recorded after it was sent, so the first one as of a later time."""
    return next((when for index_time, when in seen if index_time >= sent_at * 1e6), float("inf"))


async def _register(port: int, token: str, names: list[str]) -> None:
    connection = Connection(port)
    facts = [{"patient_id": name, "ward": f"W{place % 20}", "age": 70} for place, name in enumerate(names)]
    status, body = await connection.ask(request("/v1/patients", json.dumps({"patients": facts}).encode(), token))
    if status != 200:
        raise RuntimeError(f"status {status}: {body[:300]!r}")
    connection.close()


async def _send(port: int, token: str, names: list[str], gateways: int, seconds: float, home: Path) -> _Sent:
    acknowledged: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    rng = np.random.default_rng(1)
    began = time.time()

    async def gateway(number: int) -> None:
        mine, connection = names[number::gateways], Connection(port)
        for second in range(int(seconds)):
            due = began + second + number / gateways
            await asyncio.sleep(max(0.0, due - time.time()))
            signal = list(SIGNALS)[second % len(SIGNALS)]
            at = time.time()
            readings = [_reading(name, signal, float(rng.normal(0, 2)), f"{number}-{second}", at) for name in mine]
            body = json.dumps({"observations": readings}).encode()
            status, answer = await connection.ask(request("/v1/observations", body, token))
            now = time.time()
            if status != 200 or json.loads(answer)["accepted"] != len(mine):
                raise RuntimeError(f"status {status}: {answer[:300]!r}")
            for name in mine:
                acknowledged[name].append((at, now))
        connection.close()

    async def memory() -> tuple[float, float]:
        await asyncio.sleep(WARM_UP_SECONDS + (seconds - WARM_UP_SECONDS) / 3)
        first = await asyncio.to_thread(_memory, home)
        await asyncio.sleep(max(0.0, began + seconds - 1 - time.time()))
        return first, await asyncio.to_thread(_memory, home)

    found, *_ = await asyncio.gather(memory(), *(gateway(number) for number in range(gateways)))
    return _Sent(acknowledged, found)


def _reading(name: str, signal: str, noise: float, message: str, at: float) -> dict[str, object]:
    observed = datetime.fromtimestamp(at, UTC).isoformat()
    value = round(SIGNALS[signal] + noise * (0.2 if signal == "body_temperature" else 1), 2)
    value = min(value, 100) if signal == "spo2" else value
    return {"message_id": message, "patient_id": name, "signal": signal, "value": value,
            "observed_at": observed, "source": "bench"}  # fmt: skip


async def _most(port: int, token: str, names: list[str], connections: int = 8, lasting: float = 8.0) -> float:
    """Readings accepted a second, sent in messages of a hundred without pause."""
    accepted, end = 0, time.time() + lasting

    async def gateway(number: int) -> None:
        nonlocal accepted
        connection, message = Connection(port), 0
        while time.time() < end:
            at = time.time()
            readings = [
                _reading(name, "heart_rate", message % 7, f"most-{number}-{message}", at) for name in names[number::5][:100]
            ]
            status, answer = await connection.ask(
                request("/v1/observations", json.dumps({"observations": readings}).encode(), token)
            )
            if status != 200:
                raise RuntimeError(f"status {status}: {answer[:300]!r}")
            accepted += json.loads(answer)["accepted"]
            message += 1
        connection.close()

    await asyncio.gather(*(gateway(number) for number in range(connections)))
    return accepted / lasting


def _processes(home: Path) -> list[Path]:
    """Of the server on that home: those whose environment names it."""
    mark = f"VIGIL_HOME={home.resolve()}".encode()
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (folder / "environ").read_bytes().split(b"\0"):
                found.append(folder)
        except OSError:
            continue
    return found


def _memory(home: Path) -> float:
    """Resident, MB."""
    total = 0
    for folder in _processes(home):
        lines = (folder / "status").read_text().splitlines()
        total += next((int(line.split()[1]) for line in lines if line.startswith("VmRSS")), 0)
    return total / 1e3


def _processor(home: Path) -> float:
    """Seconds of processor time so far."""
    ticks = 0
    for folder in _processes(home):
        fields = (folder / "stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / 100


def _sizes(home: Path) -> dict[str, int]:
    """Bytes of the databases, with what waits in their write-ahead logs not counted."""
    return {name: (home / name).stat().st_size for name in ("journal.db", "predictions.db")}
