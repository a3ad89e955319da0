"""CDS Hooks: how long a record system waits for the cards of a patient, at 20 calls in parallel."""

import asyncio
import json
import os
import tempfile
import time
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path

import jwt
import numpy as np
from cryptography.hazmat.primitives.asymmetric import ec

from tests.benchmarks.freshness import monitor
from tests.benchmarks.http import Connection, closed_loop, format_request
from tests.benchmarks.measure import Section
from vigil.pipelines.home import Home
from vigil.pipelines.jobs.run import run
from vigil.pipelines.operations.server import running_server
from vigil.pipelines.sources.simulated import SimulatedWard
from vigil.serving.auth.local_tokens import create_local_token
from vigil.serving.smart.clients import FILE as CLIENTS

PARALLEL = 20
PATIENTS = 100
SECONDS = 20.0
_TASK = "deterioration"
_PATH = "/cds-services/vigil-patient-view"


def cards_section(home: Path | None = None) -> Section:
    """Measure calls with a token of the server, and calls that the record system signs itself, each once.

    Args:
        home: one with a champion, which gets readings; None: a new one.
    """
    with tempfile.TemporaryDirectory() as folder:
        if home is None:
            home = Path(folder) / "home"
            run(SimulatedWard(patients=220, patients_per_batch=220), Home(home))
        key = _register_clients(home)
        with running_server(Home(home), _TASK) as url:
            port = int(url.rpartition(":")[2])
            names = [f"urn:mrn|card-{number}" for number in range(PATIENTS)]
            monitor(port, home, names)
            bodies = [_body(name) for name in names]
            tokens = [_token(home, number) for number in range(PARALLEL)]
            requests = [format_request(_PATH, body, tokens[n % PARALLEL]) for n, body in enumerate(bodies)]
            asyncio.run(closed_loop(port, requests, PARALLEL, 3.0))  # not counted
            rows = [_row("with a token of this server", asyncio.run(closed_loop(port, requests, PARALLEL, SECONDS)))]
            signed = [
                format_request(_PATH, bodies[n % PATIENTS], _sign(key, n % PARALLEL, f"{url}{_PATH}")) for n in range(1_000)
            ]
            rows.append(_row("signed by the record system (ES384), each once", asyncio.run(_send_once(port, signed))))
    load = os.getloadavg()[0]
    return Section(
        "Cards",
        f"`POST {_PATH}`, {PARALLEL} calls in parallel over connections that stay open, each waiting for its answer, of "
        f"{PATIENTS} monitored patients with a prefetched Patient. Each is asked about again and again while a risk stands: "
        f"its reasons are made with the first card and kept. What else ran on the machine is in the load: {load:.1f} "
        f"on {os.cpu_count()} cores at the end, of which the client is a part.",
        ["calls", "number", "per second", "p50", "p95", "p99", "longest"],
        rows,
    )


def _register_clients(home: Path) -> ec.EllipticCurvePrivateKey:
    """Register as many record systems as call in parallel, with one key; return it."""
    key = ec.generate_private_key(ec.SECP384R1())
    public = jwt.algorithms.ECAlgorithm.to_jwk(key.public_key(), as_dict=True) | {"kid": "bench", "alg": "ES384"}
    (home / "bench.jwks.json").write_text(json.dumps({"keys": [public]}))
    registered = 'keys = "bench.jwks.json"\nscopes = ["system/RiskAssessment.rs", "system/DetectedIssue.rs"]\n'
    (home / CLIENTS).write_text("".join(f'[clients."{_issuer(number)}"]\n{registered}' for number in range(PARALLEL)))
    return key


def _issuer(number: int) -> str:
    return f"https://ehr-{number}.example"


def _token(home: Path, number: int) -> str:
    return create_local_token(home, subject=f"bench-{number}", scopes=None, wards=None, lifetime=timedelta(hours=4))


def _sign(key: ec.EllipticCurvePrivateKey, number: int, url: str) -> str:
    now = int(datetime.now(UTC).timestamp())
    claims = {"iss": _issuer(number), "aud": url, "iat": now, "exp": now + 290, "jti": str(uuid.uuid4())}
    return jwt.encode(claims, key, "ES384", {"kid": "bench"})


def _body(name: str) -> bytes:
    system, _, value = name.partition("|")
    patient = {"resourceType": "Patient", "id": value, "identifier": [{"system": system, "value": value}]}
    context = {"userId": "Practitioner/1", "patientId": value}
    asked = {"hook": "patient-view", "hookInstance": str(uuid.uuid4()), "context": context, "prefetch": {"patient": patient}}
    return json.dumps(asked).encode()


async def _send_once(port: int, requests: list[bytes]) -> list[float]:
    """Send each request once, over as many connections as are in parallel; return the latencies."""
    waiting, latencies = iter(requests), []

    async def send() -> None:
        connection = Connection(port)
        for request in waiting:
            started = time.perf_counter()
            status, body = await connection.send(request)
            latencies.append(time.perf_counter() - started)
            if status != 200:
                raise RuntimeError(f"status {status}: {body[:500]!r}")
        connection.close()

    await asyncio.gather(*(send() for _ in range(PARALLEL)))
    return latencies


def _row(name: str, latencies: list[float]) -> list[str]:
    p50, p95, p99 = 1e3 * np.quantile(latencies, [0.5, 0.95, 0.99])
    rate = PARALLEL * len(latencies) / sum(latencies)
    return [
        name,
        f"{len(latencies):,}",
        f"{rate:,.0f}",
        f"{p50:.0f} ms",
        f"{p95:.0f} ms",
        f"{p99:.0f} ms",
        f"{1e3 * max(latencies):.0f} ms",
    ]
