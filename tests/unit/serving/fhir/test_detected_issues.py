"""DetectedIssue: whatever a client sends back is understood or refused, and never repeated."""

from hypothesis import given, settings

from tests.support.fhir_mutations import CANARY, changed
from vigil.serving.fhir.detected_issues import ACTION_SYSTEM, NewAction, read_new_actions, to_detected_issue
from vigil.serving.fhir.outcomes import FhirError
from vigil.serving.records.ward_rows import Alarm, AlarmAction

ALARM = Alarm(
    alarm_id="8ac8cbf4-0ccd-58c2-bfaf-b068e360adb9",
    subject_id="s",
    ward="B4",
    opened_at=1_769_846_400_000_000,
    sounded=1,
    last_sounded_at=1_769_846_400_000_000,
    basis="news2",
    probability=None,
    news2=9,
    prediction_id="e6dfe315-dd44-5723-8ae4-3d4bcfbafc31",
    model_name=None,
    model_version=None,
    feature_service="vital_signs_v3",
    cause="news2",
    actions=(AlarmAction("acknowledged", "nurse", None, 1_769_846_460_000_000),),
)


def sent():
    resource = to_detected_issue(ALARM, "Patient/x")
    codings = [
        {"system": ACTION_SYSTEM, "code": "overridden"},
        {"system": "urn:vigil:override-reason", "code": "artefact"},
    ]
    added = {"action": {"coding": codings, "text": CANARY}, "date": "2026-01-31", "author": {"display": CANARY}}
    return resource | {"mitigation": [*resource["mitigation"], added]}


def test_added_mitigation_is_an_action():
    assert read_new_actions(ALARM, sent(), "Patient/x", "doctor") == [NewAction("overridden", f"artefact: {CANARY}")]


@given(changed(sent()))
@settings(max_examples=500, deadline=None)
def test_whatever_is_sent_is_understood_or_refused(resource):
    actions, refused = [], None
    try:
        actions = read_new_actions(ALARM, resource, "Patient/x", "doctor")
    except FhirError as error:
        refused = error
    assert refused is None or refused.status_code in (409, 422)
    assert refused is None or CANARY not in str(refused.issue)
    assert all(action.action in ("acknowledged", "overridden") for action in actions)
