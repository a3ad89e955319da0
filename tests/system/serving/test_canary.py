"""Canaries: marked identifiers, values and texts go through every route, and then everything that was written is searched.

Only ``identities.db`` may hold an identifier. A refused value may be in the journal's quarantine, an accepted one in the
journal, the feature store, with the latest risk in the ward state, and compressed in the prediction log. Texts of an
observation are in the journal only, but for the names of device and gateway: the ward state has them with a signal that
stopped, and the note of an override. What a request holds where nothing is expected (path, query, headers) is stored nowhere.
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

from tests.support.in_process_server import SICK, WELL, observations_body, running_in_process
from vigil.serving.app import create_app
from vigil.serving.stream.ingestion import Ingestion

CANARY = "canary-9c41"
PATIENT, OTHER, MERGED = f"{CANARY}-patient", f"{CANARY}-other", f"{CANARY}-merged"  # identifiers
WARD, DEVICE, GATEWAY = f"{CANARY}-ward", f"{CANARY}-device", f"{CANARY}-gateway"
NOTE, CALLER = f"{CANARY}-note", f"{CANARY}-caller"
NOWHERE = f"{CANARY}-nowhere"  # what no route expects
REFUSED, GIVEN = 31337.25, 171.37  # values: an implausible heart rate, and a rare one
PATHS = {path: methods for path, methods in create_app().openapi()["paths"].items() if path.startswith("/v1")}
ROUTES = {f"{method} {path}" for path, methods in PATHS.items() for method in methods}


@pytest.fixture(scope="module")
def home(served_home):
    return served_home


def spellings(value):
    """Return a number as it may stand in a file: as text, and as SQLite, protocol buffers and Arrow write it."""
    narrow = np.float32(value)
    texts = {repr(value), repr(float(narrow))}
    return {text.encode() for text in texts} | {struct.pack(form, value) for form in ("<d", ">d")} | {struct.pack("<f", narrow)}


def observation(**changes):
    now = pd.Timestamp.now("UTC").isoformat()
    return {"patient_id": PATIENT, "signal": "heart_rate", "value": GIVEN, "observed_at": now, "message_id": NOWHERE} | changes


def requests():
    """Yield ``route, arguments`` of good and bad requests for each route."""
    fields = {"device_id": DEVICE, "source": GATEWAY}
    unnamed = {name: observation()[name] for name in ("signal", "value", "observed_at")}
    registered = {"patient_id": PATIENT, "ward": WARD, "age": 71, "sex": "male"}
    yield "post /v1/patients", {"json": {"patients": [registered]}}
    yield "post /v1/patients", {"json": {"patients": [registered | {"ward": f"{NOWHERE} {NOWHERE}"}]}}
    yield "post /v1/patients", {"json": {"patients": [registered | {"age": REFUSED + 1, "sex": NOWHERE, NOWHERE: NOWHERE}]}}
    yield "post /v1/patients", {"json": {"patients": [registered | {"patient_id": MERGED}]}}
    for path in ("/v1/patients/merge", "/v1/patients/unmerge"):
        known = {"patient_id": MERGED} | ({"into": PATIENT} if path.endswith("/merge") else {})
        yield f"post {path}", {"json": known}
        yield f"post {path}", {"json": known | {"patient_id": NOWHERE}}
        yield f"post {path}", {"json": known | {NOWHERE: NOWHERE}}
    decided = {"patient_id": PATIENT, "because": "target 88 to 92 percent", "limits": {"heart_rate": {"high": 130}}}
    for changes in ({}, {"patient_id": NOWHERE}, {"limits": {NOWHERE: {"low": REFUSED}}}, {"until": NOWHERE, NOWHERE: NOWHERE}):
        yield "post /v1/patients/terms", {"json": decided | changes}
    yield (
        "post /v1/observations",
        {"json": observations_body(PATIENT, WELL, pd.Timestamp.now("UTC") - pd.Timedelta(hours=2), **fields)},
    )
    for now in ({**SICK, "heart_rate": GIVEN}, {"heart_rate": REFUSED, "spo2": str(GIVEN), NOWHERE: GIVEN}):
        yield "post /v1/observations", {"json": observations_body(PATIENT, now, **fields)}
    yield (
        "post /v1/observations",
        {"json": {"observations": [observation(unit=DEVICE), observation(observed_at=DEVICE, **fields)]}},
    )
    yield "post /v1/observations", {"json": {"observations": [observation(value=[REFUSED + 1], patient_id="")]}}
    known = {"source": GATEWAY, "device_id": DEVICE, "status": "disconnected"}
    for wrong in ({}, {"status": NOWHERE}, {NOWHERE: NOWHERE}, {"device_id": f" {NOWHERE}"}):
        yield "post /v1/devices/status", {"json": known | wrong}
    yield "post /v1/risk", {"json": {"patient_id": PATIENT}}
    yield "post /v1/risk", {"json": {"patient_id": OTHER}}
    yield "post /v1/risk", {"json": {"patient_id": PATIENT, "as_of": "2090-01-01T00:00:00Z"}}
    yield "post /v1/risk", {"json": {"patient_id": PATIENT, "as_of": NOWHERE, "include": [NOWHERE], NOWHERE: 1}}
    yield "post /v1/risk", {"content": f'{{"patient_id": "{PATIENT}", {NOWHERE}'}
    yield "post /v1/risk", {"content": json.dumps({"patient_id": NOWHERE * 120_000})}
    yield "post /v1/risks", {"json": {"patient_ids": [PATIENT, OTHER]}}
    yield "post /v1/risks", {"json": {"patient_ids": [PATIENT] * 501}}
    yield "post /v1/risk/observations", {"json": {"patient_id": OTHER, "observations": [unnamed]}}
    yield "post /v1/risk/observations", {"json": {"patient_id": OTHER, "observations": [unnamed | {"value": REFUSED + 1}]}}
    yield (
        "post /v1/risk/observations",
        {"json": {"patient_id": OTHER, "observations": [unnamed | {"unit": NOWHERE}, unnamed | {"signal": NOWHERE}]}},
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
    yield "get /v1/ward/events", {"params": {"ward": WARD, "seconds": 0}, "headers": {"Last-Event-ID": NOWHERE}}
    for path in ("/v1/alarms/acknowledge", "/v1/alarms/override"):
        yield f"post {path}", {"json": {"alarm_id": NOWHERE, "reason": "other", "note": NOWHERE}}
        yield f"post {path}", {"json": {"alarm_id": NOWHERE}}
        yield f"post {path}", {"json": {"alarm_id": NOWHERE, "reason": NOWHERE, NOWHERE: NOWHERE}}


def strange(stranger, client):
    """Yield answers to requests for no route, or without a valid token."""
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
    """Send what no client would, and return the answer."""
    address = urlsplit(url)
    with socket.create_connection((address.hostname, address.port), timeout=5) as connection:
        connection.sendall(text.encode())
        connection.settimeout(1)
        try:
            return connection.recv(65_536).decode(errors="replace")
        except TimeoutError:
            return ""


def search(home, marks, since):
    """Return the files of a folder, written since, that hold one of the marks; a write-ahead log counts as its database."""
    files = set()
    for path in (path for path in home.rglob("*") if path.is_file() and path.stat().st_mtime >= since):
        content = path.read_bytes()
        if any(mark in content for mark in marks):
            files.add(str(path.relative_to(home)).removesuffix("-wal").removesuffix("-journal"))
    return files


def act_on_the_alarm(client):
    """Acknowledge and override an alarm, with a note, and yield the answers."""
    deadline = time.monotonic() + 20
    while not (alarms := client.get("/v1/alarms", params={"ward": WARD}).json()["alarms"]) and time.monotonic() < deadline:
        time.sleep(0.1)
    body = {"alarm_id": alarms[0]["alarm_id"]}
    yield client.post("/v1/alarms/acknowledge", json=body)
    yield client.post("/v1/alarms/override", json={**body, "reason": "other", "note": NOTE})
    yield client.post("/v1/alarms/acknowledge", json=body)
    yield client.post("/v1/alarms/override", json={**body, "reason": "other", "note": NOWHERE})  # the first override stands


@pytest.fixture(scope="module")
def asked(server, home, caller):
    """Every request was sent: ``(since, answers by route)``."""
    since = time.time() - 1
    client = caller(subject=CALLER)
    answers = {}
    for _ in range(2):  # messages are sent again
        for route, arguments in requests():
            method, path = route.split(" ")
            answers.setdefault(route, []).append(client.request(method, path, **arguments))
    for answer in act_on_the_alarm(client):
        answers[f"post {answer.url.path}"].append(answer)
    with httpx.Client(base_url=server) as stranger:
        answers["strange"] = list(strange(stranger, client))
    malformed = [f"GET /{NOWHERE} HTTP/9.9\r\n\r\n", f"{NOWHERE}\r\n\r\n", f"GET / HTTP/1.1\r\n{NOWHERE}\r\n\r\n"]
    assert not [text for text in malformed if CANARY in raw(server, text)]
    deadline = time.monotonic() + 60
    while not search(home / "feast", spellings(GIVEN), since) and time.monotonic() < deadline:
        time.sleep(0.2)  # the feature store follows
    return since, answers


def test_every_route_was_answered_with_200_and_4xx(asked):
    _, answers = asked
    assert set(answers) == ROUTES | {"strange"}
    for route in ROUTES:
        statuses = {answer.status_code for answer in answers[route]}
        assert 200 in statuses, route
        assert {status for status in statuses if 400 <= status < 500}, route
        assert max(statuses) < 500, route


def test_error_never_repeats_the_request(asked):
    _, answers = asked
    for route, given in answers.items():
        for answer in given:
            headers = json.dumps([*answer.headers.items()])
            assert CANARY not in headers, route
            if answer.status_code >= 400:
                assert CANARY not in answer.text, route
                assert not [mark for mark in (str(REFUSED), str(GIVEN), str(REFUSED + 1)) if mark in answer.text], route


def test_quarantined_observation_is_explained_without_its_value(asked):
    _, answers = asked
    results = [result for answer in answers["post /v1/observations"] for result in answer.json().get("results", [])]
    quarantined = [result for result in results if result["status"] == "quarantined"]
    assert {result["reason"] for result in quarantined} >= {"implausible", "not_a_number", "unknown_signal", "unknown_unit"}
    for result in quarantined:
        text = json.dumps({name: value for name, value in result.items() if name != "message_id"})
        assert CANARY not in text
        assert not [mark for mark in (str(REFUSED), str(GIVEN)) if mark in text]


@pytest.mark.usefixtures("asked")
def test_log_and_metrics_hold_no_patient_data(server, home):
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
        ({OTHER.encode()}, set()),  # no observation of them was sent
        ({WARD.encode()}, {"journal.db", "ward_state.db"}),
        ({DEVICE.encode()}, {"journal.db", "ward_state.db"}),  # of a signal that stopped, with its event
        ({GATEWAY.encode()}, {"journal.db", "ward_state.db"}),
        ({NOTE.encode()}, {"ward_state.db"}),
        ({CALLER.encode()}, {"journal.db", "ward_state.db"}),  # of terms, actions and reports
        ({NOWHERE.encode()}, {"journal.db"}),  # names of signals and messages, in the quarantine
        (spellings(REFUSED), {"journal.db"}),
        (spellings(REFUSED + 1), set()),
        (spellings(GIVEN), {"journal.db", "ward_state.db", "feast/online.db"}),
    ],
    ids=["patient", "other", "ward", "device", "gateway", "note", "caller", "nowhere", "refused", "never stored", "given"],
)
def test_marked_content_is_stored_only_where_it_belongs(asked, home, marks, where):
    since, _ = asked
    assert search(home, marks, since) == where


@pytest.mark.usefixtures("asked")
def test_unexpected_content_is_at_most_in_the_quarantine(home):
    with sqlite3.connect(home / "journal.db") as journal:
        for (table,) in journal.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            if table != "quarantine":
                rows = [str(row) for row in journal.execute(f'SELECT * FROM "{table}"')]
                assert not [row for row in rows if any(mark in row for mark in (NOWHERE, str(REFUSED), PATIENT))], table
    journal.close()


# Unexpected errors


class Failing:
    """A component of which every use fails, with patient data in the error."""

    def __getattr__(self, name):
        raise RuntimeError(f"{PATIENT} {GIVEN} {NOTE}")


@pytest.fixture
def in_process(tmp_path):
    """A server with an alarm of one patient."""
    with running_in_process(tmp_path) as in_process:
        client = in_process.caller()
        client.post("/v1/patients", json={"patients": [{"patient_id": PATIENT, "ward": WARD}]}).raise_for_status()
        client.post("/v1/observations", json=observations_body(PATIENT, {**SICK, "heart_rate": GIVEN})).raise_for_status()
        in_process.rescore()
        yield in_process


@pytest.fixture
def log():
    """Everything that is logged."""
    text = io.StringIO()
    handler = logging.StreamHandler(text)
    loggers = [logging.getLogger(name) for name in ("", "vigil", "uvicorn.error", "bentoml")]
    for logger in loggers:
        logger.addHandler(handler)
    yield text
    for logger in loggers:
        logger.removeHandler(handler)


def walk(client):
    """Send every request, and return the statuses; no error repeats the request."""
    statuses = []
    for route, arguments in requests():
        method, path = route.split(" ")
        answer = client.request(method, path, **arguments)
        statuses.append(answer.status_code)
        assert answer.status_code < 400 or CANARY not in answer.text
    return statuses


INGESTION = ("pseudonyms", "identities", "journal", "access", "group_commit")  # what it is made of
RISK_SERVICE = ("champion", "journal", "clock", "log")


def with_failing(components, name):
    """Return components of which one fails wherever it is used."""
    failing = {name: Failing()}
    if name in INGESTION:
        failing["ingestion"] = Ingestion(**{part: getattr(components, part) for part in INGESTION} | failing)
    if name in RISK_SERVICE:
        failing["risk_service"] = replace(components.risk_service, **{name: Failing()})
    return replace(components, **failing)


@pytest.mark.parametrize(
    "component",
    [
        *("access", "champion", "clock", "group_commit", "identities", "ingestion", "journal", "log", "metrics", "pseudonyms"),
        *("risk_service", "streams", "tokens", "ward_settings", "ward_state"),
    ],
)
def test_component_that_fails_is_a_500_without_patient_data(in_process, component, log, capfd):
    client = in_process.caller()
    (alarm,) = client.get("/v1/alarms").json()["alarms"]
    in_process.use(with_failing(in_process.components, component))
    statuses = walk(client)
    answer = client.post("/v1/alarms/acknowledge", json={"alarm_id": alarm["alarm_id"]})  # the only use of the metrics
    assert answer.status_code == 200 or CANARY not in answer.text
    printed = "".join(capfd.readouterr())
    assert 500 in [*statuses, answer.status_code]
    for text in (log.getvalue(), printed):
        assert not [mark for mark in (CANARY, str(GIVEN), "Traceback") if mark in text]
    assert "unexpected RuntimeError at" in log.getvalue()


@pytest.mark.parametrize("file", ["journal.db", "ward_state.db", "identities.db", "predictions.db"])
def test_unusable_database_is_a_503_without_patient_data(tmp_path, file, log, capfd, monkeypatch):
    monkeypatch.setattr("vigil.serving.records.database.WAIT_SECONDS", 0)
    with running_in_process(tmp_path) as in_process:
        client = in_process.caller()
        client.post("/v1/observations", json=observations_body(PATIENT, SICK)).raise_for_status()
        other = sqlite3.connect(tmp_path / file, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        body = observations_body(OTHER, {"heart_rate": GIVEN})
        answers = [
            client.post("/v1/observations", json=body),
            client.post("/v1/risk", json={"patient_id": PATIENT}),
            client.post("/v1/patients", json={"patients": [{"patient_id": PATIENT, "ward": WARD}]}),
        ]
        other.execute("ROLLBACK")
        other.close()
        failed = [answer for answer in answers if answer.status_code != 200]
        assert bool(failed) == (file != "ward_state.db")  # these only write elsewhere
        for answer in failed:
            assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
            assert answer.headers["retry-after"] == "1"
        for text in (*(answer.text for answer in failed), log.getvalue(), *capfd.readouterr()):
            assert not [mark for mark in (CANARY, str(GIVEN), "Traceback") if mark in text]
        again = client.post("/v1/observations", json=body).json()  # nothing was stored where it failed
        assert (again["accepted"], again["duplicate"]) == ((0, 1) if answers[0].status_code == 200 else (1, 0))


def test_rescorer_that_fails_logs_the_place_and_no_patient_data(in_process, log, capfd, monkeypatch):
    monkeypatch.setattr("vigil.serving.stream.rescorer._RETRY_SECONDS", 0.01)
    broken = threading.Event()

    def fail(*_, **__):
        broken.set()
        raise RuntimeError(f"{PATIENT} {GIVEN}")

    with monkeypatch.context() as patch:
        patch.setattr(in_process.rescorer._ward_state, "commit", fail)
        in_process.caller().post("/v1/observations", json=observations_body(OTHER, {"heart_rate": GIVEN})).raise_for_status()
        in_process.rescorer.run(stopped=broken.is_set)
    for text in (log.getvalue(), *capfd.readouterr()):
        assert not [mark for mark in (CANARY, str(GIVEN), "Traceback") if mark in text]
    assert "unexpected RuntimeError at" in log.getvalue()
    in_process.rescore()  # and nothing is lost
    assert in_process.components.pseudonyms.subject_key(OTHER) in {
        risk.subject_id for risk in in_process.components.ward_state.risks()
    }


def test_feature_store_that_fails_logs_the_place_and_no_patient_data(in_process, log, monkeypatch):
    def fail(*_):
        raise RuntimeError(f"{PATIENT} {GIVEN}")

    monkeypatch.setattr(in_process.online_store._store, "write_online", fail)
    in_process.online_store.start()
    in_process.online_store.stop()
    assert "feature store: RuntimeError at" in log.getvalue()
    assert CANARY not in log.getvalue()
