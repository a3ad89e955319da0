"""Style of reports: names, order and colours of models, and figures as SVG elements of a page."""

import io
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# The order for readers: models that know less and less of the patient, then the scores.
_ORDER: Final = ("physiology", "workflow", "clock", "logistic", "vital_signs", "news2", "qsofa", "sirs", "mews")
_NAMES: Final = {
    "all_signals": "all signals",
    "logistic": "logistic regression",
    "physiology": "physiology only",
    "workflow": "workflow only",
    "vital_signs": "vital signs only",
    "news2": "NEWS2",
    "qsofa": "qSOFA",
    "sirs": "SIRS",
    "mews": "MEWS",
}
KNOWS: Final = {
    "physiology": "the measured values and which are missing, and not when or how often staff measured",
    "workflow": "when and how often staff measured, and no value",
    "clock": "hours in the unit, age and sex",
    "logistic": "all features, in a linear model",
    "vital_signs": "vital signs, age and sex (once per stay: also what nurses chart), and nothing that needs blood",
    "news2": "the score alone",
    "qsofa": "the score alone",
    "sirs": "the score alone",
    "mews": "the score alone",
}
# Okabe M, Ito K. Color universal design. 2008. Readers with colour blindness can tell these apart. The default model is first.
DEFAULT_COLOUR: Final = "#0072B2"
_COLOURS: Final = {
    "physiology": "#009E73",
    "workflow": "#CC79A7",
    "clock": "#777777",
    "logistic": "#56B4E9",
    "vital_signs": "#8C6D1F",
    "news2": "#D55E00",
    "qsofa": "#E69F00",
    "sirs": "#B8A000",
    "mews": "#000000",
}
_STYLE: Final = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.grid": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "svg.fonttype": "path",  # letters as outlines, so that they look the same on every machine
    "svg.hashsalt": "vigil",  # the same result gives the same page, byte for byte
}


def order_models(names: Iterable[str]) -> list[str]:
    """Return models in the order for readers: the default model, which is the first, then others, then baselines.

    >>> order_models(["all_signals", "news2", "clock"])
    ['all_signals', 'clock', 'news2']
    """
    default, *others = names
    return [default, *sorted(others, key=lambda name: _ORDER.index(name) if name in _ORDER else -1)]


def display_name(name: str) -> str:
    """Return the name of a model for readers."""
    return _NAMES.get(name, name.replace("_", " "))


def describe_knowledge(name: str) -> str:
    """Return what a baseline knows of the patient; empty for other models."""
    return KNOWS.get(name, "")


def line_style(name: str, default: str) -> dict[str, Any]:
    """Return colour, width and label of a model's curve, as arguments of matplotlib."""
    if name == default:
        return {"color": DEFAULT_COLOUR, "linewidth": 2.4, "zorder": 3, "label": display_name(name)}
    colour = _COLOURS.get(name, "#444444")
    return {
        "color": colour,
        "linewidth": 1.2,
        "zorder": 2,
        "label": display_name(name),
        "linestyle": "-" if name in _COLOURS else "--",
    }


@contextmanager
def report_style() -> Iterator[None]:
    """Draw figures in the style of reports, within a ``with`` block."""
    with mpl.rc_context(_STYLE):
        yield


def label_axes(axes: Axes, x: str, y: str, title: str) -> None:
    """Set axis labels (with units) and title."""
    axes.set(xlabel=x, ylabel=y, title=title)


def percent_tick(value: float, _: int | None = None) -> str:
    """Return the label of a tick in percent, for matplotlib's ``FuncFormatter``.

    >>> percent_tick(0.125), percent_tick(0.2)
    ('12.5 %', '20 %')
    """
    return f"{100 * value:.3g} %"


def render_svg(figure: Figure) -> str:
    """Return a figure as an SVG element of an HTML page, without namespaces, which are addresses."""
    with report_style():
        written = io.StringIO()
        figure.savefig(written, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    element = written.getvalue()[written.getvalue().index("<svg") :]
    element = re.sub(r"<metadata>.*?</metadata>", "", element, flags=re.DOTALL)
    element = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", element)
    # The page sets the size. Its caption describes the figure, so screen readers skip the drawing.
    return re.sub(
        r'<svg (.*?)(height|width)="[^"]*"(.*?)(height|width)="[^"]*"', r'<svg aria-hidden="true" \1\3', element, count=1
    )
