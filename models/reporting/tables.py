"""The tables of the report, and the sentences above them: figures with their intervals and units, in words a ward uses."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from models.reporting.style import in_order, knows, named

Result = Mapping[str, Any]
Row = Mapping[str, Any]

NONE: Final = "-"  # what has no value


@dataclass(frozen=True)
class Table:
    """Headings (with units) and rows of text; the last cell of a short row reaches to the end."""

    headings: list[str]
    rows: list[list[str]]


def number(value: float | None, digits: int = 3, *, signed: bool = False) -> str:
    """A number with so many decimals."""
    if value is None or math.isnan(value):
        return NONE
    return f"{round(value, digits) + 0.0:{'+' if signed else ''}.{digits}f}"  # + 0.0: no negative nought


def percent(value: float | None, digits: int = 0) -> str:
    """A share in percent."""
    return NONE if value is None else f"{number(100 * value, digits)} %"


def interval(row: Row, metric: str, digits: int = 3, *, signed: bool = False) -> str:
    """A value with its 95 % interval: ``0.829 (0.813-0.845)``."""
    value, low, high = (row.get(f"{metric}{end}") for end in ("", "_low", "_high"))
    return number(value, digits, signed=signed) + _ends(low, high, digits, signed=signed)


def percents(row: Row, metric: str, digits: int = 0) -> str:
    """A share with its 95 % interval: ``61 % (58-64)``."""
    value, low, high = (row.get(f"{metric}{end}") for end in ("", "_low", "_high"))
    if low is None or high is None:
        return percent(value, digits)
    return percent(value, digits) + _ends(100 * low, 100 * high, digits)


def _ends(low: float | None, high: float | None, digits: int, *, signed: bool = False) -> str:
    if low is None or high is None:
        return ""
    between = " to " if signed or low < 0 else "-"
    return f" ({number(low, digits, signed=signed)}{between}{number(high, digits, signed=signed)})"


def findings(result: Result) -> list[str]:
    """What a reader should take away, in sentences."""
    default, asked = result["default"], "stay" if result["once"] else "patient-hour"
    return [
        (
            f"Of a {asked} that an event follows and one that none follows, the default model ({named(default)}) gives the "
            f"first the higher risk in {percents(result['models'][default], 'auroc', 1)} of all pairs (AUROC; 50 % is chance)."
        ),
        *(
            f"Knowing only {knows(name)}, a model reaches an AUROC of {interval(result['models'][name], 'auroc')}; the default "
            f"model adds {interval(result['gains'][name], 'auroc', signed=True)}."
            for name in result["gains"]
            if name in {"clock", "workflow", "physiology"}
        ),
        *(_about_alarms(result, default) if result["alarms"] else ()),
    ]


def _about_alarms(result: Result, default: str) -> list[str]:
    alarms, said = result["alarms"]["at_frozen_threshold"][default], []
    if alarms["alarm_precision"]:
        said.append(
            f"At its frozen threshold it sounds {interval(alarms, 'alarms_per_patient_day', 2)} alarms per patient-day, warns "
            f"of {percents(alarms, 'event_recall')} of the onsets, half of them at least "
            f"{number(alarms['lead_time_hours'], 1)} h before, and {percents(alarms, 'alarm_precision', 1)} of its alarms are "
            f"followed by an onset: one in {1 / alarms['alarm_precision']:.0f}."
        )
    said += [
        f"{rule['rule']} warns of {percent(rule['rule_recall'])} of the onsets with "
        f"{number(rule['rule_alarms_per_patient_day'], 2)} alarms per patient-day. With as many alarms the default model "
        f"warns of {percents(rule, 'recall_at_same_alarms')}; to warn of as many onsets it needs "
        f"{percents(rule, 'share_of_alarms_at_same_recall')} of those alarms."
        for rule in result["alarms"]["against_rules"].get(default, [])
        if rule["share_of_alarms_at_same_recall"] is not None
    ]
    if default in result["promises"]:
        held = result["promises"][default]["held_out"]["held"]
        said.append(f"The alarm promise made in training {'held' if held else 'did NOT hold'} on these patients.")
    return said


def models(result: Result) -> Table:
    """Every model, and what the default model is beyond it."""
    rows = []
    for name in in_order(result["models"]):
        values, gain = result["models"][name], result["gains"].get(name)
        features = result["made"].get("features", {}).get(name)
        about = "the registered model" if name == result["default"] else knows(name)
        row = [
            named(name),
            ", ".join(part for part in (about, f"{features} feature{'s' * (features > 1)}" if features else "") if part),
            interval(values, "auroc"),
            interval(gain, "auroc", signed=True) if gain else NONE,
            interval(values, "auprc"),
            number(values["calibration_slope"], 2),
        ]
        if result["alarms"]:
            row += [percent(values["event_recall"]), percent(values["alarm_precision"], 1)]
            row.append(number(values["alarms_per_patient_day"], 2))
        rows.append(row)
    headings = ["model", "what it knows", "AUROC", "default model's AUROC beyond it", "AUPRC", "calibration slope"]
    alarm_headings = ["event recall", "alarm precision", "alarms per patient-day"]
    return Table(headings + (alarm_headings if result["alarms"] else []), rows)


def calibration(result: Result) -> Table:
    """Calibration of every model."""
    metrics = {"calibration_slope": 2, "calibration_intercept": 2, "ece": 4, "brier": 4}
    rows = [
        [named(name), *(interval(result["models"][name], metric, digits) for metric, digits in metrics.items())]
        for name in in_order(result["models"])
    ]
    headings = [
        "model",
        "slope (1 is right)",
        "intercept, log-odds (0 is right)",
        "expected calibration error, probability (0 is right)",
        "Brier score, probability squared (lower is better)",
    ]
    return Table(headings, rows)


def benefit(result: Result) -> Table:
    """Net benefit per 1,000 patient-hours at some threshold probabilities."""
    found = result["net_benefit"]
    chosen = range(0, len(found["curve"]), 7)
    strategies = [*(name for name in in_order(result["models"]) if name in {result["default"], "news2", "clock"})]
    rows = []
    for place in chosen:
        row = {name: None if value is None else 1000 * value for name, value in found["curve"][place].items()}
        cells = [percent(found["curve"][place]["threshold"], 1), *(number(row[name], 2) for name in strategies)]
        cells += [number(row[rule], 2) for rule in found["rules"]] + [number(row["treat_all"], 2)]
        if found["gain"]:
            gain = {name: None if value is None else 1000 * value for name, value in found["gain"][place].items()}
            cells.append(interval(gain, "gain", 2, signed=True))
        rows.append(cells)
    headings = ["threshold probability", *map(named, strategies), *found["rules"], "treat all"]
    return Table(headings + (["default model beyond calibrated NEWS2"] if found["gain"] else []), rows)


def frozen(result: Result) -> Table:
    """Alarms of every model at its frozen threshold, and of the NEWS2 rules."""
    found = result["alarms"]
    rows = [
        [named(name), percent(found["at_frozen_threshold"][name]["threshold"], 1), *_alarm(found["at_frozen_threshold"][name])]
        for name in in_order(result["models"])
    ]
    rows += [[rule["rule"], "the score itself", *_alarm(rule)] for rule in found["rules"]]
    return Table(["model or rule", "threshold, probability", *_ALARM_HEADINGS], rows)


def parts(result: Result) -> Table:
    """What the model and the safety net sound alone and together."""
    name = {
        "model": "the model alone",
        "net": "the safety net alone (NEWS2 of 7 or more)",
        "both": "both, as a ward hears them",
    }
    rows = [[name[row["part"]], number(row["alarms"], 0), *_alarm(row)] for row in result["alarms"]["parts"]]
    return Table(["what sounds", "alarms", *_ALARM_HEADINGS], rows)


def budgets(result: Result) -> Table:
    """Alarms of the default model over budgets."""
    rows = [
        [number(row["budget"], 2), percent(row["threshold"], 1), *_alarm(row)]
        for row in result["alarms"]["at_budgets"][result["default"]]
    ]
    return Table(["at most, alarms per patient-day", "threshold, probability", *_ALARM_HEADINGS], rows)


_ALARM_HEADINGS: Final = [
    "alarms per patient-day",
    "event recall",
    "alarm precision",
    "lead time, hours: median (quartiles)",
]


def _alarm(row: Row) -> list[str]:
    lead = number(row["lead_time_hours"], 1) + _ends(row["lead_time_q25"], row["lead_time_q75"], 1)
    return [
        interval(row, "alarms_per_patient_day", 2),
        percents(row, "event_recall"),
        percents(row, "alarm_precision", 1),
        lead,
    ]


def rules(result: Result) -> Table:
    """Every model beside the NEWS2 rules."""
    found = result["alarms"]["against_rules"]
    rows = [
        [
            named(name),
            rule["rule"],
            f"{percent(rule['rule_recall'])} at {number(rule['rule_alarms_per_patient_day'], 2)}",
            percents(rule, "recall_at_same_alarms"),
            _points(rule, "recall_gain"),
            percent(rule["precision_at_same_alarms"], 1),
            percents(rule, "share_of_alarms_at_same_recall"),
        ]
        for name in in_order(result["models"])
        for rule in found.get(name, [])
    ]
    headings = [
        "model",
        "beside",
        "the rule's recall, at its alarms per patient-day",
        "model's recall with as many alarms",
        "more recall than the rule, percentage points",
        "model's precision with as many alarms",
        "share of the rule's alarms that the model needs for its recall",
    ]
    return Table(headings, rows)


def _points(row: Row, metric: str) -> str:
    """A difference of shares in percentage points, with its interval."""
    ends = (f"{metric}{end}" for end in ("", "_low", "_high"))
    return interval({name: None if row[name] is None else 100 * row[name] for name in ends}, metric, 0, signed=True)


def promises(result: Result) -> Table:
    """What was promised in training, and what came of it."""
    rows = []
    for name in in_order(result["models"]):
        if name not in result["promises"]:
            continue
        made, kept = (result["promises"][name][part] for part in ("certificate", "held_out"))
        rows.append(
            [
                named(name),
                percent(made["threshold"], 1),
                f"at most {number(made['max_alarms_per_patient_day'], 2)}",
                f"{number(kept['alarms_per_patient_day'], 2)} (at most {number(kept['alarms_upper'], 2)})",
                f"at least {percent(made['min_precision'], 1)}",
                f"{percent(kept['precision'], 1)} (at least {percent(kept['precision_lower'], 1)})",
                percent(kept["event_recall"]),
                percent(made["confidence"]),
                "held" if kept["held"] else "NOT held",
            ]
        )
    headings = [
        "model",
        "threshold, probability",
        "promised alarms per patient-day",
        "on these patients",
        "promised precision",
        "on these patients",
        "event recall",
        "confidence of the promise",
        "the promise",
    ]
    return Table(headings, rows)


def subgroups(result: Result) -> Table:
    """Every group; those too small to judge by name only, since counts of a few may tell who they are."""
    metrics = {"auroc": 3, "observed_expected": 2, "calibration_slope": 2}
    rows = []
    for row in result["subgroups"]:
        group = row["group"] if row["by"] == "all" else f"{row['by']}: {row['group']}"
        if not row["enough"]:
            rows.append([group, "too few to judge"])
            continue
        cells = [group, f"{row['patients']:,}", f"{row['events']:,}", percent(row["prevalence"], 1)]
        cells += [interval(row, metric, digits) for metric, digits in metrics.items()]
        if result["alarms"]:
            cells += [percents(row, "event_recall"), percents(row, "alarm_precision", 1)]
            cells.append(interval(row, "alarms_per_patient_day", 2))
        rows.append(cells)
    headings = [
        "group",
        "patients",
        "with an event",
        "prevalence",
        "AUROC",
        "observed / expected (1 is right)",
        "calibration slope",
    ]
    return Table(headings + (["event recall", "alarm precision", "alarms per patient-day"] if result["alarms"] else []), rows)


def robustness(result: Result) -> Table:
    """What each loss of readings costs."""
    rows = []
    for row in result.get("robustness", {}).get("losses", []):
        cells = [row["what"], number(row["auroc"]), interval(row, "auroc_change", signed=True)]
        if result["alarms"]:
            cells += [percent(row["event_recall"]), number(row["alarms_per_patient_day"], 2)]
            cells.append(interval(row, "alarms_per_patient_day_change", 2, signed=True))
        rows.append(cells)
    headings = ["lost", "AUROC without", "change of AUROC"]
    alarm_headings = ["event recall without", "alarms per patient-day without", "change of alarms per patient-day"]
    return Table(headings + (alarm_headings if result["alarms"] else []), rows)


def ranges(result: Result) -> Table:
    """Ranges and what was observed, by tenth of the hours."""
    rows = [
        [
            f"{row['n']:,}",
            f"{row['patients']:,}",
            percent(row["predicted"], 2),
            f"{percent(row['low'], 2)} to {percent(row['high'], 2)}",
            f"{percent(row['observed'], 2)} ({100 * row['observed_low']:.2f} to {100 * row['observed_high']:.2f})",
            "yes" if row["covered"] else ("within chance" if row["compatible"] else "NO"),
        ]
        for row in result["ranges"]
    ]
    headings = [
        "stays" if result["once"] else "patient-hours",
        "patients",
        "mean risk",
        "range given, mean",
        "observed frequency",
        "does the range hold it?",
    ]
    return Table(headings, rows)


def made(result: Result) -> Table:
    """How the figures came to be."""
    facts, task = result["made"], result["task"]
    cohort, asked = facts["cohort"], "once a stay" if result["once"] else "at each full hour of a stay"
    rows = [
        ["data", "a simulated ward" if result["simulated"] else result["source"]],
        ["cohort", f"{cohort['stays']:,} stays, {cohort['events']:,} with an event, {cohort['readings']:,} readings"],
        ["question", f"{foreseen(task)}, asked {asked}"],
        ["model", f"{task['name']} version {result['version']}, feature service {facts['feature_service']}"],
        ["digest of the training data", str(facts["data_digest"] or "not kept")],
        [
            "held out",
            f"{percent(facts['held_out_share'])} of the patients, by a fixed function of the identifier; read here only",
        ],
        ["chosen on the others", "calibration, thresholds, ranges, the alarm promise"],
        ["intervals", f"95 %, {facts['resamples']} resamples of whole patients, seed {facts['seed']}"],
    ]
    return Table(["what", "how"], rows)


def foreseen(task: Row) -> str:
    """What the model foresees, and how far ahead; a horizon of years is none."""
    hours = task["horizon_hours"]
    return f"{task['outcome']} within {hours:g} h" if hours < 24 * 365 else str(task["outcome"])
