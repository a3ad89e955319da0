"""Decisions of the plan: recorded with their evidence, and carried out."""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from filelock import FileLock, Timeout

from features.errors import VigilError
from models.monitoring.change_control_plan import Act, Action, Plan, Rule
from models.monitoring.reference import AUROC, JUDGED_REFERENCE, REFERENCE, judged_hours
from models.monitoring.signal_reference import READING_REFERENCE
from models.promotion.recalibration import RecalibrationError, recalibrate
from models.registry import CHAMPION, RegisteredModel, Registry
from models.seeds import SEED
from models.version_history import made
from pipelines.cohort_store import CohortStore
from pipelines.jobs.train import train
from pipelines.results import replace_json
from serving.records.timestamps import present
from serving.records.ward_settings import Wards

FOLDER: Final = "decisions"  # under HOME: one file each, kept for good
_LOCK: Final = "acting.lock"  # held while a model is recalibrated or trained
_ARTEFACT: Final = "recalibrated"


class ReinstateError(VigilError):
    """There is nothing to reinstate."""


@dataclass(frozen=True)
class Decision:
    """What the plan asks for.

    Attributes:
        action: the strongest.
        rules: that apply, the strongest first.
        because: why, in words.
        carried_out: whether something in use has changed, or a challenger is there.
        outcome: what was done, or what is to be done and by whom.
        decided_at: ISO 8601, UTC.
    """

    action: Action
    rules: tuple[str, ...]
    because: str
    carried_out: bool
    outcome: str
    decided_at: str

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def decide(action: Action, rules: list[Rule]) -> Decision:
    """The decision as it stands before anything is done about it."""
    because = "; ".join(f"{rule.name}: {rule.because}" for rule in rules if rule.then == action)
    outcome = {"none": "nothing is to be done", "warn": "look at the findings"}.get(action, "")
    return Decision(
        action,
        tuple(rule.name for rule in rules),
        because,
        carried_out=False,
        outcome=outcome,
        decided_at=present().isoformat(),
    )


def carry_out(
    decision: Decision, plan: Plan, home: Path, champion: RegisteredModel, judged: pd.DataFrame, *, act: bool, rehearsal: bool
) -> Decision:
    """Do what was decided: withdraw at once, change a model only where ``act`` says so, and nothing in a rehearsal.

    Args:
        decision: of :func:`decide`.
        plan: what stops an action.
        home: whose model.
        champion: it.
        judged: predictions whose outcome is known.
        act: whether to recalibrate and to retrain.
        rehearsal: a replay is judged, so nothing in use may change.
    """
    by = plan.act(decision.action)
    if by is None or decision.action == "warn":
        return decision
    if rehearsal:
        return replace(decision, outcome=f"a rehearsal: nothing was done; in earnest: {by.does}")
    if champion.withdrawn:  # a person has to say that it may be asked again, before anything else is done with it
        said = "nothing new: it is withdrawn already" if decision.action == "withdraw" else "not begun: it is withdrawn"
        return replace(decision, outcome=f"{said}; when the cause is gone: vigil reinstate")
    if decision.action == "withdraw":
        Registry(home).withdraw(champion.name, champion.version, decision.because, pd.Timestamp(decision.decided_at))
        said = f"version {champion.version} is withdrawn, risks are NEWS2; when the cause is gone: vigil reinstate"
        return replace(decision, carried_out=True, outcome=said)
    try:  # one run at a time, for a training may last longer than until the next
        held = FileLock(home / FOLDER / _LOCK).acquire(blocking=False)
    except Timeout:
        return replace(decision, outcome="not begun: another run of vigil drift is changing the model")
    with held:
        return _changed(decision, by, home, champion, judged, act=act)


def _changed(
    decision: Decision, by: Act, home: Path, champion: RegisteredModel, judged: pd.DataFrame, *, act: bool
) -> Decision:
    """Recalibrate or retrain, if nothing stops it."""
    stopped = _stopped(home, decision.action, by, judged) or _pointless(home, decision.action, champion)
    if stopped:
        return replace(decision, outcome=stopped)
    if not act:
        return replace(decision, outcome=f"due: {by.does}; begin it with vigil drift --act")
    if decision.action == "retrain":
        trained = train(home)
        outcome = f"version {trained.version} is {trained.alias}; it has to pass every gate: vigil promote"
        return replace(decision, carried_out=True, outcome=outcome)
    return _recalibrated(decision, home, champion, judged)


def record(home: Path, decision: Decision, evidence: dict[str, Any]) -> Path:
    """Keep a decision with its evidence, one file each; returns it. What says again what the last said is not kept again."""
    folder = home / FOLDER
    last = sorted(folder.glob("*.json"))[-1:]
    if last and _alike(json.loads(last[0].read_text()), decision, evidence):
        return last[0]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{pd.Timestamp(decision.decided_at):%Y%m%dT%H%M%S.%f}-{decision.action}.json"
    replace_json(path, {**decision.as_dict(), "evidence": evidence})
    return path


def _alike(last: dict[str, Any], decision: Decision, evidence: dict[str, Any]) -> bool:
    def named(found: dict[str, Any]) -> list[tuple[Any, ...]]:
        return [(one["fault"], one["signal"], tuple(one["where"])) for one in found.get("findings", [])]

    same = (last["action"], last["rules"]) == (decision.action, list(decision.rules))
    return same and not decision.carried_out and named(last["evidence"]) == named(evidence)


