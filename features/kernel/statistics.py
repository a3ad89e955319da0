"""The statistics of the kernel, in families that share their computation.

Each family walks through the index times once. ``first[row]`` is the first observation, known or not, that is not too old at an
index time. The observations from ``left`` to ``first[row]`` leave the window if they were known. The arrivals from ``known`` to
``arrived[row]`` enter it if they are not too old. If no observation arrived late, arrivals and observations have the same
numbers.
"""

from typing import Final

import numba
import numpy as np
from numpy.typing import NDArray

from vigil.features.kernel.exact import difference_of_products
from vigil.features.kernel.plan import (
    AGE,
    CHANGE,
    COUNT,
    HOUR_US,
    IQR,
    LAST,
    MEAN,
    MEDIAN,
    SECOND_US,
    SLOPE,
    STD,
    STEP,
    Int64,
)
from vigil.features.kernel.rank_tree import Ranks, compute_quartile, update_count
from vigil.features.kernel.series import Series
from vigil.features.windows import HOLD_HOURS

_DAY_US: Final = 24 * HOUR_US
_HOLD_US: Final = HOLD_HOURS * HOUR_US
_BLOCK_ROWS: Final = 1024  # sums of so many windows stay in the processor's first cache

Float64 = NDArray[np.float64]


@numba.njit(nogil=True)  # type: ignore[untyped-decorator]
def cumulate(series: Series, slope: bool) -> Int64:
    """Return the sums of the first i observations, modulo 2^64.

    The columns are value, value^2 and, for slopes, second, second^2 and second * value.

    If all observations arrived in the order of their times, the sum over a window is the difference of two of these sums. The
    array is empty if some arrived late, or if there is only one index time, for which summing the window is less work.
    """
    if len(series.arrival) or len(series.times) == 1:
        return np.empty((0, 0), dtype=np.int64)
    sums = np.empty((len(series.steps) + 1, 5 if slope else 2), dtype=np.int64)
    sums[0] = 0
    v = vv = x = xx = xv = 0
    for i in range(len(series.steps)):
        step = series.steps[i]
        v += step
        vv += step * step
        sums[i + 1, 0] = v
        sums[i + 1, 1] = vv
        if slope:
            second = series.observed[i] // SECOND_US
            x += second
            xx += second * second
            xv += second * step
            sums[i + 1, 2] = x
            sums[i + 1, 3] = xx
            sums[i + 1, 4] = xv
    return sums


@numba.njit(nogil=True)  # type: ignore[untyped-decorator]
def compute_sums(
    series: Series, cumulated: Int64, first: Int64, forgotten: Int64, scale: int, column: Int64, out: Float64, rows: slice
) -> None:
    """Compute count, mean, standard deviation and slope from sums, sums of squares and cross-products."""
    block_rows = _BLOCK_ROWS if len(cumulated) else max(len(first), 1)
    for begin in range(0, len(first), block_rows):
        end = min(begin + block_rows, len(first))
        if len(cumulated):
            sums = _subtract_cumulated(cumulated, first[begin:end], series.arrived[begin:end], forgotten)
        else:
            sums = _sum_windows(series, first, forgotten, column[SLOPE] >= 0)
        block = slice(rows.start + begin, rows.start + end)
        _compute_from_sums(sums, series.times[begin:end], scale, column, out, block)


