"""Names of patients: one patient in, one pseudonym out. What names one patient never comes to name another unseen."""

import pytest

from tests.integration.serving.fhir.test_inbound import bundle, counting, entry, patient, reading, registration, send, subject
from tests.support.in_process_server import running_in_process

SYSTEM = "urn:mrn"
_NUMBER = iter(range(10**6))


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    home = tmp_path_factory.mktemp("names")
    (home / "fhir.toml").write_text(f'patient_system = "{SYSTEM}"\n')
    with running_in_process(home) as running:
        yield running


@pytest.fixture
def name():
    return f"q{next(_NUMBER)}"


def insured(name, number):
    own = patient(name)
    return own | {"identifier": [*own["identifier"], {"system": "urn:insurance", "value": number}]}


def put(server, name, identity, **more):
    return send(server, "PUT", f"/Patient/{identity}", patient(name, id=identity, **more))


def of_id(identity, value=80):
    return reading("x", value, subject={"reference": f"Patient/{identity}"})


def is_conflict(answer, element):
    (issue,) = answer.json()["issue"]
    assert (answer.status_code, issue["code"], issue["expression"]) == (409, "conflict", [element])
    assert "send link (replaced-by or replaces), or merge first" in issue["diagnostics"]


def test_id_that_names_a_patient_does_not_come_to_name_another(server, name):
    assert put(server, name, f"id-{name}").status_code == 201
    assert send(server, "POST", "/Observation", of_id(f"id-{name}")).status_code == 201
    changed = put(server, f"{name}-new", f"id-{name}")
    is_conflict(changed, "Patient.id")
    assert name not in changed.text
    assert registration(server, f"{name}-new") is None
    assert send(server, "POST", "/Observation", of_id(f"id-{name}", 81)).status_code == 201
    assert [value for _, value in counting(server, name)] == [80.0, 81.0]


def test_id_that_this_server_gave_does_not_come_to_name_another(server, name):
    identity = send(server, "POST", "/Patient", patient(name)).json()["id"]
    is_conflict(put(server, f"{name}-new", identity), "Patient.id")
    assert put(server, name, identity, gender="male").status_code == 200


def test_identifier_that_names_a_patient_does_not_come_to_name_another(server, name):
    assert send(server, "POST", "/Patient", insured(name, f"i-{name}")).status_code == 201
    is_conflict(send(server, "POST", "/Patient", insured(f"{name}-new", f"i-{name}")), "Patient.identifier")
    assert registration(server, f"{name}-new") is None


def test_patient_with_two_numbers_of_known_patients_is_a_conflict_until_they_are_merged(server, name):
    for own in (name, f"{name}-b"):
        send(server, "POST", "/Observation", reading(own, 70))
    both = patient(name) | {"identifier": [subject(own)["identifier"] for own in (name, f"{name}-b")]}
    is_conflict(send(server, "POST", "/Patient", both), "Patient.identifier")
    body = {"patient_id": f"{name}-b", "into": name}
    server.caller().post("/v1/patients/merge", json=body).raise_for_status()
    assert send(server, "POST", "/Patient", both).status_code == 201


def test_unknown_number_may_stand_beside_the_patients_own(server, name):
    both = patient(name) | {"identifier": [subject(own)["identifier"] for own in (name, f"{name}-unknown")]}
    assert send(server, "POST", "/Patient", both).status_code == 201


def test_transaction_in_which_an_identifier_names_two_patients_stores_nothing(server, name):
    sent = bundle(
        "transaction",
        entry("POST", "Patient", insured(name, f"i-{name}")),
        entry("POST", "Patient", insured(f"{name}-b", f"i-{name}")),
    )
    answer = send(server, "POST", "", sent)
    assert answer.status_code == 409
    assert answer.json()["issue"][0]["expression"] == ["Bundle.entry[1]", "Patient.identifier"]
    assert registration(server, name) is None


def test_changed_number_comes_with_a_link_and_all_readings_count_for_one(server, name):
    put(server, name, f"id-{name}")
    send(server, "POST", "/Observation", of_id(f"id-{name}", 80))
    link = [{"type": "replaces", "other": subject(name)}]
    assert put(server, f"{name}-new", f"id-{name}", link=link).status_code == 201
    send(server, "POST", "/Observation", of_id(f"id-{name}", 81))
    assert [value for _, value in counting(server, f"{name}-new")] == [80.0, 81.0]


