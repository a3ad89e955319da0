"""The course of a subject's risk: what was predicted over the last hours, and where it is going."""

from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import pandas as pd

from vigil.features.catalogue import service_views
from vigil.models.alarms.critical_bounds import Bound
from vigil.models.alarms.safety_net import Band
from vigil.models.assessment import Basis, DecidedBy, usable_model
from vigil.models.registry import RegisteredModel
from vigil.models.training.risk_model import log_odds
from vigil.serving.records.clock import Clock
from vigil.serving.records.journal import Journal
from vigil.serving.records.prediction_log import PredictionLog
from vigil.serving.records.timestamps import microsecond, present
from vigil.serving.scoring.risk_report import Contribution, strongest_contributions
from vigil.serving.scoring.subject_state import features_as_of

CHANGES_HOURS: Final = 6  # the shorter of the windows that most features look back
MAX_POINTS: Final = 200
# A course is called rising or falling from this change of its log-odds on: 2.7 times the odds. Ours.
_TREND_LOG_ODDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class RiskPoint:
    """One past risk, as of its index time. ``decided_by``: None where an earlier version did not store it."""

    index_time: pd.Timestamp
    basis: Basis
    probability: float | None
    band: Band
    decided_by: DecidedBy | None
    news2: int
    news2_highest: int
    model_version: str | None
    feature_service: str


@dataclass(frozen=True, slots=True)
class Trend:
    """The slope of a straight line through the log-odds of the last model.

    Attributes:
        direction: by the change over the whole time.
        log_odds_per_hour: None where fewer than two times are known.
        hours: from the first to the last risk.
    """

    direction: Literal["rising", "steady", "falling", "unknown"]
    log_odds_per_hour: float | None
    hours: float


def risk_history(log: PredictionLog, clock: Clock, subject: str, hours: float) -> tuple[list[RiskPoint], Trend]:
    """Return a subject's risks of the last hours, oldest first, and their trend.

    At most :data:`MAX_POINTS` are returned: the last of each interval.
    """
    until = clock.now(subject)
    logged = log.history(subject, until - pd.Timedelta(hours=hours), until)
    if len(logged) > MAX_POINTS:
        interval = (until - logged["index_time"]).dt.total_seconds() // (hours * 3600 / MAX_POINTS)
        logged = logged[~interval.duplicated(keep="last")]
    return [risk_point(row) for row in logged.to_dict("records")], trend_of(logged)


def recent_bounds(journal: Journal, clock: Clock, subject: str, hours: float) -> list[Bound]:
    """Return a subject's bounds of the last hours, oldest first."""
    until = clock.now(subject)
    with journal.snapshot() as snapshot:
        return snapshot.bounds(subject, microsecond(until - pd.Timedelta(hours=hours)), microsecond(until))


def trend_of(logged: pd.DataFrame) -> Trend:
    """Return the trend of logged risks by ``index_time``. NEWS2 has no odds, and does not count.

    Only risks of the last model version count: where another took its place, the model may have moved and not the patient.
    """
    known = logged[logged["probability"].notna()]
    known = known[known["model_version"] == known["model_version"].iloc[-1]] if len(known) else known
    hours = (known["index_time"] - known["index_time"].min()).dt.total_seconds().to_numpy() / 3600
    span = float(hours.max()) if len(hours) else 0.0
    if len(np.unique(hours)) < 2:
        return Trend("unknown", None, span)
    slope = float(np.polyfit(hours, log_odds(known["probability"].to_numpy()), 1)[0])
    change = slope * span
    direction: Literal["rising", "steady", "falling"] = "rising" if change >= _TREND_LOG_ODDS else "steady"
    return Trend("falling" if change <= -_TREND_LOG_ODDS else direction, slope, span)


def recent_changes(journal: Journal, registered: RegisteredModel | None, subject: str) -> list[Contribution] | None:
    """Return how much each signal moved the log-odds since :data:`CHANGES_HOURS` ago, the strongest first.

    None: the model cannot say, or was withdrawn, or the journal did not know the subject then.
    """
    model = usable_model(registered)
    if model is None or not model.model.can_explain:
        return None
    now = present()
    views = tuple(service_views(model.feature_service))
    with journal.snapshot() as snapshot:
        before, after = (
            features_as_of(snapshot, views, [subject], microsecond(time))
            for time in (now - pd.Timedelta(hours=CHANGES_HOURS), now)
        )
    if before.empty:
        return None
    return strongest_contributions(model.model.contribution_changes(before, after).iloc[0].to_dict(), after.iloc[0])


def risk_point(row: dict[Any, Any]) -> RiskPoint:
    """Return a logged risk as a point of a course."""
    probability = row["probability"]
    names = ("index_time", "basis", "band", "decided_by", "news2", "news2_highest", "model_version", "feature_service")
    return RiskPoint(
        probability=None if probability is None or np.isnan(probability) else probability,
        **{name: row[name] for name in names},
    )