@numba.njit(nogil=True, error_model="numpy")  # type: ignore[untyped-decorator]
def _compute_from_sums(sums: Int64, times: Int64, scale: int, column: Int64, out: Float64, rows: slice) -> None:
    """Compute the planned statistics from the count and the sums of each window.

    Each statistic has its own loop: the compiler makes vector instructions of a loop that does one thing.
    """
    n, v, vv = sums[0], sums[1], sums[2]
    if column[COUNT] >= 0:
        count = out[column[COUNT], rows]
        for row in range(len(n)):
            count[row] = n[row]
    if column[MEAN] >= 0:
        mean = out[column[MEAN], rows]
        for row in range(len(n)):
            mean[row] = v[row] / (n[row] * scale) if n[row] else np.nan
    if column[STD] >= 0:
        std = out[column[STD], rows]
        if float(n.max()) * float(vv.max()) < 2.0**62:  # 64 bits hold the products, because v * v <= n * vv
            for row in range(len(n)):
                variance = (n[row] * vv[row] - v[row] * v[row]) / (n[row] * (n[row] - 1))
                std[row] = np.sqrt(variance) / scale if n[row] > 1 else np.nan
        else:
            for row in range(len(n)):
                std[row] = _standard_deviation(n[row], v[row], vv[row]) / scale
    if column[SLOPE] >= 0:
        slope, x, xx, xv = out[column[SLOPE], rows], sums[3], sums[4], sums[5]
        for row in range(len(n)):
            slope[row] = _slope(n[row], v[row], x[row], xx[row], xv[row], times[row] // SECOND_US) / scale


@numba.njit(nogil=True)  # type: ignore[untyped-decorator]
def _subtract_cumulated(cumulated: Int64, first: Int64, arrived: Int64, forgotten: Int64) -> Int64:
    """Return the count and the sums of each window, shape (1 + sums, n_rows), from the sums of the first i observations."""
    sums = np.empty((1 + cumulated.shape[1], len(first)), dtype=np.int64)
    for row in range(len(first)):
        begin, end = first[row], max(arrived[row], first[row])
        sums[0, row] = forgotten[0] + end - begin
        sums[1, row] = forgotten[1] + cumulated[end, 0] - cumulated[begin, 0]
        sums[2, row] = forgotten[2] + cumulated[end, 1] - cumulated[begin, 1]
        for i in range(2, cumulated.shape[1]):
            sums[1 + i, row] = cumulated[end, i] - cumulated[begin, i]
    return sums


@numba.njit(nogil=True)  # type: ignore[untyped-decorator]
def _sum_windows(series: Series, first: Int64, forgotten: Int64, slope: bool) -> Int64:
    """Return the count and the sums of each window, shape (1 + sums, n_rows), in any order of arrival."""
    observed, steps, arrival, arrival_rank, _, arrived = series
    has_late = len(arrival_rank) > 0
    sums = np.empty((6 if slope else 3, len(first)), dtype=np.int64)
    n, v, vv = forgotten
    x = xx = xv = 0
    left = known = 0
    for row in range(len(first)):
        for i in range(left, first[row]):
            if (arrival_rank[i] if has_late else i) < known:
                n -= 1
                v -= steps[i]
                vv -= steps[i] * steps[i]
                if slope:
                    second = observed[i] // SECOND_US
                    x -= second
                    xx -= second * second
                    xv -= second * steps[i]
        for a in range(known, arrived[row]):
            i = arrival[a] if has_late else a
            if i >= first[row]:
                n += 1
                v += steps[i]
                vv += steps[i] * steps[i]
                if slope:
                    second = observed[i] // SECOND_US
                    x += second
                    xx += second * second
                    xv += second * steps[i]
        left, known = first[row], arrived[row]
        sums[0, row], sums[1, row], sums[2, row] = n, v, vv
        if slope:
            sums[3, row], sums[4, row], sums[5, row] = x, xx, xv
    return sums


@numba.njit(nogil=True)  # type: ignore[untyped-decorator]
def _standard_deviation(n: int, v: int, vv: int) -> float:
    """Return the standard deviation (n - 1) in steps from count, sum and sum of squares."""
    return np.sqrt(difference_of_products(n, vv, v, v) / (n * (n - 1))) if n > 1 else np.nan


@numba.njit(nogil=True)  # type: ignore[untyped-decorator]
def _slope(n: int, v: int, x: int, xx: int, xv: int, now: int) -> float:
    """Return the least-squares slope in steps per hour. Times are relative to now, which keeps every sum within 63 bits."""
    x, xx, xv = x - n * now, xx - 2 * now * x + n * now * now, xv - now * v
    spread = difference_of_products(n, xx, x, x)
    return difference_of_products(n, xv, x, v) / spread * 3600 if spread > 0 else np.nan


@numba.njit(nogil=True)  # type: ignore[untyped-decorator]
def compute_ends(series: Series, first: Int64, scale: int, column: Int64, out: Float64) -> None:
    """Compute the statistics of the oldest and the latest two observations: latest value, age, change and step."""
    observed, steps, arrival, arrival_rank, times, arrived = series
    has_late = len(arrival_rank) > 0
    known = oldest = 0
    latest = second = -1
    for row in range(len(times)):
        if has_late:
            oldest = max(oldest, first[row])
            for a in range(known, arrived[row]):
                i = arrival[a]
                if i > latest:
                    latest, second = i, latest
                elif i > second:
                    second = i
                if first[row] <= i < oldest:
                    oldest = i
            known = arrived[row]
            while oldest <= latest and arrival_rank[oldest] >= known:
                oldest += 1
        else:
            oldest, latest, second = first[row], arrived[row] - 1, arrived[row] - 2
        has_one, has_two = latest >= first[row], second >= first[row]
        if column[LAST] >= 0:
            out[column[LAST], row] = steps[latest] / scale if has_one else np.nan
        if column[AGE] >= 0:
            out[column[AGE], row] = (times[row] - observed[latest]) / HOUR_US if has_one else np.nan
        if column[CHANGE] >= 0:
            out[column[CHANGE], row] = (steps[latest] - steps[oldest]) / scale if has_two else np.nan
        if column[STEP] >= 0:
            out[column[STEP], row] = (steps[latest] - steps[second]) / scale if has_two else np.nan


@numba.njit(nogil=True)  # type: ignore[untyped-decorator]
def compute_quartiles(series: Series, ranks: Ranks, first: Int64, scale: int, column: Int64, out: Float64) -> None:
    """Compute the median and the interquartile range."""
    _, _, arrival, arrival_rank, _, arrived = series
    has_late = len(arrival_rank) > 0
    values, rank = ranks
    tree = np.zeros(len(values) + 1, dtype=np.int64)
    n = left = known = 0
    for row in range(len(arrived)):
        for i in range(left, first[row]):
            if (arrival_rank[i] if has_late else i) < known:
                update_count(tree, rank[i], -1)
                n -= 1
        for a in range(known, arrived[row]):
            i = arrival[a] if has_late else a
            if i >= first[row]:
                update_count(tree, rank[i], 1)
                n += 1
        left, known = first[row], arrived[row]
        if column[MEDIAN] >= 0:
            out[column[MEDIAN], row] = compute_quartile(tree, values, n, 2) / (4 * scale) if n else np.nan
        if column[IQR] >= 0:
            spread = compute_quartile(tree, values, n, 3) - compute_quartile(tree, values, n, 1) if n else 0
            out[column[IQR], row] = spread / (4 * scale) if n else np.nan


@numba.njit(nogil=True)  # type: ignore[untyped-decorator]
def _find_neighbours(arrival_rank: Int64, i: int, begin: int, end: int, known: int) -> tuple[int, int]:
    """Return the nearest known observations before and after i within [begin, end), or begin - 1 and end if there is none."""
    has_late, before, after = len(arrival_rank) > 0, i - 1, i + 1
    while before >= begin and (arrival_rank[before] if has_late else before) >= known:
        before -= 1
    while after < end and (arrival_rank[after] if has_late else after) >= known:
        after += 1
    return max(before, begin - 1), after


@numba.njit(nogil=True)  # type: ignore[untyped-decorator]
def compute_difference_std(series: Series, first: Int64, scale: int, out: Float64) -> None:
    """Compute the standard deviation of the differences between successive values.

    The sum of the differences is the latest minus the oldest value.
    """
    steps, pairs = series.steps, _sum_over_pairs(series, first, False, 0, 0)
    for row in range(len(first)):
        squares, n, oldest, end = pairs[row]
        out[row] = _standard_deviation(n - 1, steps[end - 1] - steps[oldest], squares) / scale if n > 2 else np.nan


@numba.njit(nogil=True)  # type: ignore[untyped-decorator]
def compute_hours_beyond(series: Series, first: Int64, threshold: int, above: int, out: Float64) -> None:
    """Compute the hours beyond a threshold.

    Each value holds until the next observation, the latest until t, and each for at most
    :data:`vigil.features.windows.HOLD_HOURS`.
    """
    pairs = _sum_over_pairs(series, first, True, threshold, above)
    for row in range(len(first)):
        until_latest, n, _, end = pairs[row]
        if n:
            since = _hold_time(series.observed, series.steps, end - 1, series.times[row], threshold, above)
            out[row] = (until_latest + since) / HOUR_US
        else:
            out[row] = np.nan


@numba.njit(nogil=True)  # type: ignore[untyped-decorator]
def _sum_over_pairs(series: Series, first: Int64, hold: bool, threshold: int, above: int) -> Int64:
    """Return four numbers for each index time, shape (n_rows, 4).

    They are the sum over pairs of successive observations (:func:`_pair_value`), the number of observations, the oldest one,
    and the number after the latest one.
    """
    observed, steps, arrival, arrival_rank, _, arrived = series
    has_late = len(arrival_rank) > 0
    result = np.empty((len(first), 4), dtype=np.int64)
    total = n = left = known = end = oldest = 0
    for row in range(len(first)):
        for i in range(left, first[row]):
            if (arrival_rank[i] if has_late else i) < known:
                n -= 1
                if n:
                    _, oldest = _find_neighbours(arrival_rank, i, i, end, known)
                    total -= _pair_value(observed, steps, i, oldest, hold, threshold, above)
        for a in range(known, arrived[row]):
            i = arrival[a] if has_late else a
            if i < first[row]:
                continue
            before, after = _find_neighbours(arrival_rank, i, first[row], end, a)
            if before >= first[row]:
                total += _pair_value(observed, steps, before, i, hold, threshold, above)
            else:
                oldest = i
            if after < end:
                total += _pair_value(observed, steps, i, after, hold, threshold, above)
            if before >= first[row] and after < end:
                total -= _pair_value(observed, steps, before, after, hold, threshold, above)
            end = max(end, i + 1)
            n += 1
        left, known = first[row], arrived[row]
        result[row, 0], result[row, 1], result[row, 2], result[row, 3] = total, n, oldest, end
    return result


@numba.njit(nogil=True)  # type: ignore[untyped-decorator]
def _pair_value(observed: Int64, steps: Int64, i: int, j: int, hold: bool, threshold: int, above: int) -> int:
    """Return how long value i holds beyond the threshold before j in microseconds, or the squared difference of the values."""
    if hold:
        return int(_hold_time(observed, steps, i, observed[j], threshold, above))
    difference: int = steps[j] - steps[i]
    return difference * difference


@numba.njit(nogil=True)  # type: ignore[untyped-decorator]
def _hold_time(observed: Int64, steps: Int64, i: int, until: int, threshold: int, above: int) -> int:
    """Return how long value i holds beyond the threshold until a time, in microseconds."""
    is_beyond = steps[i] > threshold if above else steps[i] < threshold
    return min(until - observed[i], _HOLD_US) if is_beyond else 0


@numba.njit(nogil=True)  # type: ignore[untyped-decorator]
def compute_exponential_mean(series: Series, first: Int64, half_life: float, scale: int, out: Float64) -> None:
    """Compute the exponentially weighted mean of the window.

    Each value weighs half as much as a value that is one half-life (microseconds) later. The differences from the oldest value
    of the window are averaged, so that a constant series gives exactly its value.
    """
    observed, steps, _, arrival_rank, times, arrived = series
    has_late = len(arrival_rank) > 0
    decay, decay_gap = 1.0, 0
    for row in range(len(times)):
        weighted, weight, oldest, before = 0.0, 0.0, -1, -1
        i = first[row]
        while i < len(observed) and observed[i] <= times[row]:
            if (arrival_rank[i] if has_late else i) < arrived[row]:
                oldest = i if oldest < 0 else oldest
                gap = observed[i] - observed[before] if before >= 0 else 0
                if gap != decay_gap:  # most devices measure at even intervals, so the decay is often unchanged
                    decay, decay_gap = 2.0 ** (-gap / half_life), gap
                weighted = weighted * decay + (steps[i] - steps[oldest])
                weight = weight * decay + 1.0
                before = i
            i += 1
        out[row] = (steps[oldest] + weighted / weight) / scale if before >= 0 else np.nan


@numba.njit(nogil=True)  # type: ignore[untyped-decorator]
def compute_first_day(series: Series, scale: int, column: Int64, out: Float64) -> None:
    """Compute count and mean of the 24 h that begin with the earliest known observation."""
    observed, steps, arrival, arrival_rank, times, arrived = series
    has_late = len(arrival_rank) > 0
    earliest, known, n, v = len(observed), 0, 0, 0
    for row in range(len(times)):
        for a in range(known, arrived[row]):
            i = arrival[a] if has_late else a
            if i < earliest:  # the first day now begins earlier
                earliest, n, v = i, 0, 0
                while i < len(observed) and observed[i] < observed[earliest] + _DAY_US:
                    if (arrival_rank[i] if has_late else i) <= a:
                        n += 1
                        v += steps[i]
                    i += 1
            elif observed[i] < observed[earliest] + _DAY_US:
                n += 1
                v += steps[i]
        known = arrived[row]
        if column[COUNT] >= 0:
            out[column[COUNT], row] = n
        if column[MEAN] >= 0:
            out[column[MEAN], row] = v / (n * scale) if n else np.nan
