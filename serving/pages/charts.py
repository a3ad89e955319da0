"""Charts as plain SVG, rendered here: they are there without any script, on paper, and for a screen reader."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

WIDTH: Final = 160  # of a sparkline, as HEIGHT in units of its view box
HEIGHT: Final = 36
_MARGIN: Final = 3


@dataclass(frozen=True, slots=True)
class Sparkline:
    """A course in little.

    Attributes:
        path: of the line, of SVG.
        last: where it ends.
        threshold: height of the threshold; None: there is none.
    """

    path: str
    last: tuple[float, float]
    threshold: float | None


def sparkline(
    times: Sequence[int], values: Sequence[float], since: int, until: int, threshold: float | None = None
) -> Sparkline | None:
    """Return the course of a risk on a fixed scale from 0 to the highest of it, the threshold and 0.2; None: there is none.

    Args:
        times: microseconds, in order.
        values: one a time.
        since, until: the ends of the axis of time.
        threshold: to be shown as a line.

    >>> sparkline([0, 50, 100], [0.0, 0.1, 0.2], 0, 100).path
    'M0.0 33.0L80.0 18.0L160.0 3.0'
    """
    if not times:
        return None
    top = max(0.2, *values, threshold or 0.0)

    def height(value: float) -> float:
        return round(HEIGHT - _MARGIN - (HEIGHT - 2 * _MARGIN) * value / top, 1)

    points = [
        (round(WIDTH * (time - since) / (until - since), 1), height(value)) for time, value in zip(times, values, strict=True)
    ]
    path = "M" + "L".join(f"{x} {y}" for x, y in points)
    return Sparkline(path, points[-1], None if threshold is None else height(threshold))
