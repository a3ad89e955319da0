"""The time from an accepted reading to its risk: gateways send, and a thread watches the ward state for new risks."""

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

from tests.benchmarks.http import Connection, format_request
from vigil.features.pseudonyms import open_pseudonyms
from vigil.pipelines.home import Home
from vigil.pipelines.operations.server import running_server
from vigil.serving.api.schemas.request import MAX_PATIENTS
from vigil.serving.auth.local_tokens import create_local_token
from vigil.serving.records.ward_state import SCHEMA

SIGNALS = {"heart_rate": 80, "respiratory_rate": 16, "spo2": 96, "systolic_bp": 125, "body_temperature": 37}
POLL_SECONDS = 0.05  # each poll reads the risks of all patients, on the same two cores
WARM_UP_SECONDS = 15.0


@dataclass(frozen=True)
class Freshness:
    """The measurements.

    Attributes:
        patients, gateways: their numbers.
        duration: in seconds.
        seconds: from the acknowledgement of each reading to the first risk in the ward state that includes it.
        memory: of the server's processes, in MB, after a third of the time and at its end.
        memory_idle: the same before the first reading.
        cores: processor time of the server per second.
        cores_idle: the same before the first reading.
        max_rate: readings accepted per second from gateways that send without pause.
        refreshes: updates of a risk per second.
        bytes_per_reading, bytes_per_risk: by which the journal and the prediction log grew on the disk.
    """

    patients: int
    gateways: int
    duration: float
    seconds: NDArray[np.float64]
    memory: tuple[float, float]
    memory_idle: float
    cores: float
    cores_idle: float
    max_rate: float
    refreshes: float
    bytes_per_reading: float
    bytes_per_risk: float

    @property
    def cores_per_refresh(self) -> float:
        return (self.cores - self.cores_idle) / self.refreshes

    @property
    def megabytes_per_patient(self) -> float:
        return max(0.0, self.memory[1] - self.memory_idle) / self.patients


class _RiskWatcher:
    """A thread that polls the ward state, and records when each risk appeared."""

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
        connection = sqlite3.connect(f"file:{self._home / SCHEMA.file}?mode=ro", uri=True)
        last = 0
        while not self._stop.wait(POLL_SECONDS):
            rows = connection.execute(
                "SELECT subject_id, index_time FROM risks WHERE index_time > ?", (last - 120_000_000,)
            ).fetchall()
            now = time.time()
            for subject, index_time in rows:
                known = self.seen.setdefault(subject, [])
                if not known or known[-1][0] < index_time:
                    known.append((index_time, now))
                last = max(last, index_time)


def measure_freshness(home: Path, task: str, *, patients: int, seconds: float, gateways: int = 25) -> Freshness:
    """Let gateways send one reading per second of each patient, spread over the second, and measure the server."""
    pseudonyms = open_pseudonyms(home)
    names = [f"bench-{number}" for number in range(patients)]
    token = create_local_token(home, subject="bench", scopes=None, wards=None, lifetime=timedelta(hours=4))
    with running_server(Home(home), task) as url:
        port = int(url.rpartition(":")[2])
        asyncio.run(_register(port, token, names))
        time.sleep(20)  # until all of them are in the feature store
        idle_memory, idle, empty = _memory(home), _processor(home), _sizes(home)
        time.sleep(3)
        cores_idle = (_processor(home) - idle) / 3
        with _RiskWatcher(home) as watcher:
            began, before = time.time(), _processor(home)
            sent = asyncio.run(_send_and_watch(port, token, names, gateways, seconds + WARM_UP_SECONDS, home))
            elapsed, spent = time.time() - began, _processor(home) - before
            time.sleep(3)
        sizes = _sizes(home)
        max_rate = asyncio.run(_measure_max_rate(port, token, names))
    latencies = [
        when - acknowledged
        for name, readings in sent.acknowledged.items()
        for at, acknowledged in readings
        if acknowledged > began + WARM_UP_SECONDS
        for when in [_first_risk(watcher.seen.get(pseudonyms.subject_key(name), []), at)]
    ]
    readings = sum(map(len, sent.acknowledged.values()))
    return Freshness(
        patients=patients,
        gateways=gateways,
        duration=seconds,
        seconds=np.array(latencies),
        memory=sent.memory,
        memory_idle=idle_memory,
        cores=spent / elapsed,
        cores_idle=cores_idle,
        max_rate=max_rate,
        refreshes=readings / elapsed,
        bytes_per_reading=(sizes["journal.db"] - empty["journal.db"]) / readings,
        bytes_per_risk=(sizes["predictions.db"] - empty["predictions.db"]) / readings,
    )


def monitor(port: int, home: Path, names: list[str], seconds: int = 5) -> None:
    """Register patients, send readings of them for some seconds, and wait until their risks are made."""
    token = create_local_token(home, subject="bench", scopes=None, wards=None, lifetime=timedelta(hours=4))
    asyncio.run(_register(port, token, names))
    asyncio.run(_send(port, token, names, 4, seconds))
    time.sleep(3)


@dataclass
class _Sent:
    """The times of sending and acknowledgement of each patient's readings, and the memory meanwhile."""

    acknowledged: dict[str, list[tuple[float, float]]]
    memory: tuple[float, float] = (0, 0)


