"""What FHIR clients send: single resources, batches and transactions, conditions and versions, patients and wards."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pandas as pd
import pytest

from tests.support.fhir_resources import component, concept, observation, panel
from tests.support.in_process_server import running_in_process

SYSTEM = "urn:mrn"
FHIR = {"Content-Type": "application/fhir+json"}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    home = tmp_path_factory.mktemp("fhir")
    (home / "fhir.toml").write_text(f'patient_system = "{SYSTEM}"\nbase_urls = ["https://ehr.example/fhir"]\n')
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("VIGIL_URL", "http://testserver")
        with running_in_process(home) as running:
            yield running


_NUMBER = iter(range(10**6))


@pytest.fixture
def name():
    """Return the identifier of a new patient."""
    return f"p{next(_NUMBER)}"


def subject(name):
    return {"identifier": {"system": SYSTEM, "value": name}}


def now(minutes=0):
    return (pd.Timestamp.now("UTC") - pd.Timedelta(minutes=minutes)).isoformat()


def reading(name, value=80, minutes=1, **more):
    """Return a heart rate of now, without an id."""
    return observation(value=value, **{"id": None, "subject": subject(name), "effectiveDateTime": now(minutes), **more})


def identified(value):
    return [{"system": "urn:x", "value": value}]


def send(server, method, path, resource=None, caller=None, **headers):
    client = server.caller() if caller is None else caller
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.request(method, f"/fhir{path}", json=resource, headers=FHIR | named)


def bundle(kind, *entries):
    return {"resourceType": "Bundle", "type": kind, "entry": list(entries)}


def entry(method, url, resource=None, **request):
    own = {"request": {"method": method, "url": url, **request}}
    return own if resource is None else {"resource": resource, **own}


def counting(server, name):
    """Return ``signal, value`` of the patient's readings that count now."""
    subject_key = server.components.pseudonyms.subject_key(name)
    journal = server.components.journal
    with journal.snapshot() as snapshot:
        rows = snapshot.observations(0, journal.latest() or 0, subject_key)
    return sorted(zip(rows["signal"].astype(str), rows["value"], strict=True))


def quarantined(server, name):
    journal = server.components.journal
    with journal.snapshot() as snapshot:
        rows = snapshot.quarantined(0, journal.latest() or 0)
    return rows.loc[rows["subject_id"] == server.components.pseudonyms.subject_key(name), "reason"].tolist()


def test_observation_is_created_and_counts(server, name):
    answer = send(server, "POST", "/Observation", reading(name))
    assert answer.status_code == 201
    assert answer.headers["location"].startswith("/fhir/Observation/")
    assert answer.headers["etag"] == 'W/"1"'
    assert name not in answer.headers["location"]
    assert counting(server, name) == [("heart_rate", 80.0)]


def test_panel_gives_both_pressures(server, name):
    own = panel(component("8480-6", 120, "mm[Hg]"), component("8462-4", 80, "mm[Hg]"), id=None, subject=subject(name))
    assert send(server, "POST", "/Observation", own | {"effectiveDateTime": now(1)}).status_code == 201
    assert counting(server, name) == [("diastolic_bp", 80.0), ("systolic_bp", 120.0)]


def test_reading_that_cannot_be_used_is_quarantined_with_reason_and_element_and_without_its_value(server, name):
    answer = send(server, "POST", "/Observation", reading(name, 31337.25))
    assert answer.status_code == 422
    (issue,) = answer.json()["issue"]
    assert issue["details"]["text"] == "implausible"
    assert issue["expression"] == ["Observation.value"]
    assert "31337" not in answer.text
    assert name not in answer.text
    assert quarantined(server, name) == ["implausible"]


def test_of_a_panel_with_one_bad_component_the_other_counts(server, name):
    own = panel(component("8480-6", 120, "mm[Hg]"), component("8462-4", 8000, "mm[Hg]"), id=None, subject=subject(name))
    answer = send(server, "POST", "/Observation", own | {"effectiveDateTime": now(1)})
    assert answer.status_code == 201
    (issue,) = answer.json()["issue"]
    assert (issue["severity"], issue["expression"]) == ("warning", ["Observation.component[1].value"])
    assert counting(server, name) == [("systolic_bp", 120.0)]


def test_absent_value_is_taken_and_no_reading(server, name):
    own = reading(name, None, dataAbsentReason=concept(("http://terminology.hl7.org/CodeSystem/data-absent-reason", "error")))
    assert send(server, "POST", "/Observation", own).status_code == 201
    assert counting(server, name) == []


