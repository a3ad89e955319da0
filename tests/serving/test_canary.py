"""Marked identifiers, values and texts go through every route, failing and not; then all that was written is searched.

Only ``identities.db`` may hold an identifier. A value that was refused may be in the journal's quarantine, one that was
accepted in the journal, the prediction log and the feature store. Texts of a reading are the journal's, the note of an override
the board's. What stands where nobody asked for it (path, query, headers) is nowhere.
"""

import io
import json
import logging
import socket
import sqlite3
import struct
import threading
import time
from dataclasses import replace
from urllib.parse import urlsplit

import httpx
import numpy as np
import pandas as pd
import pytest

from serving.service import api
from tests.serving.inside import SICK, WELL, running_inside, sent

CANARY = "canary-9c41"
PATIENT, OTHER = f"{CANARY}-patient", f"{CANARY}-other"  # identifiers
WARD, DEVICE, GATEWAY = f"{CANARY}-ward", f"{CANARY}-device", f"{CANARY}-gateway"
NOTE, CALLER = f"{CANARY}-note", f"{CANARY}-caller"
NOWHERE = f"{CANARY}-nowhere"  # what nobody asked for
REFUSED, GIVEN = 31337.25, 171.37  # values: no heart's, and a rare one
PATHS = {path: methods for path, methods in api.openapi()["paths"].items() if path.startswith("/v1")}
ROUTES = {f"{method} {path}" for path, methods in PATHS.items() for method in methods}


def spellings(value):
    """A number as it may lie in a file: as text, and as SQLite, protocol buffers and Arrow write it."""
    narrow = np.float32(value)
    texts = {repr(value), repr(float(narrow))}
    return {text.encode() for text in texts} | {struct.pack(form, value) for form in ("<d", ">d")} | {struct.pack("<f", narrow)}


def reading(**changes):
    now = pd.Timestamp.now("UTC").isoformat()
    return {"patient_id": PATIENT, "signal": "heart_rate", "value": GIVEN, "observed_at": now, "message_id": NOWHERE} | changes


def requests():
    """What goes through each route: ``route, arguments``; both what is fine and what is not."""
    about = {"device_id": DEVICE, "source": GATEWAY}
    bare = {name: reading()[name] for name in ("signal", "value", "observed_at")}
    registered = {"patient_id": PATIENT, "ward": WARD, "age": 71, "sex": "male"}
    yield "post /v1/patients", {"json": {"patients": [registered]}}
    yield "post /v1/patients", {"json": {"patients": [registered | {"ward": f"{NOWHERE} {NOWHERE}"}]}}
    yield "post /v1/patients", {"json": {"patients": [registered | {"age": REFUSED + 1, "sex": NOWHERE, NOWHERE: NOWHERE}]}}
    yield "post /v1/observations", {"json": sent(PATIENT, WELL, pd.Timestamp.now("UTC") - pd.Timedelta(hours=2), **about)}
    for now in ({**SICK, "heart_rate": GIVEN}, {"heart_rate": REFUSED, "spo2": str(GIVEN), NOWHERE: GIVEN}):
        yield "post /v1/observations", {"json": sent(PATIENT, now, **about)}
    yield "post /v1/observations", {"json": {"observations": [reading(unit=DEVICE), reading(observed_at=DEVICE, **about)]}}
    yield "post /v1/observations", {"json": {"observations": [reading(value=[REFUSED + 1], patient_id="")]}}
    yield "post /v1/risk", {"json": {"patient_id": PATIENT}}
    yield "post /v1/risk", {"json": {"patient_id": OTHER}}
    yield "post /v1/risk", {"json": {"patient_id": PATIENT, "as_of": "2090-01-01T00:00:00Z"}}
    yield "post /v1/risk", {"json": {"patient_id": PATIENT, "as_of": NOWHERE, "include": [NOWHERE], NOWHERE: 1}}
    yield "post /v1/risk", {"content": f'{{"patient_id": "{PATIENT}", {NOWHERE}'}
    yield "post /v1/risk", {"content": json.dumps({"patient_id": NOWHERE * 120_000})}
    yield "post /v1/risks", {"json": {"patient_ids": [PATIENT, OTHER]}}
    yield "post /v1/risks", {"json": {"patient_ids": [PATIENT] * 501}}
    yield "post /v1/risk/observations", {"json": {"patient_id": OTHER, "observations": [bare]}}
    yield "post /v1/risk/observations", {"json": {"patient_id": OTHER, "observations": [bare | {"value": REFUSED + 1}]}}
    yield (
        "post /v1/risk/observations",
        {"json": {"patient_id": OTHER, "observations": [bare | {"unit": NOWHERE}, bare | {"signal": NOWHERE}]}},
    )
    for path in ("/v1/risk/history", "/v1/risk/anomalies", "/v1/visit-summary"):
        yield f"post {path}", {"json": {"patient_id": PATIENT}}
        yield f"post {path}", {"json": {"patient_id": OTHER, "hours": NOWHERE, "as_of": NOWHERE}}
    yield "post /v1/risk/anomalies", {"json": {"patient_id": OTHER}}
    yield "post /v1/visit-summary", {"json": {"patient_id": OTHER}}
    for path in ("/v1/ward/patients", "/v1/ward/events", "/v1/alarms"):
        yield f"get {path}", {"params": {"ward": WARD, "seconds": 0, NOWHERE: NOWHERE}}
        yield f"get {path}", {"params": {"ward": f"{NOWHERE} {NOWHERE}"}}
    yield "get /v1/alarms", {"params": {"status": NOWHERE, "limit": NOWHERE}}
    yield "get /v1/ward/events", {"params": {"ward": WARD}, "headers": {"Last-Event-ID": NOWHERE}}
    for path in ("/v1/alarms/acknowledge", "/v1/alarms/override"):
        yield f"post {path}", {"json": {"alarm_id": NOWHERE, "reason": "other", "note": NOWHERE}}
        yield f"post {path}", {"json": {"alarm_id": NOWHERE}}
        yield f"post {path}", {"json": {"alarm_id": NOWHERE, "reason": NOWHERE, NOWHERE: NOWHERE}}


