"""The kernel: the only computation of window statistics. Batch and online computation both call it.

It supports any windows, ascending index times, irregular observations with ties and gaps, and observations that became known
late. An observation enters a window when it becomes known and leaves it when it is too old. So the work grows with the number
of observations and of index times, not with the length of the windows. There are two exceptions: ``ema`` walks through its
window, and bursts of observations that arrive in the reverse order of their times take longer.

Sums are exact. Observations are whole steps of their signal's resolution, and times are whole seconds (whole microseconds in
``hours_above`` and ``hours_below``). So count, sum, sum of squares, cross-products, differences, order statistics and durations
are exact integers, whatever the order of arrival and wherever the series starts. Running sums are kept modulo 2^64. The sums of
one window fit into 63 bits, which :func:`compute_window_statistics` ensures, so they are correct. Products of sums have 128
bits. Only
the last step of each statistic uses floating point (``ema`` uses it in each step, but always in order of time). Therefore the
same observations give bit-identical features in every caller.
"""

import functools
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from vigil.features import windows
from vigil.features.errors import VigilError
from vigil.features.kernel import statistics
from vigil.features.kernel.extremes import compute_extremes
from vigil.features.kernel.plan import (
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
from vigil.features.kernel.rank_tree import Ranks, rank_values
from vigil.features.kernel.series import Series, count_up_to, order_by_arrival
from vigil.features.kernel.sustained import compute_sustained

Float64 = NDArray[np.float64]


class KernelOverflowError(VigilError):
    """Observations are too many or too large to be summed exactly."""


class ObservationArrays(NamedTuple):
    """Observations of some subjects as arrays.

    A series is the observations of one signal of one subject. It is a contiguous run, ordered by observed_at and recorded_at;
    of several at one time, the last counts as the latest (:mod:`vigil.features.ties`).

    Attributes:
        observed, recorded: Microseconds UTC, shape (n_observations,).
        steps: Values in steps of the signal's resolution, shape (n_observations,).
        begin, end: Range of each series; shape (n_signals, n_subjects), signals in the order of the plan.
        forgotten: Count, sum and sum of squares of observations that were removed but still belong to ``so_far``; shape
            (n_signals, n_subjects, 3), or (0, 0, 3) if nothing was removed. A series from which something was removed still
            has its latest observation.
    """

    observed: Int64
    recorded: Int64
    steps: Int64
    begin: Int64
    end: Int64
    forgotten: Int64

    def select(self, subjects: slice) -> "ObservationArrays":
        """Return the series of a slice of the subjects."""
        begin, end = self.begin[:, subjects], self.end[:, subjects]
        first, last = begin.min(), end.max()
        return ObservationArrays(
            self.observed[first:last],
            self.recorded[first:last],
            self.steps[first:last],
            np.ascontiguousarray(begin - first),
            np.ascontiguousarray(end - first),
            np.ascontiguousarray(self.forgotten[:, subjects]),
        )


class _Shared(NamedTuple):
    """Intermediate results that the windows of one series share."""

    cumulated: Int64
    ranks: Ranks
    forgotten: Int64


def compute_window_statistics(
    plan: Plan, readings: ObservationArrays, index_times: Int64, index_bounds: Int64, out: Float64
) -> None:
    """Compute every planned statistic of every series at every index time of its subject.

    An observation counts at index time t if it was observed in the window and recorded at or before t. The function releases
    Python's global interpreter lock, so that callers can compute subjects in parallel.

    Args:
        plan: Statistics to compute.
        readings: Observations of the subjects.
        index_times: Microseconds UTC, subject after subject, ascending within a subject; shape (n_rows,).
        index_bounds: Subject s has the index times [bounds[s], bounds[s + 1]); shape (n_subjects + 1,).
        out: Result in the units of the signals, shape (n_features, n_rows). Undefined statistics are NaN: all but count in a
            window without observations; std, slope, change and step with fewer than two observations; diff_std with fewer
            than three; slope if all observations lie in the same second.

    Raises:
        ValueError: ``out`` has another shape.
        KernelOverflowError: A series is so long, or its values are so large, that a sum could overflow.
    """
    last_columns = (plan.column.max(initial=-1).item(), plan.rule_column.max(initial=-1).item())
    expected = (max(last_columns) + 1, len(index_times))
    if out.shape != expected:  # compiled code would write beyond the array
        raise ValueError(f"out: shape {out.shape}; expected {expected}, features by index times")
    longest = int((readings.end - readings.begin).max(initial=0)) + int(readings.forgotten[..., 0].max(initial=0))
    seconds = int(plan.width[plan.width < UNBOUNDED].max(initial=HOUR_US)) // SECOND_US
    largest = 2 * max(int(readings.steps.max(initial=0)), -int(readings.steps.min(initial=0)), seconds)
    if longest * largest**2 >= 2**63:
        raise KernelOverflowError(
            f"{longest} observations of one signal of one subject: exact sums allow {2**63 // largest**2} of this size; "
            "pass a shorter part of the series, and only observations that passed features.observations.check"
        )
    _compiled()(plan, readings, index_times, index_bounds, out)


@functools.cache
def _compiled() -> Callable[[Plan, ObservationArrays, Int64, Int64, Float64], None]:
    """Return the compiled kernel.

    Numba's cache on disk tracks only the file of the function itself. It would use old code after a change of another file. So
    a digest of all files is made a part of the cache key, as a closure variable.
    """
    sources = [Path(windows.__file__), *sorted(Path(__file__).parent.glob("*.py"))]
    digest = hashlib.blake2b(b"".join(source.read_bytes() for source in sources)).hexdigest()

    @numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
    def all_series(plan: Plan, readings: ObservationArrays, index_times: Int64, index_bounds: Int64, out: Float64) -> str:
        for signal in range(len(plan.steps_per_unit)):
            for subject in range(len(index_bounds) - 1):
                rows = slice(index_bounds[subject], index_bounds[subject + 1])
                _compute_series(plan, readings, signal, subject, index_times[rows], out, rows)
        return digest

    return all_series  # type: ignore[no-any-return]


@numba.njit(nogil=True)  # type: ignore[untyped-decorator]
def _compute_series(
    plan: Plan, readings: ObservationArrays, signal: int, subject: int, times: Int64, out: Float64, rows: slice
) -> None:
    begin, end = readings.begin[signal, subject], readings.end[signal, subject]
    first_window, end_windows = plan.windows[signal], plan.windows[signal + 1]
    if begin == end or first_window == end_windows:
        for window in range(first_window, end_windows):
            _fill_without_observations(plan, window, out[:, rows])
        return
    series = order_by_arrival(readings.observed[begin:end], readings.recorded[begin:end], readings.steps[begin:end], times)
    shared = _prepare_shared(plan, readings, signal, subject, series)
    for window in range(first_window, end_windows):
        _compute_window(plan, window, plan.steps_per_unit[signal], series, shared, out, rows)


@numba.njit(nogil=True)  # type: ignore[untyped-decorator]
def _prepare_shared(plan: Plan, readings: ObservationArrays, signal: int, subject: int, series: Series) -> _Shared:
    of_signal = slice(plan.windows[signal], plan.windows[signal + 1])
    column, width = plan.column[of_signal], plan.width[of_signal]
    is_ranked = np.maximum(column[:, MEDIAN], column[:, IQR]) >= 0
    start = count_up_to(series.observed, series.times[:1], np.where(is_ranked, width, 0).max())[0] if is_ranked.any() else 0
    return _Shared(
        cumulated=statistics.cumulate(series, column[:, SLOPE].max() >= 0),
        ranks=rank_values(series.steps if is_ranked.any() else series.steps[:0], start),
        forgotten=readings.forgotten[signal, subject] if len(readings.forgotten) else np.zeros(3, dtype=np.int64),
    )


@numba.njit(nogil=True)  # type: ignore[untyped-decorator]
def _fill_without_observations(plan: Plan, window: int, out: Float64) -> None:
    for statistic in range(plan.column.shape[1]):
        if plan.column[window, statistic] >= 0:
            out[plan.column[window, statistic]] = 0.0 if statistic == COUNT else np.nan
    for rule in range(plan.rules[window], plan.rules[window + 1]):
        out[plan.rule_column[rule]] = np.nan


@numba.njit(nogil=True)  # type: ignore[untyped-decorator]
def _compute_window(plan: Plan, window: int, scale: int, series: Series, shared: _Shared, out: Float64, rows: slice) -> None:
    """Compute the statistics of one window, family by family."""
    width, column = plan.width[window], plan.column[window]
    if width == FIRST_DAY:
        statistics.compute_first_day(series, scale, column, out[:, rows])
        return
    first = count_up_to(series.observed, series.times, width)  # first observation, known or not, that is not too old
    if max(column[COUNT], column[MEAN], column[STD], column[SLOPE]) >= 0:
        forgotten = shared.forgotten if width == UNBOUNDED else np.zeros(3, dtype=np.int64)
        statistics.compute_sums(series, shared.cumulated, first, forgotten, scale, column, out, rows)
    if max(column[MIN], column[MAX]) >= 0:
        compute_extremes(series, first, scale, column, out, rows)
    if max(column[LAST], column[AGE], column[CHANGE], column[STEP]) >= 0:
        statistics.compute_ends(series, first, scale, column, out[:, rows])
    if max(column[MEDIAN], column[IQR]) >= 0:
        statistics.compute_quartiles(series, shared.ranks, first, scale, column, out[:, rows])
    if column[DIFF_STD] >= 0:
        statistics.compute_difference_std(series, first, scale, out[column[DIFF_STD], rows])
    if column[EMA] >= 0:
        statistics.compute_exponential_mean(series, first, width / windows.EMA_HALF_LIVES, scale, out[column[EMA], rows])
    if max(column[SUSTAINED], column[RECENT]) >= 0:
        compute_sustained(series, first, scale, column, out[:, rows])
    for rule in range(plan.rules[window], plan.rules[window + 1]):
        statistics.compute_hours_beyond(
            series, first, plan.threshold[rule], plan.above[rule], out[plan.rule_column[rule], rows]
        )
