"""Figures and sentences about fairness: groups of patients beside each other, drawn from ``evaluation.json`` alone."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from vigil.features.display_names import capitalise, name_signal
from vigil.models.evaluation.fairness import SMALLEST_CELL
from vigil.models.formatting import format_interval, format_percent_interval
from vigil.models.reporting.style import DEFAULT_COLOUR, percent_tick
from vigil.models.reporting.tables import Table

Row = Mapping[str, Any]

_WIDTH: Final = 9.5  # inches
_PANELS: Final = 4  # of calibration in a line
_FEW_COLOUR: Final = "#8a94a0"
_SHARES: Final = {
    "selection_rate": "flagged,\nof all",
    "true_positive_rate": "flagged,\nbefore an event",
    "false_positive_rate": "flagged,\nwithout an event",
    "precision": "before an event,\nof the flagged",
}
_COMPARED: Final = {"true_positive_rate": "flagged before an event", "false_positive_rate": "flagged without", "auroc": "AUROC"}


def draw_fairness(groups: Sequence[Row]) -> Figure:
    """Draw the shares of each group with their intervals; groups too small to judge are hollow and grey.

    Args:
        groups: rows of :func:`vigil.models.evaluation.fairness.measure_fairness`, in the order to be drawn.
    """
    rows: list[Row | str] = []
    for by, members in groupby(groups, key=lambda row: row["by"]):
        rows += [by, *members]
    figure = Figure(figsize=(_WIDTH, 0.9 + 0.26 * len(rows)), layout="constrained")
    panels = figure.subplots(1, len(_SHARES), sharey=True)
    panels[0].text(-0.03, 1.01, "patients / with an event", transform=panels[0].transAxes, ha="right", va="bottom", fontsize=8)
    for axes, (metric, title) in zip(panels, _SHARES.items(), strict=True):
        for position, row in enumerate(rows):
            if not isinstance(row, str):
                _draw_share(axes, row, metric, len(rows) - 1 - position)
        axes.set_title(title, fontsize=9)
        axes.set(ylim=(-0.6, len(rows) - 0.4), xlim=(0, None))
        axes.xaxis.set_major_formatter(FuncFormatter(percent_tick))
        axes.tick_params(axis="y", length=0)
        axes.xaxis.set_major_locator(MaxNLocator(3))
    labels = [capitalise(name_attribute(row)) if isinstance(row, str) else _label_group(row) for row in rows]
    panels[0].set_yticks(range(len(rows)), labels[::-1])
    for text, row in zip(panels[0].get_yticklabels(), rows[::-1], strict=True):
        if isinstance(row, str):
            text.set_fontweight("bold")
        elif not row["enough"]:
            text.set_color(_FEW_COLOUR)
    return figure


def draw_group_calibration(points: Sequence[Row], groups: Sequence[Row] = ()) -> Figure:
    """Draw observed frequencies by predicted risk of each group, one panel a group, all on the same axes.

    Args:
        points: rows of :func:`vigil.models.evaluation.fairness.measure_group_calibration`.
        groups: rows of :func:`vigil.models.evaluation.fairness.measure_fairness`, for the numbers of patients.
    """
    sizes = {(row["by"], row["group"]): row for row in groups}
    panels = [(key, list(members)) for key, members in groupby(points, key=lambda row: (row["by"], row["group"]))]
    lines = max(1, -(-len(panels) // _PANELS))
    figure = Figure(figsize=(_WIDTH, 2.3 * lines), layout="constrained")
    drawn = list(figure.subplots(lines, _PANELS, squeeze=False, sharex=True, sharey=True).flat)
    for axes, (key, members) in zip(drawn, panels, strict=False):
        x, y, low, high = (
            np.array([row[name] for row in members], dtype=float)
            for name in ("predicted", "observed", "observed_low", "observed_high")
        )
        axes.axline((0, 0), slope=1, color="#888888", linewidth=0.9, linestyle=":")
        axes.errorbar(
            x, y, yerr=[np.maximum(y - low, 0), np.maximum(high - y, 0)], color=DEFAULT_COLOUR, fmt="o-", markersize=3
        )
        size = sizes.get(key)
        counted = f"\n{size['patients']:,} patients, {size['events']:,} with an event" if size else ""
        axes.set_title(f"{capitalise(name_attribute(key[0]))}: {key[1]}{counted}", fontsize=8)
    for axes in drawn[len(panels) :]:
        axes.set_axis_off()
    for axes in figure.axes:
        axes.xaxis.set_major_formatter(FuncFormatter(percent_tick))
        axes.yaxis.set_major_formatter(FuncFormatter(percent_tick))
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.set(xlim=(0, None), ylim=(0, None))
    figure.supxlabel("predicted risk, mean of a fifth", fontsize=9)
    figure.supylabel("observed frequency", fontsize=9)
    return figure


def summarise_fairness(result: Mapping[str, Any]) -> list[str]:
    """Summarise each attribute in a sentence: the group that is flagged least before an event, and how far it is off."""
    rows_named = "stays" if result["once"] else "patient-hours"
    sentences = []
    for by, members in groupby(result["fairness"]["groups"], key=lambda row: row["by"]):
        rows = list(members)
        judged, few = [row for row in rows if row["enough"]], [row["group"] for row in rows if not row["enough"]]
        small = f" Too few patients to conclude anything of: {', '.join(few)}." if few else ""
        name = capitalise(name_attribute(by))
        if len(judged) < 2:
            sentences.append(f"{name}: fewer than two groups are large enough, so nothing can be compared.{small}")
            continue
        worst, reference = judged[0], next(row for row in judged if row["reference"])
        other = judged[-1] if worst is reference else reference
        sentences.append(
            f"{name}: of the {rows_named} before an event the fewest are flagged in the group {_count(worst)}: "
            f"{format_percent_interval(worst, 'true_positive_rate')}; in {_count(other)} "
            f"{format_percent_interval(other, 'true_positive_rate')}. {_describe_gap(worst, other)}{small}"
        )
    return sentences


def tabulate_fairness(groups: Sequence[Row]) -> Table:
    """Tabulate what no plot shows: differences and ratios to the largest group, with counts."""
    rows = []
    for row in groups:
        cells = [f"{name_attribute(row['by'])}: {row['group']}", format_count(row["patients"]), format_count(row["events"])]
        if not row["enough"]:
            rows.append([*cells, "too few to conclude"])
        elif row["reference"]:
            rows.append([*cells, "the largest group, with which the others are compared"])
        else:
            for metric in _COMPARED:
                cells += [format_interval(row, f"{metric}_difference", signed=True), format_interval(row, f"{metric}_ratio", 2)]
            rows.append(cells)
    headings = [f"{words}: {kind}" for words in _COMPARED.values() for kind in ("difference", "ratio")]
    return Table(["group", "patients", "with an event", *headings], rows)


def format_count(count: int | None) -> str:
    """Return a count; one that is too small to show is masked.

    >>> format_count(1234), format_count(None)
    ('1,234', 'under 11')
    """
    return f"under {SMALLEST_CELL}" if count is None else f"{count:,}"


def name_attribute(name: str) -> str:
    """Return an attribute as people call it.

    >>> name_attribute("age_band"), name_attribute("insurance")
    ('age, years', 'insurance')
    """
    return "age, years" if name == "age_band" else name_signal(name)


def _draw_share(axes: Axes, row: Row, metric: str, position: int) -> None:
    value = row[metric]
    if value is None or np.isnan(value):
        return
    low, high = row[f"{metric}_low"], row[f"{metric}_high"]
    colour = DEFAULT_COLOUR if row["enough"] else _FEW_COLOUR
    error = [[max(value - low, 0)], [max(high - value, 0)]]
    fill = colour if row["enough"] else "white"
    axes.errorbar(value, position, xerr=error, fmt="o", markersize=5, capsize=2.5, elinewidth=1.2, color=colour, mfc=fill)


def _label_group(row: Row) -> str:
    few = "" if row["enough"] else ", too few"
    return f"{row['group']}: {format_count(row['patients'])} / {format_count(row['events'])}{few}"


def _count(row: Row) -> str:
    return f"{row['group']} ({row['patients']:,} patients, {row['events']:,} with an event)"


def _describe_gap(worst: Row, other: Row) -> str:
    """Describe the difference between two groups of which one is the reference, and whether it may be chance."""
    reference, compared = (worst, other) if worst["reference"] else (other, worst)
    low, high = (compared[f"true_positive_rate_difference_{end}"] for end in ("low", "high"))
    shown = {f"gap{end}": _points(compared[f"true_positive_rate_difference{end}"]) for end in ("", "_low", "_high")}
    between = (
        f"{format_interval(shown, 'gap', 0, signed=True)} percentage points from {reference['group']} to {compared['group']}"
    )
    if low is None or high is None or low <= 0 <= high:
        return f"The difference, {between}, may be chance."
    return f"The difference is {between}."


def _points(share: float | None) -> float | None:
    return None if share is None else 100 * share