def strange(stranger, client):
    """Requests that are for no route, or from nobody."""
    for token in (NOWHERE, f"{NOWHERE}.{NOWHERE}.x", f"{NOWHERE}\t{NOWHERE}"):
        yield stranger.post("/v1/risk", json={"patient_id": NOWHERE}, headers={"Authorization": f"Bearer {token}"})
    yield stranger.post("/v1/risk", content=f"{{{NOWHERE}")
    for path in (f"/v1/{NOWHERE}", f"/{NOWHERE}", f"/v1/risk/{NOWHERE}", f"/static_content/{NOWHERE}", f"/v1/risk%0a{NOWHERE}"):
        yield client.get(path)
        yield client.post(path, json={"patient_id": NOWHERE})
    for path in ("/v1/risk", "/v1/alarms", "/v1/nothing"):
        for method in ("PUT", "DELETE", "OPTIONS", "HEAD", NOWHERE):
            yield client.request(method, path, params={NOWHERE: NOWHERE}, headers={"X-Request-ID": NOWHERE, "Cookie": NOWHERE})
    headers = {"Origin": NOWHERE, "User-Agent": NOWHERE, "Referer": NOWHERE, "traceparent": NOWHERE, "Content-Type": NOWHERE}
    yield client.post("/v1/risk", json={"patient_id": OTHER}, headers=headers)


def raw(url, text):
    """What no client would send."""
    address = urlsplit(url)
    with socket.create_connection((address.hostname, address.port), timeout=5) as connection:
        connection.sendall(text.encode())
        connection.settimeout(1)
        try:
            return connection.recv(65_536).decode(errors="replace")
        except TimeoutError:
            return ""


def search(home, marks, since):
    """Names of files below a folder, written since, that hold one of the marks; a write-ahead log counts as its database."""
    found = set()
    for path in (path for path in home.rglob("*") if path.is_file() and path.stat().st_mtime >= since):
        content = path.read_bytes()
        if any(mark in content for mark in marks):
            found.add(str(path.relative_to(home)).removesuffix("-wal").removesuffix("-journal"))
    return found


def act_on_the_alarm(client):
    """Somebody says why an alarm is not right, with a note."""
    deadline = time.monotonic() + 20
    while not (alarms := client.get("/v1/alarms", params={"ward": WARD}).json()["alarms"]) and time.monotonic() < deadline:
        time.sleep(0.1)
    body = {"alarm_id": alarms[0]["alarm_id"]}
    yield client.post("/v1/alarms/acknowledge", json=body)
    yield client.post("/v1/alarms/override", json={**body, "reason": "other", "note": NOTE})
    yield client.post("/v1/alarms/acknowledge", json=body)
    yield client.post("/v1/alarms/override", json={**body, "reason": "other", "note": NOWHERE})  # what was said first stands


