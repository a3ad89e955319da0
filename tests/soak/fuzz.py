"""Send invalid requests: no server error, no input repeated in an error answer, and no partial write."""

import gzip
import json
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx

from tests.soak import invariants
from vigil.serving.api.schemas.request import MAX_BODY_BYTES, MAX_OBSERVATIONS, MAX_PATIENTS
from vigil.serving.records import journal
from vigil.serving.records.journal_tables import OBSERVATIONS, QUARANTINE, REGISTRATIONS

CANARY = "canary-5c1e"  # in every text that is sent; must appear neither in an error answer nor in a log
_NOW = "2026-02-01T12:00:00Z"
_JSON = "application/json"
# Text that the JSON encoder does not produce, by a placeholder that is replaced after encoding.
_RAW = {
    "@nan": "NaN",
    "@infinity": "-Infinity",
    "@overflow": "1e999",
    "@digits": "9" * 400,
    "@more digits": "9" * 5_000,
    "@surrogate": '"canary-5c1e\\ud800"',
    "@null byte": '"canary-5c1e\\u0000"',
    "@control": '"canary-5c1e\x01"',
    "@escape": '"\\x"',
    "@deep": "[" * 3_000 + "]" * 3_000,
    "@very deep": "[" * 100_000,
    "@minus zero": "-0.0",
    "@hexadecimal": "0x10",
    "@no value": "",
}
_INVALID_VALUES: list[Any] = [
    *_RAW, None, True, False, 0, -1, 1e308, -1e308, 5e-324, 2**53 + 1, 2**63, -(2**64), "", " ", CANARY, CANARY * 20_000,
    "1e5", "١٢", "nan", "٣", "🜚" * 300, "\u202e", [], {}, [[]], [CANARY], {CANARY: CANARY}, [None] * 50,
    "0000-00-00T00:00:00Z", "2026-02-30T00:00:00Z", "9999-12-31T23:59:60Z", "2026-02-01", "2026-02-01T12:00:00",
    "2026-02-01T12:00:00+99:99", "1989-12-31T23:59:59.999999Z", "2099-12-31T00:00:00Z", _NOW + CANARY, -62135596800, 1e18,
    "heart_rate", "spo2", "mg/dL", "%", "on_oxygen", "female",
]  # fmt: skip
_CONTENT_TYPES = [
    None, "", "text/plain", "application/xml", "application/json; charset=utf-16", "application/json; charset=nonsense", "*/*",
    "application/x-www-form-urlencoded", "multipart/form-data", "multipart/form-data; boundary=x", "application/problem+json",
    "application/fhir+json", "APPLICATION/JSON", "application/json, text/plain", "json", CANARY, "é", "application/json;" * 50,
]  # fmt: skip
_ENCODINGS = ["utf-16", "utf-16-le", "utf-32", "utf-8-sig", "latin-1", "utf-7", "cp037"]


@dataclass
class Request:
    """One request."""

    path: str
    content: bytes
    headers: list[tuple[bytes, bytes]]


@dataclass
class Report:
    """Counts of answers by status and of stored rows by result, and the faults that were found."""

    statuses: Counter[int] = field(default_factory=Counter)
    readings: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)


def good_bodies(rng: random.Random) -> dict[str, dict[str, Any]]:
    """Return a valid body for each route. It names no known patient."""
    patient = f"{CANARY}-{rng.randint(0, 9)}"
    reading = {"signal": "heart_rate", "value": rng.randint(30, 200), "observed_at": _NOW, "unit": "/min"}
    observation = {
        "message_id": f"{CANARY}-{rng.getrandbits(48):x}", "patient_id": patient, "device_id": CANARY, "source": CANARY,
        **reading, "observed_at": datetime.now(UTC).isoformat(), "received_at": datetime.now(UTC).isoformat(),
    }  # fmt: skip
    one = {"patient_id": patient, "as_of": _NOW, "include": ["range"]}
    several = {"patient_ids": [patient, CANARY], "as_of": _NOW, "include": []}
    return {
        "/v1/observations": {"observations": [observation]},
        "/v1/devices/status": {"source": CANARY, "device_id": CANARY, "status": rng.choice(["connected", "disconnected"])},
        "/v1/patients": {
            "patients": [{"patient_id": patient, "ward": CANARY, "age": 70, "sex": "male", "unit_admitted_at": _NOW}]
        },
        "/v1/patients/merge": {"patient_id": patient, "into": f"{CANARY}-{rng.randint(0, 9)}"},
        "/v1/patients/unmerge": {"patient_id": patient},
        "/v1/patients/terms": {
            "patient_id": patient,
            "because": "the usual limits do not fit",
            "spo2_scale": 2,
            "until": None,
            "alarm_threshold": 0.3,
            "news2_alarm_from": 8,
            "limits": {"heart_rate": {"low": 45, "high": 130}},
        },
        "/v1/risk": one,
        "/v1/risks": several,
        "/v1/risk/observations": {"patient_id": patient, "observations": [reading], "age": 70, "sex": "female"},
        "/v1/risk/history": {"patient_id": patient, "hours": 24},
        "/v1/risk/anomalies": {"patient_id": patient, "as_of": _NOW},
        "/v1/visit-summary": {"patient_id": patient, "hours": 24},
        "/v1/alarms/acknowledge": {"alarm_id": CANARY},
        "/v1/alarms/override": {"alarm_id": CANARY, "reason": "other", "note": CANARY},
    }


