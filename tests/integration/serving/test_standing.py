"""A risk that stands is read: the rescorer's own prediction, until something new is known of the patient."""

import asyncio
import sqlite3
import time
from contextlib import closing
from types import SimpleNamespace

import pandas as pd
import pytest

from tests.support.in_process_server import SICK, WELL, observations_body, running_in_process
from vigil.serving.api import standing_answers
from vigil.serving.api.concurrency import MAX_WAIT_SECONDS
from vigil.serving.api.front import Front
from vigil.serving.http_limits import ARRIVED
from vigil.serving.records.clock import WallClock
from vigil.serving.records.timestamps import microsecond

BECAUSE = "COPD, target of 88 to 92 %, ordered on the round"
AT = pd.Timestamp.now("UTC").floor("s")
TERMS = {"because": BECAUSE, "spo2_scale": 2, "limits": {"heart_rate": {"high": 120}}}


@pytest.fixture
def server(tmp_path):
    """Patient a, sick, in ward A, rescored."""
    with running_in_process(tmp_path) as server:
        client = server.caller()
        client.post("/v1/patients", json={"patients": [{"patient_id": "a", "ward": "A", "age": 70}]}).raise_for_status()
        client.post("/v1/observations", json=observations_body("a", SICK, at=AT)).raise_for_status()
        server.rescore()
        yield server


def ask(server, **fields):
    answer = server.caller().post("/v1/risk", json={"patient_id": "a", **fields})
    answer.raise_for_status()
    return answer.json()


def number_of_predictions(server):
    return len(server.components.log.sample(10_000, seed=0))


def send(server, values, **fields):
    server.caller().post("/v1/observations", json=observations_body("a", values, **fields)).raise_for_status()


def test_risk_that_stands_is_the_prediction_of_the_rescorer_and_is_logged_once(server):
    (stored,) = server.components.ward_state.risks()
    before = number_of_predictions(server)
    answers = [
        ask(server),
        ask(server),
        server.caller().post("/v1/risks", json={"patient_ids": ["a"]}).json()["items"][0]["risk"],
    ]
    assert [answer["prediction_id"] for answer in answers] == [stored.prediction_id] * 3
    assert answers[0] == answers[1] == answers[2]
    assert microsecond(pd.Timestamp(answers[0]["as_of"])) == stored.index_time
    assert number_of_predictions(server) == before


@pytest.mark.parametrize("prepare", ["nothing", "terms", "bound", "contested"])
def test_risk_that_stands_says_what_one_made_for_the_same_time_says(server, prepare):
    if prepare == "terms":
        server.caller().post("/v1/patients/terms", json={"patient_id": "a", **TERMS}).raise_for_status()
    elif prepare == "bound":
        send(server, {"glucose": "<40"}, unit="mg/dL")
    elif prepare == "contested":
        at = pd.Timestamp.now("UTC").floor("s")
        send(server, {"heart_rate": 61}, at=at, source="one")
        send(server, {"heart_rate": 120}, at=at, source="another")
    server.rescore()
    read = ask(server)
    made = ask(server, as_of=read["as_of"])
    assert made.pop("prediction_id") != read.pop("prediction_id")
    made["findings"].remove("no_feature_store")  # which a risk that stands does not need
    assert read == made
    if prepare == "terms":
        assert (read["terms"]["because"], read["news2"]["spo2_scale"], read["band"]) == (BECAUSE, 2, "high")
        assert [limit["signal"] for limit in read["limits_reached"]] == ["heart_rate"]
    if prepare == "bound":
        assert [bound["signal"] for bound in read["bounds"]] == ["glucose"]
    if prepare == "contested":
        assert read["news2"]["components"]["heart_rate"]["contested"]


def let_an_hour_pass(_, monkeypatch):
    later = time.time() + 3600
    monkeypatch.setattr(standing_answers, "time", SimpleNamespace(time=lambda: later))
    monkeypatch.setattr(WallClock, "now", lambda _, __: pd.Timestamp(later, unit="s", tz="UTC"))


