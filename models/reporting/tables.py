"""Tables and sentences of the evaluation report: metrics with intervals and units, in the words of a ward."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from vigil.models.formatting import (
    NONE,
    format_interval,
    format_limits,
    format_number,
    format_percent,
    format_percent_interval,
)
from vigil.models.reporting.style import describe_knowledge, display_name, order_models
from vigil.models.tasks import describe_outcome

Result = Mapping[str, Any]
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Table:
    """Headings (with units) and rows of text; the last cell of a short row spans the remaining columns."""

    headings: list[str]
    rows: list[list[str]]

    def without(self, *headings: str) -> "Table":
        """Return the table without some columns, such as those that a plot beside it shows.

        >>> Table(["model", "AUROC", "slope"], [["a", "0.8", "1.1"], ["b", "too few"]]).without("AUROC").rows
        [['a', '1.1'], ['b', 'too few']]
        """
        kept = [position for position, heading in enumerate(self.headings) if heading not in headings]
        rows = [[row[position] for position in kept] if len(row) == len(self.headings) else row for row in self.rows]
        return Table([self.headings[position] for position in kept], rows)


def summarise_results(result: Result) -> list[str]:
    """Summarise the main results in sentences."""
    default, unit = result["default"], "stay" if result["once"] else "patient-hour"
    ranked = format_percent_interval(result["models"][default], "auroc", 1)
    sentences = list[str]()
    sentences.append(
        f"In {ranked} of all pairs of a {unit} before an event and a {unit} without one, the default model "
        f"({display_name(default)}) gives the higher risk to the first (AUROC; 50 % is chance)."
    )
    for name, gain in result["gains"].items():
        if name in {"clock", "workflow", "physiology"}:
            sentences.append(
                f"A model that knows only {describe_knowledge(name)} reaches an AUROC of "
                f"{format_interval(result['models'][name], 'auroc')}. The default model adds "
                f"{format_interval(gain, 'auroc', signed=True)}."
            )
    return sentences + (_summarise_alarms(result, default) if result["alarms"] else [])


def _summarise_alarms(result: Result, default: str) -> list[str]:
    """Summarise the alarms of the default model in sentences."""
    alarms, sentences = result["alarms"]["at_frozen_threshold"][default], list[str]()
    if alarms["alarm_precision"]:
        sentences.append(
            f"At its frozen threshold it sounds {format_interval(alarms, 'alarms_per_patient_day', 2)} alarms per patient-day. "
            f"It warns of {format_percent_interval(alarms, 'event_recall')} of the onsets, half of them at least "
            f"{format_number(alarms['lead_time_hours'], 1)} h ahead. An onset follows "
            f"{format_percent_interval(alarms, 'alarm_precision', 1)} of its alarms: one in "
            f"{1 / alarms['alarm_precision']:.0f}."
        )
    sentences += [
        f"{rule['rule']} warns of {format_percent(rule['rule_recall'])} of the onsets with "
        f"{format_number(rule['rule_alarms_per_patient_day'], 2)} alarms per patient-day. With as many alarms the default "
        f"model warns of {format_percent_interval(rule, 'recall_at_same_alarms')}. For the same recall it needs "
        f"{format_percent_interval(rule, 'share_of_alarms_at_same_recall')} of those alarms."
        for rule in result["alarms"]["against_rules"].get(default, [])
        if rule["share_of_alarms_at_same_recall"] is not None
    ]
    if default in result["promises"]:
        held = result["promises"][default]["held_out"]["held"]
        sentences.append(f"The alarm guarantee of training {'held' if held else 'did NOT hold'} on these patients.")
    return sentences


def tabulate_models(result: Result) -> Table:
    """Tabulate every model, and the gain of the default model over it."""
    rows = []
    for name in order_models(result["models"]):
        values, gain = result["models"][name], result["gains"].get(name)
        features = result["made"].get("features", {}).get(name)
        knowledge = "the registered model" if name == result["default"] else describe_knowledge(name)
        row = [
            display_name(name),
            ", ".join(part for part in (knowledge, f"{features} feature{'s' * (features > 1)}" if features else "") if part),
            format_interval(values, "auroc"),
            format_interval(gain, "auroc", signed=True) if gain else NONE,
            format_interval(values, "auprc"),
            format_number(values["calibration_slope"], 2),
        ]
        if result["alarms"]:
            row += [format_percent(values["event_recall"]), format_percent(values["alarm_precision"], 1)]
            row.append(format_number(values["alarms_per_patient_day"], 2))
        rows.append(row)
    headings = ["model", "what it knows", "AUROC", "AUROC gain of the default model", "AUPRC", "calibration slope"]
    alarm_headings = ["event recall", "alarm precision", "alarms per patient-day"]
    return Table(headings + (alarm_headings if result["alarms"] else []), rows)


def tabulate_calibration(result: Result) -> Table:
    """Tabulate the calibration of every model."""
    metrics = {"calibration_slope": 2, "calibration_intercept": 2, "ece": 4, "brier": 4}
    rows = [
        [display_name(name), *(format_interval(result["models"][name], metric, digits) for metric, digits in metrics.items())]
        for name in order_models(result["models"])
    ]
    headings = [
        "model",
        "slope (1 is right)",
        "intercept, log-odds (0 is right)",
        "expected calibration error, probability (0 is right)",
        "Brier score, probability squared (lower is better)",
    ]
    return Table(headings, rows)


def tabulate_net_benefit(result: Result) -> Table:
    """Tabulate net benefit per 1,000 patient-hours (or stays) at some threshold probabilities."""
    section = result["net_benefit"]
    chosen = range(0, len(section["curve"]), 7)
    strategies = [*(name for name in order_models(result["models"]) if name in {result["default"], "news2", "clock"})]
    rows = []
    for point in chosen:
        row = {name: None if value is None else 1000 * value for name, value in section["curve"][point].items()}
        cells = [format_percent(section["curve"][point]["threshold"], 1), *(format_number(row[name], 2) for name in strategies)]
        cells += [format_number(row[rule], 2) for rule in section["rules"]] + [format_number(row["treat_all"], 2)]
        if section["gain"]:
            gain = {name: None if value is None else 1000 * value for name, value in section["gain"][point].items()}
            cells.append(format_interval(gain, "gain", 2, signed=True))
        rows.append(cells)
    headings = ["threshold probability", *map(display_name, strategies), *section["rules"], "treat all"]
    return Table(headings + (["gain of the default model over calibrated NEWS2"] if section["gain"] else []), rows)


def tabulate_alarms(result: Result) -> Table:
    """Tabulate the alarms of every model at its frozen threshold, and of the NEWS2 rules."""
    alarms = result["alarms"]
    rows = [
        [
            display_name(name),
            format_percent(alarms["at_frozen_threshold"][name]["threshold"], 1),
            *_alarm_cells(alarms["at_frozen_threshold"][name]),
        ]
        for name in order_models(result["models"])
    ]
    rows += [[rule["rule"], "the score itself", *_alarm_cells(rule)] for rule in alarms["rules"]]
    return Table(["model or rule", "threshold, probability", *_ALARM_HEADINGS], rows)


def tabulate_alarm_sources(result: Result) -> Table:
    """Tabulate the alarms of the default model and the safety net, alone and together."""
    names = {
        "model": "the model alone",
        "net": "the safety net alone (NEWS2 of 7 or more)",
        "both": "both, as a ward gets them",
    }
    rows = [[names[row["part"]], format_number(row["alarms"], 0), *_alarm_cells(row)] for row in result["alarms"]["parts"]]
    return Table(["source of the alarms", "alarms", *_ALARM_HEADINGS], rows)


def tabulate_budgets(result: Result) -> Table:
    """Tabulate the alarms of the default model at each alarm budget."""
    rows = [
        [format_number(row["budget"], 2), format_percent(row["threshold"], 1), *_alarm_cells(row)]
        for row in result["alarms"]["at_budgets"][result["default"]]
    ]
    return Table(["alarm budget per patient-day", "threshold, probability", *_ALARM_HEADINGS], rows)


_ALARM_HEADINGS: Final = [
    "alarms per patient-day",
    "event recall",
    "alarm precision",
    "lead time, hours: median (quartiles)",
]


def _alarm_cells(row: Row) -> list[str]:
    """Return the cells under :data:`_ALARM_HEADINGS`."""
    lead_time = format_number(row["lead_time_hours"], 1) + format_limits(row["lead_time_q25"], row["lead_time_q75"], 1)
    return [
        format_interval(row, "alarms_per_patient_day", 2),
        format_percent_interval(row, "event_recall"),
        format_percent_interval(row, "alarm_precision", 1),
        lead_time,
    ]


def tabulate_rules(result: Result) -> Table:
    """Tabulate every model against the NEWS2 rules."""
    comparisons = result["alarms"]["against_rules"]
    rows = [
        [
            display_name(name),
            rule["rule"],
            f"{format_percent(rule['rule_recall'])} at {format_number(rule['rule_alarms_per_patient_day'], 2)}",
            format_percent_interval(rule, "recall_at_same_alarms"),
            _format_points(rule, "recall_gain"),
            format_percent(rule["precision_at_same_alarms"], 1),
            format_percent_interval(rule, "share_of_alarms_at_same_recall"),
        ]
        for name in order_models(result["models"])
        for rule in comparisons.get(name, [])
    ]
    headings = [
        "model",
        "rule",
        "recall of the rule, at its alarms per patient-day",
        "recall of the model with as many alarms",
        "gain in recall, percentage points",
        "precision of the model with as many alarms",
        "share of the rule's alarms that the model needs for the same recall",
    ]
    return Table(headings, rows)


def _format_points(row: Row, metric: str) -> str:
    """Return a difference of shares in percentage points, with its interval."""
    ends = (f"{metric}{end}" for end in ("", "_low", "_high"))
    return format_interval({name: None if row[name] is None else 100 * row[name] for name in ends}, metric, 0, signed=True)


def tabulate_guarantees(result: Result) -> Table:
    """Tabulate each alarm guarantee of training and the alarms on these patients."""
    rows = []
    for name in order_models(result["models"]):
        if name not in result["promises"]:
            continue
        guarantee, outcome = (result["promises"][name][part] for part in ("certificate", "held_out"))
        rows.append(
            [
                display_name(name),
                format_percent(guarantee["threshold"], 1),
                f"at most {format_number(guarantee['max_alarms_per_patient_day'], 2)}",
                f"{format_number(outcome['alarms_per_patient_day'], 2)} (at most {format_number(outcome['alarms_upper'], 2)})",
                f"at least {format_percent(guarantee['min_precision'], 1)}",
                f"{format_percent(outcome['precision'], 1)} (at least {format_percent(outcome['precision_lower'], 1)})",
                format_percent(outcome["event_recall"]),
                format_percent(guarantee["confidence"]),
                "held" if outcome["held"] else "NOT held",
            ]
        )
    headings = [
        "model",
        "threshold, probability",
        "guaranteed alarms per patient-day",
        "on these patients",
        "guaranteed precision",
        "on these patients",
        "event recall",
        "confidence of the guarantee",
        "the guarantee",
    ]
    return Table(headings, rows)


def tabulate_subgroups(result: Result) -> Table:
    """Tabulate every group. A group too small to judge has its name only: counts of a few patients might identify them."""
    metrics = {"auroc": 3, "observed_expected": 2, "calibration_slope": 2}
    rows = []
    for row in result["subgroups"]:
        group = name_group(row)
        if not row["enough"]:
            rows.append([group, "too few to judge"])
            continue
        cells = [group, f"{row['patients']:,}", f"{row['events']:,}", format_percent(row["prevalence"], 1)]
        cells += [format_interval(row, metric, digits) for metric, digits in metrics.items()]
        if result["alarms"]:
            cells += [format_percent_interval(row, "event_recall"), format_percent_interval(row, "alarm_precision", 1)]
            cells.append(format_interval(row, "alarms_per_patient_day", 2))
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


def name_group(row: Row) -> str:
    """Return the name of a group as readers see it."""
    by = "ward" if row["by"] == "unit" else row["by"]
    return "all patients" if by == "all" else f"{by}: {row['group']}"


def tabulate_losses(result: Result) -> Table:
    """Tabulate the cost of each loss of readings."""
    rows = []
    for row in result.get("robustness", {}).get("losses", []):
        cells = [row["what"], format_number(row["auroc"]), format_interval(row, "auroc_change", signed=True)]
        if result["alarms"]:
            cells += [format_percent(row["event_recall"]), format_number(row["alarms_per_patient_day"], 2)]
            cells.append(format_interval(row, "alarms_per_patient_day_change", 2, signed=True))
        rows.append(cells)
    headings = ["lost", "AUROC after the loss", "change of AUROC"]
    alarm_headings = [
        "event recall after the loss",
        "alarms per patient-day after the loss",
        "change of alarms per patient-day",
    ]
    return Table(headings + (alarm_headings if result["alarms"] else []), rows)


def tabulate_ranges(result: Result) -> Table:
    """Tabulate risk ranges and observed frequencies, by tenth of the rows."""
    rows = [
        [
            f"{row['n']:,}",
            f"{row['patients']:,}",
            format_percent(row["predicted"], 2),
            f"{format_percent(row['low'], 2)} to {format_percent(row['high'], 2)}",
            f"{format_percent(row['observed'], 2)} ({100 * row['observed_low']:.2f} to {100 * row['observed_high']:.2f})",
            "yes" if row["covered"] else ("within chance" if row["compatible"] else "NO"),
        ]
        for row in result["ranges"]
    ]
    headings = [
        "stays" if result["once"] else "patient-hours",
        "patients",
        "mean risk",
        "risk range, mean",
        "observed frequency",
        "is it in the range?",
    ]
    return Table(headings, rows)


def summarise_ranges(result: Result) -> str:
    """Summarise in how many groups by risk the range holds the observed frequency; empty without ranges."""
    rows = result["ranges"]
    covered, compatible = (sum(row[name] for row in rows) for name in ("covered", "compatible"))
    return (
        f"In {covered} of {len(rows)} groups by risk the mean range holds the observed frequency; in {compatible} its interval "
        "reaches into the range."
        if rows
        else ""
    )


def tabulate_methods(result: Result) -> Table:
    """Tabulate data, model and methods behind the results."""
    facts, task = result["made"], result["task"]
    cohort, times = facts["cohort"], "once per stay" if result["once"] else "at each full hour of a stay"
    share = format_percent(facts["held_out_share"])
    rows = [
        ["data", "a simulated ward" if result["simulated"] else result["source"]],
        ["cohort", f"{cohort['stays']:,} stays, {cohort['events']:,} with an event, {cohort['readings']:,} readings"],
        ["question", f"{describe_question(task)}, predicted {times}"],
        ["model", f"{task['name']} version {result['version']}, feature service {facts['feature_service']}"],
        ["digest of the training data", str(facts["data_digest"] or "not recorded")],
        ["held out", f"{share} of the patients, by a fixed function of the subject key; read by the evaluation only"],
        ["set on the others", "calibration, thresholds, risk ranges, alarm guarantee"],
        ["intervals", f"95 %, {facts['resamples']} resamples of whole patients, seed {facts['seed']}"],
    ]
    return Table(["what", "how"], rows)


def describe_question(task: Row) -> str:
    """Return the outcome of a task and how far ahead it is predicted."""
    return describe_outcome(str(task["outcome"]), timedelta(hours=task["horizon_hours"]))
