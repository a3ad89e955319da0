"""The one computation of window statistics: batch building and the online update of one patient both call it.

What is exact: readings are whole steps of their signal's resolution and times are whole seconds, so count, sum, sum of
squares and cross-products are exact int64 sums, whatever the order of readings and wherever the buffer starts. Only the
last step of each statistic is floating point. Equal readings therefore give equal features, bit for bit, in every caller.

Where the exact sums could leave the int64 range the kernel refuses rather than wraps (see :func:`window_statistics`).
"""

import math
from typing import Final

import numba
import numpy as np
from numpy.typing import NDArray

from features.errors import VigilError
from features.windows import STATISTICS

HOUR_US: Final = 3_600_000_000
_SECOND_US: Final = 1_000_000

Int64 = NDArray[np.int64]
Float64 = NDArray[np.float64]


class KernelOverflowError(VigilError):
    """A window holds more readings than can be summed exactly."""


def window_statistics(
    *,
    readings: tuple[Int64, Int64, Int64],
    reading_bounds: Int64,
    index_times: Int64,
    index_bounds: Int64,
    hours: int,
    steps_per_unit: int,
) -> Float64:
    """All statistics of one signal over one window, for every index time of every subject.

    A reading counts at index time t if it was observed in (t - hours, t] and recorded at or before t.

    Args:
        readings: observed_at, recorded_at (microseconds UTC) and value (steps), each of shape (n_readings,), subject after
            subject, by observed_at within a subject.
        reading_bounds: shape (n_subjects + 1,); subject s owns readings [bounds[s], bounds[s + 1]).
        index_times: shape (n_rows,), microseconds UTC, subject after subject, ascending within a subject.
        index_bounds: shape (n_subjects + 1,), likewise.
        hours: window length.
        steps_per_unit: steps of the signal per unit; values are divided by it at the end.

    Returns:
        Shape (n_rows, len(STATISTICS)), in the signal's unit (slope: per hour, age: hours). NaN where undefined: all but
        count in an empty window; std, slope and change with fewer than two readings; slope if all are at the same second.

    Raises:
        KernelOverflowError: the readings of a window are so many or so large that an exact sum could overflow.
    """
    observed, recorded, steps = readings
    densest = _most_in_window(observed, reading_bounds, hours * HOUR_US)
    most = most_readings(hours, int(np.abs(steps).max(initial=0)))
    if densest > most:
        raise KernelOverflowError(
            f"{densest} readings of one subject within {hours} h: exact sums hold {most} of this size; "
            "thin the series before handing it over"
        )
    out = np.full((len(index_times), len(STATISTICS)), np.nan)
    _fill(observed, recorded, steps, reading_bounds, index_times, index_bounds, hours * HOUR_US, steps_per_unit, out)
    return out


def most_readings(hours: int, largest_steps: int) -> int:
    """How many readings of one subject a window can hold with every sum exact, values being at most that many steps.

    The largest number formed is n * sum(x * y), which is at most (n * max(|x|, |y|))^2 and must stay below 2^63; x is a time
    in seconds before t, y a value in steps.
    """
    return math.isqrt(2**63 - 1) // max(largest_steps, hours * 3600)


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _most_in_window(observed: Int64, bounds: Int64, width: int) -> int:
    most = 0
    for s in range(len(bounds) - 1):
        first = bounds[s]
        for i in range(bounds[s], bounds[s + 1]):
            while observed[first] <= observed[i] - width:
                first += 1
            most = max(most, i - first + 1)
    return most


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _fill(
    observed: Int64,
    recorded: Int64,
    steps: Int64,
    reading_bounds: Int64,
    index_times: Int64,
    index_bounds: Int64,
    width: int,
    steps_per_unit: int,
    out: Float64,
) -> None:
    for s in range(len(index_bounds) - 1):
        first = reading_bounds[s]  # first reading inside the window
        stop = reading_bounds[s]  # first reading after t
        end = reading_bounds[s + 1]
        for row in range(index_bounds[s], index_bounds[s + 1]):
            t = index_times[row]
            while stop < end and observed[stop] <= t:
                stop += 1
            while first < stop and observed[first] <= t - width:
                first += 1
            _row(observed, recorded, steps, first, stop, t, steps_per_unit, out[row])


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _row(
    observed: Int64, recorded: Int64, steps: Int64, first: int, stop: int, t: int, steps_per_unit: int, out: Float64
) -> None:
    n = 0
    sum_v = sum_vv = sum_x = sum_xx = sum_xv = 0
    low = high = earliest = latest = latest_at = 0
    t_second = t // _SECOND_US
    for i in range(first, stop):
        if recorded[i] > t:  # not yet known at t
            continue
        v = steps[i]
        x = observed[i] // _SECOND_US - t_second
        if n == 0:
            low = high = earliest = v
        n += 1
        sum_v += v
        sum_vv += v * v
        sum_x += x
        sum_xx += x * x
        sum_xv += x * v
        low = min(low, v)
        high = max(high, v)
        latest = v
        latest_at = observed[i]
    out[0] = n
    if n == 0:
        return
    out[1] = sum_v / (n * steps_per_unit)
    out[2] = low / steps_per_unit
    out[3] = high / steps_per_unit
    out[6] = latest / steps_per_unit
    out[7] = (t - latest_at) / HOUR_US
    if n == 1:
        return
    out[4] = np.sqrt((n * sum_vv - sum_v * sum_v) / (n * (n - 1))) / steps_per_unit
    spread = n * sum_xx - sum_x * sum_x
    if spread > 0:
        out[5] = (n * sum_xv - sum_x * sum_v) / spread * 3600 / steps_per_unit
    out[8] = (latest - earliest) / steps_per_unit
