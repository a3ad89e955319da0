"""Figures of continuous glucose monitors: time in range beside the ambulatory glucose profile, and the single days.

Their form is that of the consensus report: Battelino T, et al. Diabetes Care 2019;42:1593-1603, figures 1 and 2.
"""

from collections.abc import Hashable, Mapping
from typing import Any, Final

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vigil.features.glucose import ENOUGH_PERCENT, OWN_UNIT, PERIOD_DAYS, RANGES
from vigil.features.units import canonical_unit
from vigil.models.reporting.style import report_style

# Limits of the ranges as the consensus writes them in each unit.
_LIMITS: Final = {OWN_UNIT: (54.0, 70.0, 180.0, 250.0), "mmol/L": (3.0, 3.9, 10.0, 13.9)}
_WRITTEN: Final = {
    OWN_UNIT: ("below 54", "54 to 69", "70 to 180", "181 to 250", "above 250"),
    "mmol/L": ("below 3.0", "3.0 to 3.8", "3.9 to 10.0", "10.1 to 13.9", "above 13.9"),
}
# For most adults with type 1 or type 2 diabetes, not for pregnancy or people at high risk: table 3.
_GOALS: Final = {
    "very_low": "goal: below 1 %",
    "low": "goal: below 4 % with very low",
    "in_range": "goal: above 70 %",
    "high": "goal: below 25 % with very high",
    "very_high": "goal: below 5 %",
}
_COLOURS: Final = {"very_low": "#8B1A1A", "low": "#D9534F", "in_range": "#4C9F70", "high": "#F2C14E", "very_high": "#E08E2B"}
_LINE: Final = "#1F4E79"
_LEAST_APART: Final = 10.0  # percent of the bar between two labels
_DAYS_PER_ROW: Final = 7
_HIGHEST: Final = {OWN_UNIT: 350.0, "mmol/L": 19.4}  # of the axis; higher values are drawn at its edge


def draw_glucose_report(ranges: Mapping[Hashable, Any], profile: pd.DataFrame, unit: str = OWN_UNIT) -> Figure:
    """Draw time in range as a bar, and the profile of the day beside it. The title says whether the record is sufficient.

    Args:
        ranges: figures of one patient: a row of :func:`vigil.features.glucose.time_in_range`.
        profile: rows of that patient from :func:`vigil.features.glucose.glucose_profile`.
        unit: that of both, mg/dL or mmol/L.
    """
    with report_style():
        figure = Figure(figsize=(10, 4.2), layout="constrained")
        bar, day = figure.subplots(1, 2, width_ratios=[1, 2.6])
        _draw_bar(bar, ranges, _WRITTEN[canonical_unit(unit)])
        _draw_profile(day, profile, canonical_unit(unit))
        decimals = 0 if canonical_unit(unit) == OWN_UNIT else 1
        verdict = "" if ranges["sufficient"] else f": not the {ENOUGH_PERCENT:g} % of {PERIOD_DAYS:g} days that are enough"
        figure.suptitle(
            f"{ranges['start']:%d %b %Y} to {ranges['end']:%d %b %Y}, sensor active {ranges['active']:.0f} %{verdict}.  "
            f"Mean {ranges['mean']:.{decimals}f} {unit}, GMI {ranges['gmi']:.1f} %, CV {ranges['cv']:.0f} %",
            fontsize=10,
            color="black" if ranges["sufficient"] else _COLOURS["very_low"],
        )
    return figure


