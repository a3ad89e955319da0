"""The report: one page that needs nothing but itself, made from what ``evaluation.json`` holds."""

from collections.abc import Callable, Mapping
from importlib import resources
from typing import Any, Final

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from models.reporting import behaviour_tables, figures, tables
from models.reporting.style import named, styled, svg

Result = Mapping[str, Any]

_TEMPLATE: Final = "report.html"


def report(result: Result) -> str:
    """The page as HTML.

    Args:
        result: ``evaluation.json``, as it is read back: the sections of :mod:`models.evaluation.comparison`, with ``source,
            simulated, version, task, made`` and, where it was tried, ``robustness, behaviour, domain``.
    """
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(resources.files("models.reporting").joinpath(_TEMPLATE).read_text(encoding="utf-8"))
    robust = result.get("robustness", {}).get("losses")
    judged_groups = [row for row in result["subgroups"] if row["enough"]]
    return template.render(
        result=result,
        default=named(result["default"]),
        foreseen=tables.foreseen(result["task"]),
        asked="stays" if result["once"] else "patient-hours",
        named=named,
        number=tables.number,
        interval=tables.interval,
        findings=tables.findings(result),
        tables={
            "models": tables.models(result),
            "calibration": tables.calibration(result),
            "benefit": tables.benefit(result),
            **(_alarm_tables(result) if result["alarms"] else {}),
            "subgroups": tables.subgroups(result),
            "robustness": tables.robustness(result),
            "ranges": tables.ranges(result),
            "made": tables.made(result),
        },
        behaviour=_behaviour(result) if result.get("behaviour") else {},
        domain=_domain(result) if result.get("domain") else {},
        figures={
            "ranking": _drawn(figures.ranking, result),
            "curves": _drawn(figures.curves, result),
            "calibration": _drawn(figures.calibration, result),
            "net_benefit": _drawn(figures.net_benefit, result),
            "alarms": _drawn(figures.alarms, result) if result["alarms"] else "",
            "lead_time": _drawn(figures.lead_time, result) if result["alarms"] else "",
            "subgroups": _drawn(figures.subgroups, result) if len(judged_groups) > 1 else "",
            "robustness": _drawn(figures.robustness, result) if robust else "",
            "ranges": _drawn(figures.ranges, result) if result["ranges"] else "",
        },
    )


def _alarm_tables(result: Result) -> dict[str, tables.Table]:
    return {
        "frozen": tables.frozen(result),
        "parts": tables.parts(result),
        "rules": tables.rules(result),
        "budgets": tables.budgets(result),
        "promises": tables.promises(result),
    }


def _behaviour(result: Result) -> dict[str, Any]:
    return {
        "sentences": behaviour_tables.behaves(result),
        "vignettes": behaviour_tables.vignettes(result),
        "directions": behaviour_tables.directions(result),
        "history": behaviour_tables.history(result),
        "removal": behaviour_tables.removal(result),
    }


def _domain(result: Result) -> dict[str, Any]:
    return {
        "sentences": behaviour_tables.speaks(result),
        "limits": behaviour_tables.limits(result),
        "missing": behaviour_tables.missing(result),
        "outside": behaviour_tables.outside(result),
    }


def _drawn(draw: Callable[[Result], Figure], result: Result) -> Markup:
    with styled():
        figure = draw(result)
    return Markup(svg(figure))  # noqa: S704 - drawn here: its letters are outlines, not text
