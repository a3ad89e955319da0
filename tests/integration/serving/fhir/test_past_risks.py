"""RiskAssessment by id: what was given is read again, with the readings it was made of, and made again by ``$verify``."""

import json
import sqlite3
import uuid
from contextlib import closing
from dataclasses import fields

import pandas as pd
import pytest

from tests.support.in_process_server import SICK, WELL, observations_body, running_in_process
from vigil.models.provenance import describe_code
from vigil.serving.records.prediction_rows import Prediction
from vigil.serving.records.timestamps import microsecond, present
from vigil.serving.scoring.past_risks import inputs_interval


@pytest.fixture
def server(tmp_path):
    """Patient 4711, sick and rescored."""
    (tmp_path / "fhir.toml").write_text('patient_system = "urn:mrn"\n')
    with running_in_process(tmp_path) as running:
        register(running, "4711")
        send(running, "4711", SICK)
        yield running


def register(server, patient, ward="B4", **facts):
    body = {"patients": [{"patient_id": patient, "ward": ward, "age": 70, **facts}]}
    server.caller().post("/v1/patients", json=body).raise_for_status()


def send(server, patient, values, **fields):
    answer = server.caller().post("/v1/observations", json=observations_body(patient, values, **fields))
    answer.raise_for_status()
    server.rescore()
    return answer.json()


def present_risk(server, patient="4711"):
    form = {"patient.identifier": f"urn:mrn|{patient}"}
    (entry,) = server.caller().post("/fhir/RiskAssessment/_search", data=form).json()["entry"]
    return entry["resource"]


def read(server, identity, caller=None):
    return (caller or server.caller()).get(f"/fhir/RiskAssessment/{identity}")


def verify(server, identity):
    answer = server.caller().get(f"/fhir/RiskAssessment/{identity}/$verify")
    assert answer.status_code == 200
    content = answer.json()
    assert content["resourceType"] == "Parameters"
    return [
        (one["name"], next(value for name, value in one.items() if name.startswith("value"))) for one in content["parameter"]
    ]


def without_notes(resource):
    return {name: value for name, value in resource.items() if name != "note"}


def test_present_risk_is_the_same_by_id_and_by_search(server):
    found = present_risk(server)
    assert read(server, found["id"]).json() == found
    assert len(found["basis"]) == len(SICK)


def test_past_risk_is_read_as_it_was_given(server):
    before = present_risk(server)
    send(server, "4711", WELL)
    after = present_risk(server)
    assert after["id"] != before["id"]
    past = read(server, before["id"]).json()
    assert without_notes(past) == without_notes(before)
    notes = [note["text"] for note in past["note"]]
    assert notes[:2] == [note["text"] for note in before["note"]][:2]
    assert notes[2] == "no probability: the model was not asked"
    assert verify(server, before["id"]) == [("result", True), ("inputs", "readings")]


def test_basis_is_the_version_that_counted_and_stays_it_after_a_correction(server):
    at = pd.Timestamp.now("UTC")
    register(server, "c")
    send(server, "c", {"heart_rate": 135}, at=at)
    before = present_risk(server, "c")
    send(server, "c", {"heart_rate": 90}, at=at, status="corrected")
    after = present_risk(server, "c")
    (old,), (new,) = before["basis"], after["basis"]
    assert old != new
    assert read(server, before["id"]).json()["basis"] == [old]
    rows = {server.components.directory.ids.row(one["reference"].removeprefix("Observation/")) for one in (old, new)}
    with closing(sqlite3.connect(server.home / "journal.db")) as connection:
        values = connection.execute(f"SELECT value FROM observations WHERE seq IN ({', '.join(map(str, rows))}) ORDER BY seq")
        assert [value for (value,) in values] == [135, 90]
    assert verify(server, before["id"])[0] == ("result", True)


def test_only_the_latest_reading_of_each_signal_and_none_of_long_ago_is_in_the_basis(server):
    register(server, "d")
    now = pd.Timestamp.now("UTC")
    send(server, "d", {"glucose": 100}, at=now - pd.Timedelta(hours=80))
    for minutes in (3, 2, 1):
        send(server, "d", {"heart_rate": 80 + minutes}, at=now - pd.Timedelta(minutes=minutes))
    assert len(present_risk(server, "d")["basis"]) == 1


