"""An alarm as the API shows it."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from serving.database import instant


class AlarmOut(BaseModel):
    """One episode of high risk."""

    alarm_id: Annotated[str, Field(description="Of the episode; stays the same however often it sounds or is delivered.")]
    patient_id: str
    ward: str
    opened_at: datetime
    ended_at: datetime | None
    sounded: Annotated[int, Field(description="How often it sounded; 0: the ward's budget withheld it.")]
    last_sounded_at: datetime | None
    basis: Literal["model", "news2"]
    probability: Annotated[float | None, Field(description="Of the risk that opened it.")]
    news2: int
    status: Literal["open", "acknowledged", "overridden"]
    acted_at: datetime | None
    acted_by: str | None
    reason: Annotated[str | None, Field(description="Why it was overridden.")]
    prediction_id: str
    model_name: str | None
    model_version: str | None
    feature_service: str


def alarm_out(row: Mapping[str, Any], patient_id: str) -> AlarmOut:
    """A row of the board, under the identifier that the caller knows."""
    times = {name: _time(row[name]) for name in ("opened_at", "ended_at", "last_sounded_at", "acted_at")}
    rest = {name: row[name] for name in AlarmOut.model_fields if name not in times and name != "patient_id"}
    return AlarmOut(patient_id=patient_id, **times, **rest)


def _time(microseconds: int | None) -> datetime | None:
    return None if microseconds is None else instant(microseconds).to_pydatetime()
