"""Send nonsense: nothing breaks, nobody's input comes back in an error, and nothing is half-written."""

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

from serving.api.schemas import MAX_BODY_BYTES, MAX_OBSERVATIONS, MAX_PATIENTS
from serving.records import journal
from tests.soak import kept

CANARY = "canary-5c1e"  # in every text that is sent; must not come back in an error, nor be in a log
_NOW = "2026-02-01T12:00:00Z"
_JSON = "application/json"
# What JSON's own writer would not write, by the text that stands for it until the body is written.
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
_NONSENSE: list[Any] = [
    *_RAW, None, True, False, 0, -1, 1e308, -1e308, 5e-324, 2**53 + 1, 2**63, -(2**64), "", " ", CANARY, CANARY * 20_000,
    "1e5", "١٢", "nan", "٣", "🜚" * 300, "\u202e", [], {}, [[]], [CANARY], {CANARY: CANARY}, [None] * 50,
    "0000-00-00T00:00:00Z", "2026-02-30T00:00:00Z", "9999-12-31T23:59:60Z", "2026-02-01", "2026-02-01T12:00:00",
    "2026-02-01T12:00:00+99:99", "1989-12-31T23:59:59.999999Z", "2099-12-31T00:00:00Z", _NOW + CANARY, -62135596800, 1e18,
    "heart_rate", "spo2", "mg/dL", "%", "on_oxygen", "female",
]  # fmt: skip
_TYPES = [
    None, "", "text/plain", "application/xml", "application/json; charset=utf-16", "application/json; charset=nonsense", "*/*",
    "application/x-www-form-urlencoded", "multipart/form-data", "multipart/form-data; boundary=x", "application/problem+json",
    "application/fhir+json", "APPLICATION/JSON", "application/json, text/plain", "json", CANARY, "é", "application/json;" * 50,
]  # fmt: skip
_ENCODINGS = ["utf-16", "utf-16-le", "utf-32", "utf-8-sig", "latin-1", "utf-7", "cp037"]


@dataclass
class Sent:
    """One request."""

    path: str
    content: bytes
    headers: list[tuple[bytes, bytes]]


@dataclass
class Report:
    """What was sent, by the status it got, and what was wrong."""

    statuses: Counter[int] = field(default_factory=Counter)
    readings: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)


