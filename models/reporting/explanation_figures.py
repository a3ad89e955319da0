"""The figure of how a model's risk depends on the value of each signal, drawn from ``evaluation.json`` alone."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from vigil.features.display_names import capitalise, name_signal, unit_of_signal
from vigil.features.signals import SIGNALS
from vigil.models.reporting.style import DEFAULT_COLOUR

_COLUMNS: Final = 4
_UNKNOWN_COLOUR: Final = "#888888"
_DENSITY_COLOUR: Final = "#d5dde5"


def draw_explanations(result: Mapping[str, Any]) -> Figure:
    """Draw the contribution of each signal by its latest value, over the density of these values."""
    shown: Sequence[Mapping[str, Any]] = [signal for signal in result["explanations"] if signal["groups"]]
    rows = -(-len(shown) // _COLUMNS)
    figure = Figure(figsize=(9.5, 2.5 * rows), layout="constrained")
    panels = list(figure.subplots(rows, _COLUMNS, squeeze=False, sharey=True).flat)
    for axes, signal in zip(panels, shown, strict=False):
        _draw_signal(axes, signal)
    for axes in panels[len(shown) :]:
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
    if density := signal.get("density"):
        _draw_density(axes, density)
    axes.set_title(capitalise(name_signal(signal["signal"])), fontsize=9)
    axes.set_xlabel(unit_of_signal(signal["signal"]) or "value")
    if signal["signal"] in SIGNALS and SIGNALS[signal["signal"]].coded:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _draw_density(axes: Axes, density: Mapping[str, Any]) -> None:
    """Draw a histogram of values in the lowest fifth of the axes."""
    counts = np.array(density["counts"], dtype=np.float64)
    edges = np.linspace(density["low"], density["high"], len(counts) + 1)
    axes.stairs(
        0.2 * counts / counts.max(), edges, fill=True, color=_DENSITY_COLOUR, transform=axes.get_xaxis_transform(), zorder=0
    )