def withdraw(home: Path, because: str, version: str | None = None) -> Decision:
    """A version (default: the champion) must not be asked any more: a person says so, and why. Risks are NEWS2 from then on.

    Raises:
        ReinstateError: it is withdrawn already.
        NoModelError: there is no such version.
    """
    registry, name, version = _asked_about(home, version)
    if (said := registry.withdrawal(name, version)) is not None:
        raise ReinstateError(
            f"version {version} of {name} is withdrawn already, since {said.at:%Y-%m-%d %H:%M} UTC: {said.because}"
        )
    at = present()
    registry.withdraw(name, version, because, at.to_pydatetime())
    outcome = f"version {version} is not asked any more; a server that is up gives NEWS2 within seconds"
    decision = Decision("withdraw", (), because, carried_out=True, outcome=outcome, decided_at=at.isoformat())
    record(home, decision, {})
    return decision


def reinstate(home: Path, because: str, version: str | None = None) -> Decision:
    """A version (default: the champion) may be asked again: a person says so, and why.

    Raises:
        ReinstateError: it is not withdrawn.
        NoModelError: there is no such version.
    """
    registry, name, version = _asked_about(home, version)
    said = registry.withdrawal(name, version)
    if said is None:
        raise ReinstateError(f"version {version} of {name} is not withdrawn; there is nothing to reinstate")
    registry.reinstate(name, version)
    decision = Decision(
        "reinstate",
        (),
        because,
        carried_out=True,
        outcome=f"version {version} is asked again",
        decided_at=present().isoformat(),
    )
    record(home, decision, {"withdrawn_at": said.at.isoformat(), "was": said.because})
    return decision


def _asked_about(home: Path, version: str | None) -> tuple[Registry, str, str]:
    """The registry, the model, and the version that a person means: the champion where they name none."""
    registry, name = Registry.existing(home), CohortStore(home).task.name
    return registry, name, version or registry.version_of(name, CHAMPION)


def reinstated_at(home: Path) -> pd.Timestamp | None:
    """When a person last said that a model may be asked again: what was held against it before is settled."""
    last = sorted((home / FOLDER).glob("*-reinstate.json"))[-1:]
    return pd.Timestamp(json.loads(last[0].read_text())["decided_at"]) if last else None


def _stopped(home: Path, action: Action, by: Act, judged: pd.DataFrame) -> str:
    """What stops an action, if anything does."""
    if by.needs is not None:
        patients = judged["subject_id"].nunique()
        events = judged.loc[judged["label"] == 1, "subject_id"].nunique()
        if patients < by.needs.patients or events < by.needs.events:
            return (
                f"not begun: the outcomes of {patients} patients are known, {events} with an event; the plan asks "
                f"for {by.needs.patients} and {by.needs.events}"
            )
    if by.at_most_every_days is not None:
        since = present() - pd.Timedelta(days=by.at_most_every_days)
        for path in sorted((home / FOLDER).glob(f"*-{action}.json"), reverse=True):
            before = json.loads(path.read_text())
            if before["carried_out"] and pd.Timestamp(before["decided_at"]) > since:
                done = before["decided_at"][:16]
                return f"not begun: done at {done}, and the plan allows it every {by.at_most_every_days:g} days"
    return ""


def _pointless(home: Path, action: Action, champion: RegisteredModel) -> str:
    """Why an action would not help, if it would not."""
    if action == "recalibrate" and Wards(home, strict=True).have_thresholds:
        return (
            "not begun: wards.toml holds thresholds, which are of the probabilities of today; take them out, recalibrate, and "
            "propose them anew (vigil wards)"
        )
    if action == "retrain":
        trained = pd.Timestamp(made(Registry(home), champion)["trained_at"])
        if pd.Timestamp(CohortStore(home).ingested_at, unit="s", tz="UTC") < trained:
            return f"not begun: nothing was ingested since version {champion.version} was trained; ingest recent patients first"
    return ""


def _recalibrated(decision: Decision, home: Path, champion: RegisteredModel, judged: pd.DataFrame) -> Decision:
    """A version with other probabilities in the champion's place, if it is better on patients it was not fitted on."""
    try:
        found = recalibrate(champion.model, judged, seed=SEED)
    except RecalibrationError as error:
        return replace(decision, outcome=f"not done: {error}")
    figures = (
        f"log loss {found.before['log_loss']:.4f} to {found.after['log_loss']:.4f} (saves {found.gain_low:.4f} to "
        f"{found.gain_high:.4f}), slope {found.after['calibration_slope']:.2f}, intercept "
        f"{found.after['calibration_intercept']:+.2f}, on {found.patients} other patients with {found.events} events"
    )
    if not found.valid:
        return replace(decision, outcome=f"refused by its validation: {figures}")
    registry = Registry(home)
    found.model.facts_ |= {"recalibrates": champion.version}
    reference = registry.table(champion.run_id, REFERENCE)
    today = judged.assign(probability=found.risk(judged["probability"].to_numpy(np.float64)))
    tables = {
        REFERENCE: reference.assign(probability=found.risk(reference["probability"].to_numpy(np.float64))),
        READING_REFERENCE: registry.table(champion.run_id, READING_REFERENCE),
        JUDGED_REFERENCE: judged_hours(today),  # how often events are now is what is usual from now on
    }
    with registry.run(champion.name) as run_id:
        registry.log(
            params={"recalibrates": champion.version},
            metrics={AUROC: registry.metrics(champion.run_id)[AUROC]},  # ranks are held to what was promised first
            dictionaries={"recalibration.json": found.as_dict()},
            tables=tables,
        )
        registry.log_models({_ARTEFACT: found.model}, reference.head(100))
    version, _ = registry.register(run_id, _ARTEFACT, champion.name, {"recalibrates": champion.version})
    registry.promote(champion.name, version, {"promoted_at": decision.decided_at})
    return replace(decision, carried_out=True, outcome=f"version {version} is champion: {figures}")
