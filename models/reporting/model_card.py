"""The model card: what a run knows of its model, by the items of TRIPOD+AI; and, honestly, what it does not know.

Collins GS, et al. TRIPOD+AI statement: updated guidance for reporting clinical prediction models that use regression or machine
learning methods. BMJ 2024;385:e078378. The page is :file:`model_card.md` beside this file; no result is written there by hand.
"""

from collections.abc import Iterable, Mapping
from datetime import timedelta
from importlib import resources
from typing import Any, Final

from jinja2 import Environment, StrictUndefined

from features.catalogue import FEATURES, INDEX_STEP
from features.signals import SIGNALS
from models.reporting import behaviour_tables, tables
from models.reporting.style import named
from models.reporting.tables import Result, Row, Table, interval, number, percent
from models.tasks import TASKS

_TEMPLATE: Final = "model_card.md"

ITEMS: Final[Mapping[str, str]] = {
    "1": "Title",
    "2": "Abstract",
    "3a": "Healthcare context, rationale, existing models",
    "3b": "Target population, intended purpose, users",
    "3c": "Known health inequalities",
    "4": "Objectives",
    "5a": "Sources of data",
    "5b": "Dates of the data",
    "6a": "Setting, number and location of centres",
    "6b": "Eligibility",
    "6c": "Treatments received",
    "7": "Data preparation",
    "8a": "Outcome and horizon",
    "8b": "Qualifications of outcome assessors",
    "8c": "Blinding of outcome assessment",
    "9a": "Choice of predictors",
    "9b": "Definition of predictors",
    "9c": "Qualifications of predictor assessors",
    "10": "Sample size",
    "11": "Missing data",
    "12a": "Use and partition of the data",
    "12b": "Handling of predictors",
    "12c": "Type of model, building, internal validation",
    "12d": "Heterogeneity across clusters, methods",
    "12e": "Measures of performance",
    "12f": "Updating, methods",
    "12g": "How predictions were calculated",
    "13": "Class imbalance",
    "14": "Fairness",
    "15": "Output and thresholds",
    "16": "Differences between training and evaluation data",
    "17": "Ethical approval and consent",
    "18a": "Funding",
    "18b": "Conflicts of interest",
    "18c": "Protocol",
    "18d": "Registration",
    "18e": "Data sharing",
    "18f": "Code sharing",
    "19": "Patient and public involvement",
    "20a": "Flow of participants",
    "20b": "Characteristics of participants",
    "20c": "Predictors in evaluation and development data compared",
    "21": "Participants and events in each analysis",
    "22": "Specification of the full model",
    "23a": "Performance, with intervals, and by subgroup",
    "23b": "Heterogeneity across clusters, results",
    "24": "Updating, results",
    "25": "Interpretation, fairness, previous studies",
    "26": "Limitations",
    "27a": "Poor or missing input when in use",
    "27b": "What is asked of users",
    "27c": "Next steps",
}


class _Answered:
    """Which items the page answers as it is written, and what they leave open; so none can be forgotten."""

    def __init__(self) -> None:
        self._left_open: dict[str, str] = {}

    def item(self, key: str, left_open: str = "") -> str:
        """The heading of an item that the run answers, at least but for what is left open."""
        self._left_open[key] = left_open
        return f"**{key} {ITEMS[key]}.**"

    def unknown(self) -> str:
        """A table of all that nobody has said."""
        rows = [
            [key, topic, self._left_open.get(key, "all of it")]
            for key, topic in ITEMS.items()
            if self._left_open.get(key, "all")
        ]
        return _markdown(Table(["item", "topic", "not known to the run"], rows))


