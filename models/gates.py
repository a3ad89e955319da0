"""The written gates: what a challenger has to show, on patients neither model has seen, before it becomes champion.

Each gate takes figures and says whether they pass, what was found, what was expected, and what to do where they do not. The
limits are written here, and nowhere else. Both models are judged on the same rows and meet the same resamples of the patients
(:mod:`models.evaluation.bootstrap`), so all differences are paired.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd

from models.certificate import Certificate, check
from models.evaluation.alarms import Count, Watch, before_onset
from models.evaluation.bootstrap import Float64, Resamples, percentile, ratio
from models.evaluation.comparison import HeldOut, ranking
from models.evaluation.discrimination import discrimination, discrimination_draws
from models.evaluation.report_tables import interval, number, percent, percents
from models.evaluation.subgroups import counted, each

# Slope 1 and intercept 0 are right (Van Calster B, et al. Calibration: the Achilles heel of predictive analytics. BMC Med
# 2019;17:230). No limits are given there, so these are ours, the same in both directions: log-odds at most a quarter too
# wide or too narrow (0.8 = 1 / 1.25), observed odds at most about a fifth off the predicted ones (exp(0.2) = 1.22). Estimates
# have to lie within; intervals are shown: to ask it of them too would keep a small hospital from ever mending its model.
LOWEST_SLOPE: Final = 0.8
HIGHEST_SLOPE: Final = 1.25
MOST_SHIFT: Final = 0.2  # log-odds, either way

# Of a group large enough to judge. The first is of the estimate: so large a loss is not excused by a wide interval.
MOST_AUROC_LOST: Final = 0.05
MOST_RECALL_LOST: Final = 0.10

_SAME: Final = ("task", "source", "simulated")  # facts that a challenger shares with the champion

Groups = list[dict[str, Any]]


@dataclass(frozen=True)
class Gate:
    """What came of one gate.

    Attributes:
        name: of the gate.
        passed: whether the challenger may go on.
        found, expected: in words, for one line.
        remedy: what to do where it did not pass.
        figures: the evidence, as numbers.
    """

    name: str
    passed: bool
    found: str
    expected: str
    remedy: str
    figures: Mapping[str, Any]


@dataclass(frozen=True)
class Examined:
    """What the gates were shown and what they said.

    Attributes:
        gates: every gate, in the order in which they are read.
        held_out: ``patients, events, index_times`` that both models were judged on.
        metrics: of both models, by candidate name (:class:`models.evaluation.Judged`).
    """

    gates: list[Gate]
    held_out: dict[str, float]
    metrics: dict[str, dict[str, float]]


def examine(held_out: HeldOut, facts: tuple[Mapping[str, Any], Mapping[str, Any]], digest: str, *, once: bool) -> Examined:
    """Every gate, whatever the others say.

    Args:
        held_out: its two candidates are the challenger and, second, the champion.
        facts: what each of the two artefacts knows of its making (``RiskModel.facts_``).
        digest: of the training data as the feature store gives them now.
        once: the question is asked once a stay, so that nothing sounds and nothing is promised.
    """
    challenger, champion = held_out.candidates
    judged = ranking(held_out)
    candidate = held_out.candidates[challenger]
    certificate = None if once else candidate.certificate
    kept = check(certificate, Watch.of(held_out.frame(challenger))) if certificate is not None else None
    gates = [
        data(*facts, digest),
        better(judged["gains"][champion]),
        calibration(judged["models"][challenger]),
        subgroups(by_group(held_out, alarms=not once)),
        promise(certificate, kept, once=once),
    ]
    return Examined(gates, {fact: judged[fact] for fact in ("patients", "events", "index_times")}, judged["models"])


def data(challenger: Mapping[str, Any], champion: Mapping[str, Any], digest: str) -> Gate:
    """Pinned: the challenger learned from what the feature store holds, and both answer the same question of the same source.

    Args:
        challenger, champion: their ``facts_``.
        digest: of the challenger's training data as the feature store gives them now.
    """
    expected = {"data_digest": digest, **{fact: champion.get(fact) for fact in _SAME}}
    found = {fact: challenger.get(fact) for fact in expected}
    differing = [fact for fact in expected if found[fact] != expected[fact]]
    return Gate(
        name="data",
        passed=not differing,
        found=_facts(found, differing or expected),
        expected=_facts(expected, differing or expected),
        remedy="train anew on what this home holds (vigil train), or ingest again what the challenger was trained on",
        figures={"found": found, "expected": expected},
    )


def better(gain: Mapping[str, float]) -> Gate:
    """Ranks better, with confidence: what is only equal, such as the same training done again, does not change a ward's model.

    Args:
        gain: challenger less champion, paired: ``auroc, auprc``, each with ``_low`` and ``_high`` (95 %).
    """
    shown = _known(gain)
    return Gate(
        name="better",
        passed=gain["auroc_low"] > 0,
        found=(
            f"AUROC {interval(shown, 'auroc', 4, signed=True)} and AUPRC {interval(shown, 'auprc', 4, signed=True)} "
            "beyond the champion's (95 % CI)"
        ),
        expected="a lower limit of the AUROC difference above 0",
        remedy="the champion stays; judge again when the challenger has learned more, or on more held-out patients",
        figures=dict(gain),
    )


def calibration(metrics: Mapping[str, float]) -> Gate:
    """Probabilities that can be taken at their word.

    Args:
        metrics: the challenger's ``calibration_slope`` and ``calibration_intercept``, each with ``_low`` and ``_high``.
    """
    slope, shift = metrics["calibration_slope"], metrics["calibration_intercept"]
    shown = _known(metrics)
    return Gate(
        name="calibration",
        passed=LOWEST_SLOPE <= slope <= HIGHEST_SLOPE and abs(shift) <= MOST_SHIFT,
        found=(
            f"slope {interval(shown, 'calibration_slope')} and intercept "
            f"{interval(shown, 'calibration_intercept', signed=True)} (95 % CI)"
        ),
        expected=(
            f"estimates of the slope from {LOWEST_SLOPE:g} to {HIGHEST_SLOPE:g} and of the intercept from {-MOST_SHIFT:g} "
            f"to {MOST_SHIFT:g}"
        ),
        remedy="look at the reliability plot (vigil evaluate), then train on patients like those it will serve",
        figures={name: value for name, value in metrics.items() if name.startswith(("calibration_slope", "calibration_int"))},
    )


def subgroups(compared: Groups) -> Gate:
    """Nobody is served worse than by the champion, as far as can be seen.

    A group is harmed where AUROC is lower with 95 % confidence, or lower by more than 0.05 as estimated, or where event recall
    at the frozen thresholds is lower by more than 0.10 with 95 % confidence. With a dozen groups, chance alone refuses now and
    then a challenger that harms nobody: that is the cheaper mistake.

    Args:
        compared: :func:`by_group`.
    """
    judged = [row for row in compared if row["enough"]]
    harmed = {_named(row): harm for row in judged if (harm := _harm(row))}
    few = [_named(row) for row in compared if not row["enough"]]
    counted = f"of {len(judged)} groups large enough to judge {len(harmed) or 'none'} harmed, {len(few)} too small to judge"
    return Gate(
        name="subgroups",
        passed=not harmed,
        found="; ".join([*(f"{group}: {harm}" for group, harm in harmed.items()), counted]),
        expected=(
            f"in every group AUROC not lower with 95 % confidence, nor by more than {MOST_AUROC_LOST:g}, and event recall not "
            f"lower by more than {MOST_RECALL_LOST:.2f} with 95 % confidence"
        ),
        remedy="the champion stays; find out what the challenger lost on these patients before it is trained anew",
        figures={"harmed": list(harmed), "too_small": few, "groups": judged},
    )


def promise(certificate: Certificate | None, kept: Mapping[str, Any] | None, *, once: bool) -> Gate:
    """What a ward was told to expect of the alarms is what it gets.

    Args:
        certificate: the promise made in training, if one was made.
        kept: what came of it on the held-out patients (:func:`models.certificate.check`).
        once: the question is asked once a stay, so no promise is asked for.
    """
    expected, figures = "an alarm promise made in training", dict(kept or {})
    if once:
        found = "not asked: the risk is asked for once a stay, so nothing sounds"
    elif certificate is None or kept is None:
        found = "no promise: the training patients did not carry one"
    else:
        shown = _known(kept)
        found = (
            f"{number(shown['alarms_per_patient_day'])} alarms per patient-day at a precision of "
            f"{percent(shown['precision'], 2)}"
        )
        expected = (
            f"the promise of its training: at most {certificate.max_alarms_per_patient_day:g} alarms per patient-day and a "
            f"precision of at least {percent(certificate.min_precision, 2)}"
        )
    return Gate(
        name="promise",
        passed=once or bool(figures.get("held", False)),
        found=found,
        expected="nothing" if once else expected,
        remedy="train on more patients, or ask for a promise that can be kept (models/tasks.py) and train anew",
        figures=figures,
    )


def by_group(held_out: HeldOut, *, alarms: bool) -> Groups:
    """Both models in every group of patients, everybody first.

    Args:
        held_out: its two candidates are the challenger and, second, the champion.
        alarms: whether event recall is compared too.

    Returns:
        One row a group: ``by, group, patients, events, enough`` and, where there are enough, ``auroc`` and ``event_recall`` of
        the challenger, ``..._champion``, and their paired difference ``..._change`` with ``_low`` and ``_high`` (95 %).
    """
    watched = before_onset(held_out.rows).index
    challenger, champion = held_out.candidates.values()
    watches = [Watch.of(held_out.frame(name)) for name in held_out.candidates]
    rows = []
    membership = held_out.groups if held_out.groups is not None else pd.DataFrame(index=held_out.rows.index)
    for by, group, members in each(membership):
        judged = members.to_numpy(bool) & held_out.labelled
        of_group = held_out.rows[judged]
        sizes = counted(of_group)
        row = {"by": by, "group": group, **{size: sizes[size] for size in ("patients", "events", "enough")}}
        if row["enough"]:
            label, resamples = of_group["label"].to_numpy(np.float64), Resamples.of(of_group["subject_id"], held_out.seed)
            row |= _ranked(label, challenger.risk[judged], champion.risk[judged], resamples)
        if row["enough"] and alarms:
            in_group = members[watched].to_numpy(bool)
            now, before = (
                watch.count(at.threshold, in_group) for watch, at in zip(watches, (challenger, champion), strict=True)
            )
            row |= _warned(now, before, held_out.seed)
        if judged.any():
            rows.append(row)
    return rows


def _ranked(label: Float64, challenger: Float64, champion: Float64, resamples: Resamples) -> dict[str, float]:
    ours, theirs = (discrimination(label, risk)["auroc"] for risk in (challenger, champion))
    our_draws, their_draws = (discrimination_draws(label, risk, resamples)["auroc"] for risk in (challenger, champion))
    return _change("auroc", ours, theirs, our_draws - their_draws)


def _warned(challenger: Count, champion: Count, seed: int) -> dict[str, float]:
    resamples = challenger.resamples(seed)
    ours, theirs = (~np.isnan(count.lead_hours) for count in (challenger, champion))
    draws = ratio(resamples.sums(ours), resamples.sums(challenger.event)) - ratio(
        resamples.sums(theirs), resamples.sums(champion.event)
    )
    recall, recall_champion = (count.figures()["event_recall"] for count in (challenger, champion))
    return _change("event_recall", recall, recall_champion, draws)


def _change(metric: str, ours: float, theirs: float, draws: Float64) -> dict[str, float]:
    low, high = percentile(draws)
    change = f"{metric}_change"
    return {metric: ours, f"{metric}_champion": theirs, change: ours - theirs, f"{change}_low": low, f"{change}_high": high}


def _harm(row: Mapping[str, Any]) -> str:
    """What a group loses, or nothing."""
    lost, shown = [], _known(row)
    if row["auroc_change"] < -MOST_AUROC_LOST or row["auroc_change_high"] < 0:
        lost.append(f"AUROC {interval(shown, 'auroc_change', signed=True)}")
    if row.get("event_recall_change_high", 0.0) < -MOST_RECALL_LOST:
        lost.append(f"event recall {percents(shown, 'event_recall_change')}")
    return " and ".join(lost)


def _named(row: Mapping[str, Any]) -> str:
    return str(row["group"] if row["by"] == "all" else f"{row['by']} {row['group']}")


def _facts(facts: Mapping[str, Any], shown: Mapping[str, Any] | list[str]) -> str:
    return ", ".join(f"{fact.replace('_', ' ')} {'unknown' if facts[fact] is None else facts[fact]}" for fact in shown)


def _known(figures: Mapping[str, Any]) -> dict[str, Any]:
    """What is undefined becomes None, which tables show as such."""
    return {name: None if isinstance(value, float) and math.isnan(value) else value for name, value in figures.items()}
