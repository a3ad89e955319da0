"""A gateway that reports its devices: what the answers, the ward's list and its events say of signals that have stopped."""

import json
import re
from datetime import timedelta

import pandas as pd
import pytest

from tests.support.in_process_server import WELL, observations_body, running_in_process
from vigil.pipelines.operations.reproduce import reproduce

PATH = "/v1/devices/status"
MONITOR = {"source": "gateway-1", "device_id": "monitor-1"}


@pytest.fixture
def server(tmp_path, monkeypatch):
    """Patient a-1 in ward A and b-1 in ward B: each with a monitor of gateway-1, and a thermometer that names no source."""
    monkeypatch.setattr("vigil.serving.stream.silence_follower.LOOK_EVERY", timedelta(0))
    with running_in_process(tmp_path) as server:
        client = server.caller()
        for number, patient in enumerate(("a-1", "b-1"), start=1):
            ward = patient[0].upper()
            client.post("/v1/patients", json={"patients": [{"patient_id": patient, "ward": ward}]}).raise_for_status()
            send(server, patient, WELL, device_id=f"monitor-{number}")
            send(server, patient, {"body_temperature": 37.0}, source=None)
        server.rescore()
        yield server


def send(server, patient, values, source="gateway-1", **fields):
    body = observations_body(patient, values, source=source, **fields)
    server.caller().post("/v1/observations", json=body).raise_for_status()


def report(server, status="disconnected", wards=None, **device):
    body = {"status": status, **(device or MONITOR)}
    answer = server.caller(("observations:write",), wards).post(PATH, json=body)
    assert answer.status_code == 200
    server.rescore()
    return answer.json()


def risk(server, patient="a-1", **more):
    answer = server.caller().post("/v1/risk", json={"patient_id": patient, **more})
    answer.raise_for_status()
    return answer.json()


def events(server, ward="A", scopes=("ward:read",)):
    """Return kind and data of the stored events that are about silence."""
    client = server.caller(scopes)
    text = client.get("/v1/ward/events", params={"ward": ward, "seconds": 0}, headers={"Last-Event-ID": "0"}).text
    found = [(kind, json.loads(data)) for kind, data in re.findall(r"^event: (\w+)\ndata: (.+)$", text, re.MULTILINE)]
    return [event for event in found if event[0].startswith(("signal_", "source_"))]


def test_a_disconnected_device_is_a_finding_everywhere_until_it_is_connected(server):
    assert "signal_stopped" not in risk(server)["findings"]
    before = pd.Timestamp.now("UTC")
    answer = report(server)
    assert {name: answer[name] for name in (*MONITOR, "status")} == MONITOR | {"status": "disconnected"}
    assert pd.Timestamp(answer["recorded_at"]) >= before
    shown = risk(server)
    assert "signal_stopped" in shown["findings"]
    assert [one["signal"] for one in shown["stopped_signals"]] == sorted(WELL)
    assert {(one["source"], one["device_id"], one["cause"]) for one in shown["stopped_signals"]} == {
        ("gateway-1", "monitor-1", "disconnected")
    }
    assert "signal_stopped" not in risk(server, as_of=before.isoformat())["findings"]
    (row,) = server.caller().get("/v1/ward/patients", params={"ward": "A"}).json()["patients"]
    assert "signal_stopped" in row["findings"]
    assert "signal_stopped" not in risk(server, "b-1")["findings"]
    told = events(server)
    assert sorted((kind, data["patient_id"], data["signal"]) for kind, data in told) == [
        ("signal_stopped", "a-1", signal) for signal in sorted(WELL)
    ]
    assert all(pd.Timestamp(data["since"]) <= before for _, data in told)
    report(server, "connected")
    assert "signal_stopped" not in risk(server)["findings"]
    assert [kind for kind, _ in events(server)] == ["signal_stopped"] * len(WELL) + ["signal_returned"] * len(WELL)
    assert events(server, "B") == []


def test_the_finding_changes_no_output_that_is_reproduced(server):
    report(server)
    shown, bare = risk(server), risk(server, "b-1")
    names = ("basis", "probability", "band", "decided_by", "news2")
    assert {name: shown[name] for name in names} | {"news2": shown["news2"]["score"]} == {
        **{name: bare[name] for name in names},
        "news2": bare["news2"]["score"],
    }
    result = reproduce(server.home)
    assert result.different == {}


def test_a_gateway_is_one_event_in_each_ward_without_a_patient(server):
    report(server, source="gateway-1")
    for ward in "AB":
        ((kind, data),) = events(server, ward)
        assert (kind, data["patient_id"], data["source"], data["cause"]) == (
            *("source_silent", None, "gateway-1", "disconnected"),
        )
    send(server, "a-1", {"heart_rate": 71}, device_id="monitor-1")
    server.rescore()
    assert [kind for kind, _ in events(server, "B")] == ["source_silent", "source_returned"]


def test_a_caller_of_a_ward_speaks_for_its_patients_only(server):
    report(server, wards=["B"], source="gateway-1")
    assert events(server, "A") == []
    assert [kind for kind, _ in events(server, "B")] == ["source_silent"]
    report(server, "connected", wards=["A"], source="gateway-1")
    assert [kind for kind, _ in events(server, "B")] == ["source_silent"]


def test_an_unknown_device_is_answered_as_a_known_one(server):
    assert report(server, source="nowhere", device_id="nothing").keys() == report(server).keys()
    assert report(server, source="nowhere")["device_id"] is None


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"status": "disconnected"}, "source"),
        ({"source": "gateway-1"}, "status"),
        ({"source": "gateway-1", "status": "broken"}, "status"),
        ({"source": "gateway-1", "status": "connected", "patient_id": "a-1"}, "body"),
        ({"source": " gateway-1", "status": "connected"}, "source"),
        ({"source": "g" * 129, "status": "connected"}, "source"),
        ({"source": "gateway-1", "device_id": "", "status": "connected"}, "device_id"),
        ({"source": "gateway-1", "device_id": 7, "status": "connected"}, "device_id"),
    ],
)
def test_a_mistake_names_the_field_and_nothing_is_stored(server, body, field):
    answer = server.caller().post(PATH, json=body)
    assert answer.status_code == 422
    assert [error["field"].split(".")[-1] for error in answer.json()["errors"]] == [field]
    assert server.components.ward_state.silences.reports() == []


def test_what_is_said_twice_is_refused(server):
    content = '{"source": "gateway-1", "status": "connected", "status": "disconnected"}'
    answer = server.caller().post(PATH, content=content, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["errors"][0]["rule"]) == (422, "repeated")


def test_reports_of_devices_that_are_not_there_fill_no_table(server, monkeypatch):
    monkeypatch.setattr("vigil.serving.records.silences._MOST_REPORTS", 3)
    for number in range(6):
        report(server, source="nowhere", device_id=f"device-{number}")
    stored = server.components.ward_state.silences.reports()
    assert [one.device_id for one in stored] == ["device-3", "device-4", "device-5"]
