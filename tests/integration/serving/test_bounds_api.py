"""Bounds over the API: how they are sent, and where they are shown."""

import json
import re

import pandas as pd
import pytest
from typer.testing import CliRunner

from tests.support.in_process_server import observations_body, running_in_process
from vigil.pipelines.cli.main import app

SOURCES = '[sources.cgm]\nranges = { glucose = [40, 400] }\nunits = { glucose = "mg/dL" }\n'
BOUND = {"signal": "glucose", "side": "below", "limit": 40.0, "unit": "mg/dL", "text": "at or below 40 mg/dL", "critical": True}
BOUND |= {"set_by": "device"}


@pytest.fixture
def server(tmp_path):
    (tmp_path / "sources.toml").write_text(SOURCES)
    with running_in_process(tmp_path) as server:
        patient = {"patient_id": "p1", "ward": "A"}
        server.caller().post("/v1/patients", json={"patients": [patient]}).raise_for_status()
        yield server


def send(server, value, **fields):
    """Send one glucose of the present, and rescore; return what became of it."""
    body = observations_body("p1", {"glucose": value}, **{"source": "cgm", **fields})
    answer = server.caller().post("/v1/observations", json=body)
    answer.raise_for_status()
    server.rescore()
    return answer.json()["results"][0]


def without_time(bounds):
    assert all(pd.Timestamp(bound["observed_at"]).tzinfo for bound in bounds)
    return [{name: value for name, value in bound.items() if name != "observed_at"} for bound in bounds]


@pytest.mark.parametrize(("value", "fields"), [("low", {}), ("Low", {}), (40, {"comparator": "<", "unit": "mg/dL"})])
def test_low_is_shown_with_risk_history_ward_alarm_and_events(server, value, fields):
    assert send(server, value, **fields)["status"] == "accepted"
    client = server.caller()
    (patient,) = client.get("/v1/ward/patients", params={"ward": "A"}).json()["patients"]
    (alarm,) = client.get("/v1/alarms").json()["alarms"]
    summary = client.post("/v1/visit-summary", json={"patient_id": "p1"}).json()
    shown = [patient, alarm, summary["risk"], summary["history"], client.post("/v1/risk", json={"patient_id": "p1"}).json()]
    assert [without_time(one["bounds"]) for one in shown] == [[BOUND]] * 5
    assert (patient["alarm_id"], patient["alarm_status"]) == (alarm["alarm_id"], "open")
    assert (alarm["cause"], alarm["reasons"], alarm["sounded"]) == ("critical_bound", ["critical_bound"], 1)
    assert all("40.0" not in json.dumps(row) for row in summary["anomalies"])

    params, first = {"ward": "A", "seconds": 0}, {"Last-Event-ID": "0"}
    events = client.get("/v1/ward/events", params=params, headers=first).text
    data = dict(re.findall(r"event: (\w+)\ndata: (.*)$", events, re.MULTILINE))
    event, sounded = json.loads(data["beyond_range"]), json.loads(data["alarm"])
    assert event.items() >= BOUND.items()
    assert event["observed_at"] == sounded["bounds"][0]["observed_at"]
    assert pd.Timestamp(event["observed_at"]).tzinfo
    public = server.caller(["ward:read"]).get("/v1/ward/events", params=params, headers=first).text
    assert "event: beyond_range" in public
    assert "event: alarm" not in public

    send(server, 90, unit="mg/dL")
    after = client.post("/v1/visit-summary", json={"patient_id": "p1"}).json()
    assert after["risk"]["bounds"] == []
    assert without_time(after["history"]["bounds"]) == [BOUND]
    assert client.get("/v1/alarms").json()["alarms"][0]["ended_at"] is not None


@pytest.mark.parametrize(
    ("value", "fields", "reason", "expected"),
    [
        ("low", {"source": "other"}, "undeclared_range", "ranges in sources.toml"),
        ("100-200", {}, "not_exact", "a number; or with comparator"),
        (100, {"comparator": "~"}, "not_exact", "a number; or with comparator"),
        (5, {"comparator": "<", "source": "other"}, "missing_unit", "mg/dL or mmol/L"),
    ],
)
def test_what_is_no_bound_is_quarantined_with_what_to_send(server, value, fields, reason, expected):
    receipt = send(server, value, **fields)
    assert (receipt["status"], receipt["reason"]) == ("quarantined", reason)
    assert expected in receipt["expected"]


def test_risk_from_observations_shows_bounds_and_makes_no_number_of_them(server):
    def risk(**fields):
        time = (pd.Timestamp.now("UTC") - pd.Timedelta(hours=1)).isoformat()
        spo2 = {"signal": "spo2", "value": 70, "observed_at": time, "unit": "%", **fields}
        return server.caller().post("/v1/risk/observations", json={"patient_id": "x", "observations": [spo2]})

    bound = risk(comparator="<").json()
    assert [(one["signal"], one["text"]) for one in bound["bounds"]] == [("spo2", "at or below 70 %")]
    assert (bound["news2"]["components"]["spo2"]["value"], bound["data_age"]["latest_reading_hours"]) == (None, None)
    exact = risk().json()
    assert (exact["bounds"], exact["news2"]["components"]["spo2"]["points"]) == ([], 3)
    assert risk(comparator="about").status_code == 422
    assert risk(value="low").status_code == 422


def test_low_of_a_source_that_declares_its_range_later_is_taken_then(server):
    assert send(server, "low", source="new")["reason"] == "undeclared_range"
    assert send(server, 5, source="new", comparator="<")["reason"] == "missing_unit"
    (server.home / "sources.toml").write_text(SOURCES.replace("cgm", "new"))
    taken = CliRunner().invoke(app, ["sources", "--home", str(server.home), "--readmit", "--because", "a sensor"])
    assert taken.exit_code == 0, taken.output
    shown = CliRunner().invoke(app, ["sources", "--home", str(server.home)], env={"COLUMNS": "140"})
    assert "glucose_below_range" in shown.output
    server.rescore()
    (patient,) = server.caller().get("/v1/ward/patients", params={"ward": "A"}).json()["patients"]
    assert without_time(patient["bounds"]) == [BOUND]
