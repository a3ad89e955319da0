"""The one computation of window statistics: batch building and the online update of one patient both call it.

Any windows, any ascending index times, irregular readings with ties and gaps, readings that became known late. A reading enters
a window when it becomes known and leaves it when it is too old, so the work grows with the number of readings and of
index times, not with the length of the windows (except ``ema``, which walks its window, and readings that arrive in bursts in
the reverse order of their times).

What is exact: readings are whole steps of their signal's resolution and times are whole seconds (in ``hours_above`` and
``hours_below`` microseconds), so count, sum, sum of squares, cross-products, differences, order statistics and durations are
exact whole numbers, whatever the order of arrival and wherever the buffer starts. Running sums are kept modulo 2^64; a
window's own sums fit into 63 bits, which :func:`window_statistics` makes sure of, and so they come out right. Products of
sums take 128 bits. Only the last step of each statistic is floating point (in ``ema`` each step, always in order of time).
The same readings therefore give the same features, bit for bit, in every caller.
"""

import functools
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from features import windows
from features.errors import VigilError
from features.kernel import statistics
from features.kernel.plan import (
    AGE,
    CHANGE,
    COUNT,
    DIFF_STD,
    EMA,
    FIRST_DAY,
    HOUR_US,
    IQR,
    LAST,
    MAX,
    MEAN,
    MEDIAN,
    MIN,
    RECENT,
    SECOND_US,
    SLOPE,
    STD,
    STEP,
    SUSTAINED,
    UNBOUNDED,
    Int64,
    Plan,
)
from features.kernel.rank_tree import Ranks, ranks_of
from features.kernel.series import Entrants, Series, entrants_of, in_order_of_arrival, until
from features.kernel.sustained import sustained

Float64 = NDArray[np.float64]


class KernelOverflowError(VigilError):
    """More or larger readings than can be summed exactly."""


class Readings(NamedTuple):
    """Readings of some subjects, each series (a signal of a subject) a run of its own, by observed_at, recorded_at and value.

    Attributes:
        observed, recorded: microseconds UTC, shape (n_readings,).
        steps: values in steps of the signal's resolution, shape (n_readings,).
        begin, end: where the series of a signal (in the order of the plan) and a subject lies; shape (n_signals, n_subjects).
        forgotten: count, sum and sum of squares of readings that are no longer there but belong to ``so_far``; shape
            (n_signals, n_subjects, 3), or (0, 0, 3) where nothing was forgotten. A series of which something was forgotten
            still has its latest reading.
    """

    observed: Int64
    recorded: Int64
    steps: Int64
    begin: Int64
    end: Int64
    forgotten: Int64

    def of(self, subjects: slice) -> "Readings":
        """Those of some of the subjects."""
        begin, end = self.begin[:, subjects], self.end[:, subjects]
        first, last = begin.min(), end.max()
        return Readings(
            self.observed[first:last],
            self.recorded[first:last],
            self.steps[first:last],
            np.ascontiguousarray(begin - first),
            np.ascontiguousarray(end - first),
            np.ascontiguousarray(self.forgotten[:, subjects]),
        )


class _Shared(NamedTuple):
    """What the windows of one series have in common."""

    cumulated: Int64
    low: Entrants
    high: Entrants
    ranks: Ranks
    forgotten: Int64


def window_statistics(planned: Plan, readings: Readings, index_times: Int64, index_bounds: Int64, out: Float64) -> None:
    """Every planned statistic of every series at every index time of its subject.

    It lets go of Python's lock, so that callers can compute parts of the subjects side by side.

    A reading counts at index time t if it was observed in the window and recorded at or before t.

    Args:
        planned: what to compute.
        readings: of the subjects.
        index_times: shape (n_rows,), microseconds UTC, subject after subject, ascending within a subject.
        index_bounds: shape (n_subjects + 1,); subject s owns index times [bounds[s], bounds[s + 1]).
        out: shape (n_features, n_rows), filled in the signals' units. NaN where undefined: all but count in a window without
            reading; std, slope, change and step with fewer than two readings, diff_std with fewer than three; slope if all
            are of the same second.

    Raises:
        KernelOverflowError: a series is so long, or its values are so large, that an exact sum could overflow.
    """
    expected = (planned.column.max(initial=-1).item(), planned.rule_column.max(initial=-1).item())
    if out.shape != (max(expected) + 1, len(index_times)):  # compiled code would write beyond it
        raise ValueError(f"out: shape {out.shape}; expected {(max(expected) + 1, len(index_times))}, features by index times")
    longest = int((readings.end - readings.begin).max(initial=0)) + int(readings.forgotten[..., 0].max(initial=0))
    seconds = int(planned.width[planned.width < UNBOUNDED].max(initial=HOUR_US)) // SECOND_US
    largest = 2 * max(int(readings.steps.max(initial=0)), -int(readings.steps.min(initial=0)), seconds)
    if longest * largest**2 >= 2**63:
        raise KernelOverflowError(
            f"{longest} readings of one signal of one subject: exact sums hold {2**63 // largest**2} of this size; "
            "hand over a shorter part of the series, and only readings that passed features.observations.check"
        )
    _compiled()(planned, readings, index_times, index_bounds, out)