def test_patient_that_nobody_knows_is_refused(server):
    answer = send(server, "POST", "/Observation", reading("x", subject={"reference": "Patient/404"}))
    assert answer.status_code == 422
    assert answer.json()["issue"][0]["details"]["text"] == "missing_subject"


def test_create_again_with_the_same_identifier_changes_nothing(server, name):
    own = reading(name, identifier=identified(name))
    first, second = (send(server, "POST", "/Observation", own) for _ in range(2))
    assert (first.status_code, second.status_code) == (201, 200)
    assert first.headers["location"] == second.headers["location"]
    assert counting(server, name) == [("heart_rate", 80.0)]


def test_of_parallel_conditional_creates_one_creates(server, name):
    own = reading(name, identifier=identified(f"c{name}"))
    condition = {"If_None_Exist": f"identifier=urn:x|c{name}"}
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: send(server, "POST", "/Observation", own, **condition), range(32)))
    assert sorted(answer.status_code for answer in answers) == [*[200] * 31, 201]
    assert len({answer.headers["location"] for answer in answers}) == 1
    assert counting(server, name) == [("heart_rate", 80.0)]


def identity_of(answer):
    return answer.headers["location"].split("/")[3]


def test_update_supersedes_and_a_stale_version_changes_nothing(server, name):
    own = reading(name)
    identity = identity_of(send(server, "POST", "/Observation", own))
    changed = own | {"id": identity, "status": "corrected", "valueQuantity": own["valueQuantity"] | {"value": 88}}
    answer = send(server, "PUT", f"/Observation/{identity}", changed, If_Match='W/"1"')
    assert (answer.status_code, answer.headers["etag"]) == (200, 'W/"2"')
    assert counting(server, name) == [("heart_rate", 88.0)]
    stale = changed | {"valueQuantity": own["valueQuantity"] | {"value": 99}}
    assert send(server, "PUT", f"/Observation/{identity}", stale, If_Match='W/"1"').status_code == 412
    assert counting(server, name) == [("heart_rate", 88.0)]


def test_updates_in_parallel_that_name_no_version_are_all_taken(server, name):
    own = reading(name, id=f"own-{name}")
    send(server, "PUT", f"/Observation/own-{name}", own)
    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(lambda _: send(server, "PUT", f"/Observation/own-{name}", own), range(12)))
    assert {answer.status_code for answer in answers} == {200}
    assert counting(server, name) == [("heart_rate", 80.0)]


def test_update_that_is_overtaken_comes_after_the_other_unless_it_names_a_version(server, name, monkeypatch):
    own = reading(name, id=f"own-{name}")
    send(server, "PUT", f"/Observation/own-{name}", own)
    observations = server.components.fhir._writer._observations
    faster = iter([False])
    renew = observations.renew
    monkeypatch.setattr(observations, "renew", lambda row: next(faster, None) is None and renew(row))
    changed = own | {"status": "corrected", "valueQuantity": own["valueQuantity"] | {"value": 88}}
    assert send(server, "PUT", f"/Observation/own-{name}", changed).status_code == 200
    assert counting(server, name) == [("heart_rate", 88.0)]
    faster = iter([False])
    changed["valueQuantity"]["value"] = 89
    assert send(server, "PUT", f"/Observation/own-{name}", changed, If_Match='W/"2"').status_code == 412


def test_final_observation_that_is_put_again_supersedes_too(server, name):
    own = reading(name)
    identity = identity_of(send(server, "POST", "/Observation", own))
    send(
        server, "PUT", f"/Observation/{identity}", own | {"id": identity, "valueQuantity": own["valueQuantity"] | {"value": 91}}
    )
    assert counting(server, name) == [("heart_rate", 91.0)]


@pytest.mark.parametrize("headers", [{}, {"If_Match": 'W/"1"'}])
def test_resource_that_a_client_got_here_and_sends_back_changed_supersedes(server, name, headers):
    got = send(server, "POST", "/Observation", reading(name)).json()
    got["valueQuantity"]["value"] = 87
    again = send(server, "PUT", f"/Observation/{got['id']}", got, **headers).json()
    assert again["meta"]["versionId"] == "2"
    assert counting(server, name) == [("heart_rate", 87.0)]
    again["valueQuantity"]["value"] = 86
    assert send(server, "PUT", f"/Observation/{got['id']}", again).json()["meta"]["versionId"] == "3"
    assert counting(server, name) == [("heart_rate", 86.0)]