def good_bodies(rng: random.Random) -> dict[str, dict[str, Any]]:
    """A sound body of each route, which names nobody who is known."""
    patient = f"{CANARY}-{rng.randint(0, 9)}"
    reading = {"signal": "heart_rate", "value": rng.randint(30, 200), "observed_at": _NOW, "unit": "/min"}
    sent = {
        "message_id": f"{CANARY}-{rng.getrandbits(48):x}", "patient_id": patient, "device_id": CANARY, "source": CANARY,
        **reading, "observed_at": datetime.now(UTC).isoformat(),
    }  # fmt: skip
    one = {"patient_id": patient, "as_of": _NOW, "include": ["range"]}
    several = {"patient_ids": [patient, CANARY], "as_of": _NOW, "include": []}
    return {
        "/v1/observations": {"observations": [sent]},
        "/v1/patients": {
            "patients": [{"patient_id": patient, "ward": CANARY, "age": 70, "sex": "male", "unit_admitted_at": _NOW}]
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
    """Send so many, the same for a seed, one after the other to a server to which nobody else speaks. Some turn out sound."""
    report = Report()
    before = _kept(home)
    with httpx.Client(base_url=url, timeout=30, headers={"Authorization": f"Bearer {token}"}) as client:
        document = client.get("/v1/openapi.json").json()["paths"]
        posts = {path for path, operations in document.items() if "post" in operations}
        if missing := posts - good_bodies(random.Random(0)).keys():
            report.faults.append(f"{', '.join(sorted(missing))}: no body to begin from")
        rng = random.Random(seed)
        for number in range(1, bodies + 1):
            _send(client, _bad_request(rng), report)
            if number % 500 == 0 or number == bodies:
                report.faults += _unaccounted(home, before, report)
            if len(report.faults) > 20:
                break
    for path in (home / "logs").iterdir():
        text = path.read_text(errors="replace")
        report.faults += [f"{path.name}: holds {what}" for what in (CANARY, "Traceback") if what in text]
    return report


def _send(client: httpx.Client, sent: Sent, report: Report) -> None:
    about = f"{sent.path} {sent.content[:120]!r} {sent.headers}"
    try:
        answer = client.post(sent.path, content=sent.content, headers=sent.headers)
    except httpx.TransportError as error:
        report.faults.append(f"{type(error).__name__}: {about}")
        return
    report.statuses[answer.status_code] += 1
    if answer.status_code >= 500:
        report.faults.append(f"{answer.status_code}: {about}")
    elif answer.status_code >= 400:
        problem = answer.headers["content-type"] == "application/problem+json" and {"title", "status", "code", "detail"} <= set(
            answer.json()
        )
        if not problem or CANARY in answer.text:
            report.faults.append(f"{'no problem' if not problem else 'input in the answer'}: {answer.text[:200]} {about}")
    elif sent.path == "/v1/observations":
        report.readings.update(result["status"] for result in answer.json()["results"])
    elif sent.path == "/v1/patients":
        report.readings["registered"] += answer.json()["registered"]


def _unaccounted(home: Path, before: Counter[str], report: Report) -> list[str]:
    """What is there and was not answered with 200, or the other way round."""
    there, said = _kept(home) - before, Counter({name: n for name, n in report.readings.items() if name != "duplicate"})
    return [] if there == said else [f"in the journal {dict(there)}, answered {dict(said)}"]


def _kept(home: Path) -> Counter[str]:
    readings, quarantine, patients = kept.rows(home, journal.FILE, journal.READINGS, journal.QUARANTINE, journal.PATIENTS)
    return Counter(accepted=len(readings), quarantined=len(quarantine), registered=len(patients))


def _bad_request(rng: random.Random) -> Sent:
    path, body = rng.choice(list(good_bodies(rng).items()))
    if rng.random() < 0.2:
        path = "/v1/observations"
        body = {"observations": [_mixed(rng) for _ in range(rng.randint(1, 12))]}
    content, headers = rng.choice(_WAYS)(rng, body)
    return Sent(path, content, headers)


def _mixed(rng: random.Random) -> Any:
    """A reading, good or with something wrong about it."""
    (reading,) = good_bodies(rng)["/v1/observations"]["observations"]
    return reading if rng.random() < 0.5 else _replaced(rng, reading)


def _replaced(rng: random.Random, body: Any) -> Any:
    """Nonsense in one place, or one place gone, or one too many."""
    if isinstance(body, dict) and body:
        name = rng.choice(list(body))
        if rng.random() < 0.1:
            return {key: value for key, value in body.items() if key != name}
        if rng.random() < 0.1:
            return {**body, CANARY: rng.choice(_NONSENSE)}
        deeper = isinstance(body[name], dict | list) and rng.random() < 0.7
        return {**body, name: _replaced(rng, body[name]) if deeper else rng.choice(_NONSENSE)}
    if isinstance(body, list) and body:
        place = rng.randrange(len(body))
        return [*body[:place], _replaced(rng, body[place]), *body[place + 1 :]]
    return rng.choice(_NONSENSE)


def _written(body: Any) -> bytes:
    text = json.dumps(body)
    for name, raw in _RAW.items():
        text = text.replace(json.dumps(name), raw)
    return text.encode("utf-8", "surrogatepass")


def _as_json(content: bytes) -> tuple[bytes, list[tuple[bytes, bytes]]]:
    return content, [(b"Content-Type", _JSON.encode())]


def _one_wrong(rng: random.Random, body: Any) -> Any:
    return _as_json(_written(_replaced(rng, body)))


def _several_wrong(rng: random.Random, body: Any) -> Any:
    for _ in range(rng.randint(2, 5)):
        body = _replaced(rng, body)
    return _as_json(_written(body))


def _truncated(rng: random.Random, body: Any) -> Any:
    whole = _written(body)
    return _as_json(whole[: rng.randrange(len(whole))])


def _other_bytes(rng: random.Random, body: Any) -> Any:
    content = bytearray(_written(body))
    for _ in range(rng.randint(1, 4)):
        place = rng.randrange(len(content))
        content[place : place + rng.randint(0, 2)] = rng.choice(
            [bytes([rng.randrange(256)]), b"\x00", b"\xed\xa0\x80", b"\xff\xfe"]
        )
    return _as_json(bytes(content))


def _other_encoding(rng: random.Random, body: Any) -> Any:
    content = json.dumps({**body, "é": "ü" + CANARY} if rng.random() < 0.3 else body, ensure_ascii=False)
    if rng.random() < 0.2:
        return gzip.compress(content.encode()), [(b"Content-Type", _JSON.encode()), (b"Content-Encoding", b"gzip")]
    return _as_json(content.encode(rng.choice(_ENCODINGS), "replace"))


def _other_type(rng: random.Random, body: Any) -> Any:
    named = rng.sample(_TYPES, rng.randint(1, 2))
    return _written(body), [(b"Content-Type", name.encode()) for name in named if name is not None]


def _twice(rng: random.Random, body: Any) -> Any:
    """A key that is there twice; which one counts?"""
    name = rng.choice(list(body))
    again = json.dumps({name: rng.choice([body[name], *_NONSENSE])})[1:-1]
    return _as_json(_written(body)[:-1] + b", " + again.encode() + b"}")


def _garbage(rng: random.Random, body: Any) -> Any:
    del body
    few = [
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
    return _as_json(rng.choice([*few, rng.randbytes(rng.randint(1, 300))]))


def _too_many(rng: random.Random, body: Any) -> Any:
    lists = [name for name, value in body.items() if isinstance(value, list) and value]
    most = MAX_OBSERVATIONS if "observations" in body else MAX_PATIENTS
    if lists and rng.random() < 0.5:
        some = {name: [{}] * (most + 1) if name == "observations" else body[name][:1] * (most + 1) for name in lists}
        return _as_json(_written({**body, **some}))
    return _as_json(
        _written(
            {**body, rng.choice(list(body)): "x" * rng.choice([MAX_BODY_BYTES // 2, MAX_BODY_BYTES + 1, 2 * MAX_BODY_BYTES])}
        )
    )


_USUAL: list[Callable[[random.Random, Any], Any]] = [
    _one_wrong, _several_wrong, _truncated, _other_bytes, _other_encoding, _other_type, _twice, _garbage,
]  # fmt: skip
_WAYS = [*_USUAL * 5, _too_many]  # the last takes long