@pytest.fixture(scope="module")
def said(server, home, caller):
    """Everything was asked: ``(since, answers by route)``."""
    since = time.time() - 1
    client = caller(subject=CALLER)
    answers = {}
    for _ in range(2):  # messages come again
        for route, arguments in requests():
            method, path = route.split(" ")
            answers.setdefault(route, []).append(client.request(method, path, **arguments))
    for answer in act_on_the_alarm(client):
        answers[f"post {answer.url.path}"].append(answer)
    with httpx.Client(base_url=server) as stranger:
        answers["strange"] = list(strange(stranger, client))
    resolute = [f"GET /{NOWHERE} HTTP/9.9\r\n\r\n", f"{NOWHERE}\r\n\r\n", f"GET / HTTP/1.1\r\n{NOWHERE}\r\n\r\n"]
    assert not [text for text in resolute if CANARY in raw(server, text)]
    deadline = time.monotonic() + 60
    while not search(home / "feast", spellings(GIVEN), since) and time.monotonic() < deadline:
        time.sleep(0.2)  # the feature store follows
    return since, answers


def test_every_route_answered_well_and_badly(said):
    _, answers = said
    assert set(answers) == ROUTES | {"strange"}
    for route in ROUTES:
        statuses = {answer.status_code for answer in answers[route]}
        assert 200 in statuses, route
        assert {status for status in statuses if 400 <= status < 500}, route
        assert max(statuses) < 500, route


def test_no_error_repeats_what_it_is_about(said):
    _, answers = said
    for route, given in answers.items():
        for answer in given:
            headers = json.dumps([*answer.headers.items()])
            assert CANARY not in headers, route
            if answer.status_code >= 400:
                assert CANARY not in answer.text, route
                assert not [mark for mark in (str(REFUSED), str(GIVEN), str(REFUSED + 1)) if mark in answer.text], route


def test_a_quarantined_reading_is_explained_without_its_value(said):
    _, answers = said
    results = [result for answer in answers["post /v1/observations"] for result in answer.json().get("results", [])]
    quarantined = [result for result in results if result["status"] == "quarantined"]
    assert {result["reason"] for result in quarantined} >= {"implausible", "not_a_number", "unknown_signal", "unknown_unit"}
    for result in quarantined:
        text = json.dumps({name: value for name, value in result.items() if name != "message_id"})
        assert CANARY not in text
        assert not [mark for mark in (str(REFUSED), str(GIVEN)) if mark in text]


@pytest.mark.usefixtures("said")
def test_the_log_and_the_metrics_hold_nobody(server, home):
    log = (home / "logs/serve.log").read_text()
    metrics = httpx.get(f"{server}/metrics").text
    assert "vigil.serving" in log
    assert "vigil_readings_total" in metrics
    assert "Traceback" not in log
    for text in (log, metrics):
        assert not [mark for mark in (CANARY, str(REFUSED), str(GIVEN), str(REFUSED + 1), "sim-0") if mark in text]


@pytest.mark.parametrize(
    ("marks", "where"),
    [
        ({PATIENT.encode()}, {"identities.db"}),
        ({OTHER.encode()}, set()),  # nobody sent readings of him
        ({WARD.encode()}, {"journal.db", "board.db"}),
        ({DEVICE.encode()}, {"journal.db"}),
        ({GATEWAY.encode()}, {"journal.db"}),
        ({NOTE.encode()}, {"board.db"}),
        ({CALLER.encode()}, {"board.db"}),
        ({NOWHERE.encode()}, {"journal.db"}),  # names of signals and messages, in the quarantine
        (spellings(REFUSED), {"journal.db"}),
        (spellings(REFUSED + 1), set()),
        (spellings(GIVEN), {"journal.db", "predictions.db", "feast/online.db"}),
    ],
    ids=["patient", "other", "ward", "device", "gateway", "note", "caller", "nowhere", "refused", "never kept", "given"],
)
def test_what_is_kept_is_kept_where_it_belongs(said, home, marks, where):
    since, _ = said
    assert search(home, marks, since) == where


@pytest.mark.usefixtures("said")
def test_what_nobody_asked_for_is_at_most_in_the_quarantine(home):
    with sqlite3.connect(home / "journal.db") as journal:
        for (table,) in journal.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            if table != "quarantine":
                rows = [str(row) for row in journal.execute(f'SELECT * FROM "{table}"')]
                assert not [row for row in rows if any(mark in row for mark in (NOWHERE, str(REFUSED), PATIENT))], table
    journal.close()


# Errors that nobody foresaw


class Failing:
    """Whatever it is asked, it fails, and says of whom."""

    def __getattr__(self, name):
        raise RuntimeError(f"{PATIENT} {GIVEN} {NOTE}")


