"""An alarm as the API shows it."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from models.alarms.safety_net import Reason
from models.assessment import Basis
from serving.records.timestamps import moment
from serving.records.ward_state import Action, Status


class ActionOut(BaseModel):
    """What somebody did about an alarm."""

    action: Action
    by: str
    at: datetime
    reason: Annotated[str | None, Field(description="Of an override.")]


class AlarmOut(BaseModel):
    """One episode of high risk."""

    alarm_id: Annotated[str, Field(description="Of the episode; stays the same however often it sounds or is delivered.")]
    patient_id: str
    ward: str
    opened_at: datetime
    ended_at: datetime | None
    sounded: Annotated[int, Field(description="How often it sounded; 0: the ward's budget withheld it.")]
    last_sounded_at: datetime | None
    cause: Annotated[
        Literal["model", "news2"] | None,
        Field(description="What sounded last: the model, or the safety net by NEWS2. Null: an earlier version did not say."),
    ]
    reasons: Annotated[list[Reason] | None, Field(description="Rules of NEWS2 that held then; null: not said.")]
    basis: Basis
    probability: Annotated[float | None, Field(description="Of the risk that opened it.")]
    news2: int
    status: Status
    acted_at: Annotated[datetime | None, Field(description="Of the latest action, as acted_by and reason.")]
    acted_by: str | None
    reason: Annotated[str | None, Field(description="Why it was overridden.")]
    actions: Annotated[list[ActionOut], Field(description="Everything that was done about it, oldest first.")]
    prediction_id: str
    model_name: str | None
    model_version: str | None
    feature_service: str


def alarm_out(row: Mapping[str, Any], patient_id: str) -> AlarmOut:
    """An alarm of the board with its actions, under the identifier that the caller knows."""
    times = {name: moment(row[name]) for name in ("opened_at", "ended_at", "last_sounded_at", "acted_at")}
    actions = [
        ActionOut(**{name: action[name] for name in ("action", "by", "reason")}, at=moment(action["at"]))
        for action in row["actions"]
    ]
    rest = {name: row[name] for name in AlarmOut.model_fields if name not in {*times, "patient_id", "actions"}}
    return AlarmOut(patient_id=patient_id, actions=actions, **times, **rest)