def test_link_that_is_left_out_later_leaves_the_merge(server, name):
    for own in (name, f"{name}-old"):
        put(server, own, f"id-{own}")
    send(server, "POST", "/Observation", of_id(f"id-{name}-old", 80))
    put(server, f"{name}-old", f"id-{name}-old", link=[{"type": "replaced-by", "other": subject(name)}])
    assert put(server, f"{name}-old", f"id-{name}-old").status_code == 200
    assert [value for _, value in counting(server, name)] == [80.0]
    server.caller().post("/v1/patients/unmerge", json={"patient_id": f"{name}-old"}).raise_for_status()
    assert counting(server, name) == []


def test_number_may_change_after_a_merge(server, name):
    for own in (name, f"{name}-new"):
        put(server, own, f"id-{own}")
        send(server, "POST", "/Observation", of_id(f"id-{own}"))
    body = {"patient_id": name, "into": f"{name}-new"}
    server.caller().post("/v1/patients/merge", json=body).raise_for_status()
    assert put(server, f"{name}-new", f"id-{name}").status_code == 200


def test_conditional_create_that_finds_a_patient_changes_no_names(server, name):
    assert send(server, "POST", "/Patient", insured(name, f"i-{name}")).status_code == 201
    sent, condition = insured(f"{name}-b", f"i-{name}"), f"identifier=urn:insurance|i-{name}"
    assert send(server, "POST", "/Patient", sent, If_None_Exist=condition).status_code == 200
    assert registration(server, f"{name}-b") is None


def test_without_a_system_the_identifier_that_is_known_tells_the_patient(tmp_path):
    with running_in_process(tmp_path) as server:
        first, second = ({"system": "urn:a", "value": "1"}, {"system": "urn:b", "value": "2"})
        own = {"resourceType": "Patient", "id": "ehr-1"}
        for identifiers in ([first], [second, first], [second]):
            answer = server.caller().put("/fhir/Patient/ehr-1", json=own | {"identifier": identifiers})
            assert answer.status_code in (200, 201)
        for number, reference in enumerate(({"identifier": first}, {"identifier": second}, {"reference": "Patient/ehr-1"})):
            assert send(server, "POST", "/Observation", reading("x", 80 + number, subject=reference)).status_code == 201
        assert len(counting(server, "urn:a|1")) == 3
        other = {"resourceType": "Patient", "identifier": [{"system": "urn:a", "value": "9"}]}
        assert server.caller().post("/fhir/Patient", json=other).status_code == 201
        twice = own | {"identifier": other["identifier"]}
        assert server.caller().put("/fhir/Patient/ehr-1", json=twice).status_code == 409


@pytest.mark.parametrize("with_full_url", [True, False])
def test_relative_reference_is_to_the_patient_of_the_same_bundle(server, name, with_full_url):
    base = f"https://{name}.example/fhir"
    own = {"fullUrl": f"{base}/Observation/5"} if with_full_url else {}
    sent = bundle(
        "transaction",
        entry("POST", "Observation", of_id(f"77-{name}")) | own,
        entry("POST", "Patient", patient(name)) | {"fullUrl": f"{base}/Patient/77-{name}"},
    )
    answer = send(server, "POST", "", sent)
    assert answer.status_code == 200, answer.text
    assert [value for _, value in counting(server, name)] == [80.0]


def test_relative_reference_of_another_server_is_not_to_a_patient_of_this_server_with_the_same_id(server, name):
    put(server, name, f"77-{name}")
    pairs = [(f"https://{number}.example/fhir", f"{name}-{number}") for number in range(2)]
    entries = []
    for base, own in pairs:
        entries.append(entry("POST", "Patient", patient(own)) | {"fullUrl": f"{base}/Patient/77-{name}"})
        entries.append(entry("POST", "Observation", of_id(f"77-{name}")) | {"fullUrl": f"{base}/Observation/5"})
    answer = send(server, "POST", "", bundle("transaction", *entries))
    assert answer.status_code == 200, answer.text
    assert [len(counting(server, own)) for own in (name, f"{name}-0", f"{name}-1")] == [0, 1, 1]


def test_relative_reference_that_may_be_to_two_patients_of_a_bundle_is_refused(server, name):
    patients = [
        entry("POST", "Patient", patient(f"{name}-{number}")) | {"fullUrl": f"https://{number}.example/fhir/Patient/88-{name}"}
        for number in range(2)
    ]
    answer = send(server, "POST", "", bundle("transaction", *patients, entry("POST", "Observation", of_id(f"88-{name}"))))
    assert (answer.status_code, answer.json()["issue"][0]["details"]["text"]) == (422, "missing_subject")