def test_old_version_of_a_sender_that_numbers_them_changes_nothing(server, name):
    own = reading(name, id=f"bus-{name}")

    def version(number, value):
        return own | {"meta": {"versionId": str(number)}, "valueQuantity": own["valueQuantity"] | {"value": value}}

    for number, value in ((1, 70), (3, 73), (2, 72)):
        assert send(server, "PUT", f"/Observation/bus-{name}", version(number, value)).status_code in (200, 201)
    assert counting(server, name) == [("heart_rate", 73.0)]


def test_deleted_observation_no_longer_counts_and_counts_again_when_it_is_put_again(server, name):
    own = reading(name)
    identity = identity_of(send(server, "POST", "/Observation", own))
    assert send(server, "DELETE", f"/Observation/{identity}").status_code == 204
    assert counting(server, name) == []
    assert send(server, "DELETE", f"/Observation/{identity}").status_code == 204
    assert send(server, "PUT", f"/Observation/{identity}", own | {"id": identity}).status_code == 200
    assert counting(server, name) == [("heart_rate", 80.0)]


def test_deletion_that_was_cut_off_is_finished_by_the_next(server, name):
    identity = identity_of(send(server, "POST", "/Observation", reading(name)))
    observations = server.components.fhir._writer._observations
    row = observations.find([identity])[identity]
    assert observations.renew(replace(row, version=2, deleted=True))  # and then the server died
    assert counting(server, name) == [("heart_rate", 80.0)]
    assert send(server, "DELETE", f"/Observation/{identity}").status_code == 204
    assert counting(server, name) == []


def test_entered_in_error_retracts(server, name):
    own = reading(name)
    identity = identity_of(send(server, "POST", "/Observation", own))
    send(server, "PUT", f"/Observation/{identity}", own | {"id": identity, "status": "entered-in-error"})
    assert counting(server, name) == []


@pytest.mark.parametrize(
    "condition", ["identifier=a", "identifier=|", "name=x", "&".join(["identifier=urn:x|1"] * 30), "x" * 3_000]
)
def test_condition_that_cannot_be_read_is_refused(server, name, condition):
    assert send(server, "PUT", f"/Observation?{condition}", reading(name)).status_code == 400
    assert send(server, "POST", "/Observation", reading(name), If_None_Exist=condition).status_code == 400
    assert counting(server, name) == []


def test_unknown_observation_cannot_be_deleted(server):
    assert send(server, "DELETE", "/Observation/unknown").status_code == 404


def test_put_creates_under_the_clients_own_id(server, name):
    answer = send(server, "PUT", f"/Observation/own-{name}", reading(name, id=f"own-{name}"))
    assert (answer.status_code, identity_of(answer)) == (201, f"own-{name}")


def test_batch_answers_each_entry(server, name):
    sent = bundle(
        "batch",
        entry("POST", "Observation", reading(name, 70, 3)),
        entry("POST", "Observation", reading(name, 31337.25, 2)),
        entry("GET", "Observation/1"),
        entry("POST", "Observation", reading("x", subject={"reference": "Patient/404"})),
        entry("POST", "Medication", {"resourceType": "Medication"}),
        entry("POST", "Observation", reading(name, 72, 1)),
    )
    answer = send(server, "POST", "", sent)
    assert answer.status_code == 200
    content = answer.json()
    assert content["type"] == "batch-response"
    statuses = [each["response"]["status"] for each in content["entry"]]
    assert statuses == ["201", "422", "404", "422", "404", "201"]
    assert counting(server, name) == [("heart_rate", 70.0), ("heart_rate", 72.0)]


@pytest.mark.parametrize(
    "bad",
    [
        lambda name: entry("POST", "Observation", reading(name, 31337.25, 2)),
        lambda name: entry("POST", "Observation", reading(name, 70, 2, effectiveDateTime="2026-01-31")),
        lambda name: entry("POST", "Observation", reading(name, subject={"reference": "urn:uuid:nobody"})),
        lambda name: entry("PUT", "Observation/nothing", reading(name, id="nothing"), ifMatch='W/"3"'),
        lambda name: entry("PATCH", "Observation/1", reading(name)),
    ],
)
def test_transaction_with_a_fault_stores_nothing_and_names_the_entry(server, name, bad):
    sent = bundle("transaction", entry("POST", "Observation", reading(name)), bad(name))
    answer = send(server, "POST", "", sent)
    assert 400 <= answer.status_code < 500
    (issue,) = answer.json()["issue"]
    assert issue["expression"][0] == "Bundle.entry[1]"
    assert counting(server, name) == []
    assert quarantined(server, name) == []


