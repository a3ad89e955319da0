"""Promotion gates: the written conditions that a challenger must meet before it becomes champion.

Gates use patients that neither model has seen. A first version has no champion to compare with. It must pass the gates of
behaviour when it is trained.

Each gate takes metrics, and states whether they pass, what was found, what was expected, and what to do if they do not. All
limits are written in this package. Both models are evaluated on the same rows and the same resamples of the patients
(:mod:`vigil.models.statistics.bootstrap`), so all differences are paired.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from vigil.models.alarms.guarantee import Certificate, check_guarantee
from vigil.models.alarms.timeline import AlarmTimeline
from vigil.models.evaluation.comparison import EvaluationSet, measure_models
from vigil.models.evaluation.group_changes import Groups, compare_groups
from vigil.models.formatting import format_interval, format_number, format_percent, format_percent_interval
from vigil.models.promotion.behaviour_gates import check_directions, check_vignettes
from vigil.models.promotion.gate import Gate
from vigil.models.tasks import RiskTask

__all__ = ["Gate", "GateResults", "check_behaviour", "describe_refusal", "evaluate_gates"]

# Slope 1 and intercept 0 are right (Van Calster B, et al. Calibration: the Achilles heel of predictive analytics. BMC Med
# 2019;17:230). That paper gives no limits. These are ours, symmetric: log-odds at most a quarter too wide or too narrow
# (0.8 = 1 / 1.25), and observed odds at most about a fifth off the predicted ones (exp(0.2) = 1.22). A model is refused if its
# whole 95 % interval lies outside. An estimate from a dozen events shows little, and if the interval had to lie inside, a small
# hospital could never improve its model.
LOWEST_SLOPE: Final = 0.8
HIGHEST_SLOPE: Final = 1.25
MOST_SHIFT: Final = 0.2  # log-odds, either way

MOST_RECALL_LOST: Final = 0.10  # of a group large enough to judge

_SAME: Final = ("task", "source", "simulated")  # facts that a challenger must share with the champion, or with the cohort
_COMPARED: Final = ("better", "subgroups")  # gates that compare the challenger with a champion


@dataclass(frozen=True)
class GateResults:
    """The results of all gates, and the metrics behind them.

    Attributes:
        gates: every gate, in order.
        held_out: ``patients, events, index_times`` of the evaluation.
        metrics: metrics of each model by name (:class:`vigil.models.evaluation.Evaluation`).
        left_out: names of gates that were left out because there is no champion to compare with.
    """

    gates: list[Gate]
    held_out: dict[str, float]
    metrics: dict[str, dict[str, float]]
    left_out: tuple[str, ...]


def evaluate_gates(
    held_out: EvaluationSet,
    facts: tuple[Mapping[str, Any], Mapping[str, Any]],
    digest: str,
    examination: Mapping[str, Any],
    task: RiskTask,
) -> GateResults:
    """Evaluate every gate, also after one has failed.

    Args:
        held_out: with the challenger as first candidate and, if there is one, the champion as second.
        facts: metadata of the challenger (``RiskModel.metadata_``), and those of the champion. Without a champion the
            second are those of the cohort.
        digest: digest of the training data as the feature store gives them now.
        examination: the challenger's behaviour (:func:`vigil.models.behaviour.examination.examine_behaviour`).
        task: the task. With one prediction per stay there are no alarms and no alarm guarantee.
    """
    once, (challenger, *champions) = task.index == "end", held_out.candidates
    measured = measure_models(held_out)
    candidate = held_out.candidates[challenger]
    guarantee = None if once else candidate.certificate
    guarantee_check = (
        check_guarantee(guarantee, AlarmTimeline.from_frame(held_out.frame(challenger))) if guarantee is not None else None
    )
    gates = [
        check_data(*facts, digest),
        *(check_improvement(measured["gains"][champion]) for champion in champions),
        check_calibration(measured["models"][challenger]),
        *(check_subgroups(compare_groups(held_out, alarms=not once)) for _ in champions),
        check_alarm_guarantee(guarantee, guarantee_check, once_per_stay=once, reason=facts[0].get("no_promise", "")),
        *check_behaviour(examination),
    ]
    sizes = {fact: measured[fact] for fact in ("patients", "events", "index_times")}
    return GateResults(gates, sizes, measured["models"], () if champions else _COMPARED)


def check_behaviour(examination: Mapping[str, Any]) -> list[Gate]:
    """Evaluate the gates of behaviour, which a first champion must pass too.

    Args:
        examination: the result of :func:`vigil.models.behaviour.examination.examine_behaviour`.
    """
    return [check_vignettes(examination["vignettes"]), check_directions(examination)]


def describe_refusal(shut: Sequence[Gate]) -> str:
    """Describe the first failed gate in one line that also names the others."""
    first, also = shut[0], ", ".join(gate.name for gate in shut[1:])
    return (
        f"gate {first.name}: found {first.found}; expected {first.expected}; what to do: {first.remedy}"
        f"{f' (also refused by: {also})' if also else ''}"
    )


def check_data(challenger: Mapping[str, Any], champion: Mapping[str, Any], digest: str) -> Gate:
    """Check that the challenger learned from the data in the feature store, for the same task and source as the champion.

    Args:
        challenger: ``metadata_`` of the challenger.
        champion: ``metadata_`` of the champion; without one ``task, source, simulated`` of the cohort.
        digest: digest of the challenger's training data as the feature store gives them now.
    """
    expected = {"data_digest": digest, **{fact: champion.get(fact) for fact in _SAME}}
    actual = {fact: challenger.get(fact) for fact in expected}
    differing = [fact for fact in expected if actual[fact] != expected[fact]]
    return Gate(
        name="data",
        passed=not differing,
        found=_describe_facts(actual, differing or expected),
        expected=_describe_facts(expected, differing or expected),
        remedy="train again on the data of this home (vigil train), or ingest the data that the challenger was trained on",
        figures={"found": actual, "expected": expected},
    )


def check_improvement(gain: Mapping[str, float]) -> Gate:
    """Check that the challenger ranks better than the champion with 95 % confidence.

    An equal model, such as the same training repeated, must not replace the model of a ward.

    Args:
        gain: paired differences, challenger minus champion: ``auroc, auprc``, each with ``_low`` and ``_high`` (95 %).
    """
    auroc, auprc = (format_interval(_without_nan(gain), metric, 4, signed=True) for metric in ("auroc", "auprc"))
    return Gate(
        name="better",
        passed=gain["auroc_low"] > 0,
        found=f"AUROC {auroc} and AUPRC {auprc} above those of the champion (95 % CI)",
        expected="a lower limit of the AUROC difference above 0",
        remedy="keep the champion; try again with a challenger trained on more data, or with more held-out patients",
        figures=dict(gain),
    )


def check_calibration(metrics: Mapping[str, float]) -> Gate:
    """Check that the challenger's risks are calibrated.

    Args:
        metrics: ``calibration_slope`` and ``calibration_intercept`` of the challenger, each with ``_low`` and ``_high`` (95 %).
    """
    shown = _without_nan(metrics)
    return Gate(
        name="calibration",
        passed=_overlaps(metrics, "calibration_slope", LOWEST_SLOPE, HIGHEST_SLOPE)
        and _overlaps(metrics, "calibration_intercept", -MOST_SHIFT, MOST_SHIFT),
        found=(
            f"slope {format_interval(shown, 'calibration_slope')} and intercept "
            f"{format_interval(shown, 'calibration_intercept', signed=True)} (95 % CI)"
        ),
        expected=(
            f"intervals that overlap a slope from {LOWEST_SLOPE:g} to {HIGHEST_SLOPE:g} and an intercept from "
            f"{-MOST_SHIFT:g} to {MOST_SHIFT:g}"
        ),
        remedy="look at the reliability plot (vigil evaluate); train on patients like those that the model will serve",
        figures={name: value for name, value in metrics.items() if name.startswith(("calibration_slope", "calibration_int"))},
    )


def check_subgroups(compared: Groups) -> Gate:
    """Check that no group of patients is served worse than by the champion, as far as the data can show.

    A group is harmed if its AUROC is lower with 95 % confidence, or if its event recall at the frozen thresholds is lower by
    more than 0.10 with 95 % confidence. With a dozen groups, chance sometimes refuses a challenger that harms no group. That is
    the cheaper mistake.

    Args:
        compared: the result of :func:`vigil.models.evaluation.group_changes.compare_groups`.
    """
    judged = [row for row in compared if row["enough"]]
    harmed = {_group_name(row): harm for row in judged if (harm := _describe_harm(row))}
    few = [_group_name(row) for row in compared if not row["enough"]]
    counts = f"of {len(judged)} groups large enough to judge {len(harmed) or 'none'} harmed, {len(few)} too small to judge"
    return Gate(
        name="subgroups",
        passed=not harmed,
        found="; ".join([*(f"{group}: {harm}" for group, harm in harmed.items()), counts]),
        expected=(
            "in every group AUROC not lower with 95 % confidence, and event recall not lower by more than "
            f"{MOST_RECALL_LOST:.2f} with 95 % confidence"
        ),
        remedy="keep the champion; find out why the challenger is worse for these patients, and train again",
        figures={"harmed": list(harmed), "too_small": few, "groups": judged},
    )


def check_alarm_guarantee(
    certificate: Certificate | None, outcome: Mapping[str, Any] | None, *, once_per_stay: bool, reason: str = ""
) -> Gate:
    """Check that the challenger has an alarm guarantee, and that it is not broken on the held-out patients.

    Args:
        certificate: the alarm guarantee stated in training, if there is one.
        outcome: its check on the held-out patients (:func:`vigil.models.alarms.guarantee.check_guarantee`).
        once_per_stay: whether there is one prediction per stay. If so, no guarantee is required.
        reason: why training stated none, if known (:func:`vigil.models.alarms.guarantee.explain_no_guarantee`).
    """
    expected, figures = "an alarm guarantee from training", dict(outcome or {})
    if once_per_stay:
        found = "not required: there is one prediction per stay, so no alarms sound"
    elif certificate is None or outcome is None:
        found = f"no guarantee: {reason or 'the training patients allowed none'}"
    else:
        shown = _without_nan(outcome)
        found = (
            f"{format_number(shown['alarms_per_patient_day'])} alarms per patient-day at a precision of "
            f"{format_percent(shown['precision'], 2)}"
        )
        net, allowed = figures.get("net_alarms_per_patient_day", 0.0), certificate.max_alarms_per_patient_day
        found += f"; the safety net alone sounds {format_number(net, 2)} of {allowed:g}" if net >= allowed else ""
        expected = (
            f"the alarm guarantee of its training, not broken with 95 % confidence: at most "
            f"{certificate.max_alarms_per_patient_day:g} alarms per patient-day and a precision of at least "
            f"{format_percent(certificate.min_precision, 2)}"
        )
    return Gate(
        name="promise",
        passed=once_per_stay or (outcome is not None and not outcome["broken"]),
        found=found,
        expected="nothing" if once_per_stay else expected,
        remedy="train on more patients, or request a guarantee that can be met (models/tasks.py), and train again",
        figures=figures,
    )


def _overlaps(metrics: Mapping[str, float], name: str, lowest: float, highest: float) -> bool:
    """Return whether the 95 % interval of a metric overlaps the allowed range; False without an interval."""
    low, high = metrics[f"{name}_low"], metrics[f"{name}_high"]
    return bool(low <= highest and high >= lowest)


def _describe_harm(row: Mapping[str, Any]) -> str:
    """Describe the losses of a group; empty if it is not harmed."""
    lost, known = [], _without_nan(row)
    if row["auroc_change_high"] < 0:
        lost.append(f"AUROC {format_interval(known, 'auroc_change', signed=True)}")
    if row.get("event_recall_change_high", 0.0) < -MOST_RECALL_LOST:
        lost.append(f"event recall {format_percent_interval(known, 'event_recall_change')}")
    return " and ".join(lost)


def _group_name(row: Mapping[str, Any]) -> str:
    """Return the name of a group for one line."""
    return "all patients" if row["by"] == "all" else f"{row['by']} {row['group']}"


def _describe_facts(facts: Mapping[str, Any], shown: Mapping[str, Any] | list[str]) -> str:
    """Return some facts in words."""
    return ", ".join(f"{fact.replace('_', ' ')} {'unknown' if facts[fact] is None else facts[fact]}" for fact in shown)


def _without_nan(figures: Mapping[str, Any]) -> dict[str, Any]:
    """Replace NaN with None, which is formatted as a dash."""
    return {name: None if isinstance(value, float) and math.isnan(value) else value for name, value in figures.items()}
