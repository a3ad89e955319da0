"""How models are named, ordered and drawn wherever they are shown side by side, and how a figure becomes part of a page."""

import io
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# As a reader compares them: what knows less and less of the patient, then the scores.
_ORDER: Final = ("physiology", "workflow", "clock", "logistic", "vital_signs", "news2", "qsofa", "sirs", "mews")
_NAMES: Final = {
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
    "physiology": "the values measured in the patient, and which are missing, not when or how often",
    "workflow": "when and how often somebody measured, but no value",
    "clock": "hours in the unit, age and sex",
    "logistic": "all features, in a straight line",
    "vital_signs": "vital signs, age and sex (asked once a stay: also what nurses chart); nothing that needs blood",
    "news2": "the score alone",
    "qsofa": "the score alone",
    "sirs": "the score alone",
    "mews": "the score alone",
}
# Okabe M, Ito K. Color universal design. 2008: told apart by those who see fewer colours. The default model gets the first.
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
    "svg.fonttype": "path",  # the same letters on every machine
    "svg.hashsalt": "vigil",  # the same page from the same figures
}


def in_order(names: Iterable[str]) -> list[str]:
    """Models as a reader compares them: the first of the run, which is the default, then others, then baselines."""
    default, *others = names
    return [default, *sorted(others, key=lambda name: _ORDER.index(name) if name in _ORDER else -1)]


def named(name: str) -> str:
    """A model's name as a reader sees it."""
    return _NAMES.get(name, name.replace("_", " "))


def knows(name: str) -> str:
    """What a baseline knows of the patient; nothing is said of others."""
    return KNOWS.get(name, "")


def line(name: str, default: str) -> dict[str, Any]:
    """Colour, width and label of a model's curve."""
    if name == default:
        return {"color": DEFAULT_COLOUR, "linewidth": 2.4, "zorder": 3, "label": named(name)}
    colour = _COLOURS.get(name, "#444444")
    return {
        "color": colour,
        "linewidth": 1.2,
        "zorder": 2,
        "label": named(name),
        "linestyle": "-" if name in _COLOURS else "--",
    }


@contextmanager
def styled() -> Iterator[None]:
    """Draw figures of a report in one style."""
    with mpl.rc_context(_STYLE):
        yield


def labelled(axes: Axes, x: str, y: str, title: str) -> None:
    """Name what is shown, with units."""
    axes.set(xlabel=x, ylabel=y, title=title)


def svg(figure: Figure) -> str:
    """The figure as an element of an HTML page, which needs no namespace and may hold no address."""
    with styled():
        written = io.StringIO()
        figure.savefig(written, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    element = written.getvalue()[written.getvalue().index("<svg") :]
    element = re.sub(r"<metadata>.*?</metadata>", "", element, flags=re.DOTALL)
    element = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", element)
    # Its size is the page's business; what it shows is said in words beside it.
    return re.sub(
        r'<svg (.*?)(height|width)="[^"]*"(.*?)(height|width)="[^"]*"', r'<svg aria-hidden="true" \1\3', element, count=1
    )
