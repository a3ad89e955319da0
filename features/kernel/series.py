"""One series (a signal of a subject) at its subject's index times: what is known when."""

from typing import NamedTuple

import numba
import numpy as np

from features.kernel.plan import Int64


class Series(NamedTuple):
    """One series at its subject's index times. Readings are numbered by time, arrivals by when they became known."""

    observed: Int64
    steps: Int64
    arrival: Int64  # which reading arrived n-th; empty if all arrived in the order of their times
    place: Int64  # and the inverse: reading i is known once place[i] < arrived; empty likewise
    times: Int64  # index times
    arrived: Int64  # how many readings had arrived by each index time


class Entrants(NamedTuple):
    """Readings that may become a window's extreme: of those that arrive together only the ones beyond all after them."""

    reading: Int64  # empty if these are all, one after the other
    begin: Int64  # at each index time those from begin to arrived enter


@numba.njit(nogil=True)  # type: ignore[untyped-decorator]
def in_order_of_arrival(observed: Int64, recorded: Int64, steps: Int64, times: Int64) -> Series:
    """The series as its index times see it."""
    in_time = np.empty(0, dtype=np.int64)
    punctual = True
    for i in range(1, len(observed)):
        punctual &= recorded[i - 1] <= recorded[i]
    for i in range(len(observed)):
        punctual &= observed[i] <= recorded[i]
    if punctual:
        return Series(observed, steps, in_time, in_time, times, until(recorded, times, 0))
    # What matters is at which index time a reading is first known; within one, arrivals keep the order of their times.
    row_of = np.empty(len(observed), dtype=np.int64)
    arrived = np.zeros(len(times) + 1, dtype=np.int64)
    punctual, row = True, 0
    for i in range(len(observed)):
        while row < len(times) and times[row] < observed[i]:
            row += 1
        known_at = max(observed[i], recorded[i])
        row_of[i] = row if row == len(times) or known_at <= times[row] else row + np.searchsorted(times[row:], known_at)
        arrived[row_of[i]] += 1
        punctual &= i == 0 or row_of[i - 1] <= row_of[i]
    arrived = np.cumsum(arrived)
    if punctual:
        return Series(observed, steps, in_time, in_time, times, arrived[:-1])
    arrival, place = np.empty(len(observed), dtype=np.int64), np.empty(len(observed), dtype=np.int64)
    taken = np.zeros(len(times) + 1, dtype=np.int64)
    for i in range(len(observed)):
        row = row_of[i]
        place[i] = (arrived[row - 1] if row else 0) + taken[row]
        arrival[place[i]] = i
        taken[row] += 1
    return Series(observed, steps, arrival, place, times, arrived[:-1])


@numba.njit(nogil=True)  # type: ignore[untyped-decorator]
def until(moments: Int64, times: Int64, ago: int) -> Int64:
    """How many of the moments, which ascend, lie at or before each of the times, less ``ago``."""
    counts = np.empty(len(times), dtype=np.int64)
    low = 0
    for row in range(len(times)):
        t, stride = times[row] - ago, 1
        while low < len(moments) and moments[low] <= t and stride < 4:  # a few steps, then gallop past, then halve
            low += 1
            stride += 1
        if stride == 4:
            while low + stride <= len(moments) and moments[low + stride - 1] <= t:
                low += stride
                stride *= 2
            while stride:
                if low + stride <= len(moments) and moments[low + stride - 1] <= t:
                    low += stride
                stride //= 2
        counts[row] = low
    return counts


@numba.njit(nogil=True)  # type: ignore[untyped-decorator]
def entrants_of(series: Series, sign: int, wanted: bool) -> Entrants:
    """Candidates for the highest (sign 1) or lowest (-1) of any window."""
    begin = np.zeros(len(series.times), dtype=np.int64)
    begin[1:] = series.arrived[:-1]
    together = len(series.steps) > 4 * len(begin)  # else there is little to choose from
    if len(series.arrival) or not together or not wanted:
        return Entrants(series.arrival, begin)
    reading = np.empty(len(series.steps), dtype=np.int64)
    for row in range(len(begin)):
        place, end = series.arrived[row], begin[row]
        furthest = 0
        for i in range(place - 1, end - 1, -1):
            if place == series.arrived[row] or sign * series.steps[i] > furthest:
                furthest = sign * series.steps[i]
                place -= 1
                reading[place] = i
        begin[row] = place
    return Entrants(reading, begin)
