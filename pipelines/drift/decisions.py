"""Decisions of the plan: carried out, and recorded with their evidence."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import pandas as pd
from filelock import FileLock, Timeout

from vigil.features.errors import VigilError
from vigil.models.monitoring.change_control_plan import ActionTerms, Plan, Rule
from vigil.models.monitoring.reference import References, select_judged_hours
from vigil.models.monitoring.report_schema import Action, Decision
from vigil.models.promotion.recalibration import RecalibrationError, recalibrate
from vigil.models.registry import CHAMPION, RegisteredModel, Registry
from vigil.models.seeds import SEED
from vigil.models.version_history import describe_training
from vigil.pipelines.home import Home
from vigil.pipelines.results import replace_json
from vigil.serving.records.timestamps import present
from vigil.serving.records.ward_settings import WardSettingsFile

DECISIONS_FOLDER: Final = "decisions"  # under HOME: one file for each decision, never removed
_LOCK: Final = "acting.lock"  # held while a model is recalibrated or trained
_ARTEFACT: Final = "recalibrated"


class RegisteredVersion(Protocol):
    """A version that training registered."""

    @property
    def version(self) -> str: ...
    @property
    def alias(self) -> str: ...


Retrain = Callable[[Home], RegisteredVersion]  # trains a challenger on the cohort of a home


class ReinstateError(VigilError):
    """The model is not withdrawn, or it is withdrawn already."""


def decide(action: Action, rules: list[Rule]) -> Decision:
    """Return the decision before anything is done about it.

    Args:
        action: the strongest that the plan asks for.
        rules: that apply, the strongest first.
    """
    return Decision(
        action=action,
        rules=tuple(rule.name for rule in rules),
        because="; ".join(f"{rule.name}: {rule.because}" for rule in rules if rule.then == action),
        carried_out=False,
        outcome={"none": "nothing has to be done", "warn": "look at the findings"}.get(action, ""),
        decided_at=present().isoformat(),
    )


def carry_out(
    decision: Decision,
    plan: Plan,
    home: Home,
    champion: RegisteredModel,
    judged: pd.DataFrame,
    *,
    act: bool,
    drill: bool,
    retrain: Retrain | None = None,
) -> Decision:
    """Carry a decision out, and return it with its outcome.

    A model is withdrawn at once. It is recalibrated or retrained only where ``act`` says so.

    Args:
        decision: of :func:`decide`.
        plan: holds the terms of the action.
        home: of the champion.
        champion: the model.
        judged: predictions with a known outcome.
        act: whether to recalibrate and to retrain.
        drill: a replay is judged, so nothing in use may change.
        retrain: trains a challenger; None: retraining stays due.
    """
    terms = plan.terms(decision.action)
    if terms is None or decision.action == "warn":
        return decision
    if drill:
        return _not_done(decision, f"a drill: nothing was done; in earnest: {terms.does}")
    if champion.withdrawn:  # a person has to reinstate it before anything else is done with it
        state = "nothing new: it is withdrawn already" if decision.action == "withdraw" else "not begun: it is withdrawn"
        return _not_done(decision, f"{state}; when the cause is gone: vigil reinstate")
    if decision.action == "withdraw":
        home.registry.withdraw(champion.name, champion.version, decision.because, pd.Timestamp(decision.decided_at))
        return _done(
            decision, f"version {champion.version} is withdrawn, risks are NEWS2; when the cause is gone: vigil reinstate"
        )
    try:  # one run at a time: training may last until after the next run begins
        lock = FileLock(home.path / DECISIONS_FOLDER / _LOCK).acquire(blocking=False)
    except Timeout:
        return _not_done(decision, "not begun: another run of vigil drift is changing the model")
    with lock:
        return _change_model(decision, terms, home, champion, judged, act=act, retrain=retrain)


def _change_model(
    decision: Decision,
    terms: ActionTerms,
    home: Home,
    champion: RegisteredModel,
    judged: pd.DataFrame,
    *,
    act: bool,
    retrain: Retrain | None,
) -> Decision:
    """Recalibrate or retrain, if nothing stops it."""
    obstacle = _plan_obstacle(home, decision.action, terms, judged) or _futility(home, decision.action, champion)
    if obstacle:
        return _not_done(decision, obstacle)
    if act and decision.action == "recalibrate":
        return _recalibrate(decision, home, champion, judged)
    if act and retrain is not None:
        trained = retrain(home)
        return _done(decision, f"version {trained.version} is {trained.alias}; it has to pass every gate: vigil promote")
    return _not_done(decision, f"due: {terms.does}; begin it with vigil drift --act")


def record(home: Home, decision: Decision, evidence: dict[str, Any]) -> Path:
    """Write a decision with its evidence to a file of its own, and return the file.

    A decision that repeats the last one is not written again; then the file of the last is returned.
    """
    folder = home.path / DECISIONS_FOLDER
    last = sorted(folder.glob("*.json"))[-1:]
    if last and _is_repetition(json.loads(last[0].read_text()), decision, evidence):
        return last[0]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{pd.Timestamp(decision.decided_at):%Y%m%dT%H%M%S.%f}-{decision.action}.json"
    replace_json(path, {**decision.as_dict(), "evidence": evidence})
    return path


def withdraw(home: Home, because: str, version: str | None = None) -> Decision:
    """Withdraw a version (default: the champion) on behalf of a person, so that risks are NEWS2; record the reason.

    Raises:
        ReinstateError: it is withdrawn already.
        NoModelError: there is no such version.
    """
    registry, name, version = _resolve_version(home, version)
    if (withdrawal := registry.withdrawal(name, version)) is not None:
        since = f"{withdrawal.at:%Y-%m-%d %H:%M} UTC"
        raise ReinstateError(f"version {version} of {name} is withdrawn already, since {since}: {withdrawal.because}")
    at = present()
    registry.withdraw(name, version, because, at.to_pydatetime())
    outcome = f"version {version} is withdrawn; a running server gives NEWS2 within seconds"
    decision = Decision(
        action="withdraw", rules=(), because=because, carried_out=True, outcome=outcome, decided_at=at.isoformat()
    )
    record(home, decision, {})
    return decision


def reinstate(home: Home, because: str, version: str | None = None) -> Decision:
    """Reinstate a withdrawn version (default: the champion) on behalf of a person; record the reason.

    Raises:
        ReinstateError: it is not withdrawn.
        NoModelError: there is no such version.
    """
    registry, name, version = _resolve_version(home, version)
    withdrawal = registry.withdrawal(name, version)
    if withdrawal is None:
        raise ReinstateError(f"version {version} of {name} is not withdrawn; there is nothing to reinstate")
    registry.reinstate(name, version)
    decision = Decision(
        action="reinstate",
        rules=(),
        because=because,
        carried_out=True,
        outcome=f"version {version} is in use again",
        decided_at=present().isoformat(),
    )
    record(home, decision, {"withdrawn_at": withdrawal.at.isoformat(), "was": withdrawal.because})
    return decision


def reinstated_at(home: Home) -> pd.Timestamp | None:
    """Return when a person last reinstated a model. Evidence against it from before then is settled."""
    last = sorted((home.path / DECISIONS_FOLDER).glob("*-reinstate.json"))[-1:]
    return pd.Timestamp(json.loads(last[0].read_text())["decided_at"]) if last else None


def _resolve_version(home: Home, version: str | None) -> tuple[Registry, str, str]:
    """Return the registry, the model of the home's task, and the version; the champion where none is given."""
    registry, name = Registry.open_existing(home.path), home.cohort.task.name
    return registry, name, version or registry.version_with_alias(name, CHAMPION)


