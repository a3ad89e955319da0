"""Figures of the evaluation report, each drawn from ``evaluation.json`` alone."""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from vigil.models.formatting import format_interval
from vigil.models.reporting.style import DEFAULT_COLOUR, display_name, label_axes, line_style, order_models, percent_tick
from vigil.models.reporting.tables import name_group
from vigil.models.statistics.bootstrap import Float64

Result = Mapping[str, Any]

_WIDTH: Final = 9.5  # inches
_GUIDE: Final[dict[str, Any]] = {"color": "#888888", "linewidth": 0.9, "linestyle": ":"}
_DOT: Final[dict[str, Any]] = {"fmt": "o", "markersize": 5, "capsize": 2.5, "elinewidth": 1.2}
_PALE: Final = {"boxstyle": "square,pad=0.1", "facecolor": "white", "edgecolor": "none", "alpha": 0.7}
_STABLE_RECALL: Final = 0.02  # recall below which precision rests on few hours and jumps


def draw_ranking(result: Result) -> Figure:
    """Draw AUROC and AUPRC of every model with their intervals."""
    models = order_models(result["models"])[::-1]
    figure = Figure(figsize=(_WIDTH, 0.9 + 0.28 * len(models)), layout="constrained")
    for axes, metric, title in zip(figure.subplots(1, 2, sharey=True), ("auroc", "auprc"), ("AUROC", "AUPRC"), strict=True):
        for position, name in enumerate(models):
            _draw_dot(axes, result["models"][name], metric, position, line_style(name, models[-1])["color"])
            shown = format_interval(result["models"][name], metric)
            axes.text(1.01, position, shown, transform=axes.get_yaxis_transform(), va="center", fontsize=8)
        guide = "chance" if metric == "auroc" else "prevalence"
        label_axes(axes, f"{title} with 95 % interval; dotted: {guide}", "", title)
        axes.set_yticks(range(len(models)), [display_name(name) for name in models])
    roc, pr = figure.axes
    roc.get_yticklabels()[-1].set_fontweight("bold")  # the default model
    roc.axvline(0.5, **_GUIDE)
    pr.axvline(result["prevalence"], **_GUIDE)
    pr.set_xlim(left=0)
    return figure


def draw_curves(result: Result) -> Figure:
    """Draw ROC and precision-recall curves."""
    figure = Figure(figsize=(_WIDTH, 4.2), layout="constrained")
    roc, pr = figure.subplots(1, 2)
    models = order_models(result["models"])
    for name in models[::-1]:
        points = pd.DataFrame(result["curves"][name]).astype(float)
        style = line_style(name, models[0])
        roc.plot(points["false_positive_rate"], points["recall"], **style)
        stable = points[points["recall"] > _STABLE_RECALL]
        pr.plot(stable["recall"], stable["precision"], **style)
    roc.plot([0, 1], [0, 1], **_GUIDE)
    pr.axhline(result["prevalence"], **_GUIDE)
    label_axes(roc, "1 - specificity", "sensitivity", "ROC")
    label_axes(pr, "recall (sensitivity)", "precision (positive predictive value)", "Precision and recall")
    pr.set(xlim=(0, 1), ylim=(0, None))
    handles, labels = roc.get_legend_handles_labels()
    figure.legend(handles[::-1], labels[::-1], loc="outside lower center", ncols=5)
    return figure


def draw_calibration(result: Result) -> Figure:
    """Draw the reliability of the default model on two scales, and the distribution of its risks."""
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
        label_axes(axes, "predicted risk, mean of a tenth", "observed frequency", "Reliability")
    logarithmic.set(xscale="log", yscale="log", title="Reliability, logarithmic", ylim=(floor * 0.8, None))
    linear.set(xlim=(0, None), ylim=(0, None))
    for column, colour, label in (("without", "#9aa5b1", "no event follows"), ("with_event", "#D55E00", "event follows")):
        share = bars[column] / max(bars[column].sum(), 1)
        spread.stairs(share, [*bars["low"], bars["high"].iloc[-1]], fill=True, alpha=0.55, color=colour, label=label)
    spread.set_xscale("log")
    for axis in (logarithmic.xaxis, logarithmic.yaxis, spread.xaxis):
        axis.set_minor_formatter(FuncFormatter(_percent_of_twos_and_fives))
    for axes in (linear, logarithmic, spread):
        axes.xaxis.set_major_formatter(FuncFormatter(percent_tick))
        axes.yaxis.set_major_formatter(FuncFormatter(percent_tick))
    label_axes(spread, "predicted risk", "share of each kind", "Distribution of the risks")
    spread.legend()
    return figure