@pytest.fixture
def inside(tmp_path):
    with running_inside(tmp_path) as inside:
        client = inside.caller()
        client.post("/v1/patients", json={"patients": [{"patient_id": PATIENT, "ward": WARD}]}).raise_for_status()
        client.post("/v1/observations", json=sent(PATIENT, {**SICK, "heart_rate": GIVEN})).raise_for_status()
        inside.rescore()
        yield inside


@pytest.fixture
def log():
    """All that anybody logs."""
    text = io.StringIO()
    handler = logging.StreamHandler(text)
    loggers = [logging.getLogger(name) for name in ("", "vigil", "uvicorn.error", "bentoml")]
    for logger in loggers:
        logger.addHandler(handler)
    yield text
    for logger in loggers:
        logger.removeHandler(handler)


def walk(client):
    """Statuses of all that is asked; no error repeats what it is about."""
    statuses = []
    for route, arguments in requests():
        method, path = route.split(" ")
        answer = client.request(method, path, **arguments)
        statuses.append(answer.status_code)
        assert answer.status_code < 400 or CANARY not in answer.text
    return statuses


@pytest.mark.parametrize(
    "part", ["journal", "board", "identities", "pseudonyms", "log", "scorer", "intake", "metrics", "limiter"]
)
def test_whatever_fails_nothing_of_a_patient_is_said(inside, part, log, capfd):
    api.state.parts = replace(inside.parts, **{part: Failing()})
    statuses = walk(inside.caller())
    printed = "".join(capfd.readouterr())
    assert 500 in statuses or part == "metrics"
    for text in (log.getvalue(), printed):
        assert not [mark for mark in (CANARY, str(GIVEN), "Traceback") if mark in text]
    assert part == "metrics" or "unexpected RuntimeError at" in log.getvalue()


@pytest.mark.parametrize("file", ["journal.db", "board.db", "identities.db", "predictions.db"])
def test_a_file_that_cannot_be_used_is_a_503_that_names_nobody(tmp_path, file, log, capfd, monkeypatch):
    monkeypatch.setattr("serving.records.database._WAIT_SECONDS", 0)
    with running_inside(tmp_path) as inside:
        client = inside.caller()
        client.post("/v1/observations", json=sent(PATIENT, SICK)).raise_for_status()
        other = sqlite3.connect(tmp_path / file, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        body = sent(OTHER, {"heart_rate": GIVEN})
        answers = [
            client.post("/v1/observations", json=body),
            client.post("/v1/risk", json={"patient_id": PATIENT}),
            client.post("/v1/patients", json={"patients": [{"patient_id": PATIENT, "ward": WARD}]}),
        ]
        other.execute("ROLLBACK")
        other.close()
        failed = [answer for answer in answers if answer.status_code != 200]
        assert bool(failed) == (file != "board.db")  # these only write elsewhere
        for answer in failed:
            assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
            assert answer.headers["retry-after"] == "1"
        for text in (*(answer.text for answer in failed), log.getvalue(), *capfd.readouterr()):
            assert not [mark for mark in (CANARY, str(GIVEN), "Traceback") if mark in text]
        kept = client.post("/v1/observations", json=body).json()  # nothing was kept where it failed
        assert (kept["accepted"], kept["duplicate"]) == ((0, 1) if answers[0].status_code == 200 else (1, 0))


def test_a_rescorer_in_trouble_says_where_not_of_whom(inside, log, capfd, monkeypatch):
    monkeypatch.setattr("serving.stream.rescorer._RETRY_SECONDS", 0.01)
    broken = threading.Event()

    def fail(*_, **__):
        broken.set()
        raise RuntimeError(f"{PATIENT} {GIVEN}")

    with monkeypatch.context() as patch:
        patch.setattr(inside.rescorer._board, "publish", fail)
        inside.caller().post("/v1/observations", json=sent(OTHER, {"heart_rate": GIVEN})).raise_for_status()
        inside.rescorer.run(stopped=broken.is_set)
    for text in (log.getvalue(), *capfd.readouterr()):
        assert not [mark for mark in (CANARY, str(GIVEN), "Traceback") if mark in text]
    assert "unexpected RuntimeError at" in log.getvalue()
    inside.rescore()  # and nothing is lost
    assert inside.parts.pseudonyms.of(OTHER) in {risk["patient"] for risk in inside.parts.board.risks()}


def test_a_feature_store_in_trouble_says_where_not_of_whom(inside, log, monkeypatch):
    def fail(*_):
        raise RuntimeError(f"{PATIENT} {GIVEN}")

    monkeypatch.setattr(inside.feast._store, "write_online", fail)
    inside.feast.start()
    inside.feast.stop()
    assert "feature store: RuntimeError at" in log.getvalue()
    assert CANARY not in log.getvalue()