def patient(name, **more):
    return {"resourceType": "Patient", "identifier": [{"system": SYSTEM, "value": name}], **more}


def test_transaction_registers_the_patient_that_its_observations_refer_to(server, name):
    full_url = "urn:uuid:6f1c2f3e-0000-4000-8000-000000000001"
    sent = bundle(
        "transaction",
        entry("POST", "Observation", reading("x", subject={"reference": full_url})),
        entry("PUT", f"Patient?identifier={SYSTEM}|{name}", patient(name, gender="female", birthDate="1950-05-01"))
        | {"fullUrl": full_url},
        entry("POST", "Encounter", encounter(full_url, "B4")),
    )
    answer = send(server, "POST", "", sent)
    assert answer.status_code == 200, answer.text
    assert [each["response"]["status"] for each in answer.json()["entry"]] == ["201", "201", "200"]
    assert counting(server, name) == [("heart_rate", 80.0)]
    known = registration(server, name)
    assert (known.ward, known.sex, round(known.age)) == ("B4", 0.0, 77)


def test_transaction_takes_patients_with_links_unless_they_merge(server, name):
    def sent(kind):
        return bundle("transaction", entry("POST", "Patient", patient(name, link=[{"type": kind, "other": subject("other")}])))

    assert send(server, "POST", "", sent("replaces")).status_code == 422
    assert registration(server, name) is None
    assert send(server, "POST", "", sent("seealso")).status_code == 200
    assert registration(server, name) is not None


def registration(server, name):
    with server.components.journal.snapshot() as snapshot:
        return snapshot.registration(server.components.pseudonyms.subject_key(name), 2**62)


def encounter(reference, ward, status="in-progress", **more):
    return {
        "resourceType": "Encounter",
        "status": status,
        "subject": {"reference": reference} if isinstance(reference, str) else reference,
        "location": [{"location": {"display": ward}}],
        **more,
    }


def test_encounter_moves_and_discharges_and_keeps_what_the_patient_said(server, name):
    send(server, "POST", "/Patient", patient(name, gender="male", birthDate="1980"))
    send(server, "POST", "/Encounter", encounter(subject(name), "B4", period={"start": "2026-11-01T08:00:00Z"}))
    assert (registration(server, name).ward, registration(server, name).sex) == ("B4", 1.0)
    send(server, "POST", "/Encounter", encounter(subject(name), "C1"))
    send(server, "POST", "/Patient", patient(name, gender="male", birthDate="1980"))
    assert (registration(server, name).ward, registration(server, name).discharged) == ("C1", False)
    assert registration(server, name).hospital_admitted_at is not None
    ended = encounter(subject(name), "C1", "finished", period={"start": "2026-11-01T08:00:00Z"})
    send(server, "POST", "/Encounter", ended)
    assert registration(server, name).discharged


@pytest.mark.parametrize("status", [[], {}, None, 1, "busy"])
def test_encounter_whose_status_is_none_is_refused(server, name, status):
    answer = send(server, "POST", "/Encounter", encounter(subject(name), "B4", status))
    assert (answer.status_code, answer.json()["issue"][0]["expression"]) == (422, ["Encounter.status"])


def test_patient_is_known_by_the_clients_id_afterwards(server, name):
    assert send(server, "PUT", f"/Patient/ehr-{name}", patient(name, id=f"ehr-{name}")).status_code == 201
    for reference in (f"Patient/ehr-{name}", f"https://ehr.example/fhir/Patient/ehr-{name}/_history/3"):
        assert send(server, "POST", "/Observation", reading("x", subject={"reference": reference})).status_code == 201
    assert len(counting(server, name)) == 2


def test_conditional_create_of_a_known_patient_changes_nothing(server, name):
    send(server, "POST", "/Patient", patient(name, gender="female"))
    answer = send(server, "POST", "/Patient", patient(name, gender="male"), If_None_Exist=f"identifier={SYSTEM}|{name}")
    assert answer.status_code == 200
    assert answer.json()["issue"][0]["diagnostics"] == "it was here already, and nothing was changed"
    assert registration(server, name).sex == 0.0


