"""A home that names no system of identifiers: a Patient without any identifier is known by the id that the answer names."""

import pandas as pd
import pytest

from tests.support.fhir_resources import observation
from tests.support.in_process_server import running_in_process


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running_in_process(tmp_path_factory.mktemp("unidentified")) as running:
        yield running


def reading(reference, value=80):
    at = (pd.Timestamp.now("UTC") - pd.Timedelta(minutes=1)).isoformat()
    return observation(value=value, id=None, subject={"reference": reference}, effectiveDateTime=at)


def readings_of(server, reference):
    subject = server.components.pseudonyms.subject_key(server.components.directory.find(reference))
    with server.components.journal.snapshot() as snapshot:
        return snapshot.observations(0, server.components.journal.latest() or 0, subject)["value"].tolist()


def test_patient_without_identifier_is_known_by_the_id_of_the_answer(server):
    client = server.caller()
    first, second = (client.post("/fhir/Patient", json={"resourceType": "Patient", "gender": "female"}) for _ in range(2))
    assert (first.status_code, second.status_code) == (201, 201)
    references = [f"Patient/{answer.json()['id']}" for answer in (first, second)]
    assert len(set(references)) == 2  # nothing says that they are the same
    assert client.post("/fhir/Observation", json=reading(references[0])).status_code == 201
    assert [readings_of(server, reference) for reference in references] == [[80.0], []]


def test_patient_without_identifier_is_known_by_the_id_that_a_client_chose(server):
    client, own = server.caller(), {"resourceType": "Patient", "id": "ehr-1", "gender": "female"}
    answers = [client.put("/fhir/Patient/ehr-1", json=own) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [201, 200]
    assert client.post("/fhir/Observation", json=reading("Patient/ehr-1")).status_code == 201
    assert readings_of(server, "Patient/ehr-1") == [80.0]


def test_transaction_of_a_patient_without_identifier(server):
    full_url = "urn:uuid:6f1c2f3e-0000-4000-8000-000000000009"
    entries = [
        {"resource": reading(full_url), "request": {"method": "POST", "url": "Observation"}},
        {
            "fullUrl": full_url,
            "resource": {"resourceType": "Patient"},
            "request": {"method": "POST", "url": "Patient"},
        },
    ]
    answer = server.caller().post("/fhir", json={"resourceType": "Bundle", "type": "transaction", "entry": entries})
    assert answer.status_code == 200, answer.text
    assert [entry["response"]["status"] for entry in answer.json()["entry"]] == ["201", "201"]
    own = answer.json()["entry"][1]["response"]["location"].partition("/_history")[0]
    assert readings_of(server, own) == [80.0]
