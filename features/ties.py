"""Several values of one signal at the same time: which of them counts as the latest.

The one that was recorded later. Of those recorded together, such as the readings of two probes in one message, the worse: the
one with more points of NEWS2, else the one farther from the usual value. So neither the order of a file nor the larger number
decides. All other statistics use all of them.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from vigil.features.scores import NEWS2_BANDS, assign_points
from vigil.features.signals import STORED, STORED_NAMES

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

_USUAL: Final = np.array([STORED[name].usual for name in STORED_NAMES])
_RANGE: Final = np.array([STORED[name].high - STORED[name].low for name in STORED_NAMES])
_SCORED: Final = tuple((code, NEWS2_BANDS[name]) for code, name in enumerate(STORED_NAMES) if name in NEWS2_BANDS)


def rank_severity(signal: Int64, values: Float64) -> Float64:
    """Return a number for each value that is larger the worse the value is, to order values of one signal.

    Args:
        signal: position of each value's signal in :data:`vigil.features.signals.STORED_NAMES`.
        values: in the unit of the signal, within its plausible range.

    >>> code = STORED_NAMES.index("spo2")
    >>> worse, better = rank_severity(np.array([code, code]), np.array([84.0, 98.0]))
    >>> bool(worse > better)
    True
    """
    rank: Float64 = np.abs(values - _USUAL[signal]) / _RANGE[signal]  # at most 1
    for code, bands in _SCORED:
        of_signal = np.flatnonzero(signal == code)
        if len(of_signal):
            rank[of_signal] += 2 * assign_points(bands, values[of_signal])
    return rank