def card(evaluation: Mapping[str, Any], made: Mapping[str, Any]) -> str:
    """The card of a version as Markdown.

    Args:
        evaluation: ``evaluation.json``, as it is read back (:func:`models.reporting.report.report`).
        made: how the version came to be (:meth:`models.registry.Registry.made`).
    """
    answered = _Answered()
    environment = Environment(
        autoescape=False,  # noqa: S701 - it would write HTML; what comes from a source's data passes through _text
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    template = environment.from_string(resources.files("models.reporting").joinpath(_TEMPLATE).read_text(encoding="utf-8"))
    units = [row for row in evaluation["subgroups"] if row["by"] == "unit" and row["enough"]]
    return template.render(
        result=evaluation,
        facts=evaluation["made"],
        made=made,
        item=answered.item,
        unknown=answered.unknown,
        foreseen=_text(tables.foreseen(evaluation["task"])),
        asked="asked once a stay" if evaluation["once"] else "asked at each full hour of a stay",
        rules=TASKS.get(evaluation["task"]["name"]),
        source=_text(evaluation["source"]),
        step_hours=f"{INDEX_STEP / timedelta(hours=1):g}",
        findings=tables.findings(evaluation),
        promise=evaluation["promises"].get(evaluation["default"]),
        trees=made["learner"] == "LGBMClassifier",
        units=len(units) > 1,
        limits=limits(evaluation),
        behaves=behaviour_tables.behaves(evaluation) if evaluation.get("behaviour") else [],
        speaks=behaviour_tables.speaks(evaluation) if evaluation.get("domain") else [],
        versions=", ".join(f"{library} {version}" for library, version in made["versions"].items()),
        interval=interval,
        number=number,
        percent=percent,
        tables=_tables(evaluation, made),
    )


def limits(evaluation: Result) -> list[str]:
    """What speaks against relying on the figures, as far as figures can tell."""
    default = evaluation["default"]
    metrics, promised = evaluation["models"][default], evaluation["promises"].get(default)
    found = ["The patients are simulated: no figure here is evidence about any patient."] if evaluation["simulated"] else []
    found.append(
        "Development and evaluation patients are of one source: this run does not know how the model does in another hospital."
    )
    for metric, right in (("calibration_slope", 1), ("calibration_intercept", 0)):
        low, high = metrics[f"{metric}_low"], metrics[f"{metric}_high"]
        if low is not None and high is not None and not low <= right <= high:
            shown = interval(metrics, metric, 2)
            found.append(f"The {metric.replace('_', ' ')} is {shown}; its interval does not hold {right}, which is right.")
    if evaluation["alarms"] and promised is None:
        found.append("No promise about its alarms could be made on the training patients.")
    if promised is not None and not promised["held_out"]["held"]:
        found.append("The promise about its alarms did not hold on the held-out patients.")
    missed = [row for row in evaluation["ranges"] if not row["compatible"]]
    if missed:
        found.append(
            f"In {len(missed)} of {len(evaluation['ranges'])} groups by risk the range given misses what was observed."
        )
    return found + _misbehaves(evaluation) + _served_worse(evaluation)


def _misbehaves(evaluation: Result) -> list[str]:
    """What behaviour speaks against the version, and whether it carries a domain of use."""
    found = []
    if examined := evaluation.get("behaviour"):
        failed = [part.replace("_", " ") for part, figures in examined.items() if not figures.get("passed", True)]
        if failed:
            found.append(f"Its behaviour does not keep the limits in: {', '.join(failed)}.")
    if "domain" in evaluation and evaluation["domain"] is None:
        found.append("It carries no domain of use: it speaks for patients unlike those it learned from, too.")
    return found


def _served_worse(evaluation: Result) -> list[str]:
    rows = evaluation["subgroups"]
    if not rows:
        return ["Nothing is known of the patients that groups could be made by, so nobody knows who is served worse."]
    everybody, *groups = rows
    if not everybody["enough"]:
        return ["The held-out patients are too few to judge any group of them, or to tell who is served worse."]
    worse = [_group(row) for row in groups if row["enough"] and (row["auroc_high"] or 1.0) < everybody["auroc"]]
    few = [_group(row) for row in groups if not row["enough"]]
    at_least = evaluation["subgroup_min_patients"]
    found = []
    if worse:
        found.append(f"AUROC is lower, its whole 95 % interval below that of everybody, in: {'; '.join(worse)}.")
    if few:
        found.append(
            f"Too small to judge (fewer than {at_least} patients with an event, or without one), so nothing is known of: "
            f"{'; '.join(few)}."
        )
    return found


def _tables(evaluation: Result, made: Mapping[str, Any]) -> dict[str, str]:
    judged = [row for row in evaluation["subgroups"] if row["enough"]]
    losses = evaluation.get("robustness", {}).get("losses")
    parameters = [[name, value] for name, value in sorted(made["parameters"].items())]
    return {
        "models": _markdown(tables.models(evaluation)),
        "calibration": _markdown(tables.calibration(evaluation)),
        "benefit": _markdown(tables.benefit(evaluation)),
        "frozen": _markdown(tables.frozen(evaluation)) if evaluation["alarms"] else "",
        "promises": _markdown(tables.promises(evaluation)) if evaluation["promises"] else "",
        "ranges": _markdown(tables.ranges(evaluation)) if evaluation["ranges"] else "",
        "robustness": _markdown(tables.robustness(evaluation)) if losses else "",
        "subgroups": _markdown(tables.subgroups({**evaluation, "subgroups": judged})) if judged else "Too few to judge any.",
        "vignettes": _wrong_vignettes(evaluation),
        "domain": _markdown(behaviour_tables.limits(evaluation)) if evaluation.get("domain") else "",
        "groups": _groups(evaluation),
        "parameters": _markdown(Table(["parameter", "value"], parameters)),
        "features": _features(made["features"]),
    }


def _wrong_vignettes(evaluation: Result) -> str:
    """Those that were not answered as expected; nothing if there are none."""
    table = behaviour_tables.wrong_vignettes(evaluation) if evaluation.get("behaviour") else Table([], [])
    return _markdown(table) if table.rows else ""


def _groups(evaluation: Result) -> str:
    """Who the held-out patients are: the first columns of the report's table, before any figure of the model."""
    table = tables.subgroups(evaluation)
    return _markdown(Table(table.headings[:4], [row[:4] for row in table.rows]))


def _features(names: Iterable[str]) -> str:
    by_signal: dict[str, list[str]] = {}
    for name in names:
        by_signal.setdefault(FEATURES[name].signal, []).append(name)
    rows = []
    for signal, features in by_signal.items():
        known = SIGNALS.get(signal)
        code, unit = (known.loinc or tables.NONE, known.unit) if known else (tables.NONE, tables.NONE)
        shown = ", ".join(f"`{name}`" for name in features)
        rows.append([named(signal), code, unit, f"{len(features)}", shown])
    return _markdown(Table(["signal", "LOINC", "unit of readings (UCUM)", "features", "their names"], rows))


def _group(row: Row) -> str:
    return _text(str(row["group"]) if row["by"] == "all" else f"{row['by']}: {row['group']}")


def _markdown(table: Table) -> str:
    lines = [table.headings, ["---"] * len(table.headings)]
    lines += [row + [""] * (len(table.headings) - len(row)) for row in table.rows]
    return "\n".join(f"| {' | '.join(_text(cell) for cell in line)} |" for line in lines)


def _text(text: str) -> str:
    """Names of units and sources are whatever the data say, and may not become markup; twice is as good as once."""
    return " ".join(text.split()).replace("\\|", "|").replace("|", "\\|").replace("<", "&lt;")