def _done(decision: Decision, outcome: str) -> Decision:
    return decision.model_copy(update={"carried_out": True, "outcome": outcome})


def _not_done(decision: Decision, outcome: str) -> Decision:
    return decision.model_copy(update={"outcome": outcome})


def _is_repetition(last: dict[str, Any], decision: Decision, evidence: dict[str, Any]) -> bool:
    """Return whether a decision has the action, the rules and the findings of the last one, and changed nothing."""

    def locations(record: dict[str, Any]) -> list[tuple[Any, ...]]:
        return [(finding["fault"], finding["signal"], tuple(finding["where"])) for finding in record.get("findings", [])]

    same = (last["action"], last["rules"]) == (decision.action, list(decision.rules))
    return same and not decision.carried_out and locations(last["evidence"]) == locations(evidence)


def _plan_obstacle(home: Home, action: Action, terms: ActionTerms, judged: pd.DataFrame) -> str:
    """Return what in the plan stops an action; empty: nothing."""
    if terms.needs is not None:
        patients = judged["subject_id"].nunique()
        events = judged.loc[judged["label"] == 1, "subject_id"].nunique()
        if patients < terms.needs.patients or events < terms.needs.events:
            return (
                f"not begun: the outcomes of {patients} patients are known, {events} with an event; the plan asks "
                f"for {terms.needs.patients} and {terms.needs.events}"
            )
    if terms.at_most_every_days is not None:
        since = present() - pd.Timedelta(days=terms.at_most_every_days)
        for path in sorted((home.path / DECISIONS_FOLDER).glob(f"*-{action}.json"), reverse=True):
            earlier = json.loads(path.read_text())
            if earlier["carried_out"] and pd.Timestamp(earlier["decided_at"]) > since:
                done_at = earlier["decided_at"][:16]
                return f"not begun: done at {done_at}, and the plan allows it every {terms.at_most_every_days:g} days"
    return ""


