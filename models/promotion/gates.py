"""The written gates: what a challenger has to show, on patients neither model has seen, before it becomes champion.

A first version, which has no champion beside it, has to pass those of behaviour before it is crowned in training.

Each gate takes figures and says whether they pass, what was found, what was expected, and what to do where they do not. The
limits are written here, and nowhere else. Both models are judged on the same rows and meet the same resamples of the patients
(:mod:`models.statistics.bootstrap`), so all differences are paired.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from models.alarms.guarantee import Certificate, check
from models.alarms.timeline import Watch
from models.behaviour.directions import (
    FEWEST_CASES,
    HISTORY_FACTOR,
    LARGEST_FALL,
    MOST_LOW_AFTER_REMOVAL,
    MOST_OUTSIDE_FACTOR,
    MOST_VIOLATIONS,
    MOST_VIOLATIONS_OF_A_SIGNAL,
    TOLERANCE,
)
from models.behaviour.examination import MOST_TOO_HIGH
from models.evaluation.comparison import HeldOut, ranking
from models.evaluation.group_changes import Groups, by_group
from models.reporting.tables import interval, number, percent, percents
from models.tasks import RiskTask

# Slope 1 and intercept 0 are right (Van Calster B, et al. Calibration: the Achilles heel of predictive analytics. BMC Med
# 2019;17:230). No limits are given there, so these are ours, the same in both directions: log-odds at most a quarter too
# wide or too narrow (0.8 = 1 / 1.25), observed odds at most about a fifth off the predicted ones (exp(0.2) = 1.22). Who is
# refused has a 95 % interval that lies beyond: an estimate from a dozen events says nothing, and to ask that the interval lie
# within would keep a small hospital from ever mending its model.
LOWEST_SLOPE: Final = 0.8
HIGHEST_SLOPE: Final = 1.25
MOST_SHIFT: Final = 0.2  # log-odds, either way

MOST_RECALL_LOST: Final = 0.10  # of a group large enough to judge

_SAME: Final = ("task", "source", "simulated")  # facts that a challenger shares with the champion, or with the cohort
_COMPARED: Final = ("better", "subgroups")  # gates that hold the challenger against a champion
_NAMED: Final = 3  # faults are named one by one up to so many; the report shows them all


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
        left_out: names of gates that had nothing to compare, since there is no champion.
    """

    gates: list[Gate]
    held_out: dict[str, float]
    metrics: dict[str, dict[str, float]]
    left_out: tuple[str, ...]


def examine(
    held_out: HeldOut,
    facts: tuple[Mapping[str, Any], Mapping[str, Any]],
    digest: str,
    examination: Mapping[str, Any],
    task: RiskTask,
) -> Examined:
    """Every gate, whatever the others say.

    Args:
        held_out: its candidates are the challenger and, second, the champion, if there is one.
        facts: what the challenger knows of its making (``RiskModel.facts_``), and the same of the champion; without a champion
            those of the cohort.
        digest: of the training data as the feature store gives them now.
        examination: the challenger's behaviour (:func:`models.behaviour.examination.examine_behaviour`).
        task: the question. Where it is asked once a stay nothing sounds, and nothing is promised.
    """
    once, (challenger, *champions) = task.index == "end", held_out.candidates
    judged = ranking(held_out)
    candidate = held_out.candidates[challenger]
    certificate = None if once else candidate.certificate
    kept = check(certificate, Watch.of(held_out.frame(challenger))) if certificate is not None else None
    gates = [
        data(*facts, digest),
        *(better(judged["gains"][champion]) for champion in champions),
        calibration(judged["models"][challenger]),
        *(subgroups(by_group(held_out, alarms=not once)) for _ in champions),
        promise(certificate, kept, once=once, reason=facts[0].get("no_promise", "")),
        *behaviour(examination),
    ]
    sizes = {fact: judged[fact] for fact in ("patients", "events", "index_times")}
    return Examined(gates, sizes, judged["models"], () if champions else _COMPARED)


def behaviour(examination: Mapping[str, Any]) -> list[Gate]:
    """The gates that a first champion passes too.

    Args:
        examination: :func:`models.behaviour.examination.examine_behaviour`.
    """
    return [vignettes(examination["vignettes"]), directions(examination)]


