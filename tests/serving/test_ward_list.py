"""A ward's list, as it is while risks are renewed and when they no longer are; and what may be said in it of alarms."""

import sqlite3
from contextlib import closing

import pandas as pd
import pytest

from serving.records.ward_state import Page
from tests.serving.inside import SICK, WELL, running_inside, sent

MINUTE = 60_000_000


@pytest.fixture
def inside(tmp_path):
    with running_inside(tmp_path) as inside:
        client = inside.caller()
        for patient, values in (("sick", SICK), ("well", WELL)):
            client.post("/v1/patients", json={"patients": [{"patient_id": patient, "ward": "A"}]}).raise_for_status()
            client.post("/v1/observations", json=sent(patient, values)).raise_for_status()
        inside.rescore()
        yield inside


def said_by_a_model(inside, minutes_ago):
    """As if a model had said of the well that they are at risk, and of the sick that they are not, and nobody since."""
    board = inside.parts.board
    rows = board.risks()
    for row in rows:
        row |= {"basis": "model", "probability": 0.9 if row["news2"] == 0 else 0.1, "band": "high", "threshold": 0.5}
        row |= {"decided_by": "model", "findings": []}
        row["index_time"] -= minutes_ago * MINUTE
    read_until, alive = board.progress()
    board.publish(Page(risks=rows), read_until, alive, follows=read_until)


def listed(inside):
    return inside.caller(["ward:read"]).get("/v1/ward/patients", params={"ward": "A"}).json()


def test_a_risk_that_was_renewed_in_time_stands(inside):
    said_by_a_model(inside, 63)
    patients = listed(inside)["patients"]
    assert [(row["patient_id"], row["basis"], row["probability"], row["findings"]) for row in patients] == [
        ("well", "model", 0.9, []),
        ("sick", "model", 0.1, []),
    ]


def test_a_risk_that_nobody_renewed_is_not_shown_as_if_it_were_of_now(inside):
    said_by_a_model(inside, 67)
    patients = listed(inside)["patients"]
    assert [(row["patient_id"], row["basis"], row["probability"], row["expected_benefit"]) for row in patients] == [
        ("sick", "news2", None, None),
        ("well", "news2", None, None),
    ]
    assert [(row["findings"], row["band"], row["news2"]) for row in patients] == [
        (["stale_data"], "high", 12),
        (["stale_data"], "low", 0),
    ]
    assert pd.Timestamp.now("UTC") - pd.Timestamp(patients[0]["as_of"]) > pd.Timedelta(minutes=66)


def test_alarms_are_reached_before_an_instant(inside):
    client = inside.caller()
    (alarm,) = client.get("/v1/alarms").json()["alarms"]
    later = (pd.Timestamp(alarm["opened_at"]) + pd.Timedelta(1, "us")).isoformat()
    assert client.get("/v1/alarms", params={"before": later}).json() == {"alarms": [alarm]}
    assert client.get("/v1/alarms", params={"before": alarm["opened_at"]}).json() == {"alarms": []}
    assert client.get("/v1/alarms", params={"before": "yesterday"}).json()["code"] == "invalid_request"


def test_the_list_says_when_the_rescorer_was_last_alive(inside):
    _, alive = inside.parts.board.progress()
    assert pd.Timestamp(listed(inside)["risks_as_of"]) == alive


def test_who_lost_their_identity_is_shown_without_and_the_others_as_ever(inside):
    with closing(sqlite3.connect(inside.home / "identities.db")) as connection, connection:
        connection.execute("DELETE FROM identities WHERE identifier = 'sick'")
    assert [row["patient_id"] for row in listed(inside)["patients"]] == ["", "well"]
    (alarm,) = inside.caller(["alarms:read"]).get("/v1/alarms").json()["alarms"]
    assert alarm["patient_id"] == ""
    done = inside.caller(["alarms:write"]).post("/v1/alarms/acknowledge", json={"alarm_id": alarm["alarm_id"]})
    assert (done.status_code, done.json()["status"]) == (200, "acknowledged")


def test_a_ward_that_nobody_knows_is_listed_as_such(inside):
    assert listed(inside)["known"]
    other = inside.caller(["ward:read"]).get("/v1/ward/patients", params={"ward": "a"}).json()
    assert (other["known"], other["patients"]) == (False, [])