def _futility(home: Home, action: Action, champion: RegisteredModel) -> str:
    """Return why an action would not help; empty: it may."""
    if action == "recalibrate" and WardSettingsFile(home.path, strict=True).has_thresholds:
        return (
            "not begun: wards.toml holds thresholds, and they belong to the probabilities of today; remove them, recalibrate, "
            "and propose new ones (vigil wards)"
        )
    if action == "retrain":
        trained = pd.Timestamp(describe_training(home.registry, champion)["trained_at"])
        if pd.Timestamp(home.cohort.ingested_at, unit="s", tz="UTC") < trained:
            return f"not begun: nothing was ingested since version {champion.version} was trained; ingest recent patients first"
    return ""


def _recalibrate(decision: Decision, home: Home, champion: RegisteredModel, judged: pd.DataFrame) -> Decision:
    """Register a version with other probabilities as champion, if it is better on patients it was not fitted on."""
    try:
        result = recalibrate(champion.model, judged, seed=SEED)
    except RecalibrationError as error:
        return _not_done(decision, f"not done: {error}")
    figures = (
        f"log loss {result.before['log_loss']:.4f} to {result.after['log_loss']:.4f} (saves {result.gain_low:.4f} to "
        f"{result.gain_high:.4f}), slope {result.after['calibration_slope']:.2f}, intercept "
        f"{result.after['calibration_intercept']:+.2f}, on {result.patients} other patients with {result.events} events"
    )
    if not result.valid:
        return _not_done(decision, f"refused by its validation: {figures}")
    registry = home.registry
    result.model.metadata_ |= {"recalibrates": champion.version}
    before = References.load(registry, champion)
    recalibrated_days = before.days.assign(probability=result.risk(before.days["probability"].to_numpy(np.float64)))
    today = judged.assign(probability=result.risk(judged["probability"].to_numpy(np.float64)))
    references = References(
        days=recalibrated_days,
        judged=select_judged_hours(today),  # the frequency of events today is the usual one from now on
        readings=before.readings,
        auroc=before.auroc,  # the ranking is still compared with that of the first version
    )
    with registry.run(champion.name, what="recalibrated") as run_id:
        registry.log(
            params={"recalibrates": champion.version},
            metrics=references.metrics(),
            dictionaries={"recalibration.json": result.as_dict()},
            tables=references.tables(),
        )
        registry.log_models({_ARTEFACT: result.model}, before.days.head(100))
    version, _ = registry.register(run_id, _ARTEFACT, champion.name, {"recalibrates": champion.version})
    registry.promote(champion.name, version, {"promoted_at": decision.decided_at})
    return _done(decision, f"version {version} is champion: {figures}")