def draw_glucose_days(readings: pd.DataFrame, unit: str = OWN_UNIT) -> Figure:
    """Draw each day by itself, midnight to midnight, seven in a row.

    Args:
        readings: of one patient: ``local_time`` (by their clock, without a zone), ``value`` in ``unit``, and ``at_limit`` (Low
            or High in place of a value).
        unit: mg/dL or mmol/L.
    """
    limits, highest = _LIMITS[canonical_unit(unit)], _HIGHEST[canonical_unit(unit)]
    dates = readings["local_time"].dt.normalize()
    days = list(pd.date_range(dates.min(), dates.max()))
    rows = -(-len(days) // _DAYS_PER_ROW)
    with report_style():
        figure = Figure(figsize=(10, 1.5 * rows + 0.6), layout="constrained")
        panels = figure.subplots(rows, _DAYS_PER_ROW, sharex=True, sharey=True, squeeze=False)
        for axes, day in zip(panels.flat, days, strict=False):
            _draw_day(axes, readings[dates == day], limits, highest)
            axes.set_title(f"{day:%a %d %b}", fontsize=8, fontweight="normal")
        for axes in panels.flat[len(days) :]:
            axes.set_axis_off()
        panels[0, 0].set(xlim=(0, 24), xticks=[0, 12, 24], ylim=(0, 1.02 * highest))
        panels[0, 0].set_yticks([limits[1], limits[2]])
        for axes in panels.flat:
            axes.tick_params(labelsize=7)
        figure.supxlabel("hour of the day; a cross is Low or High in place of a value", fontsize=8)
        figure.supylabel(f"glucose, {unit}", fontsize=8)
    return figure


def _draw_bar(axes: Axes, ranges: Mapping[Hashable, Any], written: tuple[str, ...]) -> None:
    """Draw the shares of time as a stacked bar, with a label beside each."""
    bottom, middles = 0.0, []
    for name in RANGES:
        axes.bar(0, ranges[name], bottom=bottom, width=0.8, color=_COLOURS[name], edgecolor="white", linewidth=0.6)
        middles.append(bottom + ranges[name] / 2)
        bottom += ranges[name]
    for name, text, middle, height in zip(RANGES, written, middles, _spread(middles), strict=True):
        axes.plot([0.42, 0.6], [middle, height], color="#999999", linewidth=0.6, clip_on=False)
        label = f"{ranges[name]:.1f} %  {name.replace('_', ' ')}, {text}"
        axes.text(0.65, height + 1.6, label, fontsize=8, va="center", fontweight="bold" if name == "in_range" else "normal")
        axes.text(0.65, height - 2.0, _GOALS[name], fontsize=6.5, va="center", color="#666666")
    axes.set(xlim=(-0.45, 3.6), ylim=(-4, 104), title="Time in range")
    axes.set_axis_off()


def _spread(heights: list[float]) -> list[float]:
    """Return ascending heights of labels that are far enough apart to be read, within the bar."""
    spread = list(heights)
    for above in range(1, len(spread)):
        spread[above] = max(spread[above], spread[above - 1] + _LEAST_APART)
    spread[-1] = min(spread[-1], 100)
    for below in range(len(spread) - 2, -1, -1):
        spread[below] = min(spread[below], spread[below + 1] - _LEAST_APART)
    return spread


def _draw_profile(axes: Axes, profile: pd.DataFrame, unit: str) -> None:
    """Draw median and bands by time of day; where no reading is, there is a gap."""
    limits = _LIMITS[unit]
    width = float(np.diff(profile["minute"])[0])
    hour = (profile["minute"] + width / 2) / 60
    axes.axhspan(limits[1], limits[2], color=_COLOURS["in_range"], alpha=0.1, linewidth=0)
    for limit in limits:
        axes.axhline(limit, color=_COLOURS["in_range"] if limit in limits[1:3] else "#bbbbbb", linewidth=0.9)
    axes.fill_between(hour, profile["p05"], profile["p95"], color=_LINE, alpha=0.15, linewidth=0, label="5 to 95 %")
    axes.fill_between(hour, profile["p25"], profile["p75"], color=_LINE, alpha=0.35, linewidth=0, label="25 to 75 %")
    axes.plot(hour, profile["median"], color=_LINE, linewidth=2, label="median")
    axes.set(xlim=(0, 24), xticks=range(0, 25, 3), ylim=(0, max(1.1 * _HIGHEST[unit], 1.15 * float(profile["p95"].max()))))
    axes.set_xticklabels([f"{at:02d}:00" for at in range(0, 25, 3)])
    axes.set_yticks([0, *limits, _HIGHEST[unit]])
    axes.grid(visible=False)
    axes.set(xlabel="time of day", ylabel=f"glucose, {unit}", title=f"Ambulatory glucose profile, {profile['days'].max()} days")
    axes.legend(loc="upper left", ncols=3)


def _draw_day(axes: Axes, readings: pd.DataFrame, limits: tuple[float, ...], highest: float) -> None:
    """Draw one day; the part outside the range is coloured, and bounds are marked."""
    hour = readings["local_time"].dt.hour + readings["local_time"].dt.minute / 60
    value = readings["value"].to_numpy(np.float64)
    axes.axhspan(limits[1], limits[2], color=_COLOURS["in_range"], alpha=0.15, linewidth=0)
    is_low, is_high = value < limits[1], value > limits[2]
    value = np.minimum(value, highest)
    axes.scatter(hour, value, s=1.5, c=np.select([is_low, is_high], [_COLOURS["low"], _COLOURS["very_high"]], _LINE))
    at_limit = readings["at_limit"].to_numpy(bool)
    axes.scatter(hour[at_limit], value[at_limit], s=12, marker="x", c="black", linewidths=0.7)
