"""Comparison: every evaluation of every model on the same patients, in the plain numbers of ``evaluation.json``.

Each function in :data:`SECTIONS` returns some of the sections of that file.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from functools import cached_property
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vigil.features.scores import NEWS2_HIGH, NEWS2_MEDIUM
from vigil.models.alarms.budget import compare_with_rule, evaluate_budgets, summarise_alarms
from vigil.models.alarms.guarantee import Certificate, check_guarantee
from vigil.models.alarms.timeline import HORIZON, REFRACTORY_PERIOD, AlarmTimeline
from vigil.models.evaluation import Evaluation, evaluate_predictions
from vigil.models.evaluation.calibration import count_risks, measure_reliability
from vigil.models.evaluation.discrimination import roc_and_pr_curves
from vigil.models.evaluation.net_benefit import choose_thresholds, compare_net_benefit, compute_decision_curve
from vigil.models.evaluation.ranges import measure_coverage
from vigil.models.evaluation.safety import count_emergencies
from vigil.models.evaluation.subgroups import MIN_PATIENTS, measure_subgroups
from vigil.models.statistics.bootstrap import Float64, Resamples, percentile_interval

NEWS2: Final = "news2"  # the model with the score as its only feature
RULES: Final = {f"NEWS2 >= {points}": points for points in (NEWS2_MEDIUM, NEWS2_HIGH)}


@dataclass(frozen=True)
class Candidate:
    """The risks of one model, with its thresholds.

    Attributes:
        risk: probability of each row, shape (n_rows,).
        threshold: the frozen alarm threshold, a probability.
        certificate: the alarm guarantee stated in training (:mod:`vigil.models.alarms.guarantee`), if there is one.
        low, high: limits of the risk range of each row, if any.
        medium: probability from which the band is medium; None: there is no such band.
    """

    risk: Float64
    threshold: float
    certificate: Certificate | None = None
    low: Float64 | None = None
    high: Float64 | None = None
    medium: float | None = None


@dataclass(frozen=True)
class EvaluationSet:
    """The rows on which models are evaluated, and the risks of each model.

    No model has learned from these patients.

    Attributes:
        rows: ``subject_id, index_time, onset, onset_known, label``, one row per index time.
        candidates: models by name; the first is the default model.
        news2: NEWS2 of each row, if known.
        groups: the groups of each row (:func:`vigil.models.evaluation.subgroups.assign_groups`), if known.
        seed: seed of the bootstrap. It is the same for all models, so that differences are paired.
        net: the safety net's columns of each row (:func:`vigil.models.assessment.safety_net_scores`); empty: evaluate without a
            safety net.
    """

    rows: pd.DataFrame
    candidates: Mapping[str, Candidate]
    news2: Float64 | None
    groups: pd.DataFrame | None
    seed: int
    net: Mapping[str, Float64] = field(default_factory=dict)

    @property
    def default(self) -> str:
        """The name of the model that the others are compared with."""
        return next(iter(self.candidates))

    def frame(self, name: str) -> pd.DataFrame:
        """Return the rows with a model's ``probability`` and, if there is a safety net, its columns."""
        return self.rows.assign(probability=self.candidates[name].risk, **self.net)

    @cached_property
    def is_once_per_stay(self) -> bool:
        """Whether there is one prediction per stay. If so, there are no alarms."""
        return not self.rows["subject_id"].duplicated().any()

    @cached_property
    def labelled(self) -> NDArray[np.bool_]:
        """Whether each row has a label, shape (n_rows,)."""
        return np.asarray(self.rows["label"].notna())

    @cached_property
    def label(self) -> Float64:
        """The labels of the labelled rows, shape (n_labelled,)."""
        return np.asarray(self.rows.loc[self.labelled, "label"], dtype=np.float64)

    def labelled_risk(self, name: str) -> Float64:
        """Return a model's probabilities of the labelled rows, shape (n_labelled,)."""
        return self.candidates[name].risk[self.labelled]


