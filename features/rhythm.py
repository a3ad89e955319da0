"""The rhythm of a signal: from when on it is overdue, learned from its own past intervals.

A device that has sent a value a minute is overdue after minutes, a nurse who charts every four hours is not. Intervals between
measurements are those of ``observed_at``. A device that stores its readings and uploads them once an hour also has a rhythm of
delivery, by ``recorded_at``; the longer of the two counts, so that late batches do not look like a rhythm of seconds.

All times are microseconds.
"""

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

from vigil.features.kernel.plan import HOUR_US

MINUTE_US: Final = HOUR_US // 60

# Every constant here is ours; docs/benchmarks.md has what they cost in events and in minutes.
TURN_US: Final = MINUTE_US // 2  # what comes closer together is one turn: a burst of values is no rhythm of its own
REMEMBERED: Final = 120  # intervals: two hours of a value a minute, so that the rhythm follows a change of settings
LEAST_INTERVALS: Final = 10  # fewer are no claim: with them the quantile would be the largest of a handful
QUANTILE: Final = 0.95  # of the intervals; one gap in twenty is no part of the rhythm
MISSED: Final = 3  # intervals in a row; one lost message is usual, three are not
LEAST_US: Final = 5 * MINUTE_US  # however fast the rhythm: shorter gaps are those of wireless links
# A gap of the last day is waited for again, if it was no longer than this: a sensor that loses its contact now and then is told
# less often, and one that is gone for good still within a quarter of an hour or so.
TOLERATED_US: Final = 15 * MINUTE_US
GAPS_REMEMBERED_US: Final = 24 * HOUR_US
# From here on the answer is value_too_old or silent, by the longest interval between checks of RCP 2017, chart 4.
MOST_US: Final = 12 * HOUR_US


@dataclass(slots=True)
class Turns:
    """The last times of something that repeats; what comes within :data:`TURN_US` of a turn belongs to it.

    Attributes:
        times: when each turn began.
        gaps: the intervals longer than :data:`LEAST_US`, each with its end.
    """

    times: deque[int] = field(default_factory=lambda: deque(maxlen=REMEMBERED + 1))
    gaps: deque[tuple[int, int]] = field(default_factory=lambda: deque(maxlen=REMEMBERED))
    _interval: int | None = field(default=None, compare=False)  # 0: not computed since the last turn

    def add(self, time: int) -> None:
        """Add a time that is not before the last one; an earlier one changes nothing."""
        if self.times and time < self.times[-1] + TURN_US:
            return
        if self.times and (gap := time - self.times[-1]) > LEAST_US:
            self.gaps.append((time, gap))
        self.times.append(time)
        self._interval = 0

    def interval(self) -> int | None:
        """Return the upper quantile of the intervals; None: they are too few."""
        if self._interval == 0:
            intervals = sorted(later - earlier for earlier, later in pairwise(self.times))
            is_known = len(intervals) >= LEAST_INTERVALS
            self._interval = intervals[math.ceil(QUANTILE * len(intervals)) - 1] if is_known else None
        return self._interval

    def longest_gap(self) -> int:
        """Return the longest gap of the last day before the last turn, at most :data:`TOLERATED_US`; 0: there was none."""
        while self.gaps and self.gaps[0][0] < self.times[-1] - GAPS_REMEMBERED_US:
            self.gaps.popleft()
        return min(TOLERATED_US, max((gap for _, gap in self.gaps), default=0))


@dataclass(slots=True)
class Rhythm:
    """The rhythm of one signal of one subject, as one device sends it.

    >>> rhythm = Rhythm()
    >>> for minute in range(30):
    ...     rhythm.add(minute * MINUTE_US, minute * MINUTE_US)
    >>> rhythm.overdue_after() / MINUTE_US
    5.0
    """

    observed: Turns = field(default_factory=Turns)
    recorded: Turns = field(default_factory=Turns)

    def add(self, observed_at: int, recorded_at: int) -> None:
        """Add an original observation. Corrections are none: they are recorded when someone finds a mistake."""
        self.observed.add(observed_at)
        self.recorded.add(recorded_at)

    def overdue_after(self, declared: int | None = None) -> int | None:
        """Return how long after the last one the next observation is overdue; None: it is unknown.

        Args:
            declared: by its source. It holds where nothing was learned, and never is the signal overdue later.
        """
        intervals = [turns.interval() for turns in (self.observed, self.recorded)]
        learned = None
        if all(interval is not None for interval in intervals):
            learned = MISSED * max(interval for interval in intervals if interval is not None)
            if learned < TOLERATED_US:
                learned = max(LEAST_US, learned, self.recorded.longest_gap())
        if learned is None or learned > MOST_US:
            return declared
        return learned if declared is None else min(learned, declared)


def rhythm_of(times: Iterable[tuple[int, int]]) -> Rhythm:
    """Return the rhythm of observations, each as the time it was observed and the time it was recorded, in any order."""
    rhythm, pairs = Rhythm(), list(times)
    for observed_at in sorted({observed for observed, _ in pairs}):
        rhythm.observed.add(observed_at)
    for recorded_at in sorted({recorded for _, recorded in pairs}):
        rhythm.recorded.add(recorded_at)
    return rhythm
