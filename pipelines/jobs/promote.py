"""Promote a challenger that passes every gate on the held-out patients, or return to the previous champion.

:mod:`vigil.models.promotion.gates` defines the gates. This job puts both models through them and records the decision:
``HOME/reports/promotion.json`` holds the last one; the MLflow run and the tags of the version that it is about hold them all.
"""

import json
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, Final

import pandas as pd

from vigil.features.errors import VigilError
from vigil.models.evaluation.comparison import EvaluationSet
from vigil.models.promotion.gates import GateResults, describe_refusal, evaluate_gates
from vigil.models.registry import CHALLENGER, CHAMPION, RegisteredModel, Registry
from vigil.models.seeds import SEED
from vigil.models.statistics.bootstrap import RESAMPLES
from vigil.pipelines.cohort_store import CohortStore
from vigil.pipelines.home import Home
from vigil.pipelines.jobs.behaviour import examine_held_out_behaviour
from vigil.pipelines.jobs.evaluate import evaluation_set, score_candidate, stays_of_rows
from vigil.pipelines.jobs.train import digest, read_labelled_index
from vigil.pipelines.progress import timed_step
from vigil.pipelines.results import write_json

REPORT: Final = "promotion.json"  # under HOME/reports

Decision = dict[str, Any]


class NothingToPromoteError(VigilError):
    """A version that is the champion already."""


class WithdrawnError(VigilError):
    """A withdrawn version that would become champion, although it may not answer."""


class PromotionRefusedError(VigilError):
    """A version that failed a gate. ``decision`` is the full record."""

    def __init__(self, message: str, decision: Decision) -> None:
        super().__init__(message)
        self.decision = decision


def promote(home: Home, version: str | None = None) -> Decision:
    """Make a version (default: the challenger) the champion, if it passes every gate.

    If there is no champion, the gates that compare two models are left out, and the record says so.

    Returns:
        The record: ``decision, decided_at, model, challenger, champion`` (None: there is none), ``held_out, gates, left_out,
        metrics``.

    Raises:
        PromotionRefusedError: a gate failed; the error holds the record.
        NothingToPromoteError: the version is the champion.
        WithdrawnError: the version is withdrawn.
        NoModelError: there is no such version.
    """
    cohort = home.cohort
    name, registry = cohort.task.name, home.registry
    champion = registry.load(name) if registry.has_champion(name) else None
    challenger = registry.load(name, version, CHALLENGER)
    if champion is not None and challenger.version == champion.version:
        raise NothingToPromoteError(
            f"version {challenger.version} of {name} is the champion, and there is no other version to compare; expected a "
            "challenger: train one first (vigil train), or name another version: vigil promote --version N"
        )
    _require_not_withdrawn(registry, challenger)
    with timed_step("training data as they are now"):
        index = read_labelled_index(cohort, "train")
        present_digest = digest(home.features.read_training_frame(index, challenger.feature_service))
    held_out = _score_held_out(home, challenger, champion)
    with timed_step("behaviour"):
        behaviour = examine_held_out_behaviour(cohort, challenger.model)
    with timed_step("gates"):
        facts = (challenger.model.metadata_, champion.model.metadata_ if champion else _expected_facts(cohort))
        examined = evaluate_gates(held_out, facts, present_digest, behaviour, cohort.task)
    failed = [gate for gate in examined.gates if not gate.passed]
    decision = _new_decision("refused" if failed else "promoted", challenger, champion) | _evidence(examined)
    _record(home, challenger, decision)
    decided_at = decision["decided_at"]
    if failed:
        tags = {"refused_at": decided_at, "refused_by": ", ".join(gate.name for gate in failed)}
        registry.set_tags(name, challenger.version, tags)
        raise PromotionRefusedError(
            f"version {challenger.version} of {name} is not promoted, {describe_refusal(failed)}", decision
        )
    registry.promote(name, challenger.version, {"promoted_at": decided_at})
    return decision