def measure_models(held_out: EvaluationSet) -> dict[str, Any]:
    """Measure every model.

    Returns:
        ``default``, ``once``, the sizes of the evaluation set, and ``prevalence``. ``models``: every metric of each model.
        ``gains``: by how much AUROC and AUPRC of the default model exceed those of each other model. ``curves``: ROC and
        precision-recall curves.
    """
    evaluations = {
        name: evaluate_predictions(held_out.frame(name), candidate.threshold, seed=held_out.seed)
        for name, candidate in held_out.candidates.items()
    }
    default = evaluations[held_out.default]
    metrics = default.metrics
    return {
        "default": held_out.default,
        "once": held_out.is_once_per_stay,
        **{fact: metrics[fact] for fact in ("patients", "events", "index_times", "patient_days")},
        **{fact: metrics[fact] for fact in ("prevalence", "prevalence_low", "prevalence_high")},
        "models": {name: evaluation.metrics for name, evaluation in evaluations.items()},
        "gains": {
            name: _auc_gains(default, evaluation) for name, evaluation in evaluations.items() if evaluation is not default
        },
        "curves": {name: roc_and_pr_curves(held_out.label, held_out.labelled_risk(name)) for name in evaluations},
    }


def _auc_gains(ours: Evaluation, theirs: Evaluation) -> dict[str, float]:
    """Return the paired differences of AUROC and AUPRC with 95 % intervals."""
    gains: dict[str, float] = {}
    for metric in ("auroc", "auprc"):
        low, high = percentile_interval(ours.draws[metric] - theirs.draws[metric])
        gains |= {metric: ours.metrics[metric] - theirs.metrics[metric], f"{metric}_low": low, f"{metric}_high": high}
    return gains


def describe_calibration(held_out: EvaluationSet) -> dict[str, Any]:
    """Return the ``reliability`` of every model in tenths of the rows, and the ``histogram`` of the default model's risks."""
    subject_id = held_out.rows.loc[held_out.labelled, "subject_id"]
    return {
        "reliability": {
            name: records_of(measure_reliability(held_out.label, held_out.labelled_risk(name), subject_id))
            for name in held_out.candidates
        },
        "histogram": records_of(count_risks(held_out.label, held_out.labelled_risk(held_out.default))),
    }


def compare_net_benefits(held_out: EvaluationSet) -> dict[str, Any]:
    """Return ``net_benefit``: the curve of every strategy, the position of the NEWS2 rules on it, and the gain over NEWS2."""
    label = held_out.label
    risks = {name: held_out.labelled_risk(name) for name in held_out.candidates}
    at = choose_thresholds(float(label.mean()))
    score = held_out.news2[held_out.labelled] if held_out.news2 is not None else None
    rules = {rule: score >= points for rule, points in RULES.items()} if score is not None else {}
    section: dict[str, Any] = {
        "curve": records_of(compute_decision_curve(label, risks, rules, at)),
        "rules": list(rules),
        "rule_points": [],
        "gain": [],
    }
    if NEWS2 in risks:
        resamples = Resamples.draw(held_out.rows.loc[held_out.labelled, "subject_id"], held_out.seed)
        section["gain"] = records_of(compare_net_benefit(label, risks[held_out.default], risks[NEWS2], at, resamples))
        for rule, points in RULES.items() if score is not None else ():
            risks_at_score = risks[NEWS2][score == points]
            if len(risks_at_score):  # acting from this score on equals acting from this threshold probability on
                threshold = float(risks_at_score.mean())
                rule_benefit = compute_decision_curve(label, {}, {rule: rules[rule]}, np.array([threshold]))[rule].iloc[0]
                section["rule_points"].append({"rule": rule, "threshold": threshold, "net_benefit": float(rule_benefit)})
    return {"net_benefit": section}


