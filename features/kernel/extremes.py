"""The lowest and the highest value of each window."""

from typing import Final

import numba
import numpy as np
from numpy.typing import NDArray

from vigil.features.kernel.plan import MAX, MIN, Int64
from vigil.features.kernel.series import Series

_NONE: Final = 2**62  # lowest value of an empty window, in steps; its highest value is -_NONE

Float64 = NDArray[np.float64]


@numba.njit(nogil=True)  # type: ignore[untyped-decorator]
def compute_extremes(series: Series, first: Int64, scale: int, column: Int64, out: Float64, rows: slice) -> None:
    """Compute minimum and maximum."""
    lowest = out[column[MIN], rows] if column[MIN] >= 0 else np.empty(len(first))
    highest = out[column[MAX], rows] if column[MAX] >= 0 else np.empty(len(first))
    if len(series.arrival):
        for sign, extreme in ((-1, lowest), (1, highest)):
            _compute_extreme_of_late(series, first, sign, scale, extreme)
    else:
        _compute_extremes_in_order(series, first, scale, lowest, highest)


@numba.njit(nogil=True, error_model="numpy")  # type: ignore[untyped-decorator]
def _compute_extremes_in_order(series: Series, first: Int64, scale: int, lowest: Float64, highest: Float64) -> None:
    """Compute the lowest and the highest value of each window, if all observations arrived in the order of their times.

    Windows that share an observation are split in two at that observation. The extremes of the earlier parts are found from
    their common end backwards, those of the later parts from their common begin forwards. So each observation is read twice,
    however long the window is (van Herk M. A fast algorithm for local minimum and maximum filters on rectangular and octagonal
    kernels. Pattern Recognit Lett 1992;13:517-521). Indices are unsigned where that spares a check for negative ones.
    """
    steps, arrived = series.steps, series.arrived
    row = 0
    while row < len(first):
        split, stop = max(first[row], arrived[row]), row + 1
        while stop < len(first) and first[stop] < split:
            stop += 1
        low, high, end = _NONE, -_NONE, np.uint64(split)
        for earlier in range(stop - 1, row - 1, -1):
            begin = np.uint64(first[earlier])
            for i in range(begin, end):
                low, high = min(low, steps[i]), max(high, steps[i])
            end = begin
            lowest[earlier], highest[earlier] = low, high  # exact: float64 holds every step
        low, high, begin = _NONE, -_NONE, np.uint64(split)
        for later in range(row, stop):
            end = np.uint64(arrived[later])
            for i in range(begin, end):
                low, high = min(low, steps[i]), max(high, steps[i])
            begin = max(begin, end)
            lowest[later], highest[later] = min(lowest[later], float(low)), max(highest[later], float(high))
        for extreme in (lowest, highest):
            _divide(extreme[row:stop], scale)
        row = stop


@numba.njit(nogil=True, error_model="numpy")  # type: ignore[untyped-decorator]
def _divide(extreme: Float64, scale: int) -> None:
    for row in range(len(extreme)):
        extreme[row] = extreme[row] / scale if abs(extreme[row]) < _NONE else np.nan


@numba.njit(nogil=True)  # type: ignore[untyped-decorator]
def _compute_extreme_of_late(series: Series, first: Int64, sign: int, scale: int, extreme: Float64) -> None:
    """Compute the highest (sign 1) or lowest (sign -1) value of each window, in any order of arrival.

    The queue holds, in order of time, the observations that may still become the extreme. Each is more extreme than all
    observations after it. A late observation is inserted between others.
    """
    steps, arrival, arrived = series.steps, series.arrival, series.arrived
    queue, signed_steps = (
        np.empty(len(steps), dtype=np.int64),
        np.empty(len(steps), dtype=np.int64),
    )  # observations, and sign * value
    begin = end = known = 0
    for row in range(len(first)):
        while begin < end and queue[begin] < first[row]:
            begin += 1
        for a in range(known, arrived[row]):
            i = arrival[a]
            if i < first[row]:
                continue
            signed_step = sign * steps[i]
            if begin < end and queue[end - 1] > i:
                end = _insert_late(queue, signed_steps, begin, end, i, signed_step)
                continue
            while begin < end and signed_steps[end - 1] <= signed_step:
                end -= 1
            queue[end], signed_steps[end] = i, signed_step
            end += 1
        known = arrived[row]
        extreme[row] = sign * signed_steps[begin] / scale if begin < end else np.nan


@numba.njit(nogil=True)  # type: ignore[untyped-decorator]
def _insert_late(queue: Int64, signed_steps: Int64, begin: int, end: int, i: int, signed_step: int) -> int:
    """Insert a late observation into the queue and return the new end of the queue."""
    later = end
    while later > begin and queue[later - 1] > i:
        later -= 1
    if signed_steps[later] >= signed_step:
        return end  # a later observation is at least as extreme, and stays longer
    position = later
    while position > begin and signed_steps[position - 1] <= signed_step:
        position -= 1
    queue[position + 1 : position + 1 + end - later] = queue[later:end].copy()
    signed_steps[position + 1 : position + 1 + end - later] = signed_steps[later:end].copy()
    queue[position], signed_steps[position] = i, signed_step
    return end + 1 + position - later