NEWS = {
    "observation": lambda server, _: send(server, WELL),
    "retraction": lambda server, _: send(server, {"heart_rate": None}, at=AT, status="retracted"),
    "registration": lambda server, _: (
        server.caller()
        .post("/v1/patients", json={"patients": [{"patient_id": "a", "ward": "A", "age": 17}]})
        .raise_for_status()
    ),
    "terms": lambda server, _: server.caller().post("/v1/patients/terms", json={"patient_id": "a", **TERMS}).raise_for_status(),
    "an hour": let_an_hour_pass,
    "retention": lambda server, _: server.components.journal.drop_before(pd.Timestamp.now("UTC")),
}


@pytest.mark.parametrize("news", NEWS)
def test_risk_stands_no_more_once_something_is_new(server, monkeypatch, news):
    first = ask(server)
    assert ask(server)["prediction_id"] == first["prediction_id"]
    NEWS[news](server, monkeypatch)
    answer = server.caller().post("/v1/risk", json={"patient_id": "a"})
    assert answer.json().get("prediction_id") != first["prediction_id"], news
    if news == "observation":
        assert answer.json()["news2"]["score"] == 0
        server.rescore()
        (stored,) = server.components.ward_state.risks()
        assert ask(server)["prediction_id"] == stored.prediction_id


def test_risk_of_an_earlier_version_is_made_again(server):
    with closing(sqlite3.connect(server.home / "ward_state.db")) as connection, connection:
        connection.execute("UPDATE risks SET assessment = NULL")
    first = server.components.ward_state.risks()[0].prediction_id
    assert ask(server)["prediction_id"] != first
    server.rescorer._is_loaded = False  # as after the upgrade, when the server starts
    server.rescore()
    (stored,) = server.components.ward_state.risks()
    assert stored.assessment is not None
    assert ask(server)["prediction_id"] == stored.prediction_id != first


def test_only_who_may_see_a_patient_reads_their_risk(server):
    body = {"patient_id": "a"}
    ask(server)  # it is written already
    assert server.caller(wards=["A"]).post("/v1/risk", json=body).status_code == 200
    refused = {
        "other ward": server.caller(wards=["B"]).post("/v1/risk", json=body),
        "no scope": server.caller(scopes=["ward:read"]).post("/v1/risk", json=body),
        "no token": server.stranger().post("/v1/risk", json=body),
        "a key twice": server.caller().post(
            "/v1/risk", content=b'{"patient_id": "b", "patient_id": "a"}', headers={"content-type": "application/json"}
        ),
        "a key more": server.caller().post("/v1/risk", json=body | {"ward": "A"}),
        "another method": server.caller().get("/v1/risk"),
    }
    assert {name: answer.status_code for name, answer in refused.items()} == {
        "other ward": 404,
        "no scope": 403,
        "no token": 401,
        "a key twice": 422,
        "a key more": 422,
        "another method": 405,
    }


def test_rate_of_a_caller_is_limited_where_risks_are_read_too(server):
    server.components.access._requests._most = 3
    client = server.caller(subject="hasty")
    statuses = [client.post("/v1/risk", json={"patient_id": "a"}).status_code for _ in range(5)]
    assert statuses[:3] == [200] * 3
    assert 429 in statuses


def test_answer_that_is_read_has_the_headers_of_all_others(server):
    read = server.caller().post("/v1/risk", json={"patient_id": "a"})
    assert read.headers["cache-control"] == "no-store"
    assert read.headers["content-type"] == "application/json"
    assert read.headers["x-content-type-options"] == "nosniff"


def test_question_that_has_waited_too_long_is_refused_and_an_observation_is_not(server):
    reached = []

    async def rest(scope, _receive, _send):
        reached.append(scope["path"])

    async def call(path, waited):
        sent = []
        state = {ARRIVED: time.perf_counter() - waited}
        scope = {"type": "http", "method": "POST", "path": path, "query_string": b"", "headers": [], "state": state}

        async def receive():
            return {"type": "http.request", "body": b"{}"}

        async def send(message):
            sent.append(message)

        await Front(rest, server.app.state)(scope, receive, send)
        return sent

    start, body = asyncio.run(call("/v1/risk", 2 * MAX_WAIT_SECONDS))
    assert start["status"] == 503
    assert (b"retry-after", b"1") in start["headers"]
    assert (b"cache-control", b"no-store") in start["headers"]
    assert b'"code":"busy"' in body["body"]
    asyncio.run(call("/v1/observations", 2 * MAX_WAIT_SECONDS))
    asyncio.run(call("/v1/risk", 0))
    assert reached == ["/v1/observations", "/v1/risk"]
