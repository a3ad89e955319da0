"""Model card: what a run knows about its model, by the items of TRIPOD+AI, and a list of what it does not know.

The template is :file:`model_card.md` in this folder. No result is written there by hand.

Source: Collins GS, et al. TRIPOD+AI statement: updated guidance for reporting clinical prediction models that use regression or
machine learning methods. BMJ 2024;385:e078378.
"""

from collections.abc import Iterable, Mapping
from datetime import timedelta
from importlib import resources
from typing import Any, Final

from jinja2 import Environment, StrictUndefined

from vigil.features.catalogue import FEATURES, INDEX_STEP
from vigil.features.display_names import name_feature, name_signal, name_unit
from vigil.features.signals import SIGNALS
from vigil.models.formatting import NONE, format_interval, format_number, format_percent
from vigil.models.reporting import behaviour_tables, fairness_figures, tables
from vigil.models.reporting.tables import Result, Row, Table

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
    "27b": "What users need to do and know",
    "27c": "Next steps",
}


class _AnsweredItems:
    """The items that the card answers while it is rendered, and what they leave open, so that no item is missed."""

    def __init__(self) -> None:
        self._left_open: dict[str, str] = {}

    def item(self, key: str, left_open: str = "") -> str:
        """Return the heading of an item that the run answers, and record what the answer leaves open."""
        self._left_open[key] = left_open
        return f"**{key} {ITEMS[key]}.**"

    def unknown(self) -> str:
        """Return a table of all items that are not answered or left open."""
        rows = [
            [key, topic, self._left_open.get(key, "all of it")]
            for key, topic in ITEMS.items()
            if self._left_open.get(key, "all")
        ]
        return _to_markdown(Table(["item", "topic", "not known to the run"], rows))


