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


def test_bundle_writes_no_alarm(server):
    resource = with_action(read(server).json(), "acknowledged")
    entry = {"request": {"method": "PUT", "url": f"DetectedIssue/{resource['id']}"}, "resource": resource}
    answer = server.caller().post("/fhir", json={"resourceType": "Bundle", "type": "batch", "entry": [entry]})
    assert [entry["response"]["status"] for entry in answer.json()["entry"]] == ["404"]
    assert actions(server) == []


def test_reasons_of_an_override_are_the_same_behind_every_door():
    assert get_args(OverrideIn.model_fields["reason"].annotation) == tuple(OVERRIDE_REASONS)
