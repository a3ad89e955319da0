"""Records in the style of Synthea: every vital sign is in, what is not is explained, and loading twice changes nothing."""

import pytest

from tests.support.in_process_server import running_in_process
from tests.support.synthea import hospital_information, synthea_record
from vigil.features.kernel.plan import UNBOUNDED

RECORDS = [synthea_record(1, encounters=3), synthea_record(2, encounters=1)]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running_in_process(tmp_path_factory.mktemp("synthea")) as running:
        yield running


@pytest.fixture(scope="module", params=RECORDS, ids=["three encounters", "one encounter"])
def loaded(server, request):
    """A record, the answer to its transaction, and what the server knows after it."""
    answer = server.caller().post("/fhir", json=request.param.bundle)
    assert answer.status_code == 200, answer.text
    return request.param, answer.json(), state(server, request.param)


def state(server, record):
    """Return readings, registrations and quarantine of the patient of a record."""
    subject = server.components.pseudonyms.subject_key(record.identifier)
    with server.components.journal.snapshot() as snapshot:
        rows = snapshot.observations(0, UNBOUNDED, subject)
        registration = snapshot.registration(subject, UNBOUNDED)
        quarantined = snapshot.quarantined(0, UNBOUNDED)
    readings = sorted(zip(rows["signal"].astype(str), rows["value"], strict=True))
    return readings, registration, quarantined["reason"].tolist()


def test_every_vital_sign_is_in(loaded):
    record, _, (readings, _, quarantined) = loaded
    assert readings == record.readings
    assert quarantined == []


def test_patient_is_known_and_visits_to_a_clinic_are_no_stays(loaded):
    _, _, (_, registration, _) = loaded
    assert (registration.ward, registration.sex, round(registration.age)) == ("", 0.0, 69)
    assert registration.hospital_admitted_at is None


def test_what_is_of_no_use_is_explained(loaded):
    record, answer, _ = loaded
    assert len(answer["entry"]) == len(record.bundle["entry"])
    ignored = 0
    for position, (sent, entry) in enumerate(zip(record.bundle["entry"], answer["entry"], strict=True)):
        response = entry["response"]
        if response.get("location") is not None:
            assert response["status"] in ("200", "201")
            assert response["location"].startswith(sent["request"]["url"])
            assert position not in record.unused
            assert sent["request"]["url"] != "Encounter"
            continue
        (issue,) = response["outcome"]["issue"]
        is_visit = sent["request"]["url"] == "Encounter"
        assert (response["status"], issue["severity"]) == ("200", "information" if is_visit else "warning")
        if is_visit:
            assert issue["expression"] == ["Encounter.class"]
        elif position in record.unused:
            assert issue["code"] == "not-supported"
            assert issue["diagnostics"].startswith(sent["resource"]["resourceType"])
        else:
            assert issue["details"]["text"] == "unknown_signal"
            assert sent["resource"]["resourceType"] == "Observation"
            ignored += 1
    assert ignored == 6 * sum(entry["request"]["url"] == "Encounter" for entry in record.bundle["entry"])


def test_loading_twice_changes_nothing(server, loaded):
    record, first, before = loaded
    again = server.caller().post("/fhir", json=record.bundle).json()
    assert state(server, record) == before
    assert {entry["response"]["status"] for entry in again["entry"]} == {"200"}
    assert places(again) == places(first)


def places(answer):
    """Return where the resources of an answer are, without their versions."""
    return [entry["response"].get("location", "").partition("/_history")[0] for entry in answer["entry"]]


def test_strict_client_gets_the_transaction_refused(server):
    record = synthea_record(3, encounters=1)
    answer = server.caller().post("/fhir", json=record.bundle, headers={"Prefer": "handling=strict"})
    assert answer.status_code == 404
    assert answer.json()["issue"][0]["expression"][0] == f"Bundle.entry[{min(record.unused)}]"
    assert state(server, record)[:2] == ([], None)


def test_type_that_is_none_is_refused(server):
    record = synthea_record(4, encounters=1)
    record.bundle["entry"].append(
        {"resource": {"resourceType": "Obervation"}, "request": {"method": "POST", "url": "Obervation"}}
    )
    assert server.caller().post("/fhir", json=record.bundle).status_code == 404
    assert state(server, record)[:2] == ([], None)


def test_organisations_and_practitioners_are_answered_and_not_stored(server):
    answer = server.caller().post("/fhir", json=hospital_information())
    assert answer.status_code == 200
    assert {entry["response"]["outcome"]["issue"][0]["code"] for entry in answer.json()["entry"]} == {"not-supported"}


def test_entry_of_a_batch_that_cannot_be_written_is_refused(server):
    sent = hospital_information() | {"type": "batch"}
    assert {entry["response"]["status"] for entry in server.caller().post("/fhir", json=sent).json()["entry"]} == {"404"}


def test_stay_that_ended_before_the_present_one_changes_nothing(server):
    identifier = {"system": "urn:mrn", "value": "present"}

    def stay(status, ward, **period):
        location = [{"location": {"display": ward}}]
        content = {"status": status, "subject": {"identifier": identifier}, "location": location, "period": period}
        return server.caller().post("/fhir/Encounter", json={"resourceType": "Encounter", **content})

    server.caller().post("/fhir/Patient", json={"resourceType": "Patient", "identifier": [identifier]}).raise_for_status()
    stay("in-progress", "B4", start="2026-11-20T08:00:00Z").raise_for_status()
    assert stay("finished", "A1", start="2026-01-02T08:00:00Z", end="2026-01-05T08:00:00Z").status_code == 200
    subject = server.components.pseudonyms.subject_key("urn:mrn|present")
    with server.components.journal.snapshot() as snapshot:
        known = snapshot.registration(subject, UNBOUNDED)
    assert (known.ward, known.discharged) == ("B4", False)
    assert stay("finished", "B4", start="2026-11-20T08:00:00Z", end="2026-11-21T08:00:00Z").status_code == 200
    with server.components.journal.snapshot() as snapshot:
        assert snapshot.registration(subject, UNBOUNDED).discharged
