"""The drift job: assess the last day, decide by the plan, carry it out, record and report it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pandas as pd

from vigil.features.errors import VigilError
from vigil.models.monitoring.assessment import DriftAssessment, ObservedDay, assess_day, comparable_days
from vigil.models.monitoring.change_control_plan import Plan, read_plan
from vigil.models.monitoring.reference import References
from vigil.models.monitoring.report_schema import (
    REPORT_FILE,
    ColumnsRecord,
    Decision,
    DriftReport,
    ModelRecord,
    OutcomesRecord,
    PerformanceRecord,
    ReadingsRecord,
    Status,
    without_nan,
)
from vigil.models.registry import RegisteredModel, Registry
from vigil.pipelines.drift.decisions import Retrain, carry_out, decide, record, reinstated_at
from vigil.pipelines.drift.inputs import count_known, read_home, read_outcomes, read_replay
from vigil.pipelines.home import Home
from vigil.pipelines.progress import timed_step
from vigil.pipelines.results import replace_json
from vigil.serving.records.timestamps import present

EXIT: Final[Mapping[Status, int]] = {Status.FINE: 0, Status.DRIFT: 1, Status.BROKEN: 3}  # 2: wrong use of the command
_SHOWN_COLUMNS: Final = 20  # in a report, or all that drifted


class BrokenError(VigilError):
    """The job failed. This is a verdict of its own."""

    exit_status = EXIT[Status.BROKEN]


@dataclass(frozen=True)
class DriftRun:
    """Outcome of the job.

    Attributes:
        status: broken where the model is, or has to be, withdrawn; fine where the plan asks for nothing; else drift.
        judged_at, until: when the day was assessed, and its end; ISO 8601, UTC.
        model: ``name, version``.
        source: where the patients come from, with a warning where they are simulated.
        replay: what was put into a replay; empty for a home.
        judgement, decision: the assessment, and what follows from it.
        readings: of the last day.
        outcomes: how many patients of the given file of outcomes are known here; None: none was given.
    """

    status: Status
    judged_at: str
    until: str
    model: dict[str, str]
    source: str
    replay: dict[str, Any]
    assessment: DriftAssessment
    decision: Decision
    readings: ReadingsRecord
    outcomes: OutcomesRecord | None = None

    def report(self) -> DriftReport:
        """Return the report for ``drift.json``. It shows the columns that drifted, and the next ones."""
        assessment = self.assessment
        columns = assessment.columns
        shown = columns.head(max(_SHOWN_COLUMNS, int(columns["drifted"].sum())))
        performance = without_nan({"estimated": assessment.estimated, "known": assessment.known})
        return DriftReport.model_validate(
            {
                "status": self.status.name.lower(),
                "judged_at": self.judged_at,
                "until": self.until,
                "model": ModelRecord.model_validate(self.model),
                "source": self.source,
                "replay": self.replay,
                "patients": assessment.patients,
                "readings": self.readings,
                "findings": [finding.record() for finding in assessment.findings],
                "columns": ColumnsRecord.model_validate(
                    {
                        "share": assessment.share,
                        "prediction_drifted": assessment.prediction_drifted,
                        "drifted": columns.loc[columns["drifted"], "column"].tolist(),
                        "judged": len(columns),
                        "shown": without_nan(shown.to_dict("records")),
                    }
                ),
                "performance": PerformanceRecord.model_validate(performance),
                "decision": self.decision,
                **({} if self.outcomes is None else {"outcomes": self.outcomes}),
            }
        )

    def as_dict(self) -> dict[str, Any]:
        """Return the report as a dictionary, for JSON."""
        return self.report().as_dict()


def run_drift(
    home: Home,
    *,
    hours: float | None = None,
    outcomes: Path | None = None,
    replay: Path | None = None,
    act: bool = False,
    retrain: Retrain | None = None,
) -> DriftRun:
    """Assess the last day of a home, or a replay; decide, record, and write the reports under ``HOME/reports``.

    Args:
        home: holds the champion, its references and the plan.
        hours: how far to look back for predictions; default: a day.
        outcomes: a file of known outcomes (:func:`vigil.pipelines.drift.inputs.read_outcomes`).
        replay: a folder of ``vigil simulate-fault``, assessed in place of the home's last day. Then nothing in use changes.
        act: also recalibrate or retrain, where the plan asks for it. A withdrawal does not need it.
        retrain: trains a challenger; None: retraining stays due.

    Raises:
        PlanError: the plan cannot be read.
        DriftInputError: the outcomes or the replay cannot be read.
        BrokenError: a home with reports cannot be assessed: it has no champion, no reference or no log, or they cannot be
            compared.
    """
    # Errors of the command line come first: they are no verdict on the model.
    plan, given = read_plan(home.path), None if outcomes is None else read_outcomes(outcomes)
    known = None if given is None else count_known(home.path, given)
    try:
        return _run(home, plan, hours, given, known, replay, act=act, retrain=retrain)
    except VigilError as error:
        if replay is not None or not home.reports.is_dir():
            raise
        # Without this, those who watch the figures would still see the last ones.
        report = DriftReport.model_validate({"status": "broken", "judged_at": present(), "error": str(error)})
        replace_json(home.reports / REPORT_FILE, report.as_dict())
        raise BrokenError(str(error)) from None


def _run(
    home: Home,
    plan: Plan,
    hours: float | None,
    outcomes: pd.DataFrame | None,
    known: OutcomesRecord | None,
    replay: Path | None,
    *,
    act: bool,
    retrain: Retrain | None,
) -> DriftRun:
    facts, registry = home.cohort.facts, Registry.open_existing(home.path)
    champion = registry.load(facts.task)
    references = References.load(registry, champion)
    recent = (
        read_replay(replay)
        if replay is not None
        else read_home(home.path, champion, hours, outcomes, settled=reinstated_at(home))
    )
    with timed_step("drift"):
        assessment = assess_day(recent, champion, references)
        decision = decide(*plan.decide(assessment.faults(), assessment.figures()))
    readings = _count_readings(recent)
    if champion.withdrawn and decision.action == "none" and replay is None:
        decision = decision.model_copy(update={"outcome": _withdrawn_outcome(champion, readings)})
    drill = replay is not None
    decision = carry_out(decision, plan, home, champion, recent.judged, act=act, drill=drill, retrain=retrain)
    simulated = facts.simulated or bool(recent.facts.get("simulated"))
    result = DriftRun(
        status=Status.BROKEN if champion.withdrawn and not drill else _status(decision),
        judged_at=present().isoformat(timespec="seconds"),
        until=recent.until.isoformat(timespec="seconds"),
        model={"name": champion.name, "version": champion.version},
        source="simulated ward: not clinical evidence" if simulated else facts.source,
        replay={key: value for key, value in recent.facts.items() if key != "until"},
        assessment=assessment,
        decision=decision,
        readings=readings,
        outcomes=known,
    )
    evidence = result.as_dict()
    if decision.action != "none" and not drill:
        record(home, decision, evidence)
    from vigil.pipelines.drift.report import (
        write_report,
    )  # Evidently takes seconds to import, and a failing run needs none of it

    with timed_step("drift report"):
        write_report(home, result, recent, comparable_days(references.days, ends=recent.ends), champion)
    if not drill:
        _log_to_registry(registry, champion, result, evidence)
    return result


def _withdrawn_outcome(champion: RegisteredModel, readings: ReadingsRecord) -> str:
    """Return what a clean day means for a withdrawn model."""
    state = "the readings of the last day show no fault" if readings.used else "no readings arrived, so nothing is known"
    return f"version {champion.version} is withdrawn; {state}; if the cause is gone: vigil reinstate --because TEXT"


def _status(decision: Decision) -> Status:
    if decision.action == "withdraw":
        return Status.BROKEN
    return Status.FINE if decision.action == "none" else Status.DRIFT


def _count_readings(recent: ObservedDay) -> ReadingsRecord:
    rows = recent.last_day
    reasons = rows.loc[(rows["reason"] != "").to_numpy(), "reason"].astype(str).value_counts()
    return ReadingsRecord(
        came=len(rows),
        used=int((rows["reason"] == "").sum()),
        unused={str(reason): int(count) for reason, count in reasons.items()},
    )


def _log_to_registry(registry: Registry, champion: RegisteredModel, result: DriftRun, evidence: dict[str, Any]) -> None:
    """Add the metrics to the champion's run, and the evidence where the plan asks for something."""
    stamp = result.judged_at.replace(":", "")
    files = {} if result.decision.action == "none" else {f"drift/{stamp}.json": _without_devices(evidence)}
    with registry.run(champion.name, champion.run_id):
        registry.log(metrics=_metrics(result), dictionaries=files)


def _without_devices(evidence: dict[str, Any]) -> dict[str, Any]:
    """Remove the names of devices, for a registry that others may read: a device may be one patient's."""
    findings = [
        finding if finding["place"] != "device" else {**finding, "where": [], "says": "see the report of the home"}
        for finding in evidence["findings"]
    ]
    return {**evidence, "findings": findings}


def _metrics(result: DriftRun) -> dict[str, float]:
    assessment = result.assessment
    figures = {
        "status": float(result.status),
        "faults": float(len(assessment.faults())),
        "columns_share": assessment.share,
    }
    for name, values in (("estimated", assessment.estimated), ("known", assessment.known)):
        figures |= {f"{name}.{key}": values[key] for key in ("auroc", "auprc", "brier") if values is not None}
    return {f"drift.{name}": value for name, value in figures.items()}
