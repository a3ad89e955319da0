"""Merge and unmerge over the API: who may, what is refused, and what questions about a merged patient get."""

import json
import re

import pandas as pd
import pytest

from tests.support.in_process_server import SICK, WELL, observations_body, running_in_process
from vigil.pipelines.operations.reproduce import reproduce

MERGE, UNMERGE = "/v1/patients/merge", "/v1/patients/unmerge"


@pytest.fixture
def server(tmp_path):
    """Patients a (well, ward A) and b (sick, ward B), rescored."""
    with running_in_process(tmp_path) as server:
        client = server.caller()
        for patient, ward, values in (("a", "A", WELL), ("b", "B", SICK)):
            client.post("/v1/patients", json={"patients": [{"patient_id": patient, "ward": ward}]}).raise_for_status()
            client.post("/v1/observations", json=observations_body(patient, values)).raise_for_status()
        server.rescore()
        yield server


def merge(client, patient, into):
    return client.post(MERGE, json={"patient_id": patient, "into": into})


def unmerge(client, patient):
    return client.post(UNMERGE, json={"patient_id": patient})


def risk(server, patient, **fields):
    answer = server.caller().post("/v1/risk", json={"patient_id": patient, **fields})
    answer.raise_for_status()
    return answer.json()


def ward(server, name):
    return [row["patient_id"] for row in server.caller().get("/v1/ward/patients", params={"ward": name}).json()["patients"]]


def events(client, name):
    """Return (kind, data) of all events of a ward."""
    text = client.get("/v1/ward/events", params={"ward": name, "seconds": 0}, headers={"Last-Event-ID": "0"}).text
    return [(kind, json.loads(data)) for kind, data in re.findall(r"event: (\w+)\ndata: (.*)", text)]


def test_question_about_a_merged_patient_is_answered_for_the_survivor_and_says_so(server):
    before = pd.Timestamp.now("UTC").isoformat()
    answer = merge(server.caller(), "b", "a")
    assert answer.json() == {"patient_id": "b", "merged_into": "a", "changed": True, "ward": "A", "discharged": False}
    server.rescore()
    assert (ward(server, "A"), ward(server, "B")) == (["a"], [])
    of_a, of_b = risk(server, "a"), risk(server, "b")
    assert (of_a["patient_id"], of_a["merged_into"]) == ("a", None)
    assert (of_b["patient_id"], of_b["merged_into"]) == ("b", "a")
    points = [{signal: one["points"] for signal, one in of["news2"]["components"].items()} for of in (of_a, of_b)]
    assert points[0] == points[1]
    assert of_b["news2"]["score"] == of_a["news2"]["score"]
    assert of_a["news2"]["score"] >= 7  # b's readings are the later ones
    past = {patient: risk(server, patient, as_of=before) for patient in "ab"}
    assert past["a"]["news2"]["score"] == 0
    assert past["b"]["news2"]["score"] == 12
    assert past["b"]["merged_into"] is None
    for path in ("/v1/risk/history", "/v1/risk/anomalies", "/v1/visit-summary"):
        about = server.caller().post(path, json={"patient_id": "b"}).json()
        assert (about["patient_id"], about["merged_into"]) == ("b", "a"), path
    alarms = server.caller().post("/v1/visit-summary", json={"patient_id": "b"}).json()["alarms"]
    assert [(alarm["patient_id"], alarm["ward"], alarm["ended_at"]) for alarm in alarms] == [("b", "A", None)]


def test_new_readings_of_a_merged_patient_count_for_the_survivor_at_once(server):
    merge(server.caller(), "b", "a")
    server.caller().post("/v1/observations", json=observations_body("b", WELL)).raise_for_status()
    assert risk(server, "a")["news2"]["score"] == 0
    server.rescore()
    assert risk(server, "b")["news2"]["score"] == 0


