"""Charts as plain SVG, rendered here: they are there without any script, on paper, and for a screen reader."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

WIDTH: Final = 160  # of a sparkline, as HEIGHT in units of its view box
HEIGHT: Final = 36
_MARGIN: Final = 3
_HOUR: Final = 3_600_000_000  # microseconds
_STEPS: Final = (1, 2, 3, 6, 12, 24, 48, 96)  # hours between ticks
_DAY_HOURS: Final = 24
_MOST_TICKS: Final = 9
_MOST_POINTS: Final = 1_200  # of a line; more would be closer than pixels
_FEW: Final = 40  # values that are drawn as dots
_SHORTEST_GAP: Final = _HOUR // 2


@dataclass(frozen=True, slots=True)
class Sparkline:
    """A course in little.

    Attributes:
        path: of the line, of SVG.
        last: where it ends.
        threshold: height of the threshold; None: there is none.
        ends: its first and last value, for those who cannot see it.
    """

    path: str
    last: tuple[float, float]
    threshold: float | None
    ends: tuple[float, float]


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
    return Sparkline(path, points[-1], None if threshold is None else height(threshold), (values[0], values[-1]))


class Tick(NamedTuple):
    """A time that an axis names.

    Attributes:
        place: in percent of the width.
        time: in the zone of the reader.
        is_new_day: whether its day has to be told: it is the first, or of another day than the one before.
    """

    place: float
    time: datetime
    is_new_day: bool


@dataclass(frozen=True, slots=True)
class Span:
    """The axis of time that the charts of a page share. ``since``, ``until``: microseconds."""

    since: int
    until: int

    def place(self, time: int) -> float:
        """Return where a time is, in percent of the width."""
        return round(100 * (time - self.since) / (self.until - self.since), 2)

    @property
    def step(self) -> int:
        """Hours between ticks, of which there are about eight."""
        return next((hours for hours in _STEPS if (self.until - self.since) / (hours * _HOUR) <= _MOST_TICKS), _STEPS[-1])

    @property
    def is_of_days(self) -> bool:
        """Whether ticks are whole days, so that their times say nothing."""
        return self.step >= _DAY_HOURS

    def ticks(self, zone: tzinfo = UTC) -> list[Tick]:
        """Return the whole times by the clock of a zone, from its midnight on.

        >>> [(tick.place, tick.is_new_day) for tick in Span(0, 8 * 3_600_000_000).ticks()][:3]
        [(0.0, True), (12.5, False), (25.0, False)]
        """
        begin, end = (datetime.fromtimestamp(time / 1e6, zone) for time in (self.since, self.until))
        midnight = begin.replace(hour=0, minute=0, second=0, microsecond=0)
        hours = range(0, _DAY_HOURS * ((end.date() - begin.date()).days + 1), self.step)
        # An hour that the clock skips in spring is the next one.
        times = sorted({round((midnight + timedelta(hours=own)).timestamp()) * 1_000_000 for own in hours})
        ticks: list[Tick] = []
        for time in times:
            if self.since <= time <= self.until:
                local = datetime.fromtimestamp(time / 1e6, zone)
                ticks.append(Tick(self.place(time), local, not ticks or local.date() != ticks[-1].time.date()))
        return ticks


@dataclass(frozen=True, slots=True)
class Mark:
    """A single thing on a chart.

    Attributes:
        x, y: in percent of width and height.
        kind: which sign is drawn: ``corrected``, ``retracted``, ``quarantined``, ``bound`` or ``alarm``.
        text: what it says, for those who point at it, and in the list below the chart.
        at: its time, microseconds.
    """

    x: float
    y: float
    kind: str
    text: str
    at: int


@dataclass(frozen=True, slots=True)
class Panel:
    """One chart.

    Attributes:
        label: what it shows, with the unit.
        latest: the latest value or bound, in words; empty: there is none.
        points: place, height and text of the values, in order; a line joins them, broken where there are gaps.
        is_step: whether a value holds until the next one.
        bands: areas from top to bottom, each with its kind, in percent.
        lines: heights of thresholds, each with its kind.
        gaps: from left to right, without any value, in percent.
        marks: single things.
        labels: heights with their text, of the vertical axis.
        breaks: places where the line is broken though something was measured: a bound, which no line goes through.
        latest_hours: how old the latest value or bound is now; None: it is of the present risk, or there is none.
        name: what it shows, without the unit.
    """

    label: str
    latest: str
    points: Sequence[tuple[float, float, str]]
    is_step: bool = False
    bands: Sequence[tuple[float, float, str]] = ()
    lines: Sequence[tuple[float, str]] = ()
    gaps: Sequence[tuple[float, float]] = ()
    marks: Sequence[Mark] = ()
    labels: Sequence[tuple[float, str]] = ()
    breaks: Sequence[float] = ()
    latest_hours: float | None = None
    name: str = ""

    @property
    def readings(self) -> list[Mark]:
        """The marks of readings, newest first; alarms are told elsewhere."""
        return sorted((mark for mark in self.marks if mark.kind != "alarm"), key=lambda mark: -mark.at)

    @property
    def tips(self) -> list[tuple[float, float, str]]:
        """Place, height and text of what a pointer finds: the values, and the bounds between them."""
        return sorted([*self.points, *((mark.x, mark.y, mark.text) for mark in self.marks if mark.kind == "bound")])

    @property
    def parts(self) -> list[list[tuple[float, float]]]:
        """The parts of the line, each the places and heights of its values."""
        parts: list[list[tuple[float, float]]] = []
        ends = np.sort([*(start for start, _ in self.gaps), *self.breaks])
        for x, y, _ in self.points:
            if not parts or np.searchsorted(ends, x) > np.searchsorted(ends, parts[-1][-1][0]):
                parts.append([])
            parts[-1].append((x, y))
        return parts

    @property
    def path(self) -> str:
        """The line as a path of SVG, in a box of 1000 by 100.

        >>> Panel("Heart rate", "", [(0, 50, ""), (5, 40, ""), (90, 60, "")], gaps=[(5, 90)]).path
        'M0 50.0L50 40.0M900 60.0'
        """
        joint = "H{x:.0f}V{y:.1f}" if self.is_step else "L{x:.0f} {y:.1f}"
        return "".join(
            (joint if number else "M{x:.0f} {y:.1f}").format(x=10 * x, y=y)
            for part in self.parts
            for number, (x, y) in enumerate(part)
        )

    @property
    def dots(self) -> list[tuple[float, float]]:
        """Values to be drawn as dots: those that no line reaches, and all where there are few.

        >>> Panel("Heart rate", "", [(place, 50, "") for place in range(50)] + [(90, 60, "")], gaps=[(49, 90)]).dots
        [(90, 60)]
        """
        parts = self.parts
        if len(self.points) < _FEW:
            return [value for part in parts for value in part]
        return [part[0] for part in parts if len(part) == 1]


@dataclass(frozen=True, slots=True)
class Scale:
    """The vertical axis of a chart, from ``low`` at the bottom to ``high`` at the top."""

    low: float
    high: float

    @classmethod
    def around(cls, values: Sequence[float]) -> "Scale":
        """Return a scale that has all of some values, with room above and below."""
        low, high = min(values), max(values)
        room = 0.06 * ((high - low) or abs(high) or 1.0)
        return cls(low - room, high + room)

    def place(self, value: float) -> float:
        """Return where a value is, in percent from the top; one beyond the scale is at its end."""
        share = (value - self.low) / (self.high - self.low)
        return round(100 * (1 - min(max(share, 0.0), 1.0)), 2)


def thin(times: NDArray[np.int64], values: NDArray[np.float64], span: Span) -> NDArray[np.int64]:
    """Return which values to draw: of each small interval the first, the lowest, the highest and the last.

    So no extreme is ever hidden, however many values there are.
    """
    if len(times) <= _MOST_POINTS:
        return np.arange(len(times))
    bucket = (times - span.since) * (_MOST_POINTS // 4) // (span.until - span.since + 1)
    chosen: set[int] = set()
    for own in np.split(np.arange(len(times)), np.flatnonzero(np.diff(bucket)) + 1):
        part = values[own]
        chosen |= {int(own[0]), int(own[-1]), int(own[part.argmin()]), int(own[part.argmax()])}
    return np.array(sorted(chosen), dtype=np.int64)


def find_gaps(times: NDArray[np.int64], until: int) -> list[tuple[int, int]]:
    """Return from when to when nothing was measured, for longer than the usual rhythm explains; also up to the present.

    Longer than half an hour, and than five times the median of the spacings.
    """
    if not len(times):
        return []
    spacing = np.diff(np.append(times, until))
    usual = float(np.median(np.diff(times))) if len(times) > 1 else 0.0
    longest = max(_SHORTEST_GAP, 5 * usual)
    ends = np.append(times[1:], until)
    return [(int(start), int(end)) for start, end in zip(times[spacing > longest], ends[spacing > longest], strict=True)]
