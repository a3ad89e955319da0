"""Every question asked of every model on the same patients; the answers are plain numbers, as JSON holds them."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from functools import cached_property
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from features.scores import NEWS2_HIGH, NEWS2_MEDIUM
from models.alarms.budget import against_rule, at_budgets, summary
from models.alarms.guarantee import Certificate, check
from models.alarms.timeline import HORIZON, SILENCE, Watch
from models.evaluation import Judged, judge
from models.evaluation.calibration import histogram, reliability
from models.evaluation.discrimination import curves
from models.evaluation.net_benefit import decision_curve, gain, thresholds
from models.evaluation.ranges import coverage
from models.evaluation.safety import emergencies
from models.evaluation.subgroups import MIN_PATIENTS, subgroups
from models.statistics.bootstrap import Float64, Resamples, percentile

NEWS2: Final = "news2"  # the model whose only feature is the score
RULES: Final = {f"NEWS2 >= {points}": points for points in (NEWS2_MEDIUM, NEWS2_HIGH)}


@dataclass(frozen=True)
class Candidate:
    """A model's answers.

    Attributes:
        risk: probability at each row.
        threshold: the frozen alarm threshold.
        certificate: the alarm promise made in training (:mod:`models.alarms.guarantee`), if one was made.
        low, high: the range given with each probability, if any.
        medium: probability from which a risk is medium; None: there is no such band.
    """

    risk: Float64
    threshold: float
    certificate: Certificate | None = None
    low: Float64 | None = None
    high: Float64 | None = None
    medium: float | None = None


@dataclass(frozen=True)
class HeldOut:
    """Patients no model has seen, and what each model says of them.

    Attributes:
        rows: ``subject_id, index_time, onset, onset_known, label``, one row an index time.
        candidates: by name; the first is the default model.
        news2: NEWS2 at each row, if known.
        net: the same as the safety net sees it (:func:`models.assessment.net_of`); empty: judge models without a net.
        groups: the groups each row belongs to (:func:`models.evaluation.subgroups.groups`), if known.
        seed: of the bootstrap; the same for all, so that differences are paired.
    """

    rows: pd.DataFrame
    candidates: Mapping[str, Candidate]
    news2: Float64 | None
    groups: pd.DataFrame | None
    seed: int
    net: Mapping[str, Float64] = field(default_factory=dict)

    @property
    def default(self) -> str:
        """The model that the others are held against."""
        return next(iter(self.candidates))

    def frame(self, name: str) -> pd.DataFrame:
        """The rows with a model's ``probability``, and with what the safety net sees where there is one."""
        return self.rows.assign(probability=self.candidates[name].risk, **self.net)

    @cached_property
    def once(self) -> bool:
        """Whether the question is asked once a stay: then there are no alarms."""
        return not self.rows["subject_id"].duplicated().any()

    @cached_property
    def labelled(self) -> NDArray[np.bool_]:
        """Rows with a label, shape (n_rows,)."""
        return np.asarray(self.rows["label"].notna())

    @cached_property
    def label(self) -> Float64:
        """Labels of the rows that have one."""
        return np.asarray(self.rows.loc[self.labelled, "label"], dtype=np.float64)

    def known_risk(self, name: str) -> Float64:
        """A model's probabilities at the rows that have a label."""
        return self.candidates[name].risk[self.labelled]


def ranking(held_out: HeldOut) -> dict[str, Any]:
    """``models``: every metric; ``gains``: the default model's AUROC and AUPRC beyond each other's; ``curves``."""
    judged = {
        name: judge(held_out.frame(name), candidate.threshold, seed=held_out.seed)
        for name, candidate in held_out.candidates.items()
    }
    first = judged[held_out.default]
    metrics = first.metrics
    return {
        "default": held_out.default,
        "once": held_out.once,
        **{fact: metrics[fact] for fact in ("patients", "events", "index_times", "patient_days")},
        **{fact: metrics[fact] for fact in ("prevalence", "prevalence_low", "prevalence_high")},
        "models": {name: found.metrics for name, found in judged.items()},
        "gains": {name: _gain(first, found) for name, found in judged.items() if found is not first},
        "curves": {name: curves(held_out.label, held_out.known_risk(name)) for name in judged},
    }


def _gain(ours: Judged, theirs: Judged) -> dict[str, float]:
    found: dict[str, float] = {}
    for metric in ("auroc", "auprc"):
        low, high = percentile(ours.draws[metric] - theirs.draws[metric])
        found |= {metric: ours.metrics[metric] - theirs.metrics[metric], f"{metric}_low": low, f"{metric}_high": high}
    return found


def calibrated(held_out: HeldOut) -> dict[str, Any]:
    """``reliability`` of every model in tenths of the rows, and the ``histogram`` of the default model's risks."""
    subject_id = held_out.rows.loc[held_out.labelled, "subject_id"]
    return {
        "reliability": {
            name: _records(reliability(held_out.label, held_out.known_risk(name), subject_id)) for name in held_out.candidates
        },
        "histogram": _records(histogram(held_out.label, held_out.known_risk(held_out.default))),
    }


