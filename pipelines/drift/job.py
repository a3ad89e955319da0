"""The drift job: what came and what was predicted of late, judged by the champion's reference and by the plan."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pandas as pd

from features.errors import VigilError
from models.monitoring.change_control_plan import Plan, read_plan
from models.registry import Registry
from pipelines.cohort_store import CohortStore
from pipelines.drift.assessment import RESULT, Drift, References, Status, alike, judge
from pipelines.drift.decisions import Decision, carry_out, decide, record, reinstated_at
from pipelines.drift.inputs import Recent, of_home, read_outcomes, read_replay
from pipelines.progress import working
from pipelines.results import replace_json
from serving.records.timestamps import present

EXIT: Final[Mapping[Status, int]] = {Status.FINE: 0, Status.DRIFT: 1, Status.BROKEN: 3}  # 2: the command cannot be carried out


class BrokenError(VigilError):
    """Nothing can be said, which is a verdict of its own."""

    exit_status = EXIT[Status.BROKEN]


def drift(
    home: Path, *, hours: float | None = None, outcomes: Path | None = None, replay: Path | None = None, act: bool = False
) -> Drift:
    """Judge the last day of a home, or a replay; decide, record, and write the reports under ``HOME/reports``.

    Args:
        home: whose champion, references and plan.
        hours: how far to look back for predictions; default: a day.
        outcomes: a file of what became of patients (:func:`pipelines.drift.inputs.read_outcomes`).
        replay: a folder of ``vigil simulate-fault`` that takes the place of the home's last day; nothing in use changes then.
        act: also recalibrate or retrain, where the plan asks for it. To withdraw waits for nobody.

    Raises:
        PlanError: the plan cannot be followed.
        RecentError: the outcomes cannot be read, or the replay.
        BrokenError: nothing can be said of a home that was judged before: there is no champion, no reference or no log, or
            they cannot be compared.
    """
    # First what was typed: a slip in it is no verdict on the model.
    plan, told = read_plan(home), None if outcomes is None else read_outcomes(outcomes)
    try:
        return _drift(home, plan, hours, told, replay, act=act)
    except VigilError as error:
        if replay is not None or not (home / "reports").is_dir():
            raise
        # Or those who watch the figures would go on seeing the last ones.
        at, status = present().isoformat(timespec="seconds"), Status.BROKEN.name.lower()
        replace_json(home / "reports" / RESULT, {"status": status, "judged_at": at, "error": str(error)})
        raise BrokenError(str(error)) from None


def _drift(
    home: Path, plan: Plan, hours: float | None, outcomes: pd.DataFrame | None, replay: Path | None, *, act: bool
) -> Drift:
    facts, registry = CohortStore(home).facts, Registry.existing(home)
    champion = registry.load(facts.task)
    references = References.of(registry, champion)
    recent = (
        read_replay(replay) if replay is not None else of_home(home, champion, hours, outcomes, settled=reinstated_at(home))
    )
    with working("drift"):
        found = judge(recent, champion, references)
        decision = decide(*plan.decide(found.findings, found.figures()))
    readings = _readings(recent)
    if champion.withdrawn and decision.action == "none" and replay is None:
        seen = "the readings of the last day show no fault" if readings["used"] else "no readings came, so nothing can be said"
        said = f"version {champion.version} is withdrawn; {seen}; if the cause is gone: vigil reinstate --because TEXT"
        decision = dataclasses.replace(decision, outcome=said)
    decision = carry_out(decision, plan, home, champion, recent.judged, act=act, rehearsal=replay is not None)
    simulated = facts.simulated or bool(recent.about.get("simulated"))
    result = Drift(
        status=Status.BROKEN if champion.withdrawn and replay is None else _status(decision),
        judged_at=present().isoformat(timespec="seconds"),
        until=recent.until.isoformat(timespec="seconds"),
        model={"name": champion.name, "version": champion.version},
        source="simulated ward: not clinical evidence" if simulated else facts.source,
        replay={key: value for key, value in recent.about.items() if key != "until"},
        judgement=found,
        decision=decision,
        readings=readings,
    )
    evidence = result.as_dict()
    if decision.action != "none" and replay is None:
        record(home, decision, evidence)
    from pipelines.drift.report import write_report  # Evidently takes seconds to import, and a broken log needs none of it

    with working("drift report"):
        write_report(home, result, recent, alike(references.days, ends=recent.ends), champion)
    if replay is None:
        with registry.run(champion.name, champion.run_id):
            stamp = result.judged_at.replace(":", "")
            told = {} if decision.action == "none" else {f"drift/{stamp}.json": _without_devices(evidence)}
            registry.log(metrics=_metrics(result), dictionaries=told)
    return result


def _status(decision: Decision) -> Status:
    if decision.action == "withdraw":
        return Status.BROKEN
    return Status.FINE if decision.action == "none" else Status.DRIFT


def _readings(recent: Recent) -> dict[str, Any]:
    rows = recent.last_day
    reasons = rows.loc[(rows["reason"] != "").to_numpy(), "reason"].astype(str).value_counts()
    return {
        "came": len(rows),
        "used": int((rows["reason"] == "").sum()),
        "unused": {str(k): int(v) for k, v in reasons.items()},
    }


def _without_devices(evidence: dict[str, Any]) -> dict[str, Any]:
    """For a registry that others may read: a device is a patient's."""
    findings = [
        finding if finding["place"] != "device" else {**finding, "where": [], "says": "see the report of the home"}
        for finding in evidence["findings"]
    ]
    return {**evidence, "findings": findings}


def _metrics(result: Drift) -> dict[str, float]:
    found = result.judgement
    figures = {"status": float(result.status), "faults": float(len(found.findings)), "columns_share": found.share}
    for name, values in (("estimated", found.estimated), ("known", found.known)):
        figures |= {f"{name}.{key}": values[key] for key in ("auroc", "auprc", "brier") if values is not None}
    return {f"drift.{name}": value for name, value in figures.items()}
