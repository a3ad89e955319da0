"""The list of a ward's patients, while risks are renewed and when they no longer are, and the list of its alarms."""

import sqlite3
from contextlib import closing
from dataclasses import replace

import pandas as pd
import pytest

from tests.support.in_process_server import SICK, WELL, observations_body, running_in_process
from vigil.serving.records.ward_rows import WardUpdate

MINUTE = 60_000_000


@pytest.fixture
def server(tmp_path):
    with running_in_process(tmp_path) as server:
        client = server.caller()
        for patient, values in (("sick", SICK), ("well", WELL)):
            client.post("/v1/patients", json={"patients": [{"patient_id": patient, "ward": "A"}]}).raise_for_status()
            client.post("/v1/observations", json=observations_body(patient, values)).raise_for_status()
        server.rescore()
        yield server


def store_model_risks(server, minutes_ago):
    """Store risks as if a model had put the well patient at risk and not the sick one, some minutes ago."""
    ward_state = server.components.ward_state
    risks = [
        replace(
            risk,
            basis="model",
            probability=0.9 if risk.news2 == 0 else 0.1,
            band="high",
            threshold=0.5,
            decided_by="model",
            findings=[],
            index_time=risk.index_time - minutes_ago * MINUTE,
        )
        for risk in ward_state.risks()
    ]
    read_until, alive_at = ward_state.progress()
    ward_state.commit(WardUpdate(risks=risks), read_until, alive_at, follows=read_until)


def listed(server):
    return server.caller(["ward:read"]).get("/v1/ward/patients", params={"ward": "A"}).json()


def test_risk_renewed_in_time_is_listed_as_it_is(server):
    store_model_risks(server, 63)
    patients = listed(server)["patients"]
    assert [(row["patient_id"], row["basis"], row["probability"], row["findings"]) for row in patients] == [
        ("well", "model", 0.9, []),
        ("sick", "model", 0.1, []),
    ]


def test_risk_not_renewed_in_time_is_listed_as_stale_with_news2(server):
    store_model_risks(server, 67)
    patients = listed(server)["patients"]
    assert [(row["patient_id"], row["basis"], row["probability"], row["expected_benefit"]) for row in patients] == [
        ("sick", "news2", None, None),
        ("well", "news2", None, None),
    ]
    assert [(row["findings"], row["band"], row["news2"]) for row in patients] == [
        (["stale_data"], "high", 12),
        (["stale_data"], "low", 0),
    ]
    assert pd.Timestamp.now("UTC") - pd.Timestamp(patients[0]["as_of"]) > pd.Timedelta(minutes=66)


def test_alarms_can_be_asked_before_an_instant(server):
    client = server.caller()
    (alarm,) = client.get("/v1/alarms").json()["alarms"]
    later = (pd.Timestamp(alarm["opened_at"]) + pd.Timedelta(1, "us")).isoformat()
    assert client.get("/v1/alarms", params={"before": later}).json() == {"alarms": [alarm]}
    assert client.get("/v1/alarms", params={"before": alarm["opened_at"]}).json() == {"alarms": []}
    assert client.get("/v1/alarms", params={"before": "yesterday"}).json()["code"] == "invalid_request"


def test_list_states_when_the_rescorer_was_last_alive(server):
    _, alive_at = server.components.ward_state.progress()
    assert pd.Timestamp(listed(server)["risks_as_of"]) == alive_at


def test_patient_without_an_identity_is_listed_without_identifier(server):
    with closing(sqlite3.connect(server.home / "identities.db")) as connection, connection:
        connection.execute("DELETE FROM identities WHERE identifier = 'sick'")
    assert [row["patient_id"] for row in listed(server)["patients"]] == ["", "well"]
    (alarm,) = server.caller(["alarms:read"]).get("/v1/alarms").json()["alarms"]
    assert alarm["patient_id"] == ""
    answer = server.caller(["alarms:write"]).post("/v1/alarms/acknowledge", json={"alarm_id": alarm["alarm_id"]})
    assert (answer.status_code, answer.json()["status"]) == (200, "acknowledged")


def test_unknown_ward_is_listed_as_unknown(server):
    assert listed(server)["known"]
    other = server.caller(["ward:read"]).get("/v1/ward/patients", params={"ward": "a"}).json()
    assert (other["known"], other["patients"]) == (False, [])
