"""What a patient's course says: risks over time, distance from his own usual, gaps in the data, and all of it for a visit."""

from datetime import datetime
from typing import Annotated, Any, Final, Literal

import numpy as np
import pandas as pd
from pydantic import BaseModel, Field

from features.catalogue import service_views
from features.derived import MEASUREMENT_ERROR
from features.signals import SIGNALS
from models.alarms.safety_net import Band
from models.assessment import Basis, DecidedBy, trusted
from models.training.risk_model import log_odds
from serving.api import problems
from serving.api.alarms_view import AlarmOut, alarm_out
from serving.api.problems import ProblemError
from serving.api.schemas import AsOf, Contribution, PatientId, Request, RiskAnswer, example
from serving.composition import Parts
from serving.records.database import microsecond, reading
from serving.records.timestamps import present, utc
from serving.scoring.risk_service import strongest
from serving.scoring.subject_state import features_as_of

CHANGES_HOURS: Final = 6  # the shorter of the windows that most features look back
MAX_HOURS: Final = 24 * 7
POINTS: Final = 200
# A course is called rising or falling from this change of its log-odds on: 2.7 times the odds. Ours.
_TREND_LOG_ODDS: Final = 1.0
# Standard deviations from a patient's own usual that are called unusual: beyond them lies 1 of 400 of a normal distribution.
UNUSUAL: Final = 3.0
_VIEWS: Final = ("dynamics", "baseline")
# Without a vital sign that the patient has otherwise. RCP 2017, chart 4: every 4 to 6 h for a score of 1 to 4.
GAP_HOURS: Final = 4


class HistoryRequest(Request):
    """A patient's last hours."""

    model_config = example({"patient_id": "sim-000017", "hours": 48})

    patient_id: PatientId
    hours: Annotated[float, Field(strict=True, gt=0, le=MAX_HOURS, description="Before the present.")] = 24


class HistoryPoint(BaseModel):
    """What was said as of a time, and by which model."""

    index_time: datetime
    basis: Basis
    probability: float | None
    band: Band
    decided_by: Annotated[DecidedBy | None, Field(description="Null: an earlier version did not say.")]
    news2: int
    news2_highest: int
    model_version: str | None
    feature_service: str


class Trend(BaseModel):
    """Where it is going: the slope of a straight line through the log-odds that the last model gave, over their hours."""

    direction: Literal["rising", "steady", "falling", "unknown"]
    log_odds_per_hour: float | None
    hours: float


class HistoryAnswer(BaseModel):
    """Oldest first."""

    patient_id: str
    points: list[HistoryPoint]
    trend: Trend


class AnomaliesRequest(Request):
    """A patient, now or as of a time."""

    model_config = example({"patient_id": "sim-000017"})

    patient_id: PatientId
    as_of: AsOf = None


class Anomaly(BaseModel):
    """One vital sign against the patient's own usual."""

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
    """The most unusual first."""

    patient_id: str
    as_of: datetime
    signals: list[Anomaly]


class Gap(BaseModel):
    """A vital sign that the patient has otherwise, and not lately."""

    signal: str
    hours_since_reading: float


class VisitSummary(BaseModel):
    """Everything for a teleconsultation."""

    patient_id: str
    risk: RiskAnswer
    changes: Annotated[
        list[Contribution] | None,
        Field(
            description=f"How much each signal moved the log-odds since {CHANGES_HOURS} h ago, the strongest first; null where "
            "the journal or the model cannot say, or it was withdrawn."
        ),
    ]
    history: HistoryAnswer
    alarms: Annotated[list[AlarmOut] | None, Field(description="Null to a caller who may not see alarms.")]
    anomalies: list[Anomaly]
    data_gaps: list[Gap]


def history_of(parts: Parts, patient: str, request: HistoryRequest) -> HistoryAnswer:
    """What was said of a patient, at most :data:`POINTS` times: the last of each interval."""
    until = parts.scorer.clock.now(patient)
    said = parts.log.history(patient, until - pd.Timedelta(hours=request.hours), until)
    if len(said) > POINTS:
        interval = (until - said["index_time"]).dt.total_seconds() // (request.hours * 3600 / POINTS)
        said = said[~interval.duplicated(keep="last")]
    points = [_point(row) for row in said.to_dict("records")]
    return HistoryAnswer(patient_id=request.patient_id, points=points, trend=trend_of(said))