def draw_net_benefit(result: Result) -> Figure:
    """Draw decision curves of the main models, of treat-all, treat-none and the NEWS2 rules."""
    section = result["net_benefit"]
    curve = pd.DataFrame(section["curve"]).astype(float)
    threshold, default = curve["threshold"], result["default"]
    figure = Figure(figsize=(_WIDTH, 4.0), layout="constrained")
    axes = figure.subplots()
    band = pd.DataFrame(section["gain"]).astype(float)
    if len(band):
        axes.fill_between(band["threshold"], band["ours_low"], band["ours_high"], color=DEFAULT_COLOUR, alpha=0.15, linewidth=0)
    for name in order_models(result["models"]):
        if name == default or name in {"news2", "clock", "logistic", "vital_signs"}:
            axes.plot(threshold, curve[name], **line_style(name, default))
    for number, rule in enumerate(section["rules"]):
        axes.plot(threshold, curve[rule], color="#D55E00", linewidth=1, linestyle=("--", "-.")[number % 2], label=rule)
    for point in section["rule_points"]:
        axes.plot(point["threshold"], point["net_benefit"], "D", color="#D55E00", markersize=5, zorder=4)
    axes.plot(threshold, curve["treat_all"], color="black", linewidth=1, label="treat all")
    axes.axhline(0, color="black", linewidth=1, linestyle=":", label="treat none")
    top = float(np.nanmax(band["ours_high"] if len(band) else curve[default]))
    axes.set(xscale="log", ylim=(-0.2 * top, 1.05 * top))
    axes.xaxis.set_major_formatter(FuncFormatter(percent_tick))
    axes.xaxis.set_minor_formatter(FuncFormatter(_percent_of_twos_and_fives))
    unit = "stay" if result["once"] else "patient-hour"
    label_axes(axes, "threshold probability (logarithmic)", f"net benefit, true positives per {unit}", "Decision curve")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=5)
    return figure


def draw_alarms(result: Result) -> Figure:
    """Draw recall and precision against alarms per patient-day."""
    figure = Figure(figsize=(_WIDTH, 4.4), layout="constrained")
    recall, precision = figure.subplots(1, 2)
    default = result["default"]
    for name in order_models(result["models"])[::-1]:
        table = pd.DataFrame(result["alarms"]["at_budgets"][name]).astype(float)
        for axes, metric in ((recall, "event_recall"), (precision, "alarm_precision")):
            axes.plot(table["alarms_per_patient_day"], table[metric], **line_style(name, default))
            if name == default:
                sides = (table[f"{metric}_{side}"] for side in ("low", "high"))
                axes.fill_between(table["alarms_per_patient_day"], *sides, color=DEFAULT_COLOUR, alpha=0.15, linewidth=0)
    for axes, metric in ((recall, "event_recall"), (precision, "alarm_precision")):
        for rule in result["alarms"]["rules"]:
            if rule[metric] is not None:
                _draw_cross(axes, rule, metric, "#D55E00", "D")
                point = (rule["alarms_per_patient_day"], rule[metric])
                axes.annotate(rule["rule"], point, (7, 5), textcoords="offset points", fontsize=8, color="#A34700", bbox=_PALE)
        _draw_cross(axes, result["alarms"]["at_frozen_threshold"][default], metric, DEFAULT_COLOUR, "o")
        axes.set(xlim=(0, None), ylim=(0, None))
        axes.yaxis.set_major_formatter(FuncFormatter(percent_tick))
    recall.set_ylim(0, 1.04)
    label_axes(recall, "alarms per patient-day", "onsets with an alarm before them", "Recall")
    label_axes(precision, "alarms per patient-day", "alarms followed by an onset", "Precision")
    handles, labels = recall.get_legend_handles_labels()
    figure.legend(handles[::-1], labels[::-1], loc="outside lower center", ncols=5)
    return figure


def draw_lead_time(result: Result) -> Figure:
    """Draw the time from the first alarm to the onset at each alarm budget."""
    figure = Figure(figsize=(_WIDTH, 2.8), layout="constrained")
    axes = figure.subplots()
    table = pd.DataFrame(result["alarms"]["at_budgets"][result["default"]]).astype(float)
    position = range(len(table))
    error = [table["lead_time_hours"] - table["lead_time_q25"], table["lead_time_q75"] - table["lead_time_hours"]]
    axes.errorbar(position, table["lead_time_hours"], yerr=error, color=DEFAULT_COLOUR, **_DOT)
    axes.set_xticks(position, [f"{budget:g}" for budget in table["budget"]])
    axes.set_ylim(0, result["alarms"]["horizon_hours"] * 1.05)
    label_axes(axes, "alarm budget per patient-day", "hours before the onset", "First alarm: median and quartiles")
    return figure


