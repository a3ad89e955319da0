"""Evaluation report: one self-contained HTML page, made from ``evaluation.json`` alone."""

from collections.abc import Callable, Mapping
from importlib import resources
from typing import Any, Final

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from vigil.models.formatting import format_interval, format_number, format_percent
from vigil.models.reporting import behaviour_tables, fairness_figures, figures, shap_figures, tables
from vigil.models.reporting.explanation_figures import draw_explanations
from vigil.models.reporting.style import display_name, render_svg, report_style
from vigil.models.reporting.verdict import judge, list_figures

Result = Mapping[str, Any]

_TEMPLATE: Final = "report.html"
# Columns of tables that a plot, or another table of the page, shows already. The model card has no plots, and all columns.
_SHOWN_ELSEWHERE: Final = (
    "AUROC", "AUPRC", "calibration slope", "event recall", "alarm precision", "alarms per patient-day",
)  # fmt: skip
_DRAWN_OF_SUBGROUPS: Final = ("AUROC", "observed / expected (1 is right)", "event recall", "alarms per patient-day")
_DRAWN_OF_LOSSES: Final = ("change of AUROC", "change of alarms per patient-day")


def render_report(result: Result) -> str:
    """Render the evaluation report as HTML.

    Args:
        result: ``evaluation.json`` as read from the file: the sections of :mod:`vigil.models.evaluation.comparison`, and
            ``source, simulated, version, task, made``. ``robustness, behaviour, domain`` and ``explanations`` are optional.
    """
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(
        resources.files("vigil.models.reporting").joinpath(_TEMPLATE).read_text(encoding="utf-8")
    )
    losses = result.get("robustness", {}).get("losses")
    large_groups = [row for row in result["subgroups"] if row["enough"]]
    return template.render(
        result=result,
        default=display_name(result["default"]),
        outcome=tables.describe_question(result["task"]),
        rows="stays" if result["once"] else "patient-hours",
        number=format_number,
        interval=format_interval,
        percent=format_percent,
        verdict=judge(result),
        leading=list_figures(result),
        findings=tables.summarise_results(result),
        tables={
            "models": tables.tabulate_models(result).without(*_SHOWN_ELSEWHERE),
            "calibration": tables.tabulate_calibration(result),
            **(_alarm_tables(result) if result["alarms"] else {}),
            "subgroups": tables.tabulate_subgroups(result).without(*_DRAWN_OF_SUBGROUPS),
            "robustness": tables.tabulate_losses(result).without(*_DRAWN_OF_LOSSES),
            "made": tables.tabulate_methods(result),
        },
        ranges_held=tables.summarise_ranges(result),
        fairness=_fairness(result) if result.get("fairness", {}).get("groups") else {},
        behaviour=_behaviour(result) if result.get("behaviour") else {},
        domain=_domain(result) if result.get("domain") else {},
        figures={
            "ranking": _draw_svg(figures.draw_ranking, result),
            "curves": _draw_svg(figures.draw_curves, result),
            "calibration": _draw_svg(figures.draw_calibration, result),
            "net_benefit": _draw_svg(figures.draw_net_benefit, result),
            "alarms": _draw_svg(figures.draw_alarms, result) if result["alarms"] else "",
            "lead_time": _draw_svg(figures.draw_lead_time, result) if result["alarms"] else "",
            "subgroups": _draw_svg(figures.draw_subgroups, result) if len(large_groups) > 1 else "",
            "robustness": _draw_svg(figures.draw_losses, result) if losses else "",
            "ranges": _draw_svg(figures.draw_ranges, result) if result["ranges"] else "",
            **_explanations(result),
        },
    )


def _alarm_tables(result: Result) -> dict[str, tables.Table]:
    """Return the tables of the sections about alarms and the alarm guarantee."""
    return {
        "frozen": tables.tabulate_alarms(result),
        "parts": tables.tabulate_alarm_sources(result),
        "rules": tables.tabulate_rules(result),
        "promises": tables.tabulate_guarantees(result),
    }


def _behaviour(result: Result) -> dict[str, Any]:
    """Return the sentences and tables of the section about behaviour."""
    return {
        "sentences": behaviour_tables.summarise_behaviour(result),
        "vignettes": behaviour_tables.tabulate_vignettes(result),
        "directions": behaviour_tables.tabulate_worsening(result),
        "history": behaviour_tables.tabulate_history(result),
        "removal": behaviour_tables.tabulate_removal(result),
    }


def _domain(result: Result) -> dict[str, Any]:
    """Return the sentences and tables of the section about the domain of use."""
    return {
        "sentences": behaviour_tables.summarise_domain(result),
        "limits": behaviour_tables.tabulate_domain_limits(result),
        "missing": behaviour_tables.tabulate_missing_patterns(result),
        "outside": behaviour_tables.tabulate_outside(result),
    }


def _fairness(result: Result) -> dict[str, Any]:
    """Return the sentences, the table and the figures of the section about fairness."""
    groups, points = result["fairness"]["groups"], result["fairness"]["calibration"]
    return {
        "sentences": fairness_figures.summarise_fairness(result),
        "table": fairness_figures.tabulate_fairness(groups),
        "shares": _draw_svg(fairness_figures.draw_fairness, groups),
        "calibration": _draw_svg(lambda drawn: fairness_figures.draw_group_calibration(drawn, groups), points)
        if points
        else "",
    }


def _explanations(result: Result) -> dict[str, str]:
    """Return the figures of the section about explanations; empty texts for a model that cannot say."""
    signals, features, example = (result.get(name) for name in ("explanations", "feature_explanations", "example"))
    return {
        "explanations": _draw_svg(draw_explanations, result) if any(one["groups"] for one in signals or ()) else "",
        "swarm": _draw_svg(shap_figures.draw_signal_swarm, signals) if signals else "",
        "feature_swarm": _draw_svg(shap_figures.draw_feature_swarm, features) if features else "",
        "example": _draw_svg(shap_figures.draw_waterfall, example) if example else "",
    }


def _draw_svg(draw: Callable[[Any], Figure], result: Any) -> Markup:
    """Draw a figure and return it as SVG."""
    with report_style():
        figure = draw(result)
    return Markup(render_svg(figure))  # noqa: S704 - safe: the figure is drawn here, and its letters are outlines, not text
