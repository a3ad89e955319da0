"""Which Encounters say where a patient is now, and which end monitoring: the one that opened the present stay, and no other."""

import re

import pytest

from tests.integration.serving.fhir.test_inbound import bundle, entry, patient, registration, send, subject
from tests.support.in_process_server import running_in_process
from vigil.pipelines.sources.fhir.settings import FhirSettings
from vigil.serving.fhir.encounters import is_stay

SYSTEM = "urn:mrn"
ADMITTED, LATER = "2026-11-20T08:00:00Z", "2026-11-25T08:00:00Z"
_NUMBER = iter(range(10**6))


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    home = tmp_path_factory.mktemp("encounters")
    (home / "fhir.toml").write_text(f'patient_system = "{SYSTEM}"\nbase_urls = ["https://ehr.example/fhir"]\n')
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("VIGIL_URL", "http://testserver")
        with running_in_process(home) as running:
            yield running


@pytest.fixture
def name(server):
    """Return the identifier of a patient who lies in B4: the Encounter ``stay-NAME`` goes on."""
    name = f"p{next(_NUMBER)}"
    send(server, "POST", "/Patient", patient(name))
    assert put(server, name, f"stay-{name}", "in-progress", "B4", ADMITTED).status_code == 200
    assert where(server, name) == ("B4", False, ADMITTED)
    return name


def encounter(name, status, ward=None, start=None, code="IMP", **more):
    resource = {"resourceType": "Encounter", "status": status, "class": {"code": code}, "subject": subject(name)}
    if ward is not None:
        resource["location"] = [{"location": {"display": ward}}]
    if start is not None:
        resource["period"] = {"start": start}
    return resource | more


def put(server, name, identity, *args, caller=None, **more):
    return send(server, "PUT", f"/Encounter/{identity}", encounter(name, *args, id=identity, **more), caller)


def post(server, name, *args, **more):
    return send(server, "POST", "/Encounter", encounter(name, *args, **more))


def where(server, name):
    """Return ward, whether monitoring has ended, and the admission."""
    known = registration(server, name)
    admitted = server.caller().get(f"/fhir/Encounter/{stay_id(server, name)}").json().get("period", {}).get("start")
    return known.ward, known.discharged, None if admitted is None else admitted.replace(".000Z", "Z")


def stay_id(server, name):
    return server.components.directory.ids.of_subject(server.components.pseudonyms.subject_key(name), "encounter")


def says_that_nothing_changed(answer, element):
    """Check an answer: it is no fault, says why nothing was changed, and names no place where the Encounter could be."""
    assert answer.status_code == 200, answer.text
    (issue,) = answer.json()["issue"]
    assert (issue["severity"], issue["expression"]) == ("information", [f"Encounter.{element}"])
    assert issue["diagnostics"].endswith("nothing was changed")
    assert "location" not in answer.headers


@pytest.mark.parametrize(
    ("change", "element"),
    [
        ({"status": "planned", "class": {"code": "AMB"}, "period": {"start": "2027-01-10T08:00:00Z"}}, "status"),
        ({"status": "planned", "period": {"start": "2027-01-10T08:00:00Z"}}, "status"),
        ({"status": "unknown"}, "status"),
        ({"status": "in-progress", "class": {"code": "AMB"}, "period": {"start": LATER}}, "class"),
        ({"status": "finished", "class": {"code": "AMB"}, "period": {"start": LATER}}, "class"),
        ({"status": "finished", "class": "IMP", "period": {"start": LATER}}, "class"),
        ({"status": "finished", "period": {"start": LATER, "end": "2026-11-25T09:00:00Z"}}, "status"),
        ({"status": "finished", "period": {"start": ADMITTED}}, "status"),
        ({"status": "finished", "period": {}}, "status"),
        ({"status": "cancelled", "period": {"start": LATER}}, "status"),
        ({"status": "entered-in-error", "period": {"start": LATER}}, "status"),
        ({"status": "entered-in-error", "period": {"start": "2020-02-01T08:00:00Z"}}, "status"),
        ({"status": "in-progress", "period": {"start": "2020-02-01T08:00:00Z"}}, "period.start"),
    ],
)
def test_encounter_that_is_not_of_the_present_stay_changes_nothing_and_says_so(server, name, change, element):
    before = registration(server, name)
    sent = encounter(name, "", "A1", id=f"other-{name}") | change
    says_that_nothing_changed(send(server, "PUT", f"/Encounter/other-{name}", sent), element)
    del sent["id"]
    sent["identifier"] = [{"system": "urn:visits", "value": f"another of {name}"}]
    says_that_nothing_changed(send(server, "POST", "/Encounter", sent), element)
    assert registration(server, name) == before
    assert server.caller().get(f"/fhir/Encounter/other-{name}").status_code == 404


