"""The statistics, by families that are computed alike.

Each family goes through the index times once. At each, readings from ``left`` to ``first[row]`` leave the window if they were
known, and arrivals from ``known`` to ``arrived[row]`` enter it unless they are too old already. ``first`` is the first
reading, known or not, that is not too old. Where nothing came late, arrivals and readings have the same numbers.
"""

from typing import Final

import numba
import numpy as np
from numpy.typing import NDArray

from features.kernel.exact import difference_of_products
from features.kernel.plan import (
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
from features.kernel.rank_tree import Ranks, add, quarters
from features.kernel.series import Entrants, Series
from features.windows import HOLD_HOURS

_DAY_US: Final = 24 * HOUR_US
_HOLD_US: Final = HOLD_HOURS * HOUR_US

Float64 = NDArray[np.float64]


@numba.njit(nogil=True)  # type: ignore[untyped-decorator]
def cumulated(series: Series, slope: bool) -> Int64:
    """Sums of the first i readings, modulo 2^64: value, value^2 and, for slopes, second, second^2, second * value.

    A window of readings that all arrived in the order of their times is a difference of two of them. Empty where some came
    late, and where there is a single index time, for which adding up the window is less work.
    """
    if len(series.arrival) or len(series.times) == 1:
        return np.empty((0, 0), dtype=np.int64)
    sums = np.zeros((len(series.steps) + 1, 5 if slope else 2), dtype=np.int64)
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
def sums(series: Series, cumulated: Int64, first: Int64, forgotten: Int64, scale: int, column: Int64, out: Float64) -> None:
    """What follows from count, sum, sum of squares and cross-products."""
    observed, steps, arrival, place, times, arrived = series
    late = len(place) > 0
    count, mean, std, slope = column[COUNT], column[MEAN], column[STD], column[SLOPE]
    n, v, vv = forgotten
    x = xx = xv = 0
    left = known = 0
    for row in range(len(times)):
        if len(cumulated):
            begin, end = first[row], max(arrived[row], first[row])
            n = forgotten[0] + end - begin
            v = forgotten[1] + cumulated[end, 0] - cumulated[begin, 0]
            vv = forgotten[2] + cumulated[end, 1] - cumulated[begin, 1]
            if slope >= 0:
                x = cumulated[end, 2] - cumulated[begin, 2]
                xx = cumulated[end, 3] - cumulated[begin, 3]
                xv = cumulated[end, 4] - cumulated[begin, 4]
        else:
            for i in range(left, first[row]):
                if (place[i] if late else i) < known:
                    n -= 1
                    v -= steps[i]
                    vv -= steps[i] * steps[i]
                    if slope >= 0:
                        second = observed[i] // SECOND_US
                        x -= second
                        xx -= second * second
                        xv -= second * steps[i]
            for a in range(known, arrived[row]):
                i = arrival[a] if late else a
                if i >= first[row]:
                    n += 1
                    v += steps[i]
                    vv += steps[i] * steps[i]
                    if slope >= 0:
                        second = observed[i] // SECOND_US
                        x += second
                        xx += second * second
                        xv += second * steps[i]
            left, known = first[row], arrived[row]
        if count >= 0:
            out[count, row] = n
        if mean >= 0:
            out[mean, row] = v / (n * scale) if n else np.nan
        if std >= 0:
            out[std, row] = _deviation(n, v, vv) / scale
        if slope >= 0:
            out[slope, row] = _slope(n, v, x, xx, xv, times[row] // SECOND_US) / scale


@numba.njit(nogil=True)  # type: ignore[untyped-decorator]
def _deviation(n: int, v: int, vv: int) -> float:
    """Standard deviation (n - 1) from count, sum and sum of squares, in steps."""
    return np.sqrt(difference_of_products(n, vv, v, v) / (n * (n - 1))) if n > 1 else np.nan


@numba.njit(nogil=True)  # type: ignore[untyped-decorator]
def _slope(n: int, v: int, x: int, xx: int, xv: int, now: int) -> float:
    """Least-squares slope in steps per hour. Times are counted from now: that makes every sum small enough to be whole."""
    x, xx, xv = x - n * now, xx - 2 * now * x + n * now * now, xv - now * v
    spread = difference_of_products(n, xx, x, x)
    return difference_of_products(n, xv, x, v) / spread * 3600 if spread > 0 else np.nan


@numba.njit(nogil=True)  # type: ignore[untyped-decorator]
def extreme(series: Series, entrants: Entrants, first: Int64, sign: int, scale: int, out: Float64) -> None:
    """Highest (sign 1) or lowest (-1) reading.

    The queue holds, in order of time, the readings that may yet become the extreme: each is beyond all after it. A late
    reading goes between.
    """
    steps, arrived = series.steps, series.arrived
    chosen = len(entrants.reading) > 0
    queue, far = np.empty(len(steps), dtype=np.int64), np.empty(len(steps), dtype=np.int64)  # readings, and how far out
    begin = end = 0
    for row in range(len(arrived)):
        while begin < end and queue[begin] < first[row]:
            begin += 1
        for a in range(entrants.begin[row], arrived[row]):
            i = entrants.reading[a] if chosen else a
            if i < first[row]:
                continue
            out_by = sign * steps[i]
            if begin < end and queue[end - 1] > i:
                end = _between(queue, far, begin, end, i, out_by)
                continue
            while begin < end and far[end - 1] <= out_by:
                end -= 1
            queue[end], far[end] = i, out_by
            end += 1
        out[row] = sign * far[begin] / scale if begin < end else np.nan


@numba.njit(nogil=True)  # type: ignore[untyped-decorator]
def _between(queue: Int64, far: Int64, begin: int, end: int, i: int, out_by: int) -> int:
    """Put a late reading into the queue; returns the queue's new end."""
    later = end
    while later > begin and queue[later - 1] > i:
        later -= 1
    if far[later] >= out_by:
        return end  # a later one is as far out, and stays longer
    place = later
    while place > begin and far[place - 1] <= out_by:
        place -= 1
    queue[place + 1 : place + 1 + end - later] = queue[later:end].copy()
    far[place + 1 : place + 1 + end - later] = far[later:end].copy()
    queue[place], far[place] = i, out_by
    return end + 1 + place - later


@numba.njit(nogil=True)  # type: ignore[untyped-decorator]
def ends(series: Series, first: Int64, scale: int, column: Int64, out: Float64) -> None:
    """What the oldest and the latest two readings of the window say."""
    observed, steps, arrival, place, times, arrived = series
    late = len(place) > 0
    known = oldest = 0
    latest = second = -1
    for row in range(len(times)):
        if late:
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
            while oldest <= latest and place[oldest] >= known:
                oldest += 1
        else:
            oldest, latest, second = first[row], arrived[row] - 1, arrived[row] - 2
        some, several = latest >= first[row], second >= first[row]
        if column[LAST] >= 0:
            out[column[LAST], row] = steps[latest] / scale if some else np.nan
        if column[AGE] >= 0:
            out[column[AGE], row] = (times[row] - observed[latest]) / HOUR_US if some else np.nan
        if column[CHANGE] >= 0:
            out[column[CHANGE], row] = (steps[latest] - steps[oldest]) / scale if several else np.nan
        if column[STEP] >= 0:
            out[column[STEP], row] = (steps[latest] - steps[second]) / scale if several else np.nan


@numba.njit(nogil=True)  # type: ignore[untyped-decorator]
def quartiles(series: Series, ranks: Ranks, first: Int64, scale: int, column: Int64, out: Float64) -> None:
    _, _, arrival, place, _, arrived = series
    late = len(place) > 0
    values, rank = ranks
    tree = np.zeros(len(values) + 1, dtype=np.int64)
    n = left = known = 0
    for row in range(len(arrived)):
        for i in range(left, first[row]):
            if (place[i] if late else i) < known:
                add(tree, rank[i], -1)
                n -= 1
        for a in range(known, arrived[row]):
            i = arrival[a] if late else a
            if i >= first[row]:
                add(tree, rank[i], 1)
                n += 1
        left, known = first[row], arrived[row]
        if column[MEDIAN] >= 0:
            out[column[MEDIAN], row] = quarters(tree, values, n, 2) / (4 * scale) if n else np.nan
        if column[IQR] >= 0:
            spread = quarters(tree, values, n, 3) - quarters(tree, values, n, 1) if n else 0
            out[column[IQR], row] = spread / (4 * scale) if n else np.nan


@numba.njit(nogil=True)  # type: ignore[untyped-decorator]
def _neighbours(place: Int64, i: int, begin: int, end: int, known: int) -> tuple[int, int]:
    """The known readings next before and after i within [begin, end); begin - 1 and end where there is none."""
    late, before, after = len(place) > 0, i - 1, i + 1
    while before >= begin and (place[before] if late else before) >= known:
        before -= 1
    while after < end and (place[after] if late else after) >= known:
        after += 1
    return max(before, begin - 1), after


@numba.njit(nogil=True)  # type: ignore[untyped-decorator]
def differences(series: Series, first: Int64, scale: int, out: Float64) -> None:
    """Standard deviation of the differences between neighbours; their sum is the latest minus the oldest reading."""
    steps, pairs = series.steps, _over_pairs(series, first, False, 0, 0)
    for row in range(len(first)):
        squares, n, oldest, end = pairs[row]
        out[row] = _deviation(n - 1, steps[end - 1] - steps[oldest], squares) / scale if n > 2 else np.nan


@numba.njit(nogil=True)  # type: ignore[untyped-decorator]
def held(series: Series, first: Int64, threshold: int, above: int, out: Float64) -> None:
    """Hours beyond a threshold: each reading holds until the next, the latest until t, each for an hour at most."""
    pairs = _over_pairs(series, first, True, threshold, above)
    for row in range(len(first)):
        until_latest, n, _, end = pairs[row]
        if n:
            since = _hold(series.observed, series.steps, end - 1, series.times[row], threshold, above)
            out[row] = (until_latest + since) / HOUR_US
        else:
            out[row] = np.nan


@numba.njit(nogil=True)  # type: ignore[untyped-decorator]
def _over_pairs(series: Series, first: Int64, hold: bool, threshold: int, above: int) -> Int64:
    """At each index time the sum over neighbouring readings (see _pair), readings, the oldest, and one past the latest."""
    observed, steps, arrival, place, _, arrived = series
    late = len(place) > 0
    found = np.empty((len(first), 4), dtype=np.int64)
    total = n = left = known = end = oldest = 0
    for row in range(len(first)):
        for i in range(left, first[row]):
            if (place[i] if late else i) < known:
                n -= 1
                if n:
                    _, oldest = _neighbours(place, i, i, end, known)
                    total -= _pair(observed, steps, i, oldest, hold, threshold, above)
        for a in range(known, arrived[row]):
            i = arrival[a] if late else a
            if i < first[row]:
                continue
            before, after = _neighbours(place, i, first[row], end, a)
            if before >= first[row]:
                total += _pair(observed, steps, before, i, hold, threshold, above)
            else:
                oldest = i
            if after < end:
                total += _pair(observed, steps, i, after, hold, threshold, above)
            if before >= first[row] and after < end:
                total -= _pair(observed, steps, before, after, hold, threshold, above)
            end = max(end, i + 1)
            n += 1
        left, known = first[row], arrived[row]
        found[row, 0], found[row, 1], found[row, 2], found[row, 3] = total, n, oldest, end
    return found


@numba.njit(nogil=True)  # type: ignore[untyped-decorator]
def _pair(observed: Int64, steps: Int64, i: int, j: int, hold: bool, threshold: int, above: int) -> int:
    """For how long reading i holds beyond the threshold before j, or the square of their difference."""
    if hold:
        return int(_hold(observed, steps, i, observed[j], threshold, above))
    difference: int = steps[j] - steps[i]
    return difference * difference


@numba.njit(nogil=True)  # type: ignore[untyped-decorator]
def _hold(observed: Int64, steps: Int64, i: int, until: int, threshold: int, above: int) -> int:
    beyond = steps[i] > threshold if above else steps[i] < threshold
    return min(until - observed[i], _HOLD_US) if beyond else 0


@numba.njit(nogil=True)  # type: ignore[untyped-decorator]
def exponential(series: Series, first: Int64, half_life: float, scale: int, out: Float64) -> None:
    """Mean of the window, each reading weighing half as much as one a half-life (microseconds) later.

    What is averaged is the distance from the window's oldest reading, so that a constant series keeps its value exactly.
    """
    observed, steps, _, place, times, arrived = series
    late = len(place) > 0
    decay, of_gap = 1.0, 0
    for row in range(len(times)):
        weighted, weight, oldest, before = 0.0, 0.0, -1, -1
        i = first[row]
        while i < len(observed) and observed[i] <= times[row]:
            if (place[i] if late else i) < arrived[row]:
                oldest = i if oldest < 0 else oldest
                gap = observed[i] - observed[before] if before >= 0 else 0
                if gap != of_gap:  # devices read at even intervals
                    decay, of_gap = 2.0 ** (-gap / half_life), gap
                weighted = weighted * decay + (steps[i] - steps[oldest])
                weight = weight * decay + 1.0
                before = i
            i += 1
        out[row] = (steps[oldest] + weighted / weight) / scale if before >= 0 else np.nan


@numba.njit(nogil=True)  # type: ignore[untyped-decorator]
def first_day(series: Series, scale: int, column: Int64, out: Float64) -> None:
    """Count and mean of the 24 h that begin with the earliest known reading."""
    observed, steps, arrival, place, times, arrived = series
    late = len(place) > 0
    earliest, known, n, v = len(observed), 0, 0, 0
    for row in range(len(times)):
        for a in range(known, arrived[row]):
            i = arrival[a] if late else a
            if i < earliest:  # the day begins anew
                earliest, n, v = i, 0, 0
                while i < len(observed) and observed[i] < observed[earliest] + _DAY_US:
                    if (place[i] if late else i) <= a:
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