def draw_subgroups(result: Result) -> Figure:
    """Draw a forest plot of performance and alarms in each group."""
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
        for position, row in enumerate(rows):
            _draw_dot(axes, row, metric, position, "black" if row["by"] == "all" else DEFAULT_COLOUR)
        overall = table[metric].iloc[-1] if guide is None else guide
        if overall is not None:
            axes.axvline(overall, **_GUIDE)
        axes.set(title=title, ylim=(-0.6, len(table) - 0.4))
        axes.set_yticks(range(len(table)), [_group_label(row) for row in rows])
        axes.tick_params(axis="y", length=0)
        axes.xaxis.set_major_locator(MaxNLocator(4))
    return figure


def draw_losses(result: Result) -> Figure:
    """Draw the changes of AUROC and alarms after each loss of readings."""
    rows = result["robustness"]["losses"][::-1]
    figure = Figure(figsize=(_WIDTH, 0.9 + 0.28 * len(rows)), layout="constrained")
    titles = {"auroc_change": "change of AUROC", "alarms_per_patient_day_change": "change of alarms per patient-day"}
    if result["once"]:
        titles.popitem()
    drawn = figure.subplots(1, len(titles), sharey=True, squeeze=False)[0]
    for axes, (metric, title) in zip(drawn, titles.items(), strict=True):
        for position, row in enumerate(rows):
            _draw_dot(axes, row, metric, position, DEFAULT_COLOUR)
        axes.axvline(0, **_GUIDE)
        label_axes(axes, f"{title} (95 % interval)", "", title.capitalize().replace("auroc", "AUROC"))
        axes.set_yticks(range(len(rows)), [row["what"] for row in rows])
        axes.set_ylim(-0.6, len(rows) - 0.4)
        axes.xaxis.set_major_locator(MaxNLocator(6))
    return figure


def draw_ranges(result: Result) -> Figure:
    """Draw risk ranges and observed frequencies in each tenth of the rows by risk."""
    table = pd.DataFrame(result["ranges"])
    figure = Figure(figsize=(_WIDTH, 3.2), layout="constrained")
    axes = figure.subplots()
    position = np.arange(len(table))
    axes.bar(position, table["high"] - table["low"], bottom=table["low"], width=0.55, color="#A9CCE3", label="risk range, mean")
    error = [table["observed"] - table["observed_low"], table["observed_high"] - table["observed"]]
    axes.errorbar(position, table["observed"], yerr=error, color="#D55E00", label="observed, 95 % interval", **_DOT)
    axes.set_xticks(position, [percent_tick(value) for value in table["predicted"]])
    axes.yaxis.set_major_formatter(FuncFormatter(percent_tick))
    axes.set_ylim(bottom=0)
    label_axes(axes, "mean predicted risk of each tenth", "frequency of the event", "Risk ranges and observed frequencies")
    axes.legend()
    return figure


def _draw_dot(axes: Axes, row: Mapping[str, Any], metric: str, position: float, colour: str) -> None:
    """Draw a value with its interval, if it has a value."""
    value = row.get(metric)
    if value is not None and np.isfinite(value):
        axes.errorbar(value, position, xerr=_error_bars(row, metric), color=colour, **_DOT)


def _draw_cross(axes: Axes, row: Mapping[str, Any], metric: str, colour: str, marker: str) -> None:
    """Draw a point with its intervals on both axes."""
    if row[metric] is not None:
        x = "alarms_per_patient_day"
        both: dict[str, Any] = {"xerr": _error_bars(row, x), "yerr": _error_bars(row, metric)}
        axes.errorbar(row[x], row[metric], **both, color=colour, **{**_DOT, "fmt": marker}, zorder=4)


def _error_bars(row: Mapping[str, Any], metric: str) -> Float64 | None:
    """Return the distances of an interval's limits from the value, as matplotlib expects them; None without an interval."""
    ends = (row.get(f"{metric}_low"), row.get(f"{metric}_high"))
    if ends[0] is None or ends[1] is None:
        return None
    return np.array([[max(row[metric] - ends[0], 0)], [max(ends[1] - row[metric], 0)]])


def _group_label(row: Mapping[str, Any]) -> str:
    """Return the name of a group for an axis; a star marks a grouping known in retrospect only."""
    return name_group(row).replace(", in retrospect", "*")


def _percent_of_twos_and_fives(value: float, _: Any) -> str:
    """Return an axis label in percent for every third tick of a logarithmic axis, so that they do not overlap."""
    return percent_tick(value) if f"{value:e}"[0] in "25" else ""
