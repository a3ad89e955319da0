"""One series (the observations of one signal of one subject), and which of them are known at each index time."""

from typing import NamedTuple

import numba
import numpy as np

from vigil.features.kernel.plan import Int64


class Series(NamedTuple):
    """One series at the index times of its subject.

    Observations are numbered by the time they were observed, arrivals by the time they became known.
    """

    observed: Int64
    steps: Int64
    arrival: Int64  # observation that arrived n-th; empty if all arrived in the order of their times
    arrival_rank: Int64  # inverse of arrival: observation i is known if arrival_rank[i] < arrived; empty if arrival is
    times: Int64  # index times
    arrived: Int64  # number of observations that have arrived by each index time


@numba.njit(nogil=True)  # type: ignore[untyped-decorator]
def order_by_arrival(observed: Int64, recorded: Int64, steps: Int64, times: Int64) -> Series:
    """Determine which observations of a series are known at each index time."""
    not_needed = np.empty(0, dtype=np.int64)
    is_punctual = True
    for i in range(1, len(observed)):
        is_punctual &= recorded[i - 1] <= recorded[i]
    for i in range(len(observed)):
        is_punctual &= observed[i] <= recorded[i]
    if is_punctual:
        return Series(observed, steps, not_needed, not_needed, times, count_up_to(recorded, times, 0))
    # Only the index time at which an observation is first known matters. Arrivals at one index time are ordered by observed_at.
    row_of = np.empty(len(observed), dtype=np.int64)
    arrived = np.zeros(len(times) + 1, dtype=np.int64)
    is_punctual, row = True, 0
    for i in range(len(observed)):
        while row < len(times) and times[row] < observed[i]:
            row += 1
        known_at = max(observed[i], recorded[i])
        row_of[i] = row if row == len(times) or known_at <= times[row] else row + np.searchsorted(times[row:], known_at)
        arrived[row_of[i]] += 1
        is_punctual &= i == 0 or row_of[i - 1] <= row_of[i]
    arrived = np.cumsum(arrived)
    if is_punctual:
        return Series(observed, steps, not_needed, not_needed, times, arrived[:-1])
    arrival, arrival_rank = np.empty(len(observed), dtype=np.int64), np.empty(len(observed), dtype=np.int64)
    assigned = np.zeros(len(times) + 1, dtype=np.int64)
    for i in range(len(observed)):
        row = row_of[i]
        arrival_rank[i] = (arrived[row - 1] if row else 0) + assigned[row]
        arrival[arrival_rank[i]] = i
        assigned[row] += 1
    return Series(observed, steps, arrival, arrival_rank, times, arrived[:-1])


@numba.njit(nogil=True)  # type: ignore[untyped-decorator]
def count_up_to(moments: Int64, times: Int64, ago: int) -> Int64:
    """Return, for each time, how many of the ascending moments lie at or before that time minus ``ago``."""
    counts = np.empty(len(times), dtype=np.int64)
    low = 0
    for row in range(len(times)):
        t, stride = times[row] - ago, 1
        while low < len(moments) and moments[low] <= t and stride < 4:  # single steps first, then doubled, then halved ones
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
