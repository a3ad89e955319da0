"""Requests and answers about the course of a patient: history, anomalies and the summary for a teleconsultation."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from vigil.models.alarms.safety_net import Band
from vigil.models.assessment import Basis, DecidedBy
from vigil.serving.api.schemas.alarms import AlarmOut
from vigil.serving.api.schemas.bounds import BoundOut
from vigil.serving.api.schemas.request import AsOf, MergedInto, PatientId, Request, example
from vigil.serving.api.schemas.risks import ContributionOut, RiskAnswer
from vigil.serving.scoring.anomalies import UNUSUAL
from vigil.serving.scoring.history import CHANGES_HOURS

MAX_HOURS = 24 * 7


class HistoryRequest(Request):
    """A patient's last hours."""

    model_config = example({"patient_id": "sim-000017", "hours": 48})

    patient_id: PatientId
    hours: Annotated[float, Field(strict=True, gt=0, le=MAX_HOURS, description="Before the present.")] = 24


class HistoryPoint(BaseModel):
    """The risk as of a time, and the model that gave it."""

    model_config = ConfigDict(from_attributes=True)

    index_time: datetime
    basis: Basis
    probability: float | None
    band: Band
    decided_by: Annotated[DecidedBy | None, Field(description="Null: an earlier version did not store it.")]
    news2: int
    news2_highest: int
    model_version: str | None
    feature_service: str


class TrendOut(BaseModel):
    """Where the risk is going: the slope of a straight line through the log-odds that the last model gave, over their hours."""

    model_config = ConfigDict(from_attributes=True)

    direction: Literal["rising", "steady", "falling", "unknown"]
    log_odds_per_hour: float | None
    hours: float


class HistoryAnswer(BaseModel):
    """Points, oldest first."""

    patient_id: str
    merged_into: MergedInto = None
    points: list[HistoryPoint]
    trend: TrendOut
    bounds: Annotated[
        list[BoundOut], Field(description="What was reported at or beyond a limit in these hours, whatever came after.")
    ]


class AnomaliesRequest(Request):
    """A patient, now or as of a time."""

    model_config = example({"patient_id": "sim-000017"})

    patient_id: PatientId
    as_of: AsOf = None


class AnomalyOut(BaseModel):
    """One vital sign against the patient's own usual."""

    model_config = ConfigDict(from_attributes=True)

    signal: str
    unit: str
    level: Annotated[float | None, Field(description="Exponential average of the last 6 h.")]
    usual: Annotated[float | None, Field(description="Mean of everything so far.")]
    deviation: Annotated[
        float | None,
        Field(description="Level minus usual, in standard deviations, those of the patient and of the measurement together."),
    ]
    unusual: Annotated[bool, Field(description=f"Whether that is {UNUSUAL:g} or more.")]


class AnomaliesAnswer(BaseModel):
    """Vital signs, the most unusual first."""

    patient_id: str
    merged_into: MergedInto = None
    as_of: datetime
    signals: list[AnomalyOut]


class GapOut(BaseModel):
    """A vital sign that was measured before, and not lately."""

    model_config = ConfigDict(from_attributes=True)

    signal: str
    hours_since_reading: float


class VisitSummary(BaseModel):
    """Everything for a teleconsultation."""

    patient_id: str
    merged_into: MergedInto = None
    risk: RiskAnswer
    changes: Annotated[
        list[ContributionOut] | None,
        Field(
            description=f"How much each signal moved the log-odds since {CHANGES_HOURS} h ago, the strongest first; null where "
            "the journal or the model cannot tell, or the model was withdrawn."
        ),
    ]
    history: HistoryAnswer
    alarms: Annotated[list[AlarmOut] | None, Field(description="Null for a caller without alarms:read.")]
    anomalies: list[AnomalyOut]
    data_gaps: list[GapOut]
