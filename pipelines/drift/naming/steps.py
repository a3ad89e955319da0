"""Steps: what changes at one moment in many series together, or in two crosswise, is no course of an illness."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Float64 = NDArray[np.float64]

DAY: Final = pd.Timedelta(days=1)
SLOT: Final = pd.Timedelta(minutes=30)
# On either side of a moment: two, three and four hours, in which wards do not change and illness changes little.
SHORT, SLOTS, LONG = 4, 6, 8
_LEAST_MOMENT: Final = 8  # series, from which the ward's own change is known
MAD: Final = 1.4826  # standard deviations in a median absolute deviation, of a normal distribution


@dataclass(frozen=True)
class Steps:
    """Levels of series just before and just after every half hour of the last day.

    Attributes:
        keys: ``subject_id, device_id, source`` of each series.
        moments: shape (n_moments,).
        before, after: medians, shape (n_series, n_moments), NaN where too little came.
        common: what the median series changes by at each moment (day and night), shape (n_moments,).
        scale: of what a series changes by besides, from one side to the other, without a fault: a robust standard deviation.
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


def steps(rows: pd.DataFrame, signal: str, until: pd.Timestamp, slots: int = SLOTS) -> Steps:
    """Of the accepted readings of a signal.

    Args:
        rows: what came in the last two days.
        signal: whose.
        until: the end of the last day.
        slots: half hours on either side; the moments are the same for all.
    """
    rows = rows[((rows["signal"] == signal) & (rows["reason"] == "")).to_numpy()]
    start = until - DAY - LONG * SLOT
    slot = ((rows["observed_at"] - start) // SLOT).to_numpy()
    number = int((until - start) // SLOT)
    inside = (slot >= 0) & (slot < number)
    rows, slot = rows[inside], slot[inside]
    keys = ["subject_id", "device_id", "source"]
    series = rows.groupby(keys, observed=True).ngroup().to_numpy()
    first = np.unique(series, return_index=True)[1] if len(rows) else np.empty(0, dtype=np.int64)
    level = np.full((len(first), number), np.nan)
    medians = rows.groupby([series, slot])["value"].median()
    level[medians.index.get_level_values(0), medians.index.get_level_values(1)] = medians.to_numpy()
    at = np.arange(LONG, number - SLOTS // 2 + 1)
    padded = np.pad(level, ((0, 0), (0, slots)), constant_values=np.nan)
    sides = np.lib.stride_tricks.sliding_window_view(padded, slots, axis=1) if len(first) else np.empty((0, number + 1, slots))
    before, after = (median(sides[:, places], slots // 2) for places in (at - slots, at))
    change = after - before
    common = median(change.T, _LEAST_MOMENT)
    common[np.isnan(common)] = 0.0
    own = np.abs(change - common)
    known = own[np.isfinite(own)]
    scale = MAD * float(np.median(known)) if len(known) else float("nan")
    moments = pd.DatetimeIndex([start + int(place) * SLOT for place in at])
    return Steps(rows.iloc[first][keys].reset_index(drop=True), moments, before, after, common, scale)


def median(values: Float64, least: int = 1) -> Float64:
    """Over the last axis; NaN where fewer are known."""
    ordered = np.sort(values, axis=-1)  # what is not known comes last
    known = np.isfinite(values).sum(axis=-1, keepdims=True)
    if not ordered.shape[-1]:
        return np.full(values.shape[:-1], np.nan)
    lower = np.take_along_axis(ordered, np.maximum(known - 1, 0) // 2, axis=-1)
    upper = np.take_along_axis(ordered, np.minimum(known // 2, ordered.shape[-1] - 1), axis=-1)
    middle: Float64 = np.where(known >= max(least, 1), (lower + upper) / 2, np.nan)[..., 0]
    return middle