def roll_back(home: Home) -> Decision:
    """Make the previous champion the champion again, at once. It has passed the gates, so they are not repeated.

    Returns:
        The record: ``decision, decided_at, model, champion`` (that was) and ``previous_champion`` (that is again).

    Raises:
        NoModelError: there is no champion, or none before it.
        WithdrawnError: the previous champion is withdrawn.
    """
    name, registry = home.cohort.task.name, home.registry
    champion = registry.load(name)
    previous = registry.load(name, registry.previous_champion(name))  # proves that it can still be loaded
    _require_not_withdrawn(registry, previous)
    decision = _new_decision("rolled_back", champion, previous)
    _record(home, champion, decision)
    registry.roll_back(name, {"rolled_back_at": decision["decided_at"]})
    return decision


def _require_not_withdrawn(registry: Registry, candidate: RegisteredModel) -> None:
    if withdrawal := registry.withdrawal(candidate.name, candidate.version):
        raise WithdrawnError(
            f"version {candidate.version} of {candidate.name} was withdrawn at {withdrawal.at:%Y-%m-%d %H:%M} UTC: "
            f"{withdrawal.because}; expected a version in use; reinstate it first: vigil reinstate --version "
            f"{candidate.version} --because TEXT"
        )


def _expected_facts(cohort: CohortStore) -> dict[str, Any]:
    """Return what a first champion must have been trained on."""
    return {"task": cohort.task.name, "source": cohort.facts.source, "simulated": cohort.facts.simulated}


def _score_held_out(home: Home, challenger: RegisteredModel, champion: RegisteredModel | None) -> EvaluationSet:
    """Score the same held-out rows with both models."""
    index = read_labelled_index(home.cohort, "held_out")
    frames: dict[str, pd.DataFrame] = {}
    candidates = {}
    for name, registered in {CHALLENGER: challenger, **({CHAMPION: champion} if champion else {})}.items():
        service = registered.feature_service
        if service not in frames:
            with timed_step("held-out frame through Feast"):
                frames[service] = home.features.read_training_frame(index, service)
        candidates[name] = score_candidate(registered.model, frames[service])
    frame = next(iter(frames.values()))  # all frames have the same rows in order
    return evaluation_set(stays_of_rows(home.cohort, frame), frame, candidates)


def _new_decision(verdict: str, subject: RegisteredModel, other: RegisteredModel | None) -> Decision:
    """Return the record of a decision about ``subject``; ``other`` is the champion, or the one that is champion again."""
    names = (CHALLENGER, CHAMPION) if verdict != "rolled_back" else (CHAMPION, "previous_champion")
    return {
        "decision": verdict,
        "decided_at": datetime.now(UTC).isoformat(timespec="microseconds"),  # names the artifact, so no two may be equal
        "model": subject.name,
        **{
            name: None if registered is None else _version_facts(registered)
            for name, registered in zip(names, (subject, other), strict=True)
        },
    }


def _version_facts(registered: RegisteredModel) -> dict[str, Any]:
    return {
        "version": registered.version,
        "run_id": registered.run_id,
        "feature_service": registered.feature_service,
        "data_digest": registered.model.metadata_.get("data_digest"),
    }


def _evidence(examined: GateResults) -> dict[str, Any]:
    return {
        "held_out": {**examined.held_out, "resamples": RESAMPLES, "seed": SEED},
        "gates": [asdict(gate) for gate in examined.gates],
        "left_out": list(examined.left_out),
        "metrics": examined.metrics,
    }


def _record(home: Home, subject: RegisteredModel, decision: Decision) -> None:
    """Write and log a decision. This comes before any alias moves: no champion is without its evidence."""
    path = home.reports / REPORT
    path.parent.mkdir(exist_ok=True)
    write_json(path, decision)
    written = json.loads(path.read_text(encoding="utf-8"))
    with home.registry.run(subject.name, subject.run_id):
        home.registry.log(dictionaries={f"promotions/{decision['decided_at'].replace(':', '')}.json": written})
