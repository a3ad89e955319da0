"""DetectedIssue: an alarm with its evidence and what was done about it, and acknowledgements that go to and fro."""

from copy import deepcopy
from dataclasses import replace
from typing import get_args

import pytest

from tests.support.in_process_server import SICK, observations_body, running_in_process
from vigil.serving.api.alarm_actions import OVERRIDE_REASONS
from vigil.serving.api.schemas.alarms import OverrideIn
from vigil.serving.fhir.detected_issues import ACTION_SYSTEM, STATUS_SYSTEM, to_detected_issue, version_of

REASON_SYSTEM = "urn:vigil:override-reason"


@pytest.fixture
def server(tmp_path):
    (tmp_path / "fhir.toml").write_text('patient_system = "urn:mrn"\n')
    with running_in_process(tmp_path) as running:
        caller = running.caller()
        caller.post("/v1/patients", json={"patients": [{"patient_id": "4711", "ward": "B4"}]}).raise_for_status()
        caller.post("/v1/observations", json=observations_body("4711", SICK)).raise_for_status()
        running.rescore()
        yield running


def alarm_of(server):
    (alarm,) = server.components.ward_state.alarms()
    return alarm


def read(server, caller=None):
    return (caller or server.caller()).get(f"/fhir/DetectedIssue/{alarm_of(server).alarm_id}")


def put(caller, resource, **headers):
    return caller.put(f"/fhir/DetectedIssue/{resource['id']}", json=resource, headers=headers)


def with_action(resource, action, reason=None, text=None, **more):
    codings = [{"system": ACTION_SYSTEM, "code": action}]
    codings += [] if reason is None else [{"system": REASON_SYSTEM, "code": reason}]
    concept = {"coding": codings} | ({} if text is None else {"text": text})
    return resource | {"mitigation": [*resource.get("mitigation", []), {"action": concept, **more}]}


def coded(action):
    return {"coding": [{"system": ACTION_SYSTEM, "code": action}]}


def actions(server):
    return [(action.action, action.by, action.reason) for action in alarm_of(server).actions]


def test_alarm_is_read_with_evidence_and_without_identifier(server):
    answer = read(server)
    assert answer.status_code == 200
    resource, alarm = answer.json(), alarm_of(server)
    assert answer.headers["etag"] == f'W/"{resource["meta"]["versionId"]}"' == 'W/"2"'
    assert (resource["status"], resource["severity"]) == ("preliminary", "high")
    assert resource["code"]["coding"][0]["code"] == "news2"
    assert resource["evidence"][0]["detail"] == [{"reference": f"RiskAssessment/{alarm.prediction_id}"}]
    assert resource["evidence"][0]["code"][0]["coding"][0]["code"] == "news2_7_or_more"
    assert resource["author"] == {"reference": f"#{resource['contained'][0]['id']}"}
    patient = server.components.directory.reference(server.components.pseudonyms.subject_key("4711"))
    assert resource["patient"] == {"reference": patient}
    assert "4711" not in answer.text
    assert "mitigation" not in resource


def test_status_says_whether_the_episode_goes_on_and_an_override_takes_nothing_back(server):
    alarm = alarm_of(server)
    ended = replace(alarm, ended_at=alarm.opened_at + 1, status="overridden", reason="false_alarm")
    resource = to_detected_issue(ended, "Patient/x")
    assert resource["status"] == "final"
    assert resource["meta"]["tag"] == [{"system": STATUS_SYSTEM, "code": "overridden"}]
    assert version_of(ended) == version_of(alarm) + 1


def test_withheld_alarm_says_so_and_an_alarm_of_an_earlier_version_has_no_severity(server):
    alarm = alarm_of(server)
    assert "Withheld" in to_detected_issue(replace(alarm, sounded=0, last_sounded_at=None), "Patient/x")["detail"]
    former = to_detected_issue(replace(alarm, cause=None, reasons=None), "Patient/x")
    assert "severity" not in former
    assert former["code"] == {"text": "Early warning of deterioration"}


def test_acknowledgement_is_recorded_as_the_callers_whatever_the_body_says(server):
    nurse, doctor = server.caller(subject="nurse"), server.caller(subject="doctor")
    before = read(server).json()
    sent = with_action(before, "acknowledged", date="2020-01-01T00:00:00Z", author={"display": "someone else"})
    answer = put(nurse, sent, **{"If-Match": 'W/"2"'})
    assert answer.status_code == 200
    (mitigation,) = answer.json()["mitigation"]
    assert mitigation["author"]["identifier"]["value"] == "nurse"
    assert mitigation["date"] > before["identifiedDateTime"]
    assert answer.json() == read(server).json()
    (shown,) = nurse.get("/v1/alarms").json()["alarms"]
    assert (shown["status"], shown["acted_by"]) == ("acknowledged", "nurse")
    overridden = put(doctor, with_action(answer.json(), "overridden", "artefact", "probe was off"))
    assert overridden.status_code == 200
    assert actions(server) == [("acknowledged", "nurse", None), ("overridden", "doctor", "artefact: probe was off")]
    last = overridden.json()["mitigation"][-1]["action"]
    assert ([coding["code"] for coding in last["coding"]], last["text"]) == (["overridden", "artefact"], "probe was off")
    assert overridden.headers["etag"] == 'W/"4"'