def refusal(shut: Sequence[Gate]) -> str:
    """What the first of the shut gates found, expected and asks for, in one line that names the others."""
    first, also = shut[0], ", ".join(gate.name for gate in shut[1:])
    return (
        f"gate {first.name}: found {first.found}; expected {first.expected}; what to do: {first.remedy}"
        f"{f' (also refused by: {also})' if also else ''}"
    )


def data(challenger: Mapping[str, Any], champion: Mapping[str, Any], digest: str) -> Gate:
    """Pinned: the challenger learned from what the feature store holds, and both answer the same question of the same source.

    Args:
        challenger: its ``facts_``.
        champion: those of the champion; without one ``task, source, simulated`` of the cohort.
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
    shown = _known(metrics)
    return Gate(
        name="calibration",
        passed=_meets(metrics, "calibration_slope", LOWEST_SLOPE, HIGHEST_SLOPE)
        and _meets(metrics, "calibration_intercept", -MOST_SHIFT, MOST_SHIFT),
        found=(
            f"slope {interval(shown, 'calibration_slope')} and intercept "
            f"{interval(shown, 'calibration_intercept', signed=True)} (95 % CI)"
        ),
        expected=(
            f"intervals that reach into a slope from {LOWEST_SLOPE:g} to {HIGHEST_SLOPE:g} and an intercept from "
            f"{-MOST_SHIFT:g} to {MOST_SHIFT:g}"
        ),
        remedy="look at the reliability plot (vigil evaluate), then train on patients like those it will serve",
        figures={name: value for name, value in metrics.items() if name.startswith(("calibration_slope", "calibration_int"))},
    )


def subgroups(compared: Groups) -> Gate:
    """Nobody is served worse than by the champion, as far as can be seen.

    A group is harmed where AUROC is lower with 95 % confidence, or where event recall at the frozen thresholds is lower by more
    than 0.10 with 95 % confidence. With a dozen groups, chance alone refuses now and then a challenger that harms nobody: that
    is the cheaper mistake.

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
            "in every group AUROC not lower with 95 % confidence, and event recall not lower by more than "
            f"{MOST_RECALL_LOST:.2f} with 95 % confidence"
        ),
        remedy="the champion stays; find out what the challenger lost on these patients before it is trained anew",
        figures={"harmed": list(harmed), "too_small": few, "groups": judged},
    )


def promise(certificate: Certificate | None, kept: Mapping[str, Any] | None, *, once: bool, reason: str = "") -> Gate:
    """What a ward was told to expect of the alarms is what it gets.

    Args:
        certificate: the promise made in training, if one was made.
        kept: what came of it on the held-out patients (:func:`models.alarms.guarantee.check`).
        once: the question is asked once a stay, so no promise is asked for.
        reason: why training made none, where that is known (:func:`models.alarms.guarantee.spent_by_net`).
    """
    expected, figures = "an alarm promise made in training", dict(kept or {})
    if once:
        found = "not asked: the risk is asked for once a stay, so nothing sounds"
    elif certificate is None or kept is None:
        found = f"no promise: {reason or 'the training patients did not carry one'}"
    else:
        shown = _known(kept)
        found = (
            f"{number(shown['alarms_per_patient_day'])} alarms per patient-day at a precision of "
            f"{percent(shown['precision'], 2)}"
        )
        net, allowed = figures.get("net_alarms_per_patient_day", 0.0), certificate.max_alarms_per_patient_day
        found += f"; the safety net alone sounds {number(net, 2)} of {allowed:g}" if net >= allowed else ""
        expected = (
            f"the promise of its training, not broken with 95 % confidence: at most "
            f"{certificate.max_alarms_per_patient_day:g} alarms per patient-day and a precision of at least "
            f"{percent(certificate.min_precision, 2)}"
        )
    return Gate(
        name="promise",
        passed=once or (kept is not None and not kept["broken"]),
        found=found,
        expected="nothing" if once else expected,
        remedy="train on more patients, or ask for a promise that can be kept (models/tasks.py) and train anew",
        figures=figures,
    )