@pytest.mark.parametrize("status", ["finished", "cancelled", "entered-in-error"])
def test_end_of_the_encounter_that_opened_the_stay_ends_monitoring(server, name, status):
    assert put(server, name, f"stay-{name}", status).status_code == 200
    assert where(server, name) == ("B4", True, ADMITTED)


def test_encounter_that_was_a_mistake_ends_monitoring_and_says_nothing_else(server, name):
    put(server, name, f"stay-{name}", "entered-in-error", "C1", LATER)
    assert where(server, name) == ("B4", True, ADMITTED)


def test_encounter_is_known_by_its_identifier_and_by_the_id_of_the_answer_too(server, name):
    own = {"identifier": [{"system": "urn:visits", "value": name}]}
    opened = post(server, name, "in-progress", "C1", LATER, **own)
    says_that_nothing_changed(put(server, name, f"stay-{name}", "finished", "B4"), "status")  # it is over for long
    assert opened.json()["id"] == stay_id(server, name)
    assert post(server, name, "finished", **own).status_code == 200
    assert where(server, name) == ("C1", True, LATER)
    assert put(server, name, stay_id(server, name), "in-progress", "C2").status_code == 200
    assert where(server, name) == ("C2", False, LATER)
    assert post(server, name, "finished", **own).status_code == 200
    assert where(server, name) == ("C2", True, LATER)


def test_encounter_without_id_and_identifier_is_known_by_its_start(server):
    name = f"p{next(_NUMBER)}"
    assert post(server, name, "in-progress", "B4", ADMITTED).status_code == 200
    says_that_nothing_changed(post(server, name, "finished", "B4", LATER), "status")
    says_that_nothing_changed(post(server, name, "finished"), "status")
    assert where(server, name) == ("B4", False, ADMITTED)
    assert post(server, name, "finished", None, "2026-11-20T09:00:00+01:00").status_code == 200
    assert where(server, name) == ("B4", True, ADMITTED)


def test_stay_of_which_nothing_is_known_is_ended_by_an_encounter_of_which_nothing_is_known_only(server):
    name = f"p{next(_NUMBER)}"
    post(server, name, "in-progress", "B4")
    says_that_nothing_changed(put(server, name, f"other-{name}", "finished"), "status")
    says_that_nothing_changed(post(server, name, "finished", None, ADMITTED), "status")
    assert where(server, name) == ("B4", False, None)
    assert post(server, name, "finished").status_code == 200
    assert where(server, name) == ("B4", True, None)


def test_end_of_a_stay_of_an_unknown_patient_registers_no_patient(server):
    name = f"p{next(_NUMBER)}"
    says_that_nothing_changed(post(server, name, "finished", "B4"), "status")
    assert registration(server, name) is None


def test_newer_encounter_moves_the_patient_and_then_only_its_end_counts(server, name):
    assert put(server, name, f"next-{name}", "in-progress", "C1", LATER).status_code == 200
    assert where(server, name) == ("C1", False, LATER)
    says_that_nothing_changed(put(server, name, f"stay-{name}", "finished", "B4", ADMITTED), "status")
    says_that_nothing_changed(put(server, name, f"stay-{name}", "in-progress", "B4", ADMITTED), "period.start")
    assert where(server, name) == ("C1", False, LATER)
    assert put(server, name, f"next-{name}", "finished").status_code == 200
    assert where(server, name) == ("C1", True, LATER)


def test_encounter_that_opened_the_stay_corrects_its_start(server, name):
    assert put(server, name, f"stay-{name}", "in-progress", "B4", "2026-11-19T08:00:00Z").status_code == 200
    assert where(server, name) == ("B4", False, "2026-11-19T08:00:00Z")