def test_action_by_the_other_door_is_a_mitigation_here(server):
    body = {"alarm_id": alarm_of(server).alarm_id, "reason": "already_treated", "note": "antibiotics"}
    server.caller(subject="doctor").post("/v1/alarms/override", json=body).raise_for_status()
    (mitigation,) = read(server).json()["mitigation"]
    assert [coding["code"] for coding in mitigation["action"]["coding"]] == ["overridden", "already_treated"]
    assert mitigation["action"]["text"] == "antibiotics"


def test_same_action_sent_again_counts_once_and_another_after_an_override_is_a_conflict(server):
    nurse = server.caller(subject="nurse")
    before = read(server).json()
    assert put(nurse, with_action(before, "acknowledged")).status_code == 200
    assert put(nurse, with_action(before, "acknowledged")).status_code == 200
    assert len(actions(server)) == 1
    assert put(nurse, with_action(before, "acknowledged"), **{"If-Match": 'W/"2"'}).status_code == 412
    assert put(nurse, with_action(read(server).json(), "overridden", "artefact")).status_code == 200
    assert put(nurse, with_action(read(server).json(), "overridden", "other")).status_code == 409
    assert len(actions(server)) == 2


def test_what_others_did_meanwhile_must_be_read_first(server):
    before = read(server).json()
    assert put(server.caller(subject="nurse"), with_action(before, "acknowledged")).status_code == 200
    assert put(server.caller(subject="doctor"), with_action(before, "overridden", "artefact")).status_code == 409
    assert put(server.caller(subject="nurse"), before).status_code == 409
    assert len(actions(server)) == 1


@pytest.mark.parametrize(
    ("change", "element"),
    [
        ({"status": "entered-in-error"}, "DetectedIssue.status"),
        ({"severity": None}, "DetectedIssue.severity"),
        ({"patient": {"reference": "Patient/another"}}, "DetectedIssue.patient"),
        ({"extension": [{"url": "urn:x"}]}, "DetectedIssue.extension"),
        ({"mitigation": "acknowledged"}, "DetectedIssue.mitigation"),
        ({"mitigation": [{}]}, "DetectedIssue.mitigation[0]"),
        ({"mitigation": [{"action": {"text": "acknowledged"}}]}, "DetectedIssue.mitigation[0].action"),
        ({"mitigation": [{"action": coded("x")}]}, "DetectedIssue.mitigation[0].action"),
        ({"mitigation": [{"action": coded("overridden")}]}, "DetectedIssue.mitigation[0].action"),
        ({"mitigation": [{"action": coded("acknowledged"), "extension": []}]}, "DetectedIssue.mitigation[0]"),
        ({"Mr Smith": 1}, "DetectedIssue"),
    ],
)
def test_any_other_change_is_refused_and_names_the_element(server, change, element):
    sent = deepcopy(read(server).json()) | change
    answer = put(server.caller(), {name: value for name, value in sent.items() if value is not None})
    assert answer.status_code == 422
    assert answer.json()["issue"][0]["expression"] == [element]
    assert actions(server) == []


def test_note_is_limited(server):
    resource = read(server).json()
    assert put(server.caller(), with_action(resource, "overridden", "other", "x" * 501)).status_code == 422
    assert put(server.caller(), with_action(resource, "overridden", "other", "x" * 500)).status_code == 200


def test_others_see_and_do_nothing(server):
    resource = read(server).json()
    elsewhere = server.caller(wards=["C1"], subject="another ward")
    assert read(server, elsewhere).status_code == 404
    assert put(elsewhere, with_action(resource, "acknowledged")).status_code == 404
    reader = server.caller(scopes=["alarms:read"])
    assert (read(server, reader).status_code, put(reader, with_action(resource, "acknowledged")).status_code) == (200, 403)
    assert read(server, server.caller(scopes=["risk:read"])).status_code == 403
    assert server.caller().get("/fhir/DetectedIssue/none").status_code == 404
    assert actions(server) == []


@pytest.fixture(scope="module")
def wards(tmp_path_factory):
    """Five alarms that opened one after the other, in the wards A and B by turns; the second has ended."""
    home = tmp_path_factory.mktemp("pages")
    (home / "fhir.toml").write_text('patient_system = "urn:mrn"\n')
    with running_in_process(home) as running:
        caller = running.caller(subject="nurse")
        for number in range(5):
            patient = {"patient_id": f"p{number}", "ward": "AB"[number % 2]}
            caller.post("/v1/patients", json={"patients": [patient]}).raise_for_status()
            caller.post("/v1/observations", json=observations_body(f"p{number}", SICK)).raise_for_status()
            running.rescore()
        body = {"patients": [{"patient_id": "p1", "ward": "B", "discharged": True}]}
        caller.post("/v1/patients", json=body).raise_for_status()
        running.rescore()
        yield running


