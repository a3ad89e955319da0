"""The figures of the report: each is drawn from what ``evaluation.json`` holds, and from nothing else."""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from models.reporting.style import DEFAULT_COLOUR, in_order, labelled, line, named
from models.statistics.bootstrap import Float64

Result = Mapping[str, Any]

_WIDTH: Final = 9.5  # inches
_GUIDE: Final[dict[str, Any]] = {"color": "#888888", "linewidth": 0.9, "linestyle": ":"}
_DOT: Final[dict[str, Any]] = {"fmt": "o", "markersize": 5, "capsize": 2.5, "elinewidth": 1.2}
_SETTLED: Final = 0.02  # recall below which precision rests on a handful of hours and jumps


def ranking(result: Result) -> Figure:
    """AUROC and AUPRC of every model with their intervals."""
    models = in_order(result["models"])[::-1]
    figure = Figure(figsize=(_WIDTH, 0.9 + 0.28 * len(models)), layout="constrained")
    for axes, metric, title in zip(figure.subplots(1, 2, sharey=True), ("auroc", "auprc"), ("AUROC", "AUPRC"), strict=True):
        for place, name in enumerate(models):
            _dot(axes, result["models"][name], metric, place, line(name, models[-1])["color"])
        nothing = "chance" if metric == "auroc" else "prevalence"
        labelled(axes, f"{title} with 95 % interval; dotted: {nothing}", "", title)
        axes.set_yticks(range(len(models)), [named(name) for name in models])
    roc, pr = figure.axes
    roc.axvline(0.5, **_GUIDE)
    pr.axvline(result["prevalence"], **_GUIDE)
    pr.set_xlim(left=0)
    return figure


def curves(result: Result) -> Figure:
    """ROC and precision-recall curves."""
    figure = Figure(figsize=(_WIDTH, 4.2), layout="constrained")
    roc, pr = figure.subplots(1, 2)
    models = in_order(result["models"])
    for name in models[::-1]:
        points = pd.DataFrame(result["curves"][name]).astype(float)
        style = line(name, models[0])
        roc.plot(points["false_positive_rate"], points["recall"], **style)
        settled = points[points["recall"] > _SETTLED]
        pr.plot(settled["recall"], settled["precision"], **style)
    roc.plot([0, 1], [0, 1], **_GUIDE)
    pr.axhline(result["prevalence"], **_GUIDE)
    labelled(roc, "1 - specificity", "sensitivity", "ROC")
    labelled(pr, "recall (sensitivity)", "precision (positive predictive value)", "Precision and recall")
    pr.set(xlim=(0, 1), ylim=(0, None))
    handles, labels = roc.get_legend_handles_labels()
    figure.legend(handles[::-1], labels[::-1], loc="outside lower center", ncols=5)
    return figure


def calibration(result: Result) -> Figure:
    """Reliability of the default model on both scales, and how its risks are spread."""
    groups = pd.DataFrame(result["reliability"][result["default"]]).astype(float)
    bars = pd.DataFrame(result["histogram"]).astype(float)
    figure = Figure(figsize=(_WIDTH, 3.6), layout="constrained")
    linear, logarithmic, spread = figure.subplots(1, 3)
    floor = max(float(groups["predicted"].min()) / 3, 1e-5)
    for axes in (linear, logarithmic):
        shown = groups if axes is linear else groups.clip(lower=floor)
        error = [shown["observed"] - shown["observed_low"], shown["observed_high"] - shown["observed"]]
        axes.errorbar(shown["predicted"], shown["observed"], yerr=error, color=DEFAULT_COLOUR, **_DOT)
        axes.axline((floor, floor), (2 * floor, 2 * floor), **_GUIDE)
        labelled(axes, "predicted risk, mean of a tenth", "observed frequency", "Reliability")
    logarithmic.set(xscale="log", yscale="log", title="The same, logarithmic", ylim=(floor * 0.8, None))
    linear.set(xlim=(0, None), ylim=(0, None))
    for column, colour, label in (("without", "#9aa5b1", "no event follows"), ("with_event", "#D55E00", "event follows")):
        share = bars[column] / max(bars[column].sum(), 1)
        spread.stairs(share, [*bars["low"], bars["high"].iloc[-1]], fill=True, alpha=0.55, color=colour, label=label)
    spread.set_xscale("log")
    for axes in (linear, logarithmic, spread):
        axes.xaxis.set_major_formatter(FuncFormatter(_percent))
        axes.yaxis.set_major_formatter(FuncFormatter(_percent))
    labelled(spread, "predicted risk", "share of those of each kind", "Spread of the risks")
    spread.legend()
    return figure