def test_patient_and_encounter_have_the_version_of_the_record_and_an_old_one_changes_nothing(server, name):
    created = send(server, "POST", "/Patient", patient(name, gender="female"))
    path, first = f"/Patient/{created.json()['id']}", created.headers["etag"]
    read = send(server, "GET", path)
    assert (read.headers["etag"], read.json()["meta"]) == (first, created.json()["meta"])
    moved = send(server, "POST", "/Encounter", encounter(subject(name), "B4"))
    assert moved.headers["etag"] != first
    own = patient(name, id=created.json()["id"], gender="male")
    assert send(server, "PUT", path, own, If_Match=first).status_code == 412
    refused = bundle("transaction", entry("PUT", path.strip("/"), own, ifMatch=first))
    assert send(server, "POST", "", refused).status_code == 412
    assert registration(server, name).sex == 0.0
    assert send(server, "PUT", path, own, If_Match=moved.headers["etag"]).status_code == 200
    assert registration(server, name).sex == 1.0
    assert send(server, "PUT", "/Patient/unknown", patient(f"{name}-x", id="unknown"), If_Match='W/"1"').status_code == 412


def test_conditional_create_does_not_tell_of_patients_of_other_wards(server, name):
    send(server, "POST", "/Patient", patient(name))
    send(server, "POST", "/Encounter", encounter(subject(name), "B4"))
    other = server.caller(wards=["C1"], subject=f"conditional caller of {name}")
    condition = {"If_None_Exist": f"identifier={SYSTEM}|{name}"}
    assert send(server, "POST", "/Patient", patient(name), other, **condition).status_code == 403


def test_condition_has_to_be_of_the_patient_that_is_sent(server, name):
    for method, path, condition in (
        ("PUT", f"/Patient?identifier={SYSTEM}|{name}-other", {}),
        ("POST", "/Patient", {"If_None_Exist": f"identifier={SYSTEM}|{name}-other"}),
    ):
        answer = send(server, method, path, patient(name, gender="male"), **condition)
        assert (answer.status_code, answer.json()["issue"][0]["expression"]) == (422, ["Patient.identifier"])
    assert registration(server, name) is None


def test_condition_that_finds_another_patient_is_a_conflict(server, name):
    second = {"system": "urn:insurance", "value": name}
    send(server, "POST", "/Patient", patient(f"{name}-a") | {"identifier": [subject(f"{name}-a")["identifier"], second]})
    sent = patient(f"{name}-b") | {"identifier": [subject(f"{name}-b")["identifier"], second]}
    assert send(server, "PUT", f"/Patient?identifier=urn:insurance|{name}", sent).status_code == 409
    assert registration(server, f"{name}-b") is None


def test_answer_is_the_resource_with_its_id_unless_something_else_is_preferred(server, name):
    own = reading(name)
    created = send(server, "POST", "/Observation", own)
    content = created.json()
    assert (content["id"], content["meta"]["versionId"]) == (identity_of(created), "1")
    assert content == own | {"id": content["id"], "meta": content["meta"]}
    minimal = send(server, "POST", "/Observation", reading(name, 81), Prefer="return=minimal")
    assert (minimal.status_code, minimal.content) == (201, b"")
    assert minimal.headers["location"] != created.headers["location"]
    outcome = send(server, "POST", "/Observation", reading(name, 82), Prefer="respond-async, return=OperationOutcome")
    assert outcome.json()["issue"][0]["diagnostics"] == "stored"
    refused = send(server, "POST", "/Observation", reading(name, 31337.25), Prefer="return=representation")
    assert (refused.status_code, refused.json()["resourceType"]) == (422, "OperationOutcome")


def test_what_cannot_be_used_is_said_unless_the_client_insists_on_the_resource(server, name):
    own = panel(component("8480-6", 120, "mm[Hg]"), component("8462-4", 8000, "mm[Hg]"), id=None, subject=subject(name))
    said = send(server, "POST", "/Observation", own | {"effectiveDateTime": now(1)})
    assert said.json()["resourceType"] == "OperationOutcome"
    insisted = send(server, "POST", "/Observation", own | {"effectiveDateTime": now(2)}, Prefer="return=representation")
    assert (insisted.status_code, insisted.json()["resourceType"]) == (201, "Observation")