def find(server, caller=None, **parameters):
    answer = (caller or server.caller()).get("/fhir/DetectedIssue", params=parameters)
    assert answer.status_code == 200, answer.text
    return answer.json()


def ids(bundle):
    return [entry["resource"]["id"] for entry in bundle.get("entry", [])]


def in_order(server):
    return [alarm.alarm_id for alarm in sorted(server.components.ward_state.alarms(), key=lambda alarm: alarm.opened_at)]


def patient(server, name):
    return server.components.directory.reference(server.components.pseudonyms.subject_key(name))


def test_alarms_are_found_in_pages_each_once(wards):
    expected = in_order(wards)
    for sort, order in (("identified", expected), ("-identified", expected[::-1])):
        bundle, found = find(wards, _count=2, _sort=sort), []
        while True:
            found += ids(bundle)
            following = [link["url"] for link in bundle["link"] if link["relation"] == "next"]
            if not following:
                break
            bundle = wards.caller().get(following[0][following[0].index("/fhir/") :]).json()
        assert found == order
    assert ids(find(wards)) == expected
    assert find(wards)["total"] == 5


def test_alarms_are_found_by_patient_id_status_and_time(wards):
    expected = in_order(wards)
    assert ids(find(wards, patient=patient(wards, "p3"))) == [expected[3]]
    form = {"patient.identifier": "urn:mrn|p2"}
    assert ids(wards.caller().post("/fhir/DetectedIssue/_search", data=form).json()) == [expected[2]]
    assert ids(find(wards, _id=f"{expected[4]},{expected[0]},none")) == [expected[0], expected[4]]
    assert ids(find(wards, status="final")) == [expected[1]]
    assert ids(find(wards, status="preliminary")) == [each for each in expected if each != expected[1]]
    assert ids(find(wards, status="preliminary,final")) == expected
    assert ids(find(wards, status="entered-in-error")) == []
    third = read_one(wards, expected[2])["identifiedDateTime"]
    assert ids(find(wards, identified=f"ge{third}")) == expected[2:]
    assert ids(find(wards, identified=f"lt{third}")) == expected[:2]
    assert ids(find(wards, patient="unknown")) == []


def read_one(server, identity):
    return server.caller().get(f"/fhir/DetectedIssue/{identity}").json()


def test_what_changed_since_is_found_whatever_changed(wards):
    expected = in_order(wards)
    ended = read_one(wards, expected[1])["meta"]["lastUpdated"]
    assert ids(find(wards, _lastUpdated=f"ge{ended}")) == [expected[1]]
    assert put(wards.caller(), with_action(read_one(wards, expected[0]), "acknowledged")).status_code == 200
    assert ids(find(wards, _lastUpdated=f"gt{ended}")) == [expected[0]]
    assert ids(find(wards, _lastUpdated=f"lt{ended}")) == expected[2:]
    for identity in expected:
        updated = read_one(wards, identity)["meta"]["lastUpdated"]
        assert ids(find(wards, _lastUpdated=updated)) == [identity]


def test_caller_finds_alarms_of_their_wards_only(wards):
    expected = in_order(wards)
    caller = wards.caller(wards=["B"], subject="ward B")
    assert ids(find(wards, caller)) == expected[1::2]
    assert ids(find(wards, caller, patient=patient(wards, "p2"))) == []
    assert ids(find(wards, caller, _id=expected[0])) == []
    assert wards.caller(scopes=["risk:read"]).get("/fhir/DetectedIssue").status_code == 403


@pytest.mark.parametrize(
    "query",
    [
        "patient.identifier=urn:mrn|p1",
        "_sort=date",
        "_count=x",
        "status:not=final",
        "identified=yesterday",
        "patient=a&patient=b",
    ],
)
def test_search_that_cannot_be_understood_is_refused(wards, query):
    assert wards.caller().get(f"/fhir/DetectedIssue?{query}").status_code == 400


def test_page_that_was_made_up_is_empty(wards):
    assert ids(find(wards, _page="x")) == ids(find(wards, _page="9" * 30)) == []


def test_bundle_writes_no_alarm(server):
    resource = with_action(read(server).json(), "acknowledged")
    entry = {"request": {"method": "PUT", "url": f"DetectedIssue/{resource['id']}"}, "resource": resource}
    answer = server.caller().post("/fhir", json={"resourceType": "Bundle", "type": "batch", "entry": [entry]})
    assert [entry["response"]["status"] for entry in answer.json()["entry"]] == ["404"]
    assert actions(server) == []


def test_reasons_of_an_override_are_the_same_behind_every_door():
    assert get_args(OverrideIn.model_fields["reason"].annotation) == tuple(OVERRIDE_REASONS)