def test_changed_reading_is_noticed_and_only_names_are_told(server):
    identity = present_risk(server)["id"]
    assert verify(server, identity)[0] == ("result", True)
    with closing(sqlite3.connect(server.home / "journal.db")) as connection, connection:
        changed = connection.execute("UPDATE observations SET value = 72 WHERE value = 135")
        assert changed.rowcount == 1
    found = verify(server, identity)
    assert found[0] == ("result", False)
    assert {value for name, value in found if name == "difference"} == {"news2", "news2_highest", "net_score", "net_spot"}


def test_after_retention_there_is_no_result_but_a_reason(server):
    before = present_risk(server)
    send(server, "4711", WELL)
    journal = server.components.journal
    now = present()
    journal.drop_before(now)
    assert [name for name, _ in verify(server, before["id"])] == ["reason"]
    (_, reason) = verify(server, before["id"])[0]
    assert reason["code"] == "retention"
    past = read(server, before["id"]).json()
    assert "basis" not in past
    assert past["prediction"] == before["prediction"]


def logged(server, **changes):
    """Log a prediction of patient 4711 as another version made it."""
    at = microsecond(present())
    values = dict.fromkeys(field.name for field in fields(Prediction)) | {
        "prediction_id": str(uuid.uuid4()),
        "made_at": at,
        "origin": "rescorer",
        "subject_id": server.components.pseudonyms.subject_key("4711"),
        "as_of": at,
        "index_time": at,
        "basis": "model",
        "probability": 0.25,
        "band": "medium",
        "decided_by": "model",
        "news2": 3,
        "news2_highest": 5,
        "model_name": "deterioration",
        "model_version": "99",
        "feature_service": "vital_signs_v3",
    }
    server.components.log.append([Prediction(**values | changes)])
    return (values | changes)["prediction_id"]


@pytest.mark.parametrize(
    ("changes", "obstacle"), [({}, "no_model"), ({"feature_service": "vital_signs_v99"}, "no_feature_service")]
)
def test_risk_by_a_model_that_is_gone_is_read_but_not_verified(server, changes, obstacle):
    identity = logged(server, **changes)
    resource = read(server, identity).json()
    assert resource["prediction"][0]["probabilityDecimal"] == 25
    assert resource["meta"]["security"][0]["code"] == "AIAST"
    (device,) = resource["contained"]
    assert device["version"][0]["value"] == "99"
    ((name, reason),) = verify(server, identity)
    assert (name, reason["code"]) == ("reason", obstacle)


def test_risk_of_a_time_in_which_a_critical_bound_stood_is_high(server):
    register(server, "g")
    server.caller().post(
        "/v1/observations", json=observations_body("g", {"glucose": 40}, unit="mg/dL", comparator="<")
    ).raise_for_status()
    server.rescore()
    before = present_risk(server, "g")
    assert before["prediction"][0]["qualitativeRisk"]["text"] == "high"
    send(server, "g", {"glucose": 110}, unit="mg/dL")
    past = read(server, before["id"]).json()
    assert past["prediction"] == before["prediction"]
    assert verify(server, before["id"])[0] == ("result", True)


def test_risk_of_a_merged_patient_names_the_survivor(server):
    identity = present_risk(server)["id"]
    register(server, "4712")
    server.caller().post("/v1/patients/merge", json={"patient_id": "4711", "into": "4712"}).raise_for_status()
    survivor = server.components.directory.reference(server.components.pseudonyms.subject_key("4712"))
    assert read(server, identity).json()["subject"] == {"reference": survivor}
    assert verify(server, identity)[0] == ("result", True)


def test_what_is_not_of_a_patient_here_is_not_found(server):
    values = [{"signal": "heart_rate", "value": 80, "observed_at": pd.Timestamp.now("UTC").isoformat()}]
    body = {"patient_id": "4711", "observations": values}
    invented = server.caller().post("/v1/risk/observations", json=body).json()["prediction_id"]
    identity = present_risk(server)["id"]
    for unknown in (
        invented,
        str(uuid.uuid4()),
        "none",
        identity.upper(),
        logged(server, subject_id="stay-1"),
        logged(server, model_name="mortality"),
    ):
        assert read(server, unknown).status_code == 404
        assert server.caller().get(f"/fhir/RiskAssessment/{unknown}/$verify").status_code == 404