def fuzz(url: str, token: str, home: Path, *, bodies: int, seed: int) -> Report:
    """Send random requests one after the other, the same for the same seed. Some of them are valid.

    Args:
        url: of the server. It must have no other client.
        token: of a caller with all scopes.
        home: of the server.
        bodies: number of requests.
        seed: of the requests.
    """
    report = Report()
    before = _count_rows(home)
    with httpx.Client(base_url=url, timeout=30, headers={"Authorization": f"Bearer {token}"}) as client:
        document = client.get("/v1/openapi.json").json()["paths"]
        posts = {path for path, operations in document.items() if "post" in operations}
        if missing := posts - good_bodies(random.Random(0)).keys():
            report.faults.append(f"{', '.join(sorted(missing))}: no valid body defined for this test")
        rng = random.Random(seed)
        for number in range(1, bodies + 1):
            _send(client, _random_request(rng), report)
            if number % 500 == 0 or number == bodies:
                report.faults += _row_faults(home, before, report)
            if len(report.faults) > 20:
                break
    for path in (home / "logs").iterdir():
        text = path.read_text(errors="replace")
        report.faults += [f"{path.name}: contains {word}" for word in (CANARY, "Traceback") if word in text]
    return report


def _send(client: httpx.Client, request: Request, report: Report) -> None:
    description = f"{request.path} {request.content[:120]!r} {request.headers}"
    try:
        answer = client.post(request.path, content=request.content, headers=request.headers)
    except httpx.TransportError as error:
        report.faults.append(f"{type(error).__name__}: {description}")
        return
    report.statuses[answer.status_code] += 1
    if answer.status_code >= 500:
        report.faults.append(f"{answer.status_code}: {description}")
    elif answer.status_code >= 400:
        is_problem = answer.headers["content-type"] == "application/problem+json" and {
            "title",
            "status",
            "code",
            "detail",
        } <= set(answer.json())
        if not is_problem or CANARY in answer.text:
            report.faults.append(
                f"{'not a problem' if not is_problem else 'input in the answer'}: {answer.text[:200]} {description}"
            )
    elif request.path == "/v1/observations":
        report.readings.update(result["status"] for result in answer.json()["results"])
    elif request.path == "/v1/patients":
        report.readings["registered"] += answer.json()["registered"]


def _row_faults(home: Path, before: Counter[str], report: Report) -> list[str]:
    """Return the difference between the rows stored and the rows acknowledged with 200."""
    stored, acknowledged = (
        _count_rows(home) - before,
        Counter({name: n for name, n in report.readings.items() if name != "duplicate"}),
    )
    return [] if stored == acknowledged else [f"in the journal {dict(stored)}, acknowledged {dict(acknowledged)}"]


def _count_rows(home: Path) -> Counter[str]:
    tables = invariants.rows(home, journal.SCHEMA, OBSERVATIONS, QUARANTINE, REGISTRATIONS)
    accepted, quarantined, registered = map(len, tables)
    return Counter(accepted=accepted, quarantined=quarantined, registered=registered)


def _random_request(rng: random.Random) -> Request:
    path, body = rng.choice(list(good_bodies(rng).items()))
    if rng.random() < 0.2:
        path = "/v1/observations"
        body = {"observations": [_random_observation(rng) for _ in range(rng.randint(1, 12))]}
    content, headers = rng.choice(_MUTATIONS)(rng, body)
    return Request(path, content, headers)


def _random_observation(rng: random.Random) -> Any:
    """Return an observation that is valid or has one fault."""
    (reading,) = good_bodies(rng)["/v1/observations"]["observations"]
    return reading if rng.random() < 0.5 else _with_fault(rng, reading)


