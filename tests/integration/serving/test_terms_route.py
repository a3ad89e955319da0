"""Terms of a patient over the API: who may decide, what is refused, and where they are shown."""

import time

import pandas as pd
import pytest

from tests.support.in_process_server import WELL, observations_body, running_in_process
from vigil.pipelines.operations.reproduce import reproduce

TERMS = "/v1/patients/terms"
BECAUSE = "target 88 to 92 percent"


@pytest.fixture
def server(tmp_path):
    """Patient a in ward A, rescored."""
    with running_in_process(tmp_path) as server:
        client = server.caller()
        client.post("/v1/patients", json={"patients": [{"patient_id": "a", "ward": "A"}]}).raise_for_status()
        values = WELL | {"spo2": 90, "on_oxygen": 1}
        client.post("/v1/observations", json=observations_body("a", values)).raise_for_status()
        server.rescore()
        yield server


def decide(client, **fields):
    return client.post(TERMS, json={"patient_id": "a", "because": BECAUSE, **fields})


def risk(server, **fields):
    answer = server.caller().post("/v1/risk", json={"patient_id": "a", **fields})
    answer.raise_for_status()
    return answer.json()


def test_terms_are_shown_with_the_risk_and_change_news2_at_once(server):
    before = risk(server)
    assert (before["news2"]["score"], before["news2"]["spo2_scale"], before["terms"]) == (5, 1, None)
    answer = decide(server.caller(subject="dr"), spo2_scale=2, limits={"heart_rate": {"low": 75}})
    assert answer.status_code == 200
    shown = risk(server)
    assert shown["terms"] == answer.json()["terms"]
    assert shown["terms"]["by"] == "dr"
    assert shown["terms"]["limits"] == {"heart_rate": {"low": 75, "high": None}}
    assert (shown["news2"]["score"], shown["news2"]["spo2_scale"]) == (2, 2)
    assert [(one["signal"], one["set_by"]) for one in shown["limits_reached"]] == [("heart_rate", "staff")]
    assert (shown["band"], shown["decided_by"]) == ("high", "patient_limit")
    as_of = risk(server, as_of=before["as_of"])
    assert (as_of["news2"]["spo2_scale"], as_of["terms"]) == (1, None)  # as it was known then
    result = reproduce(server.home, sample=10_000)
    assert (result.different, result.sampled >= 3) == ({}, True)


def test_alarm_shows_the_terms_it_rests_on(server):
    decide(server.caller(subject="dr"), limits={"heart_rate": {"high": 60}})
    server.rescore()
    (alarm,) = server.caller().get("/v1/alarms", params={"ward": "A"}).json()["alarms"]
    assert (alarm["cause"], alarm["bounds"][0]["set_by"]) == ("patient_limit", "staff")
    assert alarm["terms"]["patient"]["by"] == "dr"
    assert alarm["terms"]["patient"]["because"] == BECAUSE
    (listed,) = server.caller().get("/v1/ward/patients", params={"ward": "A"}).json()["patients"]
    assert listed["terms"] == alarm["terms"]["patient"]


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"because": "no"}, "because"),
        ({"because": None}, "because"),
        ({"spo2_scale": 3}, "spo2_scale"),
        ({"alarm_threshold": 1.0}, "alarm_threshold"),
        ({"news2_alarm_from": 4}, "news2_alarm_from"),
        ({"until": "2090-01-01T00:00:00"}, "until"),
        ({"limits": {"heart_rate": {"low": -1}}}, "limits"),
        ({"limits": {"glucose": {"low": 70}}}, "limits"),
        ({"limits": {"heart_rate": {"low": "70"}}}, "limits"),
        ({"scale": 2}, "scale"),
        ({"spo2_scale": True}, "spo2_scale"),
        ({"spo2_scale": 1.5}, "spo2_scale"),
        ({"news2_alarm_from": "7"}, "news2_alarm_from"),
        ({"because": "\u200b" * 12}, "because"),
        ({"because": "see \u202e the chart of today"}, "because"),
    ],
)
def test_impossible_terms_are_refused_by_field(server, fields, field):
    answer = decide(server.caller(), **fields)
    assert answer.status_code == 422
    assert field in answer.text
    if field != "scale":
        assert [error["field"].split(".")[0] for error in answer.json()["errors"]] == [field]
    assert risk(server)["terms"] is None


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"until": "2020-01-01T00:00:00Z"}, "already_over"),
        ({"limits": {"heart_rate": {"low": 90, "high": 80}}}, "limits_cross"),
        ({"limits": {"spo2": {"low": 90, "high": 90}}}, "limits_cross"),
    ],
)
def test_terms_that_could_not_hold_are_refused(server, fields, code):
    answer = decide(server.caller(), **fields)
    assert (answer.status_code, answer.json()["code"]) == (409, code)
    assert risk(server)["terms"] is None


def test_refusal_does_not_repeat_what_was_sent(server):
    answer = decide(server.caller(), limits={"mrn-4711 John Doe": {"low": "x"}})
    assert answer.status_code == 422
    assert "4711" not in answer.text


def test_other_wards_and_unknown_patients_are_refused(server):
    assert decide(server.caller(wards=["B"])).status_code == 403
    unknown = server.caller().post(TERMS, json={"patient_id": "nobody", "because": BECAUSE})
    assert (unknown.status_code, unknown.json()["code"]) == (404, "not_in_journal")


def test_terms_end_when_they_say(server):
    until = (pd.Timestamp.now("UTC") + pd.Timedelta(seconds=1.5)).isoformat()
    assert decide(server.caller(), spo2_scale=2, until=until).status_code == 200
    assert risk(server)["news2"]["spo2_scale"] == 2

    time.sleep(1.6)
    assert risk(server)["news2"]["spo2_scale"] == 1