@functools.cache
def _compiled() -> Callable[[Plan, Readings, Int64, Int64, Float64], None]:
    """The kernel in machine code.

    Numba's cache on disk watches only the file of the function itself, and would go on with old code when another changes;
    so a digest of all of them becomes part of its key, as a variable of a closure.
    """
    sources = [Path(windows.__file__), *sorted(Path(__file__).parent.glob("*.py"))]
    digest = hashlib.blake2b(b"".join(source.read_bytes() for source in sources)).hexdigest()

    @numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
    def all_series(planned: Plan, readings: Readings, index_times: Int64, index_bounds: Int64, out: Float64) -> str:
        for signal in range(len(planned.steps_per_unit)):
            for subject in range(len(index_bounds) - 1):
                rows = slice(index_bounds[subject], index_bounds[subject + 1])
                _series(planned, readings, signal, subject, index_times[rows], out[:, rows])
        return digest

    return all_series  # type: ignore[no-any-return]


@numba.njit(nogil=True)  # type: ignore[untyped-decorator]
def _series(planned: Plan, readings: Readings, signal: int, subject: int, times: Int64, out: Float64) -> None:
    begin, end = readings.begin[signal, subject], readings.end[signal, subject]
    first_window, end_windows = planned.windows[signal], planned.windows[signal + 1]
    if begin == end or first_window == end_windows:
        for window in range(first_window, end_windows):
            _nothing(planned, window, out)
        return
    series = in_order_of_arrival(readings.observed[begin:end], readings.recorded[begin:end], readings.steps[begin:end], times)
    shared = _shared(planned, readings, signal, subject, series)
    for window in range(first_window, end_windows):
        _window(planned, window, planned.steps_per_unit[signal], series, shared, out)


@numba.njit(nogil=True)  # type: ignore[untyped-decorator]
def _shared(planned: Plan, readings: Readings, signal: int, subject: int, series: Series) -> _Shared:
    windows_of = slice(planned.windows[signal], planned.windows[signal + 1])
    column, width = planned.column[windows_of], planned.width[windows_of]
    ranked = np.maximum(column[:, MEDIAN], column[:, IQR]) >= 0
    start = until(series.observed, series.times[:1], np.where(ranked, width, 0).max())[0]
    return _Shared(
        cumulated=statistics.cumulated(series, column[:, SLOPE].max() >= 0),
        low=entrants_of(series, -1, column[:, MIN].max() >= 0),
        high=entrants_of(series, 1, column[:, MAX].max() >= 0),
        ranks=ranks_of(series.steps, start if ranked.any() else len(series.steps)),
        forgotten=readings.forgotten[signal, subject] if len(readings.forgotten) else np.zeros(3, dtype=np.int64),
    )


@numba.njit(nogil=True)  # type: ignore[untyped-decorator]
def _nothing(planned: Plan, window: int, out: Float64) -> None:
    for statistic in range(planned.column.shape[1]):
        if planned.column[window, statistic] >= 0:
            out[planned.column[window, statistic]] = 0.0 if statistic == COUNT else np.nan
    for rule in range(planned.rules[window], planned.rules[window + 1]):
        out[planned.rule_column[rule]] = np.nan


@numba.njit(nogil=True)  # type: ignore[untyped-decorator]
def _window(planned: Plan, window: int, scale: int, series: Series, shared: _Shared, out: Float64) -> None:
    """The statistics of one window, by families that are computed alike."""
    width, column = planned.width[window], planned.column[window]
    if width == FIRST_DAY:
        statistics.first_day(series, scale, column, out)
        return
    first = until(series.observed, series.times, width)  # the first reading, known or not, that is not too old
    if max(column[COUNT], column[MEAN], column[STD], column[SLOPE]) >= 0:
        forgotten = shared.forgotten if width == UNBOUNDED else np.zeros(3, dtype=np.int64)
        statistics.sums(series, shared.cumulated, first, forgotten, scale, column, out)
    if column[MIN] >= 0:
        statistics.extreme(series, shared.low, first, -1, scale, out[column[MIN]])
    if column[MAX] >= 0:
        statistics.extreme(series, shared.high, first, 1, scale, out[column[MAX]])
    if max(column[LAST], column[AGE], column[CHANGE], column[STEP]) >= 0:
        statistics.ends(series, first, scale, column, out)
    if max(column[MEDIAN], column[IQR]) >= 0:
        statistics.quartiles(series, shared.ranks, first, scale, column, out)
    if column[DIFF_STD] >= 0:
        statistics.differences(series, first, scale, out[column[DIFF_STD]])
    if column[EMA] >= 0:
        statistics.exponential(series, first, width / windows.EMA_HALF_LIVES, scale, out[column[EMA]])
    if max(column[SUSTAINED], column[RECENT]) >= 0:
        sustained(series, first, scale, column, out)
    for rule in range(planned.rules[window], planned.rules[window + 1]):
        statistics.held(series, first, planned.threshold[rule], planned.above[rule], out[planned.rule_column[rule]])
