"""What goes out under /fhir, from a running server with a trained model: risks, how they came about, NEWS2 and alarms."""

import hashlib
import time
import uuid

import pandas as pd
import pytest

from tests.support.in_process_server import SICK, observations_body
from vigil.models.registry import Registry
from vigil.pipelines.home import DEFAULT_TASK

STEADY = {
    "heart_rate": 88,
    "respiratory_rate": 17,
    "spo2": 95,
    "systolic_bp": 118,
    "diastolic_bp": 72,
    "body_temperature": 37,
    "consciousness": 0,
    "on_oxygen": 0,
}


@pytest.fixture(scope="module")
def client(caller, served_home):
    settings = served_home / "fhir.toml"
    settings.write_text('patient_system = "urn:mrn"\n')
    yield caller()
    settings.unlink()


def admit(client, values):
    """Register a patient, send values, and return the RiskAssessment once it is of all of them."""
    name = f"fhir-{uuid.uuid4()}"
    body = {"patients": [{"patient_id": name, "ward": "B4", "age": 70, "sex": "male"}]}
    client.post("/v1/patients", json=body).raise_for_status()
    client.post("/v1/observations", json=observations_body(name, values)).raise_for_status()
    for _ in range(100):
        found = client.post("/fhir/RiskAssessment/_search", data={"patient.identifier": f"urn:mrn|{name}"}).json()
        for entry in found.get("entry", ()):
            if len(entry["resource"].get("basis", ())) == len(values):
                return entry["resource"]
        time.sleep(0.1)
    pytest.fail("no risk of what was sent")


def get(client, path, **parameters):
    answer = client.get(f"/fhir/{path}", params=parameters)
    assert answer.status_code == 200, answer.text
    return answer.json()


def alarm_of(client, patient):
    """Return the alarm of a patient once the rescorer has sounded it."""
    for _ in range(100):
        for entry in get(client, "DetectedIssue", patient=patient).get("entry", ()):
            return entry["resource"]
        time.sleep(0.1)
    pytest.fail("no alarm")


def test_risk_by_the_model_is_read_traced_and_verified(client, served_home):
    risk = admit(client, STEADY)
    assert "probabilityDecimal" in risk["prediction"][0], risk["note"]
    assert get(client, f"RiskAssessment/{risk['id']}")["prediction"] == risk["prediction"]
    readings = [get(client, one["reference"]) for one in risk["basis"]]
    assert {reading["subject"]["reference"] for reading in readings} == {risk["subject"]["reference"]}
    verified = get(client, f"RiskAssessment/{risk['id']}/$verify")
    assert {"name": "result", "valueBoolean": True} in verified["parameter"]
    (entry,) = get(client, "Provenance", target=f"RiskAssessment/{risk['id']}")["entry"]
    (digest,) = [
        each["what"]["identifier"]["value"]
        for each in entry["resource"]["entity"]
        if each["what"].get("identifier", {}).get("system") == "urn:vigil:model-artifact"
    ]
    registry = Registry(served_home)
    version = registry.version_with_alias(DEFAULT_TASK, "champion")
    assert digest == f"sha256:{registry.digest(DEFAULT_TASK, version)}"
    files = {hashlib.sha256(path.read_bytes()).hexdigest() for path in served_home.rglob("model.skops")}
    assert digest.removeprefix("sha256:") in files


def test_past_risk_by_the_model_is_what_was_given(client):
    before = admit(client, STEADY)
    name = get(client, before["subject"]["reference"])["identifier"][0]["value"]
    client.post("/v1/observations", json=observations_body(name, {"heart_rate": 120})).raise_for_status()
    for _ in range(100):
        after = get(client, "RiskAssessment", patient=before["subject"]["reference"])["entry"][0]["resource"]
        if after["basis"] != before["basis"]:
            break
        time.sleep(0.1)
    assert after["id"] != before["id"]
    past = get(client, f"RiskAssessment/{before['id']}")
    notes = [note["text"] for note in past.pop("note")]
    assert notes == [note["text"] for note in before.pop("note")]
    assert past == before


def test_news2_and_an_alarm_go_out_and_an_acknowledgement_comes_back(client):
    risk = admit(client, SICK)
    patient = risk["subject"]["reference"]
    (entry,) = get(client, "Observation", patient=patient, code="http://snomed.info/sct|1104051000000101")["entry"]
    assert entry["resource"]["valueQuantity"]["value"] >= 12
    assert get(client, f"Observation/{entry['resource']['id']}")["component"] == entry["resource"]["component"]
    issue = alarm_of(client, patient)
    assert get(client, issue["evidence"][0]["detail"][0]["reference"])["subject"]["reference"] == patient
    action = {"coding": [{"system": "urn:vigil:alarm-action", "code": "acknowledged"}]}
    answer = client.put(
        f"/fhir/DetectedIssue/{issue['id']}",
        json=issue | {"mitigation": [{"action": action}]},
        headers={"If-Match": f'W/"{issue["meta"]["versionId"]}"'},
    )
    assert answer.status_code == 200, answer.text
    assert answer.json()["mitigation"][0]["author"]["identifier"]["value"] == "tests"
    since = pd.Timestamp(answer.json()["meta"]["lastUpdated"]).isoformat()
    changed = get(client, "DetectedIssue", _lastUpdated=f"ge{since}", patient=patient)
    assert [entry["resource"] for entry in changed["entry"]] == [answer.json()]
