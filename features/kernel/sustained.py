"""The sustained level of a signal, which the safety net uses, and the number of recent observations."""

from typing import Final

import numba
import numpy as np
from numpy.typing import NDArray

from vigil.features.kernel.plan import RECENT, SECOND_US, SUSTAINED, Int64
from vigil.features.kernel.series import Series
from vigil.features.windows import CONTINUOUS_MINUTES, SUSTAINED_MIN_COUNT, SUSTAINED_MINUTES

_SUSTAINED_US: Final = SUSTAINED_MINUTES * 60 * SECOND_US
_CONTINUOUS_US: Final = CONTINUOUS_MINUTES * 60 * SECOND_US

Float64 = NDArray[np.float64]


@numba.njit(nogil=True)  # type: ignore[untyped-decorator]
def compute_sustained(series: Series, first: Int64, scale: int, column: Int64, out: Float64) -> None:
    """Compute a level that an artefact of a minute does not change, and the number of recent observations.

    Both are defined in :data:`vigil.features.windows.STATISTICS` as ``sustained`` and ``recent``. The 15 minutes of the median
    end at the latest observation.
    """
    observed, steps, arrival, arrival_rank, times, arrived = series
    has_late = len(arrival_rank) > 0
    level_steps = np.empty(len(steps), dtype=np.int64)
    latest, known = -1, 0
    for row in range(len(times)):
        if has_late:
            for a in range(known, arrived[row]):
                latest = max(latest, arrival[a])
            known = arrived[row]
        else:
            latest = arrived[row] - 1
        n, recent, i, level = 0, 0, latest, np.nan
        while i >= first[row] and observed[i] > times[row] - _CONTINUOUS_US - _SUSTAINED_US:
            if (arrival_rank[i] if has_late else i) < arrived[row]:
                recent += observed[i] > times[row] - _CONTINUOUS_US
                if observed[i] > observed[latest] - _SUSTAINED_US:
                    level_steps[n] = steps[i]
                    n += 1
            i -= 1
        if recent and n >= SUSTAINED_MIN_COUNT:
            ordered = np.sort(level_steps[:n])
            level = (ordered[n // 2] + ordered[(n - 1) // 2]) / (2 * scale)
        elif latest >= first[row]:
            level = steps[latest] / scale
        if column[SUSTAINED] >= 0:
            out[column[SUSTAINED], row] = level
        if column[RECENT] >= 0:
            out[column[RECENT], row] = float(recent) if latest >= first[row] else np.nan
