"""The API: compared with a baseline, its latency by load, the freshness of risks, and the resources that a hospital needs."""

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import numpy as np

from tests.benchmarks.freshness import Freshness, measure_freshness, monitor
from tests.benchmarks.http import Connection, closed_loop, format_request, open_loop, send_each
from tests.benchmarks.measure import Section
from vigil.features.pseudonyms import open_pseudonyms
from vigil.pipelines.cohort_store import CohortStore
from vigil.pipelines.environment import server_environment
from vigil.pipelines.home import Home
from vigil.pipelines.jobs.run import run
from vigil.pipelines.operations.server import running_server
from vigil.pipelines.sources.simulated import SimulatedWard
from vigil.serving.auth.local_tokens import create_local_token
from vigil.serving.identity.identities import Identities

PATIENTS = 220
TASK = "deterioration"
ROUNDS = 7
SECONDS = 4.0
CONNECTIONS = 8
CALLERS = 64  # of each connection several, so that none is refused for its rate
MONITORED = 2_000


def api_section(seconds: float = 60) -> Section:
    """Measure the server on a new home. Readings are sent for ``seconds``."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        run(SimulatedWard(patients=PATIENTS, patients_per_batch=PATIENTS), Home(home))
        rows = [*_compare_made(home), *_compare_read(home)]
        sys.stderr.writelines(f"{' | '.join(row)}\n" for row in rows)  # the rest is slow
        freshness = measure_freshness(home, TASK, patients=MONITORED, seconds=seconds)
        rows += _freshness_rows(freshness)
        rows += _resource_rows(freshness)
    return Section(
        "The prediction API",
        "A client on the same machine sends requests over connections that stay open. *Read*: the risk of a monitored patient "
        "that stands; the baseline is a Starlette endpoint that reads one row of the same database and answers. *Made*: "
        "the risk of a patient who is not monitored, from features in Feast's SQLite, a complete answer without contributions, "
        "logged to disk; the baseline is a Starlette endpoint with the same read and the same prediction "
        "(`tests/benchmarks/baseline_server.py`). The baselines check no token and do nothing else. Vigil and baseline are "
        "measured in turn, each with one process that answers. The open loop sends at a fixed rate, from 64 callers, and the "
        "latency of a request counts from the time it was due.",
        ["measurement", "Vigil", "baseline", "ratio"],
        rows,
    )


def _compare_made(home: Path) -> list[list[str]]:
    """Compare risks that have to be made: of patients who are not monitored."""
    identifiers = Identities(home).find(CohortStore(home).read("stays")["subject_id"].tolist())
    requests = _format_requests(home, list(identifiers.values()))
    others = [format_request("/risk", json.dumps({"patient_id": subject}).encode()) for subject in identifiers]
    with running_server(Home(home), TASK) as url, _baseline_server(home) as baseline_port:
        port = _port_of(url)
        _check_same_risk(url, requests[0], next(iter(identifiers)), baseline_port)
        rows = _compare("risk by id, made", (port, requests), (baseline_port, others))
        return [*rows, *_measure_load("made", port, requests, (0.25, 0.5, 0.75, 1.25, 3.0))]


def _compare_read(home: Path) -> list[list[str]]:
    """Compare risks that stand. The patients are monitored, and nothing new is recorded of them."""
    names = [f"read-{number}" for number in range(200)]
    pseudonyms = open_pseudonyms(home)
    requests = _format_requests(home, names)
    others = [format_request("/row", json.dumps({"patient_id": pseudonyms.subject_key(name)}).encode()) for name in names]
    with running_server(Home(home), TASK) as url, _baseline_server(home) as baseline_port:
        port = _port_of(url)
        monitor(port, home, names)
        rows = _compare("risk by id, read", (port, requests), (baseline_port, others))
        rows += _measure_load("read", port, requests, (0.25, 0.5, 0.75))  # the client cannot send faster than it is answered
        rows.append(_first_read(port, home, names, requests, baseline_port, others))
    os.environ["VIGIL_WORKERS"] = "2"
    try:
        with running_server(Home(home), TASK) as url, _baseline_server(home) as baseline_port:
            monitor(_port_of(url), home, names)
            both = (_port_of(url), requests), (baseline_port, others)
            rows += _compare("risk by id, read, two processes that answer", *both)
    finally:
        del os.environ["VIGIL_WORKERS"]
    return rows


def _compare(title: str, vigil: tuple[int, list[bytes]], baseline: tuple[int, list[bytes]]) -> list[list[str]]:
    medians: list[tuple[float, float]] = []
    rates: list[tuple[float, float]] = []
    for round_ in range(ROUNDS + 1):
        one = [_measure(*each, 1) for each in (vigil, baseline)]
        many = [_measure(*each, CONNECTIONS) for each in (vigil, baseline)]
        if round_:
            medians.append((float(np.median(one[0])), float(np.median(one[1]))))
            rates.append((len(many[0]) / SECONDS, len(many[1]) / SECONDS))
    slower = [api / other for api, other in medians]
    share = [api / other for api, other in rates]
    return [
        [
            f"{title}, one connection, p50",
            *(f"{1e3 * np.median([pair[side] for pair in medians]):.2f} ms" for side in (0, 1)),
            f"**{np.median(slower):.2f}x** the time ({min(slower):.2f}-{max(slower):.2f})",
        ],
        [
            f"{title}, {CONNECTIONS} connections, requests per second",
            *(f"{np.median([pair[side] for pair in rates]):,.0f}" for side in (0, 1)),
            f"**{np.median(share):.2f}** of the throughput ({min(share):.2f}-{max(share):.2f})",
        ],
    ]


def _first_read(
    port: int, home: Path, names: list[str], requests: list[bytes], baseline_port: int, others: list[bytes]
) -> list[str]:
    """Compare the first read of each risk, after each patient was scored again."""
    firsts: list[float] = []
    for _ in range(ROUNDS):
        monitor(port, home, names, seconds=1)
        firsts += asyncio.run(send_each(port, requests))
    rest = asyncio.run(send_each(baseline_port, others))
    ratio = np.median(firsts) / np.median(rest)
    return [
        "the first read of a risk, one connection, p50",
        f"{1e3 * np.median(firsts):.2f} ms",
        f"{1e3 * np.median(rest):.2f} ms",
        f"**{ratio:.2f}x** the time",
    ]


def _format_requests(home: Path, patients: list[str]) -> list[bytes]:
    """Return a request for the risk of each patient, from one caller after the other."""
    tokens = [
        create_local_token(home, subject=f"bench-{number}", scopes=None, wards=None, lifetime=timedelta(hours=4))
        for number in range(CALLERS)
    ]
    return [
        format_request("/v1/risk", json.dumps({"patient_id": patient}).encode(), tokens[number % CALLERS])
        for number, patient in enumerate(patients)
    ]


def _port_of(url: str) -> int:
    return int(url.rpartition(":")[2])


def _measure(port: int, requests: list[bytes], connections: int) -> list[float]:
    return asyncio.run(closed_loop(port, requests, connections, SECONDS))


def _check_same_risk(url: str, request: bytes, subject: str, baseline_port: int) -> None:
    """Check that both give the same risk for a patient, without which the comparison is meaningless."""
    other = format_request("/risk", json.dumps({"patient_id": subject}).encode())

    async def ask(port: int, message: bytes) -> float:
        _, answer = await Connection(port).send(message)
        return float(json.loads(answer)["probability"])

    risks = [asyncio.run(ask(*each)) for each in ((_port_of(url), request), (baseline_port, other))]
    if abs(risks[0] - risks[1]) > 1e-12:
        raise RuntimeError("the baseline gives another risk")


@contextmanager
def _baseline_server(home: Path) -> Iterator[int]:
    port = 3_987
    command = [
        sys.executable,
        "-m",
        "uvicorn",
        "tests.benchmarks.baseline_server:app",
        "--port",
        str(port),
        "--log-level",
        "error",
    ]
    server = subprocess.Popen(command, env=server_environment(home, TASK))
    try:
        for _ in range(300):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=1)
            except urllib.error.HTTPError:
                break  # it answers
            except OSError:
                time.sleep(0.2)
        yield port
    finally:
        server.terminate()
        server.wait()


def _measure_load(kind: str, port: int, requests: list[bytes], shares: Iterable[float]) -> list[list[str]]:
    """Measure latencies at shares of the maximum throughput."""
    asyncio.run(closed_loop(port, requests, CONNECTIONS, 2.0))
    maximum = len(_measure(port, requests, CONNECTIONS)) / SECONDS
    rows = []
    for share in shares:
        latencies, refused = asyncio.run(open_loop(port, requests, share * maximum, 8.0))
        p50, p95, p99 = 1e3 * np.quantile(latencies, [0.5, 0.95, 0.99])
        rows.append(
            [
                f"{kind}, open loop, {share * maximum:,.0f} requests per second ({share:.0%} of the maximum): p50, p95, p99",
                f"{p50:.0f}, {p95:.0f}, {p99:.0f} ms",
                "",
                f"{refused:,} of {len(latencies) + refused:,} refused" if refused else "",
            ]
        )
    return rows


def _freshness_rows(freshness: Freshness) -> list[list[str]]:
    p50, p95, p99 = 1e3 * np.quantile(freshness.seconds, [0.5, 0.95, 0.99])
    return [
        [
            (
                f"from an accepted reading to its risk, {freshness.patients} patients, one reading per second each, "
                f"for {freshness.duration:.0f} s, {freshness.gateways} gateways: p50, p95, p99"
            ),
            f"{p50:.0f}, {p95:.0f}, {p99:.0f} ms",
            f"maximum {1e3 * freshness.seconds.max():.0f} ms",
            f"{len(freshness.seconds):,} readings",
        ],
        [
            "memory of both processes, after a third of that time and at its end",
            f"{freshness.memory[0]:.0f} MB",
            f"{freshness.memory[1]:.0f} MB",
            f"**{freshness.memory[1] / freshness.memory[0]:.2f}x**",
        ],
        ["processor time of the server, per second", f"{freshness.cores:.2f} cores", "", ""],
        [
            "maximum of readings accepted per second, from gateways that send without pause",
            f"{freshness.max_rate:,.0f}",
            "",
            "",
        ],
    ]


def _resource_rows(freshness: Freshness) -> list[list[str]]:
    """Return the resources for numbers of patients with five signals a minute, by the measured cost of a reading."""
    rows = []
    for patients in (100, 1_000, 10_000):
        readings = patients * 5 / 60
        refreshes = patients / 60  # the five readings of a minute arrive together
        cores = freshness.cores_idle + refreshes * freshness.cores_per_refresh
        memory = freshness.memory_idle + patients * freshness.megabytes_per_patient
        disk = readings * 86_400 * freshness.bytes_per_reading + refreshes * 86_400 * freshness.bytes_per_risk
        rows.append(
            [
                f"{patients:,} patients, five signals a minute: cores, memory, disk per day",
                f"{cores:.2f} cores",
                f"{memory / 1e3:.1f} GB",
                f"{disk / 1e9:.1f} GB per day",
            ]
        )
    return rows
