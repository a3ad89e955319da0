"""Assessment of a day: faults, drift of features and risk, and performance, compared with the champion's references."""

from dataclasses import dataclass
from typing import Any, Final

import pandas as pd

from vigil.models.monitoring.detectors import Evidence, Finding, detect_faults
from vigil.models.monitoring.feature_drift import COLUMNS, TooFewPatientsError, compare_columns
from vigil.models.monitoring.performance import estimate_day_performance, measure_performance
from vigil.models.monitoring.reference import References, summarise_highest_risks
from vigil.models.registry import RegisteredModel
from vigil.models.tasks import is_asked_once

DAY: Final = pd.Timedelta(days=1)
LOG_COLUMNS: Final = ["subject_id", "index_time", "probability", "model_version", "feature_service"]
PREDICTION: Final = "probability"  # the column of the risk


@dataclass(frozen=True)
class ObservedDay:
    """The inputs of one assessment, read from a home or from a replay.

    Attributes:
        until: the end of the day to assess.
        rows: observations received in the two days before (:data:`vigil.models.monitoring.received.COLUMNS`).
        log: predictions of the last day: :data:`LOG_COLUMNS` and the model's features.
        ends: whether they are each patient's last hour, as ``vigil predict`` makes them, and not the hours of a ward.
        judged: predictions with a known outcome, of that day or before: ``subject_id, index_time, probability, label``.
        facts: the fault that was put into a replay; empty for a home.
        young: whether the champion is less than a day old, so that it has made few predictions.
    """

    until: pd.Timestamp
    rows: pd.DataFrame
    log: pd.DataFrame
    ends: bool
    judged: pd.DataFrame
    facts: dict[str, Any]
    young: bool = False

    @property
    def last_day(self) -> pd.DataFrame:
        """Observations received in the last day."""
        return self.rows[(self.rows["recorded_at"] > self.until - DAY).to_numpy()]


@dataclass(frozen=True)
class DriftAssessment:
    """What a day looks like, before anything is decided.

    Attributes:
        findings: detected faults, and questions.
        columns: :func:`vigil.models.monitoring.feature_drift.compare_columns` of the features and the predicted risk.
        estimated: :func:`vigil.models.monitoring.performance.estimate_day_performance`.
        known: :func:`vigil.models.monitoring.performance.measure_performance`.
        patients: with a prediction or a reading, whichever are more.
    """

    findings: list[Finding]
    columns: pd.DataFrame
    estimated: dict[str, float] | None
    known: dict[str, Any] | None
    patients: int

    def faults(self) -> list[Finding]:
        """Return the findings that are no mere questions."""
        return [finding for finding in self.findings if not finding.is_question]

    @property
    def share(self) -> float:
        """Share of the features that drifted."""
        features = self.columns.loc[self.columns["column"] != PREDICTION, "drifted"]
        return float(features.mean()) if len(features) else 0.0

    @property
    def prediction_drifted(self) -> bool:
        """Whether the predicted risks drifted."""
        return bool(self.columns.loc[self.columns["column"] == PREDICTION, "drifted"].any())

    def figures(self) -> dict[str, float]:
        """Return the figures for :meth:`vigil.models.monitoring.change_control_plan.Plan.decide`."""
        figures = {
            "patients": float(self.patients),
            "prediction_drifted": float(self.prediction_drifted),
            "columns_share": self.share,
        }
        if self.estimated is not None:
            figures["estimated_auroc_lost"] = self.estimated["auroc_lost"]
        if self.known is not None:
            figures["auroc_lost"] = self.known["auroc_before"] - self.known["auroc_high"]
        return figures


def assess_day(day: ObservedDay, champion: RegisteredModel, references: References) -> DriftAssessment:
    """Detect faults, test columns for drift, and estimate and measure performance. Nothing is decided or written.

    Raises:
        OtherFeaturesError: the log and the reference hold different features.
        TooFewPatientsError: too few patients have a prediction to compare, and no fault of readings explains it.
    """
    reference, columns = comparable_days(references.days, ends=day.ends), [*champion.model.features, PREDICTION]
    log = day.log.assign(hour=day.log["index_time"].dt.hour)
    if day.ends or is_asked_once(champion.model.metadata_):  # one hour a patient, at any time of day
        reference, log = reference.assign(hour=0), log.assign(hour=0)
    of_champion = log[(log["model_version"] == champion.version).to_numpy()]
    findings = detect_faults(
        Evidence(
            rows=day.rows,
            until=day.until,
            reference=references.readings,
            log=None if day.ends or log.empty else log,
            champion=(champion.version, champion.feature_service),
            population=reference,
            judged=summarise_highest_risks(day.judged),
            judged_reference=summarise_highest_risks(references.judged),
        )
    )
    try:
        drifted = compare_columns(reference, of_champion, columns)
    except TooFewPatientsError:
        # There are few predictions where a champion is new, where it is withdrawn, or where all readings are in quarantine.
        # The findings account for the last case.
        if not (findings or champion.withdrawn or day.young):
            raise
        drifted = pd.DataFrame(columns=COLUMNS).astype({"drifted": bool})
    threshold = champion.model.thresholds_["high"]
    return DriftAssessment(
        findings=findings,
        columns=drifted,
        estimated=estimate_day_performance(of_champion, reference, references.judged, threshold),
        known=measure_performance(day.judged, references.auroc),
        patients=max(int(log["subject_id"].nunique()), int(day.last_day["subject_id"].nunique())),
    )


def comparable_days(days: pd.DataFrame, *, ends: bool) -> pd.DataFrame:
    """Select the part of the reference that resembles the log: the last hours of stays, or days of a ward."""
    return days[days["last" if ends else "in_day"].to_numpy(bool)].reset_index(drop=True)