def render_model_card(evaluation: Mapping[str, Any], training: Mapping[str, Any]) -> str:
    """Render the model card of a version as Markdown.

    Args:
        evaluation: ``evaluation.json`` as read from the file (:func:`vigil.models.reporting.report.render_report`).
        training: facts about the training of the version (:func:`vigil.models.version_history.describe_training`).
    """
    answered = _AnsweredItems()
    environment = Environment(
        autoescape=False,  # noqa: S701 - the output is Markdown; text from the data of a source passes through _escape
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    template = environment.from_string(
        resources.files("vigil.models.reporting").joinpath(_TEMPLATE).read_text(encoding="utf-8")
    )
    units = [row for row in evaluation["subgroups"] if row["by"] == "unit" and row["enough"]]
    return template.render(
        result=evaluation,
        facts=evaluation["made"],
        training=training,
        item=answered.item,
        unknown=answered.unknown,
        outcome=_escape(tables.describe_question(evaluation["task"])),
        times="once per stay" if evaluation["once"] else "at each full hour of a stay",
        rules=evaluation["task"] if "after_onset" in evaluation["task"] else None,
        source=_escape(evaluation["source"]),
        step_hours=f"{INDEX_STEP / timedelta(hours=1):g}",
        findings=tables.summarise_results(evaluation),
        promise=evaluation["promises"].get(evaluation["default"]),
        trees=training["learner"] == "LGBMClassifier",
        units=len(units) > 1,
        fairness=_fairness(evaluation) if evaluation.get("fairness", {}).get("groups") else {},
        limits=list_limits(evaluation),
        behaviour=behaviour_tables.summarise_behaviour(evaluation) if evaluation.get("behaviour") else [],
        domain=behaviour_tables.summarise_domain(evaluation) if evaluation.get("domain") else [],
        versions=", ".join(f"{library} {version}" for library, version in training["versions"].items()),
        interval=format_interval,
        number=format_number,
        percent=format_percent,
        tables=_tables(evaluation, training),
    )


def list_limits(evaluation: Result) -> list[str]:
    """List the reasons not to rely on the results, as far as the results show them."""
    default = evaluation["default"]
    metrics, guarantee = evaluation["models"][default], evaluation["promises"].get(default)
    limits = ["The patients are simulated: no figure here is evidence about any patient."] if evaluation["simulated"] else []
    limits.append(
        "Development and evaluation patients are from one source. The performance in another hospital is not known to this run."
    )
    for metric, right in (("calibration_slope", 1), ("calibration_intercept", 0)):
        low, high = metrics[f"{metric}_low"], metrics[f"{metric}_high"]
        if low is not None and high is not None and not low <= right <= high:
            shown, name = format_interval(metrics, metric, 2), metric.replace("_", " ")
            limits.append(f"The {name} is {shown}. Its interval does not include the right value, {right}.")
    if evaluation["alarms"] and guarantee is None:
        limits.append("There is no alarm guarantee, because the training patients allowed none.")
    if guarantee is not None and not guarantee["held_out"]["held"]:
        limits.append("The alarm guarantee did not hold on the held-out patients.")
    missed = [row for row in evaluation["ranges"] if not row["compatible"]]
    if missed:
        limits.append(
            f"In {len(missed)} of {len(evaluation['ranges'])} groups by risk the risk range misses the observed frequency."
        )
    return limits + _behaviour_limits(evaluation) + _group_limits(evaluation)


def _behaviour_limits(evaluation: Result) -> list[str]:
    """List limits of behaviour that the version does not meet, and a missing domain of use."""
    limits = []
    if examined := evaluation.get("behaviour"):
        failed = [part.replace("_", " ") for part, figures in examined.items() if not figures.get("passed", True)]
        if failed:
            limits.append(f"Its behaviour does not meet the limits in: {', '.join(failed)}.")
    if "domain" in evaluation and evaluation["domain"] is None:
        limits.append("It has no domain of use: it also answers for patients unlike those it learned from.")
    return limits


def _group_limits(evaluation: Result) -> list[str]:
    """List groups with a lower AUROC, and groups too small to judge."""
    rows = evaluation["subgroups"]
    if not rows:
        return ["The groups of the patients are not known, so it is not known for which patients the model is worse."]
    all_patients, *groups = rows
    if not all_patients["enough"]:
        return ["There are too few held-out patients to judge any group, so it is not known for which the model is worse."]
    worse = [_group_name(row) for row in groups if row["enough"] and (row["auroc_high"] or 1.0) < all_patients["auroc"]]
    few = [_group_name(row) for row in groups if not row["enough"]]
    at_least = evaluation["subgroup_min_patients"]
    limits = []
    if worse:
        limits.append(f"The AUROC is lower, with its whole 95 % interval below that of all patients, in: {'; '.join(worse)}.")
    if few:
        limits.append(
            f"Too small to judge (fewer than {at_least} patients with an event, or without one), so not known: "
            f"{'; '.join(few)}."
        )
    return limits


def _tables(evaluation: Result, training: Mapping[str, Any]) -> dict[str, str]:
    """Return the tables of the card as Markdown; empty text where there is none."""
    judged = [row for row in evaluation["subgroups"] if row["enough"]]
    losses = evaluation.get("robustness", {}).get("losses")
    parameters = [[name, value] for name, value in sorted(training["parameters"].items())]
    return {
        "models": _to_markdown(tables.tabulate_models(evaluation)),
        "calibration": _to_markdown(tables.tabulate_calibration(evaluation)),
        "benefit": _to_markdown(tables.tabulate_net_benefit(evaluation)),
        "frozen": _to_markdown(tables.tabulate_alarms(evaluation)) if evaluation["alarms"] else "",
        "promises": _to_markdown(tables.tabulate_guarantees(evaluation)) if evaluation["promises"] else "",
        "ranges": _to_markdown(tables.tabulate_ranges(evaluation)) if evaluation["ranges"] else "",
        "robustness": _to_markdown(tables.tabulate_losses(evaluation)) if losses else "",
        "subgroups": _to_markdown(tables.tabulate_subgroups({**evaluation, "subgroups": judged}))
        if judged
        else "All groups are too small to judge.",
        "vignettes": _failed_vignettes(evaluation),
        "domain": _to_markdown(behaviour_tables.tabulate_domain_limits(evaluation)) if evaluation.get("domain") else "",
        "groups": _groups(evaluation),
        "parameters": _to_markdown(Table(["parameter", "value"], parameters)),
        "features": _features(training["features"]),
    }


def _failed_vignettes(evaluation: Result) -> str:
    """Return the vignettes with an answer that is not as expected; empty if there are none."""
    table = behaviour_tables.tabulate_failed_vignettes(evaluation) if evaluation.get("behaviour") else Table([], [])
    return _to_markdown(table) if table.rows else ""


def _groups(evaluation: Result) -> str:
    """Return the held-out patients by group: the first columns of the report's table, before any result of the model."""
    table = tables.tabulate_subgroups(evaluation)
    return _to_markdown(Table(table.headings[:4], [row[:4] for row in table.rows]))


def _features(names: Iterable[str]) -> str:
    """Return a table of features by signal."""
    by_signal: dict[str, list[str]] = {}
    for name in names:
        by_signal.setdefault(FEATURES[name].signal, []).append(name)
    rows = []
    for signal, features in by_signal.items():
        definition = SIGNALS.get(signal)
        code, unit = (definition.loinc or NONE, _describe_unit(definition.unit)) if definition else (NONE, NONE)
        spoken = name_signal(signal)
        listed = ", ".join(f"{name_feature(name).removeprefix(f'{spoken}, ')} `{name}`" for name in features)
        rows.append([spoken, code, unit, f"{len(features)}", listed])
    return _to_markdown(
        Table(["signal", "LOINC", "unit of readings (UCUM code)", "features", "what they are, and names"], rows)
    )


def _describe_unit(code: str) -> str:
    """Return a unit as people write it, with its UCUM code where that differs."""
    return code if name_unit(code) == code else f"{name_unit(code) or 'none'} ({code})"


def _fairness(evaluation: Result) -> dict[str, Any]:
    """Return the sentences and the table about groups that users named."""
    section = evaluation["fairness"]
    return {
        "attributes": _escape(", ".join(fairness_figures.name_attribute(name) for name in section["by"])),
        "sentences": [_escape(sentence) for sentence in fairness_figures.summarise_fairness(evaluation)],
        "table": _to_markdown(fairness_figures.tabulate_fairness(section["groups"])),
    }


def _group_name(row: Row) -> str:
    """Return the name of a group as Markdown text."""
    return _escape(tables.name_group(row))


def _to_markdown(table: Table) -> str:
    """Return a table as Markdown."""
    lines = [table.headings, ["---"] * len(table.headings)]
    lines += [row + [""] * (len(table.headings) - len(row)) for row in table.rows]
    return "\n".join(f"| {' | '.join(_escape(cell) for cell in line)} |" for line in lines)


def _escape(text: str) -> str:
    """Escape text for Markdown; names of units and sources come from the data. Escaping twice changes nothing more."""
    return " ".join(text.split()).replace("\\|", "|").replace("|", "\\|").replace("<", "&lt;")
