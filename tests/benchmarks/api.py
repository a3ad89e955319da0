"""The API: compared with a baseline, its latency by load, the freshness of risks, and the resources that a hospital needs."""

import asyncio
import json
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import numpy as np

from pipelines.cohort_store import CohortStore
from pipelines.environment import server_environment
from pipelines.home import Home
from pipelines.jobs.run import run
from pipelines.operations.server import running_server
from pipelines.sources.simulated import SimulatedWard
from serving.auth.local_tokens import create_local_token
from serving.identity.identities import Identities
from tests.benchmarks.freshness import Freshness, measure_freshness
from tests.benchmarks.http import closed_loop, format_request, open_loop
from tests.benchmarks.measure import Section

PATIENTS = 220
TASK = "deterioration"
ROUNDS = 7
SECONDS = 4.0
CONNECTIONS = 8
MONITORED = 500


def api_section(seconds: float = 60) -> Section:
    """Measure the server on a new home. Readings are sent for ``seconds``."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        run(SimulatedWard(patients=PATIENTS, patients_per_batch=PATIENTS), Home(home))
        rows = [*_compare_with_baseline(home), *_measure_load(home)]
        sys.stderr.writelines(f"{' | '.join(row)}\n" for row in rows)  # the rest is slow
        freshness = measure_freshness(home, TASK, patients=MONITORED, seconds=seconds)
        rows += _freshness_rows(freshness)
        rows += _resource_rows(freshness)
    return Section(
        "The prediction API",
        "Risk by id: features read from Feast's SQLite, a complete answer without contributions, logged to disk. The baseline "
        "is a Starlette endpoint with the same read and the same prediction, and nothing else "
        "(`tests/benchmarks/baseline_server.py`). Both have one worker and are measured in turn, by a minimal client on the "
        "same machine. The open loop sends at a fixed rate, and the latency of a request counts from the time it was due.",
        ["measurement", "Vigil", "baseline", "ratio"],
        rows,
    )


def _compare_with_baseline(home: Path) -> list[list[str]]:
    identifiers, token, requests = _prepare_requests(home)
    baseline_requests = [format_request("/risk", json.dumps({"patient_id": subject}).encode()) for subject in identifiers]
    medians: list[tuple[float, float]] = []
    rates: list[tuple[float, float]] = []
    with running_server(Home(home), TASK) as url, _baseline_server(home) as baseline_port:
        port = int(url.rpartition(":")[2])
        _check_same_risk(url, token, identifiers, baseline_port)
        both = ((port, requests), (baseline_port, baseline_requests))
        for round_ in range(ROUNDS + 1):
            one = [_measure(to, messages, 1) for to, messages in both]
            many = [_measure(to, messages, CONNECTIONS) for to, messages in both]
            if round_:
                medians.append((float(np.median(one[0])), float(np.median(one[1]))))
                rates.append((len(many[0]) / SECONDS, len(many[1]) / SECONDS))
    slower = [api / baseline for api, baseline in medians]
    share = [api / baseline for api, baseline in rates]
    return [
        [
            "risk by id, one connection, p50",
            *(f"{1e3 * np.median([pair[side] for pair in medians]):.1f} ms" for side in (0, 1)),
            f"**{np.median(slower):.2f}x** the time ({min(slower):.2f}-{max(slower):.2f})",
        ],
        [
            f"risk by id, {CONNECTIONS} connections, requests per second",
            *(f"{np.median([pair[side] for pair in rates]):.0f}" for side in (0, 1)),
            f"**{np.median(share):.2f}** of the throughput ({min(share):.2f}-{max(share):.2f})",
        ],
    ]


def _prepare_requests(home: Path) -> tuple[dict[str, str], str, list[bytes]]:
    """Return the patient identifiers by subject key, a token, and a request for the risk of each patient."""
    identifiers = Identities(home).find(CohortStore(home).read("stays")["subject_id"].tolist())
    token = create_local_token(home, subject="bench", scopes=None, wards=None, lifetime=timedelta(hours=4))
    requests = [
        format_request("/v1/risk", json.dumps({"patient_id": identifier}).encode(), token)
        for identifier in identifiers.values()
    ]
    return identifiers, token, requests


def _measure(port: int, requests: list[bytes], connections: int) -> list[float]:
    return asyncio.run(closed_loop(port, requests, connections, SECONDS))


def _check_same_risk(url: str, token: str, identifiers: dict[str, str], baseline_port: int) -> None:
    """Check that both give the same risk for a patient, without which the comparison is meaningless."""
    pseudonym, identifier = next(iter(identifiers.items()))
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
    both = ((f"{url}/v1/risk", identifier), (f"http://127.0.0.1:{baseline_port}/risk", pseudonym))
    risks = []
    for address, patient in both:
        body = json.dumps({"patient_id": patient}).encode()
        with urllib.request.urlopen(urllib.request.Request(address, body, headers), timeout=30) as answer:
            risks.append(json.load(answer)["probability"])
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


def _measure_load(home: Path) -> list[list[str]]:
    """Measure latencies at shares of the maximum throughput."""
    _, _, requests = _prepare_requests(home)
    rows = []
    with running_server(Home(home), TASK) as url:
        port = int(url.rpartition(":")[2])
        asyncio.run(closed_loop(port, requests, CONNECTIONS, 2.0))
        maximum = len(_measure(port, requests, CONNECTIONS)) / SECONDS
        for share in (0.25, 0.5, 0.75, 1.25):
            latencies, refused = asyncio.run(open_loop(port, requests, share * maximum, 8.0))
            p50, p95, p99 = 1e3 * np.quantile(latencies, [0.5, 0.95, 0.99])
            title = f"open loop, {share * maximum:.0f} requests per second ({share:.0%} of the maximum): p50, p95, p99"
            rows.append(
                [title, f"{p50:.0f}, {p95:.0f}, {p99:.0f} ms", "", f"{refused} of {len(latencies)} refused" if refused else ""]
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