def count_alarms(held_out: EvaluationSet) -> dict[str, Any]:
    """Count the alarms of every model, and check the alarm guarantees.

    Returns:
        ``alarms``: with the safety net at the frozen threshold and at each budget; ``parts``: of the default model and the
        safety net, alone and together; against the NEWS2 rules, models without the safety net. None for tasks with one
        prediction per stay. ``promises``: each guarantee of training, and the alarms on these patients.
    """
    if held_out.is_once_per_stay:
        return {"alarms": None, "promises": {}}
    default = held_out.candidates[held_out.default]
    numbered_rows = held_out.rows.assign(probability=np.arange(len(held_out.rows)), **held_out.net)
    seed, timeline = held_out.seed, AlarmTimeline.from_frame(numbered_rows)
    position = timeline.probability.astype(np.int64)  # position of the timeline's hours among the rows
    timelines = {name: timeline.with_score(candidate.risk[position]) for name, candidate in held_out.candidates.items()}
    rules = {}
    if held_out.news2 is not None:
        rules = {rule: (timeline.without_net().with_score(held_out.news2[position]), points) for rule, points in RULES.items()}
    frozen = {
        name: {"threshold": candidate.threshold, **summarise_alarms(timelines[name].count(candidate.threshold), seed=seed)}
        for name, candidate in held_out.candidates.items()
    }
    return {
        "alarms": {
            "silence_hours": REFRACTORY_PERIOD / timedelta(hours=1),
            "horizon_hours": HORIZON / timedelta(hours=1),
            "at_frozen_threshold": frozen,
            "parts": _summarise_parts(timelines[held_out.default], default.threshold, seed) if held_out.net else [],
            "emergencies": count_emergencies(timelines[held_out.default], default.medium, default.threshold)
            if held_out.net and default.medium is not None
            else None,
            "at_budgets": {name: records_of(evaluate_budgets(of_model, seed=seed)) for name, of_model in timelines.items()},
            "rules": [
                {"rule": rule, **summarise_alarms(of_rule.count(points), seed=seed)}
                for rule, (of_rule, points) in rules.items()
            ],
            "against_rules": {
                name: [
                    {"rule": rule, **compare_with_rule(timelines[name].without_net(), of_rule, points, seed=seed)}
                    for rule, (of_rule, points) in rules.items()
                ]
                for name in timelines
                if name != NEWS2
            },
        },
        "promises": {
            name: _check_guarantee(candidate.certificate, timelines[name])
            for name, candidate in held_out.candidates.items()
            if candidate.certificate is not None
        },
    }


def _summarise_parts(timeline: AlarmTimeline, threshold: float, seed: int) -> list[dict[str, Any]]:
    """Summarise the alarms of the model alone, of the safety net alone, and of both."""
    return [{"part": name, **summarise_alarms(part.count(threshold), seed=seed)} for name, part in timeline.parts().items()]


def _check_guarantee(certificate: Certificate, timeline: AlarmTimeline) -> dict[str, Any]:
    """Return an alarm guarantee and its check on these patients."""
    return {"certificate": asdict(certificate), "held_out": dict(check_guarantee(certificate, timeline))}


def compare_subgroups(held_out: EvaluationSet) -> dict[str, Any]:
    """Return the ``subgroups`` of the default model; empty if the groups are unknown."""
    if held_out.groups is None:
        return {"subgroups": []}
    threshold = None if held_out.is_once_per_stay else held_out.candidates[held_out.default].threshold
    table = measure_subgroups(held_out.frame(held_out.default), held_out.groups, threshold, seed=held_out.seed)
    return {"subgroups": records_of(table), "subgroup_min_patients": MIN_PATIENTS}


def compare_ranges(held_out: EvaluationSet) -> dict[str, Any]:
    """Compare the risk ``ranges`` of the default model with observed frequencies; empty if it gives no ranges."""
    candidate = held_out.candidates[held_out.default]
    if candidate.low is None or candidate.high is None:
        return {"ranges": []}
    labelled = held_out.labelled
    subject_id = held_out.rows.loc[labelled, "subject_id"]
    risk, low, high = (values[labelled] for values in (candidate.risk, candidate.low, candidate.high))
    return {"ranges": records_of(measure_coverage(held_out.label, risk, low, high, subject_id))}


SECTIONS: Final[tuple[Callable[[EvaluationSet], dict[str, Any]], ...]] = (
    measure_models,
    describe_calibration,
    compare_net_benefits,
    count_alarms,
    compare_subgroups,
    compare_ranges,
)


def records_of(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows of a table as dictionaries."""
    return [{str(key): value for key, value in row.items()} for row in table.to_dict("records")]