def trend_of(said: pd.DataFrame) -> Trend:
    """The trend of risks by ``index_time``; NEWS2 has no odds, and says nothing here.

    Of the last model's alone: where another took its place, what moved may be the model and not the patient.
    """
    known = said[said["probability"].notna()]
    known = known[known["model_version"] == known["model_version"].iloc[-1]] if len(known) else known
    hours = (known["index_time"] - known["index_time"].min()).dt.total_seconds().to_numpy() / 3600
    span = float(hours.max()) if len(hours) else 0.0
    if len(np.unique(hours)) < 2:
        return Trend(direction="unknown", log_odds_per_hour=None, hours=span)
    slope = float(np.polyfit(hours, log_odds(known["probability"].to_numpy()), 1)[0])
    change = slope * span
    direction: Literal["rising", "steady", "falling"] = "rising" if change >= _TREND_LOG_ODDS else "steady"
    return Trend(direction="falling" if change <= -_TREND_LOG_ODDS else direction, log_odds_per_hour=slope, hours=span)


def anomalies_of(parts: Parts, patient: str, request: AnomaliesRequest) -> AnomaliesAnswer:
    """From the journal.

    Raises:
        ProblemError: it knows no readings of the patient, or the time is in the future.
    """
    row = _from_journal(parts, patient, request.as_of)
    return AnomaliesAnswer(patient_id=request.patient_id, as_of=row["index_time"].to_pydatetime(), signals=_anomalies(row))


def summary_of(parts: Parts, patient: str, request: HistoryRequest, risk: RiskAnswer, *, with_alarms: bool) -> VisitSummary:
    """The present risk with what surrounds it; anomalies and gaps where the journal knows the patient's readings."""
    try:
        row = _from_journal(parts, patient, None)
    except ProblemError:
        row = None
    return VisitSummary(
        patient_id=request.patient_id,
        risk=risk,
        changes=_changes(parts, patient),
        history=history_of(parts, patient, request),
        alarms=_alarms(parts, patient, request) if with_alarms else None,
        anomalies=[] if row is None else [found for found in _anomalies(row) if found.unusual],
        data_gaps=[] if row is None else _gaps(row),
    )


def _alarms(parts: Parts, patient: str, request: HistoryRequest) -> list[AlarmOut]:
    """Those that are under way, or ended within the hours asked for."""
    since = microsecond(present() - pd.Timedelta(hours=request.hours))
    rows = parts.board.alarms(patient=patient)
    return [alarm_out(row, request.patient_id) for row in rows if row["ended_at"] is None or row["ended_at"] >= since]


def _changes(parts: Parts, patient: str) -> list[Contribution] | None:
    registered = trusted(parts.champion.model)
    if registered is None or not registered.model.explains:
        return None
    now = present()
    with reading(parts.journal.engine) as connection:
        before, after = (
            features_as_of(connection, tuple(service_views(registered.feature_service)), [patient], microsecond(time))
            for time in (now - pd.Timedelta(hours=CHANGES_HOURS), now)
        )
    return None if before.empty else strongest(registered.model.what_changed(before, after).iloc[0].to_dict(), after.iloc[0])


def _from_journal(parts: Parts, patient: str, as_of: datetime | None) -> dict[str, Any]:
    problems.refuse_future(as_of)
    time = present() if as_of is None else utc(as_of)
    with reading(parts.journal.engine) as connection:
        rows = features_as_of(connection, _VIEWS, [patient], microsecond(time))
    if rows.empty:
        raise ProblemError(problems.no_readings())
    return dict(rows.iloc[0])


def _anomalies(row: dict[str, Any]) -> list[Anomaly]:
    found = []
    for vital in MEASUREMENT_ERROR:
        away, deviation = _number(row[f"{vital}_from_usual"]), _number(row[f"{vital}_anomaly"])
        level = _number(row[f"{vital}_ema_6h"])
        found.append(
            Anomaly(
                signal=vital,
                unit=SIGNALS[vital].unit,
                level=level,
                usual=None if level is None or away is None else level - away,
                deviation=deviation,
                unusual=deviation is not None and abs(deviation) >= UNUSUAL,
            )
        )
    return sorted(found, key=lambda anomaly: -abs(anomaly.deviation or 0))


def _gaps(row: dict[str, Any]) -> list[Gap]:
    """Vital signs once measured, and not within :data:`GAP_HOURS`."""
    gaps = []
    for vital in MEASUREMENT_ERROR:
        age = _number(row[f"{vital}_age_so_far"])
        if age is not None and age >= GAP_HOURS:
            gaps.append(Gap(signal=vital, hours_since_reading=age))
    return gaps


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _point(row: dict[Any, Any]) -> HistoryPoint:
    probability = row["probability"]
    return HistoryPoint(
        index_time=row["index_time"].to_pydatetime(),
        probability=None if probability is None or np.isnan(probability) else probability,
        **{
            name: row[name]
            for name in ("basis", "band", "decided_by", "news2", "news2_highest", "model_version", "feature_service")
        },
    )