def test_others_see_nothing(server):
    identity = present_risk(server)["id"]
    elsewhere, other_scope = server.caller(wards=["C1"], subject="another ward"), server.caller(scopes=["ward:read"])
    for path, method in ((identity, "get"), (f"{identity}/$verify", "get"), (f"{identity}/$verify", "post")):
        assert elsewhere.request(method, f"/fhir/RiskAssessment/{path}").status_code == 404
        assert other_scope.request(method, f"/fhir/RiskAssessment/{path}").status_code == 403
        assert server.caller(wards=["B4"]).request(method, f"/fhir/RiskAssessment/{path}").status_code == 200


def provenance(server, identity, caller=None):
    return (caller or server.caller()).get("/fhir/Provenance", params={"target": f"RiskAssessment/{identity}"})


def entities(resource):
    return {
        entity["what"]["identifier"]["system"]: entity["what"]["identifier"]["value"]
        for entity in resource["entity"]
        if "identifier" in entity["what"]
    }


def test_provenance_names_readings_code_and_the_time_of_the_journal_and_no_patient(server):
    at = pd.Timestamp.now("UTC")
    send(server, "4711", {"heart_rate": 70}, at=at)
    send(server, "4711", {"heart_rate": 71}, at=at + pd.Timedelta(milliseconds=1))
    risk = present_risk(server)
    (entry,) = provenance(server, risk["id"]).json()["entry"]
    found = entry["resource"]
    assert found == server.caller().get(f"/fhir/Provenance/{risk['id']}").json()
    assert found["target"] == [{"reference": f"RiskAssessment/{risk['id']}"}]
    references = [
        {"reference": reference} for reference in (one["what"].get("reference") for one in found["entity"]) if reference
    ]
    assert references == risk["basis"]
    _, _, digest = describe_code().partition(" ")
    assert entities(found)["urn:vigil:code"] == digest
    (displayed,) = [one["what"]["display"] for one in found["entity"] if "readings" in one["what"].get("display", "")]
    assert displayed.startswith(f"{len(SICK) + 2} readings of the 72 h before")
    assert abs(pd.Timestamp(found["recorded"]) - pd.Timestamp.now("UTC")) < pd.Timedelta(minutes=1)
    assert risk["subject"]["reference"] not in json.dumps(found)
    assert "4711" not in json.dumps(found).replace(risk["id"], "")


def test_provenance_of_a_risk_by_a_model_that_is_gone_says_so(server):
    identity = logged(server)
    found = server.caller().get(f"/fhir/Provenance/{identity}").json()
    assert entities(found).keys() == {"urn:vigil:journal-time"}
    assert "model deterioration version 99, which the registry does not hold any more" in [
        one["what"].get("display") for one in found["entity"]
    ]
    assert found["contained"][0]["version"][0]["value"] == "99"


def test_provenance_is_found_by_its_target_only_and_by_those_who_may_see_the_patient(server):
    identity = present_risk(server)["id"]
    base = server.components.directory.base_url
    absolute = server.caller().get("/fhir/Provenance", params={"target": f"{base}/RiskAssessment/{identity},Observation/x"})
    assert len(absolute.json()["entry"]) == 1
    assert server.caller().get("/fhir/Provenance").status_code == 400
    elsewhere = server.caller(wards=["C1"], subject="another ward")
    assert provenance(server, identity, elsewhere).json()["total"] == 0
    assert elsewhere.get(f"/fhir/Provenance/{identity}").status_code == 404
    assert provenance(server, identity, server.caller(scopes=["ward:read"])).status_code == 403


def test_readings_count_until_the_index_time_which_the_online_store_knows_to_the_second():
    exact, whole = pd.Timestamp("2026-01-31T08:00:05.25Z"), pd.Timestamp("2026-01-31T08:00:05Z")
    hours = 72 * 3_600_000_000
    assert inputs_interval(exact) == (microsecond(exact) - hours, microsecond(exact))
    assert inputs_interval(whole) == (microsecond(whole) + 999_999 - hours, microsecond(whole) + 999_999)
