"""Step changes: levels that change at one moment in many series together, or crosswise in two. No illness does that."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vigil.features.derived import MEASUREMENT_ERROR

Float64 = NDArray[np.float64]

DAY: Final = pd.Timedelta(days=1)
SLOT: Final = pd.Timedelta(minutes=30)
# Slots on either side of a moment: two, three and four hours, in which wards do not change and illness changes little.
SHORT, SLOTS, LONG = 4, 6, 8
MAD: Final = 1.4826  # standard deviations in a median absolute deviation, of a normal distribution
_LEAST_SERIES: Final = 8  # from which the ward's own change is known


@dataclass(frozen=True)
class StepChanges:
    """Levels of series just before and just after every half hour of the last day.

    Attributes:
        keys: ``subject_id, device_id, source`` of each series.
        moments: shape (n_moments,).
        before, after: medians, shape (n_series, n_moments); NaN where there are too few readings.
        common: change of the median series at each moment (day and night), shape (n_moments,).
        scale: robust standard deviation of a series' own change without a fault, at least a quarter of a measurement error; NaN
            where no series is known on both sides.
    """

    keys: pd.DataFrame
    moments: "pd.DatetimeIndex"
    before: Float64
    after: Float64
    common: Float64
    scale: float

    @property
    def change(self) -> Float64:
        """After less before."""
        return self.after - self.before


def measure_step_changes(rows: pd.DataFrame, signal: str, until: pd.Timestamp) -> dict[int, StepChanges]:
    """Measure the step changes of a signal, over :data:`SHORT`, :data:`SLOTS` and :data:`LONG` half hours on either side.

    Args:
        rows: readings of the last two days; accepted ones are used.
        signal: a key of :data:`vigil.features.derived.MEASUREMENT_ERROR`.
        until: the end of the last day.

    Returns:
        Step changes by the number of half hours.
    """
    rows = rows[((rows["signal"] == signal) & (rows["reason"] == "")).to_numpy()]
    start = until - DAY - LONG * SLOT
    slot = ((rows["observed_at"] - start) // SLOT).to_numpy()
    number = int((until - start) // SLOT)
    inside = (slot >= 0) & (slot < number)
    rows, slot = rows[inside], slot[inside]
    columns = ["subject_id", "device_id", "source"]
    series = rows.groupby(columns, observed=True).ngroup().to_numpy()
    first = np.unique(series, return_index=True)[1] if len(rows) else np.empty(0, dtype=np.int64)
    level = np.full((len(first), number), np.nan)
    medians = rows.groupby([series, slot])["value"].median()
    level[medians.index.get_level_values(0), medians.index.get_level_values(1)] = medians.to_numpy()
    at = np.arange(LONG, number - SLOTS // 2 + 1)
    keys = rows.iloc[first][columns].reset_index(drop=True)
    moments = pd.DatetimeIndex([start + int(position) * SLOT for position in at])
    least = MEASUREMENT_ERROR[signal] / 4
    return {slots: StepChanges(keys, moments, *_compare_sides(level, at, slots, least)) for slots in (SHORT, SLOTS, LONG)}


def _compare_sides(level: Float64, at: NDArray[np.int64], slots: int, least: float) -> tuple[Float64, Float64, Float64, float]:
    """Return ``before``, ``after``, ``common`` and ``scale`` of :class:`StepChanges`."""
    padded = np.pad(level, ((0, 0), (0, slots)), constant_values=np.nan)
    empty = np.empty((0, padded.shape[1] - slots + 1, slots))
    sides = np.lib.stride_tricks.sliding_window_view(padded, slots, axis=1) if len(level) else empty
    before, after = (median(sides[:, positions], slots // 2) for positions in (at - slots, at))
    change = after - before
    common = median(change.T, _LEAST_SERIES)
    common[np.isnan(common)] = 0.0
    own = np.abs(change - common)
    known = own[np.isfinite(own)]
    scale = max(MAD * float(np.median(known)), least) if len(known) else float("nan")
    return before, after, common, scale


def median(values: Float64, least: int = 1) -> Float64:
    """Return the median over the last axis, without NaN; NaN where fewer than ``least`` values are known."""
    ordered = np.sort(values, axis=-1)  # NaN comes last
    known = np.isfinite(values).sum(axis=-1, keepdims=True)
    if not ordered.shape[-1]:
        return np.full(values.shape[:-1], np.nan)
    lower = np.take_along_axis(ordered, np.maximum(known - 1, 0) // 2, axis=-1)
    upper = np.take_along_axis(ordered, np.minimum(known // 2, ordered.shape[-1] - 1), axis=-1)
    middle: Float64 = np.where(known >= max(least, 1), (lower + upper) / 2, np.nan)[..., 0]
    return middle