def vignettes(found: Mapping[str, Any]) -> Gate:
    """The full answer, with safety net and domain of use, is right for patients that clinicians agree about.

    Args:
        found: of all vignettes (:func:`models.behaviour.examination.summary`).
    """
    wrong = [failure for failure in found["failed"] if failure["fault"] != "band_too_high"]
    shown = wrong or ([] if found["passed"] else found["failed"])
    named = [f"{one['vignette']} ({one['history']}): {one['found']}, expected {one['expected']}" for one in shown[:_NAMED]]
    more = [f"{len(shown) - _NAMED} more"] if len(shown) > _NAMED else []
    counts = (
        f"of {found['shown']} answers {len(wrong) or 'none'} too low or without a due alarm or finding, and of the "
        f"{found['bounded']} with a highest right band {found['too_high'] or 'none'} above it"
    )
    return Gate(
        name="vignettes",
        passed=found["passed"],
        found="; ".join([*named, *more, counts]),
        expected=(
            f"no answer too low, every due alarm and finding, and at most {percent(MOST_TOO_HIGH)} of the answers with a "
            "highest right band above it"
        ),
        remedy=(
            "see what each vignette was answered (vigil evaluate --version N, section Behaviour); train on more patients, or "
            "on a cohort that holds patients like these"
        ),
        figures=found,
    )


def directions(examination: Mapping[str, Any]) -> Gate:
    """Patients who are made worse are not called better, and one signal or a short history does not decide alone.

    Args:
        examination: its ``worsening, history, removal`` and ``removal_of_vignettes``
            (:mod:`models.behaviour.directions`).
    """
    parts = {name: examination[name] for name in ("worsening", "history", "removal", "removal_of_vignettes")}
    return Gate(
        name="directions",
        passed=all(part["passed"] for part in parts.values()),
        found="; ".join(
            [
                _worsened(parts["worsening"]),
                _preceded(parts["history"]),
                _removed(parts["removal"], "of held-out patients"),
                _removed(parts["removal_of_vignettes"], "of vignettes"),
            ]
        ),
        expected=(
            f"where there are {FEWEST_CASES} cases or more: after changes for the worse a fall of the log-odds by more than "
            f"{TOLERANCE:g} in at most {percent(MOST_VIOLATIONS)} of all and {percent(MOST_VIOLATIONS_OF_A_SIGNAL)} of those "
            f"of one signal, with a 95th percentile of at most {LARGEST_FALL:g}; a normal history that changes the risk more "
            f"than {HISTORY_FACTOR:g}-fold in at most {percent(MOST_OUTSIDE_FACTOR)} of sets; a high band that turns low in at "
            f"most {percent(MOST_LOW_AFTER_REMOVAL)} of removals of one signal"
        ),
        remedy=(
            "look at the signals and lengths of history that are named (vigil evaluate --version N, section Behaviour); train "
            "on more patients, with cut records and changed habits"
        ),
        figures=parts,
    )


def _worsened(found: Mapping[str, Any]) -> str:
    if not found["judged"]:
        return "worsening: too few to judge"
    broken = [
        f"worsening of {row['signal']}, history {row['length']}: {percent(row['share'])} of {row['cases']} lower the risk, "
        f"95th percentile of falls {number(row['fall_p95'], 2)}"
        for row in found["broken"][:_NAMED]
    ]
    whole = found["cases"][0]
    return "; ".join(broken) or f"worsening: {percent(whole['share'])} of {whole['cases']} changes lower the risk"


def _preceded(found: Mapping[str, Any]) -> str:
    if not found["judged"]:
        return "history: too few to judge"
    row = (found["broken"] or found["cases"])[0]
    return f"history, NEWS2 {row['news2']}: {percent(row['share'])} of {row['cases']} sets beyond the factor"


def _removed(found: Mapping[str, Any], what: str) -> str:
    if not found["judged"]:
        return f"removal {what}: too few to judge"
    return f"removal {what}: {percent(found['share'])} of {found['removals']} turn high into low"


def _meets(metrics: Mapping[str, float], name: str, lowest: float, highest: float) -> bool:
    """Whether the 95 % interval of a figure reaches into what is allowed; a figure without one does not."""
    low, high = metrics[f"{name}_low"], metrics[f"{name}_high"]
    return bool(low <= highest and high >= lowest)


def _harm(row: Mapping[str, Any]) -> str:
    """What a group loses, or nothing."""
    lost, shown = [], _known(row)
    if row["auroc_change_high"] < 0:
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