def test_entries_hold_the_resources_if_that_is_preferred(server, name):
    sent = bundle("batch", entry("POST", "Observation", reading(name)), entry("POST", "Observation", reading(name, 31337.25)))
    answer = send(server, "POST", "", sent, Prefer="return=representation").json()
    assert [each.get("resource", {}).get("resourceType") for each in answer["entry"]] == ["Observation", None]
    assert "resource" not in send(server, "POST", "", sent).json()["entry"][0]


def test_replaced_patient_counts_for_the_other(server, name):
    send(server, "POST", "/Observation", reading(f"{name}-old", 61))
    send(server, "POST", "/Observation", reading(name, 62))
    linked = patient(f"{name}-old", link=[{"type": "replaced-by", "other": subject(name)}])
    assert send(server, "POST", "/Patient", linked).status_code in (200, 201)
    assert [value for _, value in counting(server, name)] == [61.0, 62.0]


def test_caller_of_a_ward_acts_for_its_patients_only(server, name):
    send(server, "POST", "/Patient", patient(name))
    send(server, "POST", "/Encounter", encounter(subject(name), "B4"))
    send(server, "POST", "/Observation", reading(name))
    other = server.caller(wards=["C1"], subject=f"caller of {name}")
    assert send(server, "POST", "/Observation", reading(name, 90), other).status_code == 403
    assert send(server, "POST", "/Encounter", encounter(subject(name), "C1"), other).status_code == 403
    send(server, "POST", "/Encounter", encounter(subject(f"{name}-own"), "C1"), other)
    batch = bundle("batch", *(entry("POST", "Observation", reading(own, 90)) for own in (name, f"{name}-own")))
    first, second = (each["response"]["status"] for each in send(server, "POST", "", batch, other).json()["entry"])
    assert (first, second) == ("403", "201")
    assert counting(server, name) == [("heart_rate", 80.0)]


def test_observation_of_another_ward_is_neither_changed_nor_deleted(server, name):
    send(server, "POST", "/Encounter", encounter(subject(name), "B4"))
    own = reading(name)
    identity = identity_of(send(server, "POST", "/Observation", own))
    other = server.caller(wards=["C1"], subject=f"another caller of {name}")
    send(server, "POST", "/Encounter", encounter(subject(f"{name}-own"), "C1"), other)
    taken = reading(f"{name}-own", 99, id=identity)
    assert send(server, "DELETE", f"/Observation/{identity}", caller=other).status_code == 403
    assert send(server, "PUT", f"/Observation/{identity}", taken, other).status_code == 409
    assert counting(server, name) == [("heart_rate", 80.0)]
    assert counting(server, f"{name}-own") == []


def test_transaction_about_a_patient_of_another_ward_is_refused_whole(server, name):
    send(server, "POST", "/Encounter", encounter(subject(name), "B4"))
    other = server.caller(wards=["C1"], subject=f"caller of another ward than {name}")
    answer = send(server, "POST", "", bundle("transaction", entry("POST", "Observation", reading(name))), other)
    assert (answer.status_code, answer.json()["issue"][0]["code"]) == (403, "forbidden")
    assert counting(server, name) == []


@pytest.mark.parametrize(
    ("path", "scope"),
    [("/Observation", "system/Observation.u"), ("/Patient", "system/Observation.cud"), ("/Encounter", "system/Patient.cu")],
)
def test_token_without_the_interaction_is_refused(server, path, scope):
    kind = path.strip("/")
    answer = send(server, "POST", path, {"resourceType": kind}, server.caller(scopes=[scope]))
    assert answer.status_code == 403
    assert answer.json()["issue"][0]["code"] == "forbidden"


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"{", 400),
        (b'{"resourceType": "Observation", "resourceType": "Observation"}', 400),
        (b'{"resourceType": "Observation", "x": NaN}', 400),
        (b"[" * 100_000, 400),
        *((b'{"resourceType": "Observation", "extension": ' + b"[" * n + b"]" * n + b"}", 400) for n in (200, 955, 970)),
        (b'{"resourceType": "Patient"}', 400),
        (b"[]", 400),
    ],
)
def test_body_that_is_no_such_resource_is_refused(server, content, status):
    answer = server.caller().post("/fhir/Observation", content=content, headers=FHIR)
    assert answer.status_code == status
    assert answer.json()["resourceType"] == "OperationOutcome"


def test_xml_is_refused(server):
    answer = server.caller().post(
        "/fhir/Observation", content=b"<Observation/>", headers={"Content-Type": "application/fhir+xml"}
    )
    assert answer.status_code == 415