def net_benefit(result: Result) -> Figure:
    """Decision curves of the models that matter beside treat-all, treat-none and NEWS2."""
    found = result["net_benefit"]
    curve = pd.DataFrame(found["curve"]).astype(float)
    threshold, default = curve["threshold"], result["default"]
    figure = Figure(figsize=(_WIDTH, 4.0), layout="constrained")
    axes = figure.subplots()
    band = pd.DataFrame(found["gain"]).astype(float)
    if len(band):
        axes.fill_between(band["threshold"], band["ours_low"], band["ours_high"], color=DEFAULT_COLOUR, alpha=0.15, linewidth=0)
    for name in in_order(result["models"]):
        if name == default or name in {"news2", "clock", "logistic", "vital_signs"}:
            axes.plot(threshold, curve[name], **line(name, default))
    for number, rule in enumerate(found["rules"]):
        axes.plot(threshold, curve[rule], color="#D55E00", linewidth=1, linestyle=("--", "-.")[number % 2], label=rule)
    for point in found["rule_points"]:
        axes.plot(point["threshold"], point["net_benefit"], "D", color="#D55E00", markersize=5, zorder=4)
    axes.plot(threshold, curve["treat_all"], color="black", linewidth=1, label="treat all")
    axes.axhline(0, color="black", linewidth=1, linestyle=":", label="treat none")
    top = float(np.nanmax(band["ours_high"] if len(band) else curve[default]))
    axes.set(xscale="log", ylim=(-0.2 * top, 1.05 * top))
    axes.xaxis.set_major_formatter(FuncFormatter(_percent))
    axes.xaxis.set_minor_formatter(FuncFormatter(lambda value, _: _percent(value, None) if f"{value:e}"[0] in "25" else ""))
    asked = "stay" if result["once"] else "patient-hour"
    labelled(axes, "threshold probability (logarithmic)", f"net benefit, true positives per {asked}", "Decision curve")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=5)
    return figure


def alarms(result: Result) -> Figure:
    """Recall and precision against the alarms they cost."""
    figure = Figure(figsize=(_WIDTH, 4.4), layout="constrained")
    recall, precision = figure.subplots(1, 2)
    default = result["default"]
    for name in in_order(result["models"])[::-1]:
        table = pd.DataFrame(result["alarms"]["at_budgets"][name]).astype(float)
        for axes, metric in ((recall, "event_recall"), (precision, "alarm_precision")):
            axes.plot(table["alarms_per_patient_day"], table[metric], **line(name, default))
            if name == default:
                sides = (table[f"{metric}_{side}"] for side in ("low", "high"))
                axes.fill_between(table["alarms_per_patient_day"], *sides, color=DEFAULT_COLOUR, alpha=0.15, linewidth=0)
    for axes, metric in ((recall, "event_recall"), (precision, "alarm_precision")):
        for rule in result["alarms"]["rules"]:
            if rule[metric] is not None:
                _cross(axes, rule, metric, "#D55E00", "D")
                at = (rule["alarms_per_patient_day"], rule[metric])
                axes.annotate(rule["rule"], at, (7, 5), textcoords="offset points", fontsize=8, color="#A34700")
        _cross(axes, result["alarms"]["at_frozen_threshold"][default], metric, DEFAULT_COLOUR, "o")
        axes.set(xlim=(0, None), ylim=(0, None))
        axes.yaxis.set_major_formatter(FuncFormatter(_percent))
    recall.set_ylim(0, 1.04)
    labelled(recall, "alarms per patient-day", "onsets with an alarm before them", "Recall")
    labelled(precision, "alarms per patient-day", "alarms followed by an onset", "Precision")
    handles, labels = recall.get_legend_handles_labels()
    figure.legend(handles[::-1], labels[::-1], loc="outside lower center", ncols=5)
    return figure


def lead_time(result: Result) -> Figure:
    """How long before the onset the first alarm came, by what alarms may cost."""
    figure = Figure(figsize=(_WIDTH, 2.8), layout="constrained")
    axes = figure.subplots()
    table = pd.DataFrame(result["alarms"]["at_budgets"][result["default"]]).astype(float)
    place = range(len(table))
    error = [table["lead_time_hours"] - table["lead_time_q25"], table["lead_time_q75"] - table["lead_time_hours"]]
    axes.errorbar(place, table["lead_time_hours"], yerr=error, color=DEFAULT_COLOUR, **_DOT)
    axes.set_xticks(place, [f"{budget:g}" for budget in table["budget"]])
    axes.set_ylim(0, result["alarms"]["horizon_hours"] * 1.05)
    labelled(axes, "at most so many alarms per patient-day", "hours before the onset", "First alarm: median and quartiles")
    return figure


