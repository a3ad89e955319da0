"""Beeswarm and waterfall of the shap library, fed with a model's own contributions, in the style of reports.

Lundberg SM, Lee SI. A unified approach to interpreting model predictions. NeurIPS 2017. Only this module imports shap.
"""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from numpy.typing import NDArray

from vigil.features.display_names import capitalise, label_feature, name_feature, name_signal, show_value
from vigil.models.formatting import format_percent
from vigil.models.reporting.style import report_style

_LOW, _MIDDLE, _HIGH = "#0072B2", "#b9b4c7", "#D55E00"  # blue to vermilion: Okabe and Ito, as in the other figures
_SHOWN: Final = 10  # parts of a risk; the rest is one bar
_WIDTH: Final = 9.5  # inches


def draw_swarm(
    labels: Sequence[str], contributions: NDArray[np.float64], values: NDArray[np.float64], what: str = "Latest value"
) -> Figure:
    """Draw a dot for each row and signal or feature: its contribution, in the colour of its value.

    Args:
        labels: of the columns, drawn from top to bottom.
        contributions: log-odds, shape (n_rows, n_columns).
        values: shape (n_rows, n_columns); NaN where not known, which is drawn in grey.
        what: the values are.
    """
    import shap

    colours = LinearSegmentedColormap.from_list("vigil", [_LOW, _MIDDLE, _HIGH], N=40)  # from 50 on the bar is a bitmap
    explained = shap.Explanation(contributions, data=values, feature_names=list(labels))

    def draw() -> None:
        shap.plots.beeswarm(
            explained, max_display=None, order=np.arange(len(labels)), color=colours, color_bar_label=what, show=False
        )

    figure = _draw(draw, (_WIDTH, 1.3 + 0.36 * len(labels)))
    axes, bar = figure.axes
    axes.set_xlabel("change of the log-odds of the risk (0.7 doubles the odds)")
    bar.set_yticks([0, 1], ["low", "high"])
    return figure


def draw_waterfall(explained: Mapping[str, Any], *, by: str = "signal") -> Figure:
    """Draw how the risk of one patient comes about, from that of the average patient.

    Args:
        explained: ``baseline, risk, parts`` (:func:`vigil.models.evaluation.explanations.explain_row`).
        by: ``signal`` or ``feature``: what the parts are.
    """
    import shap

    parts, baseline = explained["parts"], explained["baseline"]
    contributions = np.array([part["contribution"] for part in parts])
    names = [_describe_signal(part) if by == "signal" else _describe_feature(part) for part in parts]
    one = shap.Explanation(contributions, base_values=baseline, feature_names=names)
    shown = min(_SHOWN, len(parts))
    figure = _draw(lambda: shap.plots.waterfall(one, max_display=shown, show=False), (_WIDTH, 1.6 + 0.36 * shown))
    axes, *others = figure.axes
    if shown < len(parts):
        axes.set_yticks(axes.get_yticks(), [text.get_text().replace(" features", f" {by}s") for text in axes.get_yticklabels()])
    for twin in others:  # they hold formulas, which the title says in words
        twin.set_axis_off()
    axes.set_xlabel("log-odds of the risk (0.7 more doubles the odds)")
    average = format_percent(1 / (1 + np.exp(-baseline)), 1)
    with report_style():
        axes.set_title(f"From the average patient, {average}, to this one, {format_percent(explained['risk'], 1)}")
    return figure


def draw_feature_swarm(features: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw the dots of features (:func:`vigil.models.evaluation.explanations.explain_features`)."""
    return _draw_stored([label_feature(one["feature"]) for one in features], features, "Value")


def draw_signal_swarm(signals: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw the dots of signals (:func:`vigil.models.evaluation.explanations.explain_signals`)."""
    return _draw_stored([capitalise(name_signal(one["signal"])) for one in signals], signals, "Latest value")


def _draw_stored(labels: Sequence[str], rows: Sequence[Mapping[str, Any]], what: str) -> Figure:
    contributions, ranks = (np.array([one["swarm"][name] for one in rows], dtype=float).T for name in ("contribution", "rank"))
    return draw_swarm(labels, contributions, ranks, what)


def _describe_signal(part: Mapping[str, Any]) -> str:
    """Return a signal with its latest value, as on the axis of a waterfall."""
    name = capitalise(name_signal(part["name"]))
    return name if part["value"] is None else f"{name}, {show_value(part['name'], part['value'])}"


def _describe_feature(part: Mapping[str, Any]) -> str:
    name = capitalise(name_feature(part["name"]))
    return f"{name}: not known" if part["value"] is None else f"{name}: {part['value']:.4g}"


def _draw(draw: Callable[[], None], size: tuple[float, float]) -> Figure:
    """Draw by a function that draws on the current axes of pyplot, and return the figure, which pyplot then forgets."""
    from matplotlib import pyplot as plt

    interactive = plt.isinteractive()
    with report_style(), _shap_style(), _seeded(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "All-NaN slice", RuntimeWarning)  # a column without values is drawn in grey
        figure: Figure = plt.figure(figsize=size, layout="constrained")
        try:
            draw()
        finally:
            plt.close(figure)  # a notebook would show it twice, and pyplot keep it for ever
            plt.interactive(interactive)  # the waterfall turns it off
        figure.set_size_inches(*size)
        for axes in figure.axes:
            axes.tick_params(labelsize=9)
            axes.xaxis.label.set_fontsize(9)
            axes.yaxis.label.set_fontsize(9)
            for text in axes.texts:
                text.set_fontsize(8)
    return figure


@contextmanager
def _shap_style() -> Iterator[None]:
    from shap.plots import _style

    with _style.style_context(primary_color_positive=_HIGH, primary_color_negative=_LOW):
        yield


@contextmanager
def _seeded() -> Iterator[None]:
    """Give one order to dots that the beeswarm shuffles by numpy's global generator, and leave that as it was."""
    state = np.random.get_state()  # noqa: NPY002 - shap uses it
    np.random.seed(0)  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(state)  # noqa: NPY002