def test_part_of_the_stay_moves_the_patient_and_ends_nothing(server, name):
    whole = {"partOf": {"reference": f"https://ehr.example/fhir/Encounter/stay-{name}"}}
    assert put(server, name, f"part-{name}", "in-progress", "C1", LATER, **whole).status_code == 200
    assert where(server, name) == ("C1", False, ADMITTED)
    says_that_nothing_changed(put(server, name, f"part-{name}", "finished", "C1", LATER, **whole), "status")
    assert where(server, name) == ("C1", False, ADMITTED)
    put(server, name, f"stay-{name}", "finished")
    shown = {"partOf": {"reference": f"Encounter/{stay_id(server, name)}"}}
    says_that_nothing_changed(put(server, name, f"part-{name}", "in-progress", "C2", LATER, **shown), "partOf")
    assert where(server, name) == ("C1", True, ADMITTED)


def test_encounter_without_a_class_counts(server, name):
    sent = encounter(name, "in-progress", "C1", LATER, id=f"next-{name}")
    del sent["class"]
    assert send(server, "PUT", f"/Encounter/next-{name}", sent).status_code == 200
    assert where(server, name) == ("C1", False, LATER)


def test_classes_that_are_stays_can_be_set(tmp_path):
    (tmp_path / "fhir.toml").write_text(f'patient_system = "{SYSTEM}"\nclasses = ["HH"]\n')
    with running_in_process(tmp_path) as server:
        assert post(server, "at home", "in-progress", "home", ADMITTED, code="HH").status_code == 200
        assert where(server, "at home") == ("home", False, ADMITTED)
        says_that_nothing_changed(post(server, "at home", "in-progress", "B4", LATER), "class")


def test_stay_in_an_emergency_department_counts(server, name):
    assert post(server, name, "in-progress", "ED", LATER, code="EMER").status_code == 200
    assert where(server, name) == ("ED", False, LATER)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, True),
        ({"class": {"code": "AMB"}}, False),
        ({"class": "IMP"}, False),
        ({"class": {}}, True),
        *(({"status": status}, False) for status in ("planned", "cancelled", "entered-in-error", "unknown")),
    ],
)
def test_exports_and_clients_have_one_rule_for_what_is_a_stay(server, change, expected):
    name = f"p{next(_NUMBER)}"
    sent = encounter(name, "in-progress", "B4", ADMITTED) | change
    assert send(server, "POST", "/Encounter", sent).status_code == 200
    assert is_stay(sent, FhirSettings().classes) is expected
    assert (registration(server, name) is not None) is expected


def test_encounter_of_another_ward_tells_nothing_of_its_patient(server, name):
    other = server.caller(wards=["C1"], subject=f"caller who asks for {name}")
    for status, code in (("planned", "IMP"), ("finished", "AMB"), ("finished", "IMP")):
        assert put(server, name, f"other-{name}", status, code=code, caller=other).status_code == 403


def test_caller_of_a_ward_sends_visits_to_other_places_without_harm(server, name):
    mine = server.caller(wards=["B4"], subject=f"caller of the ward of {name}")
    visit = encounter(name, "finished", "Radiology", LATER, "AMB")
    sent = bundle("transaction", entry("POST", "Encounter", visit))
    answer = send(server, "POST", "", sent, mine)
    assert (answer.status_code, answer.json()["entry"][0]["response"]["status"]) == (200, "200"), answer.text
    assert "location" not in answer.json()["entry"][0]["response"]
    assert where(server, name) == ("B4", False, ADMITTED)


def test_of_the_encounter_that_opened_the_stay_a_pseudonym_is_remembered(server, name):
    (pseudonym,) = server.components.directory.opened_by(server.components.pseudonyms.subject_key(name))
    assert re.fullmatch("[a-z2-7]{24}", pseudonym)


def test_condition_of_an_encounter_or_a_device_is_refused_and_what_is_offered_is_said(server, name):
    stay = encounter(name, "in-progress", "C1", LATER)
    condition = f"identifier=urn:visits|{name}"
    for kind, resource in (("Encounter", stay), ("Device", {"resourceType": "Device", "id": "d", "status": "active"})):
        refusals = [
            send(server, "POST", f"/{kind}", resource, If_None_Exist=condition),
            send(server, "PUT", f"/{kind}?{condition}", resource),
            send(server, "POST", "", bundle("transaction", entry("POST", kind, resource, ifNoneExist=condition))),
        ]
        for answer in refusals:
            assert answer.status_code == 400
            assert f"POST {kind} and PUT {kind}/ID" in answer.json()["issue"][0]["diagnostics"]
    assert where(server, name) == ("B4", False, ADMITTED)