def _with_fault(rng: random.Random, body: Any) -> Any:
    """Return the body with one field invalid, missing or added."""
    if isinstance(body, dict) and body:
        name = rng.choice(list(body))
        if rng.random() < 0.1:
            return {key: value for key, value in body.items() if key != name}
        if rng.random() < 0.1:
            return {**body, CANARY: rng.choice(_INVALID_VALUES)}
        deeper = isinstance(body[name], dict | list) and rng.random() < 0.7
        return {**body, name: _with_fault(rng, body[name]) if deeper else rng.choice(_INVALID_VALUES)}
    if isinstance(body, list) and body:
        position = rng.randrange(len(body))
        return [*body[:position], _with_fault(rng, body[position]), *body[position + 1 :]]
    return rng.choice(_INVALID_VALUES)


def _encode(body: Any) -> bytes:
    text = json.dumps(body)
    for name, raw in _RAW.items():
        text = text.replace(json.dumps(name), raw)
    return text.encode("utf-8", "surrogatepass")


def _as_json(content: bytes) -> tuple[bytes, list[tuple[bytes, bytes]]]:
    return content, [(b"Content-Type", _JSON.encode())]


def _one_fault(rng: random.Random, body: Any) -> Any:
    return _as_json(_encode(_with_fault(rng, body)))


def _several_faults(rng: random.Random, body: Any) -> Any:
    for _ in range(rng.randint(2, 5)):
        body = _with_fault(rng, body)
    return _as_json(_encode(body))


def _truncated(rng: random.Random, body: Any) -> Any:
    whole = _encode(body)
    return _as_json(whole[: rng.randrange(len(whole))])


def _other_bytes(rng: random.Random, body: Any) -> Any:
    content = bytearray(_encode(body))
    for _ in range(rng.randint(1, 4)):
        position = rng.randrange(len(content))
        content[position : position + rng.randint(0, 2)] = rng.choice(
            [bytes([rng.randrange(256)]), b"\x00", b"\xed\xa0\x80", b"\xff\xfe"]
        )
    return _as_json(bytes(content))


def _other_encoding(rng: random.Random, body: Any) -> Any:
    content = json.dumps({**body, "é": "ü" + CANARY} if rng.random() < 0.3 else body, ensure_ascii=False)
    if rng.random() < 0.2:
        return gzip.compress(content.encode()), [(b"Content-Type", _JSON.encode()), (b"Content-Encoding", b"gzip")]
    return _as_json(content.encode(rng.choice(_ENCODINGS), "replace"))


def _other_type(rng: random.Random, body: Any) -> Any:
    types = rng.sample(_CONTENT_TYPES, rng.randint(1, 2))
    return _encode(body), [(b"Content-Type", name.encode()) for name in types if name is not None]


def _duplicate_key(rng: random.Random, body: Any) -> Any:
    """Write one key twice."""
    name = rng.choice(list(body))
    second = json.dumps({name: rng.choice([body[name], *_INVALID_VALUES])})[1:-1]
    return _as_json(_encode(body)[:-1] + b", " + second.encode() + b"}")


def _garbage(rng: random.Random, body: Any) -> Any:
    del body
    bodies = [
        b"",
        b" ",
        b"null",
        b"[]",
        b"{}",
        b'"',
        b"0",
        b"true",
        b"{" * 2_000,
        b"[" * 200_000,
        b'{"a":' * 20_000,
        b"\x00" * 100,
    ]
    return _as_json(rng.choice([*bodies, rng.randbytes(rng.randint(1, 300))]))


def _too_many(rng: random.Random, body: Any) -> Any:
    lists = [name for name, value in body.items() if isinstance(value, list) and value]
    most = MAX_OBSERVATIONS if "observations" in body else MAX_PATIENTS
    if lists and rng.random() < 0.5:
        long_lists = {name: [{}] * (most + 1) if name == "observations" else body[name][:1] * (most + 1) for name in lists}
        return _as_json(_encode({**body, **long_lists}))
    return _as_json(
        _encode(
            {**body, rng.choice(list(body)): "x" * rng.choice([MAX_BODY_BYTES // 2, MAX_BODY_BYTES + 1, 2 * MAX_BODY_BYTES])}
        )
    )


_USUAL: list[Callable[[random.Random, Any], Any]] = [
    _one_fault, _several_faults, _truncated, _other_bytes, _other_encoding, _other_type, _duplicate_key, _garbage,
]  # fmt: skip
_MUTATIONS = [*_USUAL * 5, _too_many]  # the last one is slow