def benefit(held_out: HeldOut) -> dict[str, Any]:
    """``net_benefit``: the curve of every strategy, where the NEWS2 rules stand on it, and the gain over NEWS2."""
    label = held_out.label
    risks = {name: held_out.known_risk(name) for name in held_out.candidates}
    at = thresholds(float(label.mean()))
    score = held_out.news2[held_out.labelled] if held_out.news2 is not None else None
    rules = {rule: score >= points for rule, points in RULES.items()} if score is not None else {}
    found: dict[str, Any] = {
        "curve": _records(decision_curve(label, risks, rules, at)),
        "rules": list(rules),
        "rule_points": [],
        "gain": [],
    }
    if NEWS2 in risks:
        resamples = Resamples.of(held_out.rows.loc[held_out.labelled, "subject_id"], held_out.seed)
        found["gain"] = _records(gain(label, risks[held_out.default], risks[NEWS2], at, resamples))
        for rule, points in RULES.items() if score is not None else ():
            reached = risks[NEWS2][score == points]
            if len(reached):  # who acts from so many points on acts as if at this threshold probability
                p = float(reached.mean())
                stands = decision_curve(label, {}, {rule: rules[rule]}, np.array([p]))[rule].iloc[0]
                found["rule_points"].append({"rule": rule, "threshold": p, "net_benefit": float(stands)})
    return {"net_benefit": found}


def alarmed(held_out: HeldOut) -> dict[str, Any]:
    """``alarms`` of every model with the safety net: at the frozen threshold, over budgets; what came of ``promises``.

    ``parts`` says what the default model and the net sound alone and together; beside the NEWS2 rules stand models without it.
    """
    if held_out.once:
        return {"alarms": None, "promises": {}}
    default = held_out.candidates[held_out.default]
    numbered = held_out.rows.assign(probability=np.arange(len(held_out.rows)), **held_out.net)
    seed, ordered = held_out.seed, Watch.of(numbered)
    place = ordered.probability.astype(np.int64)  # where the watched hours stand among the rows
    watches = {name: ordered.scored(candidate.risk[place]) for name, candidate in held_out.candidates.items()}
    rules = {}
    if held_out.news2 is not None:
        rules = {rule: (ordered.without_net().scored(held_out.news2[place]), points) for rule, points in RULES.items()}
    frozen = {
        name: {"threshold": candidate.threshold, **summary(watches[name].count(candidate.threshold), seed=seed)}
        for name, candidate in held_out.candidates.items()
    }
    return {
        "alarms": {
            "silence_hours": SILENCE / timedelta(hours=1),
            "horizon_hours": HORIZON / timedelta(hours=1),
            "at_frozen_threshold": frozen,
            "parts": _parts(watches[held_out.default], default.threshold, seed) if held_out.net else [],
            "emergencies": emergencies(watches[held_out.default], default.medium, default.threshold)
            if held_out.net and default.medium is not None
            else None,
            "at_budgets": {name: _records(at_budgets(watch, seed=seed)) for name, watch in watches.items()},
            "rules": [{"rule": rule, **summary(watch.count(at), seed=seed)} for rule, (watch, at) in rules.items()],
            "against_rules": {
                name: [
                    {"rule": rule, **against_rule(watches[name].without_net(), watch, at, seed=seed)}
                    for rule, (watch, at) in rules.items()
                ]
                for name in watches
                if name != NEWS2
            },
        },
        "promises": {
            name: _promise(candidate.certificate, watches[name])
            for name, candidate in held_out.candidates.items()
            if candidate.certificate is not None
        },
    }


def _parts(watch: Watch, threshold: float, seed: int) -> list[dict[str, Any]]:
    """What sounds by the model alone, by the safety net alone, and by both."""
    return [{"part": name, **summary(part.count(threshold), seed=seed)} for name, part in watch.parts().items()]


def _promise(certificate: Certificate, watch: Watch) -> dict[str, Any]:
    return {"certificate": asdict(certificate), "held_out": dict(check(certificate, watch))}


def served(held_out: HeldOut) -> dict[str, Any]:
    """``subgroups`` of the default model; empty where nothing is known of the patients."""
    if held_out.groups is None:
        return {"subgroups": []}
    threshold = None if held_out.once else held_out.candidates[held_out.default].threshold
    found = subgroups(held_out.frame(held_out.default), held_out.groups, threshold, seed=held_out.seed)
    return {"subgroups": _records(found), "subgroup_min_patients": MIN_PATIENTS}


def ranged(held_out: HeldOut) -> dict[str, Any]:
    """``ranges`` of the default model and what was observed; empty where it gives none."""
    candidate = held_out.candidates[held_out.default]
    if candidate.low is None or candidate.high is None:
        return {"ranges": []}
    known = held_out.labelled
    subject_id = held_out.rows.loc[known, "subject_id"]
    risk, low, high = (values[known] for values in (candidate.risk, candidate.low, candidate.high))
    return {"ranges": _records(coverage(held_out.label, risk, low, high, subject_id))}


SECTIONS: Final[tuple[Callable[[HeldOut], dict[str, Any]], ...]] = (ranking, calibrated, benefit, alarmed, served, ranged)


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(key): value for key, value in row.items()} for row in table.to_dict("records")]
