"""The first screen of the evaluation report: a verdict in words, and the few figures that it rests on."""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from vigil.models.formatting import format_interval, format_number, format_percent_interval
from vigil.models.reporting.style import display_name

Result = Mapping[str, Any]

# What a model has to beat to be worth having: the score in use, and what knows nothing of the patient's physiology.
_RIVALS: Final = ("news2", "clock")


class Verdict(NamedTuple):
    """A verdict.

    Attributes:
        is_good: whether the model is better than each rival, and keeps its guarantee if it has one.
        sentences: why.
    """

    is_good: bool
    sentences: list[str]


class Figure(NamedTuple):
    """A figure with its interval, and what it says in a few words."""

    value: str
    says: str


def judge(result: Result) -> Verdict:
    """Judge the default model: against the score in use and the clock, and by its alarm guarantee."""
    sentences = []
    rivals = {name: result["gains"][name] for name in _RIVALS if name in result["gains"]}
    is_good = bool(rivals)
    if not rivals:
        sentences.append("Nothing was fitted beside it that it could be compared with, so this is no verdict.")
    for name, gain in rivals.items():
        is_better = gain["auroc_low"] is not None and gain["auroc_low"] > 0
        is_good &= is_better
        rank = "ranks patients better than" if is_better else "does NOT rank patients better than"
        certain = "" if is_better else ", as far as these patients tell"
        change = format_interval(gain, "auroc", signed=True)
        sentences.append(f"It {rank} {_named(name)}: AUROC {change}{certain}.")
    promise = result["promises"].get(result["default"])
    if promise is not None:
        held = promise["held_out"]["held"]
        is_good &= held
        sentences.append(f"Its alarm guarantee {'held' if held else 'did NOT hold'} on these patients.")
    elif result["alarms"]:
        sentences.append("It has no alarm guarantee.")
    return Verdict(is_good, sentences)


def list_figures(result: Result) -> list[Figure]:
    """Return the five figures of the default model that a reader asks for first."""
    values = result["models"][result["default"]]
    figures = [
        Figure(format_interval(values, "auroc"), "AUROC: 0.5 is chance, 1 is perfect"),
        Figure(format_interval(values, "auprc"), f"AUPRC: chance is the prevalence, {format_number(result['prevalence'])}"),
        Figure(format_interval(values, "calibration_slope", 2), "calibration slope: 1 is right, below 1 too extreme"),
    ]
    if result["alarms"]:
        alarms = result["alarms"]["at_frozen_threshold"][result["default"]]
        return [
            *figures,
            Figure(format_percent_interval(alarms, "event_recall"), "of the onsets have an alarm before them"),
            Figure(format_interval(alarms, "alarms_per_patient_day", 2), "alarms per patient-day"),
        ]
    return [
        *figures,
        Figure(format_interval(values, "brier", 4), "Brier score: 0 is perfect"),
        Figure(format_interval(values, "ece", 4), "expected calibration error: 0 is perfect"),
    ]


def _named(name: str) -> str:
    return "the clock, which knows the time in care alone" if name == "clock" else display_name(name)
