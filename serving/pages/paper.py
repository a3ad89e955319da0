"""Text on a page of paper: lines that are as wide as their column, one below the other. It is drawn by matplotlib.

Lengths are in points, places from the upper left corner.
"""

import functools
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAGE: Final = (595.3, 841.9)  # A4
INK: Final = "#16202b"
_INCH: Final = 72
_MEASURED: Final = 100  # size of the font at which signs are measured
_SPACING: Final = 1.25  # of lines


@dataclass(frozen=True, slots=True)
class Line:
    """A text that is wrapped, and then one line of it. ``gap``: room above, in points."""

    text: str
    size: float = 7.5
    is_bold: bool = False
    color: str = INK
    gap: float = 0.0


def wrap(texts: Iterable[Line], width: float) -> list[Line]:
    """Return the lines of texts at a width in points. A word that is longer than a line is broken."""
    lines = []
    for text in texts:

        def is_long(part: str, text: Line = text) -> bool:
            return text.size * sum(_advance(sign, text.is_bold) for sign in part) > width

        parts = [""]
        for word in text.text.split(" "):
            joined = f"{parts[-1]} {word}".strip()
            if is_long(joined) and parts[-1]:
                parts.append("")
                joined = word
            while is_long(joined):
                fits = next(end for end in range(len(joined) - 1, 0, -1) if end == 1 or not is_long(joined[:end]))
                parts[-1], joined = joined[:fits], joined[fits:]
                parts.append("")
            parts[-1] = joined
        lines += [replace(text, text=part, gap=0.0 if number else text.gap) for number, part in enumerate(parts)]
    return lines


@functools.cache
def _advance(sign: str, is_bold: bool) -> float:
    """Return how wide a sign is, as a part of the size of the font. Whole texts would be measured a hundred times slower."""
    from matplotlib.font_manager import FontProperties, findfont, get_font

    font = get_font(findfont(FontProperties(weight="bold" if is_bold else "normal")))
    font.set_size(_MEASURED, _INCH)
    return font.load_char(ord(sign)).linearHoriAdvance / 65536 / _MEASURED  # it counts in parts of a point


def height_of(lines: Iterable[Line]) -> float:
    """Return the height of lines, with the room above them."""
    return sum(line.gap + _SPACING * line.size for line in lines)


def write(figure: "Figure", lines: Iterable[Line], left: float, top: float) -> float:
    """Write lines; return where they end."""
    for line in lines:
        top += line.gap
        x, _, _, _ = share_of((left, top, 0, 0))
        y = 1 - (top + line.size) / PAGE[1]  # its base line
        weight = "bold" if line.is_bold else "normal"
        figure.text(x, y, line.text, fontsize=line.size, fontweight=weight, color=line.color, va="baseline", parse_math=False)
        top += _SPACING * line.size
    return top


def share_of(box: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    """Return left, bottom, width and height of a box as parts of the page; the box has its upper left corner and its size."""
    left, top, width, height = box
    return left / PAGE[0], 1 - (top + height) / PAGE[1], width / PAGE[0], height / PAGE[1]
