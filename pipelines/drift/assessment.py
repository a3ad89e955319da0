"""What a day looks like beside the champion's references, and what is made known of it."""

from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final

import pandas as pd

from models.monitoring import performance
from models.monitoring.detectors import Evidence, Finding, name_faults
from models.monitoring.feature_drift import COLUMNS, TooFewPatientsError, column_drift
from models.monitoring.reference import AUROC, JUDGED_REFERENCE, REFERENCE, highest_risks
from models.monitoring.signal_reference import READING_REFERENCE
from models.registry import NoModelError, RegisteredModel, Registry
from models.tasks import TASKS
from pipelines.drift.decisions import Decision
from pipelines.drift.inputs import Recent

PREDICTION: Final = "probability"
RESULT: Final = "drift.json"  # under HOME/reports
_EXPLAINED: Final = 20  # columns that a report lists


class Status(IntEnum):
    """What an operator's scheduler needs: the exit status of ``vigil drift``."""

    FINE = 0
    DRIFT = 1
    BROKEN = 2  # the model is withdrawn; or, of the command, an error


@dataclass(frozen=True)
class References:
    """What is kept with a champion's run to compare with.

    Attributes:
        days: :func:`models.monitoring.reference.patient_days`.
        judged: :func:`models.monitoring.reference.judged_hours`.
        readings: :func:`models.monitoring.signal_reference.reading_reference`.
        auroc: of training patients, out of fold; through recalibrations the first.
    """

    days: pd.DataFrame
    judged: pd.DataFrame
    readings: pd.DataFrame
    auroc: float

    @classmethod
    def of(cls, registry: Registry, champion: RegisteredModel) -> "References":
        """Of a version.

        Raises:
            NoModelError: its run has none.
        """
        days, judged, readings = (
            registry.table(champion.run_id, name) for name in (REFERENCE, JUDGED_REFERENCE, READING_REFERENCE)
        )
        metrics = registry.metrics(champion.run_id)
        if AUROC not in metrics:
            raise NoModelError(
                f"run {champion.run_id}: made by another version of Vigil, without {AUROC}; train anew: vigil train"
            )
        return cls(days, judged, readings, metrics[AUROC])


@dataclass(frozen=True)
class Judgement:
    """What a day looks like, before anything is decided.

    Attributes:
        findings: faults that were named.
        columns: :func:`models.monitoring.feature_drift.column_drift` of the features and the predicted risk.
        estimated: performance expected without labels, or None.
        known: performance measured, or None.
        patients: of whom there are predictions or readings, whichever are more.
    """

    findings: list[Finding]
    columns: pd.DataFrame
    estimated: dict[str, float] | None
    known: dict[str, Any] | None
    patients: int

    @property
    def share(self) -> float:
        """Of the features that drifted."""
        features = self.columns.loc[self.columns["column"] != PREDICTION, "drifted"]
        return float(features.mean()) if len(features) else 0.0

    @property
    def prediction_drifted(self) -> bool:
        """Whether predicted risks lie otherwise."""
        return bool(self.columns.loc[self.columns["column"] == PREDICTION, "drifted"].any())

    def figures(self) -> dict[str, float]:
        """What the plan asks for."""
        found = {
            "patients": float(self.patients),
            "prediction_drifted": float(self.prediction_drifted),
            "columns_share": self.share,
        }
        if self.estimated is not None:
            found["estimated_auroc_lost"] = self.estimated["auroc_lost"]
        if self.known is not None:
            found["auroc_lost"] = self.known["auroc_before"] - self.known["auroc_high"]
        return found


@dataclass(frozen=True)
class Drift:
    """Outcome of the job.

    Attributes:
        status: broken where the plan withdraws the model or has done so, fine where it asks for nothing, drift else.
        judged_at, until: when it was judged, and the end of the day that was; ISO 8601, UTC.
        model: ``name, version``.
        source: where patients come from, with a word of warning where they are simulated.
        replay: what was put into a replay; empty for a home.
        judgement, decision: what was found, and what follows.
        readings: ``came, used`` and ``unused`` by reason, of the last day.
    """

    status: Status
    judged_at: str
    until: str
    model: dict[str, str]
    source: str
    replay: dict[str, Any]
    judgement: Judgement
    decision: Decision
    readings: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """For JSON; of the columns those that drifted, and the next ones."""
        found = self.judgement
        columns = found.columns
        shown = columns.head(max(_EXPLAINED, int(columns["drifted"].sum())))
        return {
            "status": self.status.name.lower(), "judged_at": self.judged_at, "until": self.until, "model": self.model,
            "source": self.source, "replay": self.replay, "patients": found.patients, "readings": self.readings,
            "findings": [finding.as_dict() for finding in found.findings],
            "columns": {
                "share": found.share, "prediction_drifted": found.prediction_drifted,
                "drifted": columns.loc[columns["drifted"], "column"].tolist(),
                "judged": len(columns), "shown": shown.to_dict("records"),
            },
            "performance": {"estimated": found.estimated, "known": found.known},
            "decision": self.decision.as_dict(),
        }  # fmt: skip


def judge(recent: Recent, champion: RegisteredModel, references: References) -> Judgement:
    """Everything that is found, before anything is decided or written.

    Raises:
        OtherFeaturesError: log and reference are not of the same features.
        TooFewPatientsError: too few have a prediction to be compared, and no fault of readings says why.
    """
    reference, columns = alike(references.days, ends=recent.ends), [*champion.model.features, PREDICTION]
    log = recent.log.assign(hour=recent.log["index_time"].dt.hour)
    if recent.ends or TASKS[str(champion.model.facts_["task"])].index == "end":  # one hour a patient, whatever the time of day
        reference, log = reference.assign(hour=0), log.assign(hour=0)
    of_champion = log[(log["model_version"] == champion.version).to_numpy()]
    findings = name_faults(
        Evidence(
            rows=recent.rows,
            until=recent.until,
            reference=references.readings,
            log=None if recent.ends or log.empty else log,
            champion=(champion.version, champion.feature_service),
            population=reference,
            judged=highest_risks(recent.judged),
            judged_reference=highest_risks(references.judged),
        )
    )
    try:
        drifted = column_drift(reference, of_champion, columns)
    except TooFewPatientsError:
        # A new champion has said little yet, a withdrawn one is asked nothing, and one whose readings are all in quarantine
        # cannot be: the readings say why.
        if not (findings or champion.withdrawn or recent.young):
            raise
        drifted = pd.DataFrame(columns=COLUMNS).astype({"drifted": bool})
    return Judgement(
        findings=findings,
        columns=drifted,
        estimated=performance.expected(of_champion, reference, references.judged, champion.model.thresholds_["high"]),
        known=performance.measured(recent.judged, references.auroc),
        patients=max(int(log["subject_id"].nunique()), int(recent.last_day["subject_id"].nunique())),
    )


def alike(days: pd.DataFrame, *, ends: bool) -> pd.DataFrame:
    """Of the reference what looks as the log does: the last hours of stays, or days of a ward."""
    return days[days["last" if ends else "in_day"].to_numpy(bool)].reset_index(drop=True)
