"""The level that the safety net goes by, and whether a signal comes continuously: both anchored at the latest reading."""

from typing import Final

import numba
import numpy as np
from numpy.typing import NDArray

from features.kernel.plan import RECENT, SECOND_US, SUSTAINED, Int64
from features.kernel.series import Series
from features.windows import CONTINUOUS_MINUTES, SUSTAINED_MINUTES, SUSTAINED_READINGS

_SUSTAINED_US: Final = SUSTAINED_MINUTES * 60 * SECOND_US
_CONTINUOUS_US: Final = CONTINUOUS_MINUTES * 60 * SECOND_US

Float64 = NDArray[np.float64]


@numba.njit(nogil=True)  # type: ignore[untyped-decorator]
def sustained(series: Series, first: Int64, scale: int, column: Int64, out: Float64) -> None:
    """Level that an artefact of a minute does not move, and how many readings came lately."""
    observed, steps, arrival, place, times, arrived = series
    late = len(place) > 0
    minutes = np.empty(len(steps), dtype=np.int64)
    latest, known = -1, 0
    for row in range(len(times)):
        if late:
            for a in range(known, arrived[row]):
                latest = max(latest, arrival[a])
            known = arrived[row]
        else:
            latest = arrived[row] - 1
        n, lately, i, level = 0, 0, latest, np.nan
        while i >= first[row] and observed[i] > times[row] - _CONTINUOUS_US - _SUSTAINED_US:
            if (place[i] if late else i) < arrived[row]:
                lately += observed[i] > times[row] - _CONTINUOUS_US
                if observed[i] > observed[latest] - _SUSTAINED_US:
                    minutes[n] = steps[i]
                    n += 1
            i -= 1
        if lately and n >= SUSTAINED_READINGS:
            ordered = np.sort(minutes[:n])
            level = (ordered[n // 2] + ordered[(n - 1) // 2]) / (2 * scale)
        elif latest >= first[row]:
            level = steps[latest] / scale
        if column[SUSTAINED] >= 0:
            out[column[SUSTAINED], row] = level
        if column[RECENT] >= 0:
            out[column[RECENT], row] = float(lately) if latest >= first[row] else np.nan