def _first_risk(seen: list[tuple[int, float]], sent_at: float) -> float:
    """Return when the first risk with a later index time than the reading appeared; that risk includes the reading."""
    return next((when for index_time, when in seen if index_time >= sent_at * 1e6), float("inf"))


async def _register(port: int, token: str, names: list[str]) -> None:
    connection = Connection(port)
    patients = [{"patient_id": name, "ward": f"W{number % 20}", "age": 70} for number, name in enumerate(names)]
    for first in range(0, len(patients), MAX_PATIENTS):
        request = json.dumps({"patients": patients[first : first + MAX_PATIENTS]}).encode()
        status, body = await connection.send(format_request("/v1/patients", request, token))
        if status != 200:
            raise RuntimeError(f"status {status}: {body[:300]!r}")
    connection.close()


async def _send(port: int, token: str, names: list[str], gateways: int, seconds: float) -> dict[str, list[tuple[float, float]]]:
    """Send a reading a second of each patient; return when each was sent and acknowledged."""
    acknowledged: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    rng = np.random.default_rng(1)
    began = time.time()

    async def gateway(number: int) -> None:
        own, connection = names[number::gateways], Connection(port)
        for second in range(int(seconds)):
            due = began + second + number / gateways
            await asyncio.sleep(max(0.0, due - time.time()))
            signal = list(SIGNALS)[second % len(SIGNALS)]
            at = time.time()
            readings = [_reading(name, signal, float(rng.normal(0, 2)), f"{number}-{second}", at) for name in own]
            body = json.dumps({"observations": readings}).encode()
            status, answer = await connection.send(format_request("/v1/observations", body, token))
            now = time.time()
            if status != 200 or json.loads(answer)["accepted"] != len(own):
                raise RuntimeError(f"status {status}: {answer[:300]!r}")
            for name in own:
                acknowledged[name].append((at, now))
        connection.close()

    await asyncio.gather(*(gateway(number) for number in range(gateways)))
    return acknowledged


async def _send_and_watch(port: int, token: str, names: list[str], gateways: int, seconds: float, home: Path) -> "_Sent":
    """Send readings, and measure the server's memory after a third of the time and at its end."""

    async def memory() -> tuple[float, float]:
        await asyncio.sleep(WARM_UP_SECONDS + (seconds - WARM_UP_SECONDS) / 3)
        first = await asyncio.to_thread(_memory, home)
        await asyncio.sleep((seconds - WARM_UP_SECONDS) * 2 / 3 - 1)
        return first, await asyncio.to_thread(_memory, home)

    used, acknowledged = await asyncio.gather(memory(), _send(port, token, names, gateways, seconds))
    return _Sent(acknowledged, used)


def _reading(name: str, signal: str, noise: float, message: str, at: float) -> dict[str, object]:
    observed = datetime.fromtimestamp(at, UTC).isoformat()
    value = round(SIGNALS[signal] + noise * (0.2 if signal == "body_temperature" else 1), 2)
    value = min(value, 100) if signal == "spo2" else value
    return {"message_id": message, "patient_id": name, "signal": signal, "value": value,
            "observed_at": observed, "source": "bench"}  # fmt: skip


async def _measure_max_rate(port: int, token: str, names: list[str], connections: int = 8, duration: float = 8.0) -> float:
    """Return the readings accepted per second, sent in requests of a hundred without pause."""
    accepted, end = 0, time.time() + duration

    async def gateway(number: int) -> None:
        nonlocal accepted
        connection, message = Connection(port), 0
        while time.time() < end:
            at = time.time()
            readings = [
                _reading(name, "heart_rate", message % 7, f"most-{number}-{message}", at) for name in names[number::5][:100]
            ]
            status, answer = await connection.send(
                format_request("/v1/observations", json.dumps({"observations": readings}).encode(), token)
            )
            if status != 200:
                raise RuntimeError(f"status {status}: {answer[:300]!r}")
            accepted += json.loads(answer)["accepted"]
            message += 1
        connection.close()

    await asyncio.gather(*(gateway(number) for number in range(connections)))
    return accepted / duration


def _processes(home: Path) -> list[Path]:
    """Return the processes with this home in their environment: those of its server."""
    mark = f"VIGIL_HOME={home.resolve()}".encode()
    folders = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (folder / "environ").read_bytes().split(b"\0"):
                folders.append(folder)
        except OSError:
            continue
    return folders


def _memory(home: Path) -> float:
    """Return the resident memory of the server, in MB."""
    total = 0
    for folder in _processes(home):
        lines = (folder / "status").read_text().splitlines()
        total += next((int(line.split()[1]) for line in lines if line.startswith("VmRSS")), 0)
    return total / 1e3


def _processor(home: Path) -> float:
    """Return the processor time of the server so far, in seconds."""
    ticks = 0
    for folder in _processes(home):
        fields = (folder / "stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / 100


def _sizes(home: Path) -> dict[str, int]:
    """Return the bytes of the databases, without their write-ahead logs."""
    return {name: (home / name).stat().st_size for name in ("journal.db", "predictions.db")}
