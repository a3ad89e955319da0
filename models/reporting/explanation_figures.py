"""The figure of what a model makes of each signal, drawn from ``evaluation.json`` alone."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vigil.models.reporting.style import DEFAULT_COLOUR, name_signal, name_unit

_COLUMNS: Final = 4
_UNKNOWN_COLOUR: Final = "#888888"


def draw_explanations(result: Mapping[str, Any]) -> Figure:
    """Draw the contribution of each signal by its latest value, with how many rows have such a value below."""
    shown: Sequence[Mapping[str, Any]] = [signal for signal in result["explanations"] if signal["groups"]]
    rows = -(-len(shown) // _COLUMNS)
    figure = Figure(figsize=(9.5, 2.5 * rows), layout="constrained")
    panels = figure.subplots(rows, _COLUMNS, squeeze=False, sharey=True).flat
    for axes, signal in zip(panels, shown, strict=False):
        _draw_signal(axes, signal)
    for axes in list(panels)[len(shown) :]:
        axes.set_axis_off()
    for axes in figure.axes[::_COLUMNS]:
        axes.set_ylabel("change of the log-odds")
    return figure


def _draw_signal(axes: Axes, signal: Mapping[str, Any]) -> None:
    table = pd.DataFrame(signal["groups"])
    known, unknown = table[table["value"].notna()], table[table["value"].isna()]
    axes.axhline(0, color="#888888", linewidth=0.9, linestyle=":")
    axes.fill_between(known["value"], known["low"], known["high"], color=DEFAULT_COLOUR, alpha=0.2, linewidth=0)
    axes.plot(known["value"], known["contribution"], color=DEFAULT_COLOUR, marker="o", markersize=3, linewidth=1.4)
    for contribution in unknown["contribution"].tolist():
        axes.axhline(contribution, color=_UNKNOWN_COLOUR, linewidth=1.2, linestyle="--")
    axes.plot(known["value"], [0.02] * len(known), "|", color="#1b2733", markersize=6, transform=axes.get_xaxis_transform())
    unit = name_unit(signal["unit"])
    axes.set_title(name_signal(signal["signal"]), fontsize=9)
    axes.set_xlabel(f"latest value, {unit}" if unit else "value")