def test_unmerge_gives_each_their_own_readings_again_and_all_of_it_can_be_reproduced(server):
    merge(server.caller(), "b", "a")
    asked_before = [risk(server, patient) for patient in "ab"]  # made for the question: the rescorer has not seen the merge
    server.rescore()
    asked_after = [risk(server, patient) for patient in "ab"]
    assert {one["news2"]["score"] for one in asked_before} == {one["news2"]["score"] for one in asked_after} == {12}
    answer = unmerge(server.caller(), "b").json()
    assert answer == {"patient_id": "b", "merged_into": None, "changed": True, "ward": "B", "discharged": False}
    server.rescore()
    assert (ward(server, "A"), ward(server, "B")) == (["a"], ["b"])
    assert (risk(server, "a")["news2"]["score"], risk(server, "b")["news2"]["score"]) == (0, 12)
    result = reproduce(server.home, sample=10_000)
    assert result.different == {}
    assert set(result.origins["rescorer"]) == {"reproduced"}
    assert set(result.origins["journal"]) == {"reproduced"}
    assert result.origins["rescorer"].total() >= 5  # before the merge, between, and after the unmerge


def test_merging_or_unmerging_again_is_answered_and_stores_nothing(server):
    client = server.caller()
    assert [merge(client, "b", "a").json()["changed"] for _ in range(2)] == [True, False]
    assert [unmerge(client, "b").json()["changed"] for _ in range(2)] == [True, False]


@pytest.mark.parametrize(
    ("body", "code", "status", "field"),
    [
        ({"patient_id": "zz-9", "into": "a"}, "not_in_journal", 404, "patient_id"),
        ({"patient_id": "a", "into": "zz-9"}, "not_in_journal", 404, "into"),
        ({"patient_id": "b", "into": "b"}, "merge_into_itself", 409, "into"),
        ({"patient_id": "a", "into": "b"}, "merge_cycle", 409, "into"),
        ({"patient_id": "b", "into": "c-3"}, "merged_elsewhere", 409, "patient_id"),
        ({"patient_id": "c-3"}, "never_merged", 409, "patient_id"),
    ],
)
def test_refusal_names_field_and_rule_and_no_identifier(server, body, code, status, field):
    client = server.caller()
    client.post("/v1/patients", json={"patients": [{"patient_id": "c-3", "ward": "A"}]}).raise_for_status()
    merge(client, "b", "a").raise_for_status()
    answer = client.post(MERGE if "into" in body else UNMERGE, json=body)
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (status, code)
    assert problem["detail"].startswith(f"{field}: ")
    assert not any(name in answer.text for name in ("zz-9", "c-3"))


@pytest.mark.parametrize("wards", [["A"], ["B"], ["C"]])
def test_caller_needs_the_wards_of_both(server, wards):
    narrow = server.caller(wards=wards)
    answer = merge(narrow, "b", "a")
    assert (answer.status_code, answer.json()["code"]) == (403, "not_your_ward")
    merge(server.caller(wards=["A", "B"]), "b", "a").raise_for_status()
    assert unmerge(narrow, "b").status_code == 403
    unmerge(server.caller(wards=["A", "B"]), "b").raise_for_status()


def test_caller_of_the_survivors_ward_sees_and_sends_under_both_identifiers(server):
    merge(server.caller(), "b", "a")
    of_a, of_b = server.caller(wards=["A"]), server.caller(wards=["B"])
    assert of_a.post("/v1/risk", json={"patient_id": "b"}).status_code == 200
    assert of_a.post("/v1/observations", json=observations_body("b", {"heart_rate": 81})).status_code == 200
    assert of_b.post("/v1/risk", json={"patient_id": "b"}).status_code == 404
    assert of_b.post("/v1/observations", json=observations_body("b", {"heart_rate": 82})).status_code == 403


def test_event_left_names_the_survivor_to_those_who_may_see_them(server):
    merge(server.caller(), "b", "a")
    server.rescore()
    for wards, expected in ((None, "a"), (["A", "B"], "a"), (["B"], None)):
        kind, data = events(server.caller(wards=wards), "B")[-1]
        assert (kind, data["patient_id"], data["merged_into"]) == ("left", "b", expected)
        assert not {"survivor_ward"} & set(data)


def test_survivor_who_is_not_registered_is_stated(server):
    server.caller().post("/v1/observations", json=observations_body("new", WELL)).raise_for_status()
    assert merge(server.caller(), "b", "new").json()["ward"] is None
