"""Promote: a challenger becomes champion if it passes every gate on the held-out patients; and the way back.

What the gates are is :mod:`models.promotion.gates`'s business; here both models are put before them, and the decision is
recorded: the
last one in ``HOME/reports/promotion.json``, all of them with the MLflow run of the version they are about, and in its tags.
"""

import json
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pandas as pd

from features.errors import VigilError
from features.store.client import Store
from models.evaluation.comparison import HeldOut
from models.promotion.gates import Examined, examine, refusal
from models.registry import CHALLENGER, CHAMPION, RegisteredModel, Registry
from models.seeds import SEED
from models.statistics.bootstrap import RESAMPLES
from pipelines.cohort_store import CohortStore
from pipelines.jobs.behaviour import behaviour_of
from pipelines.jobs.evaluate import candidate, judged
from pipelines.jobs.train import digest, labelled_index
from pipelines.progress import working
from pipelines.results import write_json

REPORT: Final = "promotion.json"  # under HOME/reports

Decision = dict[str, Any]


class NothingToPromoteError(VigilError):
    """The version asked for is the champion."""


class WithdrawnError(VigilError):
    """The version that would be champion was withdrawn: nobody would be served by it."""


class PromotionRefusedError(VigilError):
    """A gate stayed shut. ``decision`` is the full record."""

    def __init__(self, message: str, decision: Decision) -> None:
        super().__init__(message)
        self.decision = decision


def promote(home: Path, version: str | None = None) -> Decision:
    """Make a version (default: the challenger) champion, if it passes every gate.

    Where there is no champion, gates that compare are left out, and the record says so.

    Returns:
        The record: ``decision, decided_at, model, challenger, champion`` (None: there is none), ``held_out, gates, left_out,
        metrics``.

    Raises:
        PromotionRefusedError: it does not; the record goes with the error.
        NothingToPromoteError: it is the champion.
        WithdrawnError: it was withdrawn.
        NoModelError: there is no such version.
    """
    cohort = CohortStore(home)
    name, registry = cohort.task.name, Registry(home)
    champion = registry.load(name) if registry.has_champion(name) else None
    challenger = registry.load(name, version, CHALLENGER)
    if champion is not None and challenger.version == champion.version:
        raise NothingToPromoteError(
            f"version {challenger.version} of {name} is the champion, and there is no other to hold it against; expected a "
            "challenger: train one first (vigil train), or name another version: vigil promote --version N"
        )
    _require_trusted(registry, challenger)
    with working("training data as they are now"):
        now = digest(Store(home).training_frame(labelled_index(cohort, "train"), challenger.feature_service))
    held_out = _held_out(cohort, home, challenger, champion)
    with working("behaviour"):
        behaviour = behaviour_of(cohort, challenger.model)
    with working("gates"):
        facts = (challenger.model.facts_, champion.model.facts_ if champion else _facts(cohort))
        examined = examine(held_out, facts, now, behaviour, cohort.task)
    shut = [gate for gate in examined.gates if not gate.passed]
    decision = _decision("refused" if shut else "promoted", challenger, champion) | _evidence(examined)
    _record(home, registry, challenger, decision)
    at = decision["decided_at"]
    if shut:
        registry.tag(name, challenger.version, {"refused_at": at, "refused_by": ", ".join(gate.name for gate in shut)})
        raise PromotionRefusedError(f"version {challenger.version} of {name} is not promoted, {refusal(shut)}", decision)
    registry.promote(name, challenger.version, {"promoted_at": at})
    return decision


def roll_back(home: Path) -> Decision:
    """Make the previous champion champion again: at once, and past no gate, since it has been through them.

    Raises:
        NoModelError: there is none.
        WithdrawnError: it was withdrawn.
    """
    name, registry = CohortStore(home).task.name, Registry(home)
    champion = registry.load(name)
    previous = registry.load(name, registry.previous_champion(name))  # it can still be loaded
    _require_trusted(registry, previous)
    decision = _decision("rolled_back", champion, previous)
    _record(home, registry, champion, decision)
    registry.roll_back(name, {"rolled_back_at": decision["decided_at"]})
    return decision


def _require_trusted(registry: Registry, candidate: RegisteredModel) -> None:
    if said := registry.withdrawal(candidate.name, candidate.version):
        raise WithdrawnError(
            f"version {candidate.version} of {candidate.name} was withdrawn at {said.at:%Y-%m-%d %H:%M} UTC: {said.because}; "
            f"expected one that may be asked; reinstate it first: vigil reinstate --version {candidate.version} --because TEXT"
        )


def _facts(cohort: CohortStore) -> dict[str, Any]:
    """What a first champion has to be made of."""
    return {"task": cohort.task.name, "source": cohort.facts.source, "simulated": cohort.facts.simulated}


def _held_out(cohort: CohortStore, home: Path, challenger: RegisteredModel, champion: RegisteredModel | None) -> HeldOut:
    """Both models' answers on the same rows."""
    index, store = labelled_index(cohort, "held_out"), Store(home)
    frames: dict[str, pd.DataFrame] = {}
    candidates = {}
    for name, registered in {CHALLENGER: challenger, **({CHAMPION: champion} if champion else {})}.items():
        service = registered.feature_service
        if service not in frames:
            with working("held-out frame through Feast"):
                frames[service] = store.training_frame(index, service)
        candidates[name] = candidate(registered.model, frames[service])
    return judged(cohort, next(iter(frames.values())), candidates)  # every frame has the rows, in the same order


def _decision(what: str, subject: RegisteredModel, other: RegisteredModel | None) -> Decision:
    """``subject`` is the version that was asked about, ``other`` the one that was, or is again, champion in its place."""
    names = (CHALLENGER, CHAMPION) if what != "rolled_back" else (CHAMPION, "previous_champion")
    return {
        "decision": what,
        "decided_at": datetime.now(UTC).isoformat(timespec="microseconds"),  # no two decisions are of one name
        "model": subject.name,
        **{
            name: None if registered is None else _about(registered)
            for name, registered in zip(names, (subject, other), strict=True)
        },
    }


def _about(registered: RegisteredModel) -> dict[str, Any]:
    return {
        "version": registered.version,
        "run_id": registered.run_id,
        "feature_service": registered.feature_service,
        "data_digest": registered.model.facts_.get("data_digest"),
    }


def _evidence(examined: Examined) -> dict[str, Any]:
    return {
        "held_out": {**examined.held_out, "resamples": RESAMPLES, "seed": SEED},
        "gates": [asdict(gate) for gate in examined.gates],
        "left_out": list(examined.left_out),
        "metrics": examined.metrics,
    }


def _record(home: Path, registry: Registry, subject: RegisteredModel, decision: Decision) -> None:
    """Before anything is moved: no champion without the evidence for it."""
    path = home / "reports" / REPORT
    path.parent.mkdir(exist_ok=True)
    write_json(path, decision)
    plain = json.loads(path.read_text(encoding="utf-8"))
    with registry.run(subject.name, subject.run_id):
        registry.log(dictionaries={f"promotions/{decision['decided_at'].replace(':', '')}.json": plain})
