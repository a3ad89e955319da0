"""An alarm as a DetectedIssue of FHIR R4 (https://hl7.org/fhir/R4/detectedissue.html), and what a client does about it.

A DetectedIssue has what an alarm has: how severe it is, the evidence, who found it, and what was done about it by whom and when
(``mitigation``). A Flag has none of these.

``status`` says whether the episode goes on (``preliminary``) or has ended (``final``). An alarm that was overridden stays what
it was: ``entered-in-error`` says of a record that it should never have existed, so receivers drop it, and those who count false
alarms would lose just these.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from vigil.models.alarms.policy import Cause
from vigil.serving.api.alarm_actions import MAX_NOTE, OVERRIDE_REASON_SYSTEM, OVERRIDE_REASONS, join_reason, split_reason
from vigil.serving.fhir.outcomes import FhirError
from vigil.serving.fhir.software_device import DEVICE_REFERENCE, software_device
from vigil.serving.fhir.times import write_instant
from vigil.serving.records.timestamps import instant
from vigil.serving.records.ward_rows import Action, Alarm, AlarmAction

ACTION_SYSTEM: Final = "urn:vigil:alarm-action"
STATUS_SYSTEM: Final = "urn:vigil:alarm-status"
CALLER_SYSTEM: Final = "urn:vigil:caller"
_CAUSE_SYSTEM: Final = "urn:vigil:alarm-cause"
_REASON_SYSTEM: Final = "urn:vigil:alarm-reason"
_CAUSES: Final[dict[Cause, str]] = {
    "model": "The risk by the model is at or above the ward's threshold",
    "news2": "NEWS2 asks for an emergency response",
    "critical_bound": "A device reports a value beyond a critical limit of its range",
    "patient_limit": "A value is at or beyond a limit that was set for this patient",
}
_ACTIONS: Final[dict[Action, str]] = {"acknowledged": "Acknowledged", "overridden": "Overridden"}
_UNCOMPARED: Final = frozenset({"meta", "mitigation", "text"})  # of the resource that a client sends back
_ELEMENTS: Final = frozenset(  # of R4, beside these
    {"resourceType", "id", "implicitRules", "language", "contained", "extension", "modifierExtension", "identifier", "status",
     "code", "severity", "patient", "identifiedDateTime", "identifiedPeriod", "author", "implicated", "evidence", "detail",
     "reference"}
)  # fmt: skip
_MITIGATION: Final = frozenset({"action", "date", "author", "id"})


def to_detected_issue(alarm: Alarm, patient: str) -> dict[str, Any]:
    """Return the resource.

    Args:
        alarm: with its actions.
        patient: reference to the Patient, such as ``Patient/ID``.
    """
    by_model = alarm.basis == "model"
    resource: dict[str, Any] = {
        "resourceType": "DetectedIssue",
        "id": alarm.alarm_id,
        "meta": {
            "versionId": str(version_of(alarm)),
            "lastUpdated": write_instant(instant(updated_at(alarm))),
            "tag": [{"system": STATUS_SYSTEM, "code": alarm.status}],
        },
        "contained": [
            software_device(
                alarm.model_name if by_model else None, alarm.model_version if by_model else None, alarm.feature_service
            )
        ],
        "status": "preliminary" if alarm.ended_at is None else "final",
        "code": _code(alarm.cause),
        "severity": _severity(alarm.cause),
        "patient": {"reference": patient},
        "identifiedDateTime": write_instant(instant(alarm.opened_at)),
        "author": DEVICE_REFERENCE,
        "evidence": [_evidence(alarm)],
        "detail": _detail(alarm),
        "mitigation": [_mitigation(action) for action in alarm.actions],
    }
    return {name: value for name, value in resource.items() if value not in (None, [])}


def version_of(alarm: Alarm) -> int:
    """Return the version of the resource: it was opened, and each sounding, action, retraction and its end make a new one."""
    changes = (alarm.sounded, len(alarm.actions), alarm.ended_at is not None, alarm.basis_retracted_at is not None)
    return 1 + sum(map(int, changes))


def updated_at(alarm: Alarm) -> int:
    """Return when the alarm last changed, in microseconds."""
    times = (alarm.opened_at, alarm.last_sounded_at, alarm.ended_at, alarm.basis_retracted_at)
    return max(time for time in (*times, *(action.at for action in alarm.actions)) if time is not None)


def _code(cause: Cause | None) -> dict[str, Any]:
    text = "Early warning of deterioration"
    if cause is None:  # an earlier version did not store it
        return {"text": text}
    return {"coding": [{"system": _CAUSE_SYSTEM, "code": cause, "display": _CAUSES[cause]}], "text": text}


def _severity(cause: Cause | None) -> str | None:
    """Return how severe the alarm is: what asks for an emergency response is more so than a risk of the hours ahead."""
    if cause is None:
        return None
    return "moderate" if cause == "model" else "high"


def _evidence(alarm: Alarm) -> dict[str, Any]:
    codes = [{"coding": [{"system": _REASON_SYSTEM, "code": reason}]} for reason in alarm.reasons or ()]
    detail = [{"reference": f"RiskAssessment/{alarm.prediction_id}"}]
    return ({"code": codes} if codes else {}) | {"detail": detail}


def _detail(alarm: Alarm) -> str:
    """Return in words what happened; no value of the patient."""
    if alarm.sounded == 0:
        sentences = ["Withheld by the ward's budget of alarms."]
    else:
        sentences = [f"Sounded {alarm.sounded} time{'s' if alarm.sounded > 1 else ''}."]
    if alarm.ended_at is not None:
        sentences.append(f"Ended at {write_instant(instant(alarm.ended_at))}.")
    if alarm.basis_retracted_at is not None:
        sentences.append("A reading that it rests on was corrected or retracted since.")
    sentences.append("A decision aid, not a decision.")
    return " ".join(sentences)


def _mitigation(action: AlarmAction) -> dict[str, Any]:
    code, note = (None, None) if action.reason is None else split_reason(action.reason)
    codings = [{"system": ACTION_SYSTEM, "code": action.action, "display": _ACTIONS[action.action]}]
    if code is not None:
        codings.append({"system": OVERRIDE_REASON_SYSTEM, "code": code, "display": OVERRIDE_REASONS[code]})
    return {
        "action": {"coding": codings} | ({} if note is None else {"text": note}),
        "date": write_instant(instant(action.at)),
        "author": {"identifier": {"system": CALLER_SYSTEM, "value": action.by}},
    }


@dataclass(frozen=True, slots=True)
class NewAction:
    """What a client adds to an alarm: an action, and why, as it is stored."""

    action: Action
    reason: str | None


def read_new_actions(alarm: Alarm, sent: Mapping[str, Any], patient: str, caller: str) -> list[NewAction]:
    """Return what a client adds to an alarm by the resource that it sends back. Who did it and when is not taken from there.

    Args:
        alarm: as it is.
        sent: the resource, with mitigations added.
        patient: reference to the Patient.
        caller: the client's name. Its own actions may be sent a second time: they count once.

    Raises:
        FhirError: something else was changed (422), or what others did meanwhile is not in it (409).
    """
    present = to_detected_issue(alarm, patient)
    for name in sorted((present.keys() | sent.keys()) - _UNCOMPARED):
        if present.get(name) != sent.get(name):
            # A name that is no element may be anything, so it is not repeated.
            element = f"DetectedIssue.{name}" if name in _ELEMENTS else "DetectedIssue"
            raise FhirError(422, f"{element}: expected as it was read; only mitigation may be added", [element])
    mitigations = sent.get("mitigation", [])
    if not isinstance(mitigations, list):
        raise FhirError(422, "mitigation: expected a list", ["DetectedIssue.mitigation"])
    known = {action: _mitigation(action) for action in alarm.actions}
    added = [
        _read_mitigation(mitigation, f"DetectedIssue.mitigation[{position}]")
        for position, mitigation in enumerate(mitigations)
        if mitigation not in known.values()
    ]
    left_out = [action for action, mitigation in known.items() if mitigation not in mitigations]
    if any(action.by != caller or NewAction(action.action, action.reason) not in added for action in left_out):
        raise FhirError(409, "mitigation: expected all that are there; read the resource again", ["DetectedIssue.mitigation"])
    return added


def _read_mitigation(mitigation: Any, path: str) -> NewAction:
    """Return the action of one mitigation.

    Raises:
        FhirError: it is none that can be recorded (422).
    """
    if not isinstance(mitigation, Mapping) or not isinstance(concept := mitigation.get("action"), Mapping):
        raise FhirError(422, "mitigation: expected an object with action", [path])
    if mitigation.keys() - _MITIGATION:
        raise FhirError(422, "mitigation: expected action, date and author only", [path])
    codes = _codes(concept.get("coding"))
    actions = [name for name in _ACTIONS if (ACTION_SYSTEM, name) in codes]
    reasons = [code for system, code in codes if system == OVERRIDE_REASON_SYSTEM]
    path = f"{path}.action"
    if len(actions) != 1:
        raise FhirError(422, f"action: expected one coding of {ACTION_SYSTEM}: {' or '.join(_ACTIONS)}", [path])
    (action,) = actions
    if action == "acknowledged":
        if reasons:
            raise FhirError(422, "action: expected a reason with overridden only", [path])
        return NewAction(action, None)
    if len(reasons) != 1 or reasons[0] not in OVERRIDE_REASONS:
        known = ", ".join(OVERRIDE_REASONS)
        raise FhirError(422, f"action: expected one coding of {OVERRIDE_REASON_SYSTEM}: {known}", [path])
    note = concept.get("text")
    if note is not None and not (isinstance(note, str) and len(note) <= MAX_NOTE):
        raise FhirError(422, f"action.text: expected at most {MAX_NOTE} characters", [f"{path}.text"])
    return NewAction(action, join_reason(reasons[0], note))


def _codes(codings: Any) -> Sequence[tuple[str, str]]:
    each = [coding for coding in codings if isinstance(coding, Mapping)] if isinstance(codings, list) else []
    pairs = [(coding.get("system"), coding.get("code")) for coding in each]
    return [(system, code) for system, code in pairs if isinstance(system, str) and isinstance(code, str)]
