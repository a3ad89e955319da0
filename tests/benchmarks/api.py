"""The API beside a bare endpoint, its latency over load, how fast readings become risks, and what a hospital needs of it."""

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
from pipelines.jobs.run import run
from pipelines.operations.server import running_server
from pipelines.sources.simulated import SimulatedWard
from serving.auth.local_tokens import local_token
from serving.identity.identities import Identities
from tests.benchmarks.freshness import Fresh, fresh
from tests.benchmarks.http import closed_loop, open_loop, request
from tests.benchmarks.measure import Section

PATIENTS = 220
TASK = "deterioration"
ROUNDS = 7
SECONDS = 4.0
CONNECTIONS = 8
WATCHED = 500


def api_section(seconds: float = 60) -> Section:
    """Everything about the server, on a home of its own. ``seconds``: of readings that become risks."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        run(SimulatedWard(patients=PATIENTS, patients_per_batch=PATIENTS), home)
        rows = [*_beside_bare(home), *_over_load(home)]
        sys.stderr.writelines(f"{' | '.join(row)}\n" for row in rows)  # the rest takes long
        found = fresh(home, TASK, patients=WATCHED, seconds=seconds)
        rows += _freshness(found)
        rows += _costs(found)
    return Section(
        "The prediction API",
        "Risk by id: features read from Feast's SQLite, no explanation, all that an answer holds besides, logged on the disk. "
        "The bare endpoint is Starlette with the same read and the same prediction by hand, and nothing else "
        "(`tests/benchmarks/bare.py`); both on one worker, asked in turn, a plain client on the same machine. The open loop "
        "asks at a fixed rate, and a request counts from when it was due.",
        ["what", "ours", "beside", "ratio"],
        rows,
    )


def _beside_bare(home: Path) -> list[list[str]]:
    identifiers, token, ours = _asked(home)
    bare = [request("/risk", json.dumps({"patient_id": who}).encode()) for who in identifiers]
    medians: list[tuple[float, float]] = []
    rates: list[tuple[float, float]] = []
    with running_server(home, TASK) as url, _bare_server(home) as other:
        port = int(url.rpartition(":")[2])
        _same(url, token, identifiers, other)
        for round_ in range(ROUNDS + 1):
            one = [_measure(at, asked, 1) for at, asked in ((port, ours), (other, bare))]
            many = [_measure(at, asked, CONNECTIONS) for at, asked in ((port, ours), (other, bare))]
            if round_:
                medians.append((float(np.median(one[0])), float(np.median(one[1]))))
                rates.append((len(many[0]) / SECONDS, len(many[1]) / SECONDS))
    slower = [mine / theirs for mine, theirs in medians]
    share = [mine / theirs for mine, theirs in rates]
    return [
        [
            "risk by id, one connection, p50",
            *(f"{1e3 * np.median([pair[side] for pair in medians]):.1f} ms" for side in (0, 1)),
            f"**{np.median(slower):.2f}x** as long ({min(slower):.2f}-{max(slower):.2f})",
        ],
        [
            f"risk by id, {CONNECTIONS} connections, a second",
            *(f"{np.median([pair[side] for pair in rates]):.0f}" for side in (0, 1)),
            f"**{np.median(share):.2f}** of its throughput ({min(share):.2f}-{max(share):.2f})",
        ],
    ]


def _asked(home: Path) -> tuple[dict[str, str], str, list[bytes]]:
    """Identifiers of the ward by pseudonym, a token, and a request for the risk of each."""
    identifiers = Identities(home).of(CohortStore(home).read("stays")["subject_id"].tolist())
    token = local_token(home, subject="bench", scopes=None, wards=None, lifetime=timedelta(hours=4))
    asked = [request("/v1/risk", json.dumps({"patient_id": who}).encode(), token) for who in identifiers.values()]
    return identifiers, token, asked


def _measure(port: int, requests: list[bytes], connections: int) -> list[float]:
    return asyncio.run(closed_loop(port, requests, connections, SECONDS))


def _same(url: str, token: str, identifiers: dict[str, str], bare: int) -> None:
    """Both say the same of a patient, or nothing that follows means anything."""
    pseudonym, identifier = next(iter(identifiers.items()))
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
    asked = ((f"{url}/v1/risk", identifier), (f"http://127.0.0.1:{bare}/risk", pseudonym))
    found = []
    for at, who in asked:
        body = json.dumps({"patient_id": who}).encode()
        with urllib.request.urlopen(urllib.request.Request(at, body, headers), timeout=30) as answer:
            found.append(json.load(answer)["probability"])
    if abs(found[0] - found[1]) > 1e-12:
        raise RuntimeError("the bare endpoint predicts something else")


@contextmanager
def _bare_server(home: Path) -> Iterator[int]:
    port = 3_987
    command = [sys.executable, "-m", "uvicorn", "tests.benchmarks.bare:app", "--port", str(port), "--log-level", "error"]
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


def _over_load(home: Path) -> list[list[str]]:
    """At shares of what it answers at most."""
    _, _, asked = _asked(home)
    rows = []
    with running_server(home, TASK) as url:
        port = int(url.rpartition(":")[2])
        asyncio.run(closed_loop(port, asked, CONNECTIONS, 2.0))
        most = len(_measure(port, asked, CONNECTIONS)) / SECONDS
        for share in (0.25, 0.5, 0.75, 1.25):
            took, refused = asyncio.run(open_loop(port, asked, share * most, 8.0))
            p50, p95, p99 = 1e3 * np.quantile(took, [0.5, 0.95, 0.99])
            what = f"open loop, {share * most:.0f} requests a second ({share:.0%} of the most): p50, p95, p99"
            rows.append(
                [what, f"{p50:.0f}, {p95:.0f}, {p99:.0f} ms", "", f"{refused} of {len(took)} refused" if refused else ""]
            )
    return rows


def _freshness(found: Fresh) -> list[list[str]]:
    p50, p95, p99 = 1e3 * np.quantile(found.seconds, [0.5, 0.95, 0.99])
    return [
        [
            (
                f"from accepted reading to new risk, {found.patients} patients, a reading a second each, "
                f"for {found.lasted:.0f} s, {found.gateways} gateways: p50, p95, p99"
            ),
            f"{p50:.0f}, {p95:.0f}, {p99:.0f} ms",
            f"longest {1e3 * found.seconds.max():.0f} ms",
            f"{len(found.seconds):,} readings",
        ],
        [
            "memory of the two processes, at a third of that time and at its end",
            f"{found.memory[0]:.0f} MB",
            f"{found.memory[1]:.0f} MB",
            f"**{found.memory[1] / found.memory[0]:.2f}x**",
        ],
        ["processor time of the server, per second", f"{found.cores:.2f} cores", "", ""],
        ["most readings accepted a second, gateways that send without pause", f"{found.most:,.0f}", "", ""],
    ]


def _costs(found: Fresh) -> list[list[str]]:
    """What so many patients need, at a reading a minute of each of five signals, from what was measured a reading."""
    rows = []
    for patients in (100, 1_000, 10_000):
        readings = patients * 5 / 60
        refreshes = patients / 60  # the five of a minute come together
        cores = found.cores_idle + refreshes * found.cores_a_refresh
        memory = found.memory_idle + patients * found.megabytes_a_patient
        disk = readings * 86_400 * found.bytes_a_reading + refreshes * 86_400 * found.bytes_a_risk
        rows.append(
            [
                f"{patients:,} patients, five signals a minute: cores, memory, disk a day",
                f"{cores:.2f} cores",
                f"{memory / 1e3:.1f} GB",
                f"{disk / 1e9:.1f} GB a day",
            ]
        )
    return rows