def subgroups(result: Result) -> Figure:
    """A forest plot: how well each group is served, and what it is asked to bear."""
    rows = [row for row in result["subgroups"] if row["enough"]][::-1]
    table = pd.DataFrame(rows)
    columns = (
        ("auroc", "AUROC", None),
        ("observed_expected", "observed / expected", 1.0),
        ("event_recall", "event recall", None),
        ("alarms_per_patient_day", "alarms per patient-day", None),
    )
    shown = [column for column in columns if column[0] in table]
    figure = Figure(figsize=(_WIDTH, 0.9 + 0.26 * len(table)), layout="constrained")
    for axes, (metric, title, guide) in zip(figure.subplots(1, len(shown), sharey=True), shown, strict=True):
        for place, row in enumerate(rows):
            _dot(axes, row, metric, place, "black" if row["by"] == "all" else DEFAULT_COLOUR)
        overall = table[metric].iloc[-1] if guide is None else guide
        if overall is not None:
            axes.axvline(overall, **_GUIDE)
        axes.set(title=title, ylim=(-0.6, len(table) - 0.4))
        axes.set_yticks(range(len(table)), [_group(row) for row in rows])
        axes.tick_params(axis="y", length=0)
        axes.xaxis.set_major_locator(MaxNLocator(4))
    return figure


def robustness(result: Result) -> Figure:
    """What losing readings costs in AUROC and in alarms."""
    rows = result["robustness"]["losses"][::-1]
    figure = Figure(figsize=(_WIDTH, 0.9 + 0.28 * len(rows)), layout="constrained")
    titles = {"auroc_change": "change of AUROC", "alarms_per_patient_day_change": "change of alarms per patient-day"}
    if result["once"]:
        titles.popitem()
    drawn = figure.subplots(1, len(titles), sharey=True, squeeze=False)[0]
    for axes, (metric, title) in zip(drawn, titles.items(), strict=True):
        for place, row in enumerate(rows):
            _dot(axes, row, metric, place, DEFAULT_COLOUR)
        axes.axvline(0, **_GUIDE)
        labelled(axes, f"{title} (95 % interval)", "", title.capitalize().replace("auroc", "AUROC"))
        axes.set_yticks(range(len(rows)), [row["what"] for row in rows])
        axes.set_ylim(-0.6, len(rows) - 0.4)
        axes.xaxis.set_major_locator(MaxNLocator(6))
    return figure


def ranges(result: Result) -> Figure:
    """The ranges given, and what was observed in each tenth of the hours by risk."""
    table = pd.DataFrame(result["ranges"])
    figure = Figure(figsize=(_WIDTH, 3.2), layout="constrained")
    axes = figure.subplots()
    place = np.arange(len(table))
    axes.bar(place, table["high"] - table["low"], bottom=table["low"], width=0.55, color="#A9CCE3", label="range given, mean")
    error = [table["observed"] - table["observed_low"], table["observed_high"] - table["observed"]]
    axes.errorbar(place, table["observed"], yerr=error, color="#D55E00", label="observed, 95 % interval", **_DOT)
    axes.set_xticks(place, [_percent(value, None) for value in table["predicted"]])
    axes.yaxis.set_major_formatter(FuncFormatter(_percent))
    axes.set_ylim(bottom=0)
    labelled(axes, "mean predicted risk of each tenth", "frequency of the event", "Ranges and what was observed")
    axes.legend()
    return figure


def _dot(axes: Axes, row: Mapping[str, Any], metric: str, place: float, colour: str) -> None:
    value = row.get(metric)
    if value is not None and np.isfinite(value):
        axes.errorbar(value, place, xerr=_error(row, metric), color=colour, **_DOT)


def _cross(axes: Axes, row: Mapping[str, Any], metric: str, colour: str, marker: str) -> None:
    """A point with its interval on both axes."""
    if row[metric] is not None:
        x = "alarms_per_patient_day"
        both: dict[str, Any] = {"xerr": _error(row, x), "yerr": _error(row, metric)}
        axes.errorbar(row[x], row[metric], **both, color=colour, **{**_DOT, "fmt": marker}, zorder=4)


def _error(row: Mapping[str, Any], metric: str) -> Float64 | None:
    """Distances of an interval's ends from the value, as matplotlib wants them; None where there is none."""
    ends = (row.get(f"{metric}_low"), row.get(f"{metric}_high"))
    if ends[0] is None or ends[1] is None:
        return None
    return np.array([[max(row[metric] - ends[0], 0)], [max(ends[1] - row[metric], 0)]])


def _group(row: Mapping[str, Any]) -> str:
    return "everybody" if row["by"] == "all" else f"{row['by'].replace(', in retrospect', '*')}: {row['group']}"


def _percent(value: float, _: Any) -> str:
    return f"{100 * value:.3g} %"
