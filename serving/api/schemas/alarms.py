"""An alarm as the API shows it."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from vigil.models.alarms.policy import Cause
from vigil.models.alarms.safety_net import Reason
from vigil.models.assessment import Basis
from vigil.serving.api.alarm_actions import MAX_NOTE
from vigil.serving.api.schemas.bounds import BoundOut, bounds_out
from vigil.serving.api.schemas.request import Request, example
from vigil.serving.api.schemas.terms import TermsOut, terms_out
from vigil.serving.records.timestamps import moment
from vigil.serving.records.ward_rows import Action, Alarm, Status


class AlarmActionOut(BaseModel):
    """What one person did about an alarm."""

    action: Action
    by: str
    at: datetime
    reason: Annotated[str | None, Field(description="Of an override.")]


class AlarmTerms(BaseModel):
    """The terms of an alarm."""

    threshold: Annotated[float | None, Field(description="Probability from which the model sounds; null: no model.")]
    news2_from: Annotated[int, Field(description="NEWS2 from which the safety net sounds.")]
    refractory_hours: Annotated[float, Field(description="The pause after an alarm.")]
    patient: Annotated[TermsOut | None, Field(description="What staff decided for the patient; null: nothing.")]


class AlarmOut(BaseModel):
    """One episode of high risk."""

    alarm_id: Annotated[str, Field(description="Of the episode; it stays the same however often the alarm sounds.")]
    patient_id: str
    ward: str
    opened_at: datetime
    ended_at: datetime | None
    sounded: Annotated[int, Field(description="How often it sounded; 0: the ward's budget withheld it.")]
    last_sounded_at: datetime | None
    cause: Annotated[
        Cause | None,
        Field(
            description="What sounded last: the model, the safety net by NEWS2, a critical bound, such as the Low of a "
            "glucose sensor, or a limit of the patient. Null: an earlier version did not store it."
        ),
    ]
    reasons: Annotated[
        list[Reason] | None,
        Field(description="Rules of NEWS2 that held then, and critical_bound or patient_limit if one stood; null: not stored."),
    ]
    bounds: Annotated[
        list[BoundOut], Field(description="The critical bounds and limits of the patient that it was about last.")
    ]
    terms: Annotated[
        AlarmTerms | None,
        Field(description="Under which it sounded last, or was withheld; null: an earlier version did not store them."),
    ]
    basis: Basis
    probability: Annotated[float | None, Field(description="Of the risk that opened it.")]
    news2: int
    status: Status
    acted_at: Annotated[datetime | None, Field(description="Of the latest action, as acted_by and reason.")]
    acted_by: str | None
    reason: Annotated[str | None, Field(description="Why it was overridden.")]
    basis_retracted_at: Annotated[
        datetime | None,
        Field(
            description="When an observation that it rests on was corrected, retracted or taken away by an unmerge. The "
            "patient was rescored at once. Null: never."
        ),
    ]
    actions: Annotated[list[AlarmActionOut], Field(description="Everything that was done about it, oldest first.")]
    prediction_id: str
    model_name: str | None
    model_version: str | None
    feature_service: str


class AlarmsAnswer(BaseModel):
    """Alarms, newest first."""

    alarms: list[AlarmOut]


class AcknowledgeIn(Request):
    """The alarm to acknowledge."""

    model_config = example({"alarm_id": "2c1f7d2e-3f64-5b0e-9a39-0d5c1f6f4f0a"})

    alarm_id: Annotated[str, Field(min_length=1, max_length=64)]


class OverrideIn(Request):
    """The alarm to override, and why it was not right. The reason is stored and may become a label: name no patient in it."""

    model_config = example({"alarm_id": "2c1f7d2e-3f64-5b0e-9a39-0d5c1f6f4f0a", "reason": "expected_for_this_patient"})

    alarm_id: Annotated[str, Field(min_length=1, max_length=64)]
    reason: Literal["false_alarm", "expected_for_this_patient", "artefact", "already_treated", "palliative_care", "other"]
    note: Annotated[str | None, Field(max_length=MAX_NOTE)] = None


_TIMES = ("opened_at", "ended_at", "last_sounded_at", "basis_retracted_at", "acted_at")


def alarm_out(alarm: Alarm, patient_id: str) -> AlarmOut:
    """Return an alarm with its actions, under the identifier that the caller knows."""
    actions = [
        AlarmActionOut(action=action.action, by=action.by, reason=action.reason, at=moment(action.at))
        for action in alarm.actions
    ]
    times = {name: moment(getattr(alarm, name)) for name in _TIMES}
    rest = {
        name: getattr(alarm, name)
        for name in AlarmOut.model_fields
        if name not in {*_TIMES, "patient_id", "actions", "bounds", "terms"}
    }
    terms = None if alarm.terms is None else AlarmTerms(**alarm.terms | {"patient": terms_out(alarm.terms["patient"])})
    bounds = bounds_out(alarm.bounds or [])
    return AlarmOut(patient_id=patient_id, actions=actions, bounds=bounds, terms=terms, **times, **rest)
