"""Observations as they arrived, unusable ones included: detectors find faults of data in them."""

from typing import Final

import numpy as np
import pandas as pd

from vigil.features.declarations import OWN_UNITS
from vigil.features.observations import TIME, check, to_numbers
from vigil.features.signals import BOUNDS, measured_signal

# ``value`` is a number, or NaN: a bound, or no number. ``reason`` is why a reading was not used
# (features.observations.REASONS), or empty.
COLUMNS: Final = ("subject_id", "signal", "value", "observed_at", "recorded_at", "device_id", "source", "reason")
REPEATS: Final = ("duplicate_message", "duplicate_reading")
_CATEGORIES: Final = ("subject_id", "signal", "device_id", "source", "reason")


def check_received(readings: pd.DataFrame) -> pd.DataFrame:
    """Check readings, and return all of them in order of arrival.

    Args:
        readings: unchecked, with the columns of :mod:`vigil.features.observations`.

    Returns:
        :data:`COLUMNS`; an unusable reading has a reason.
    """
    result = check(readings, declared=OWN_UNITS)
    return merge_received(result.accepted, result.quarantined)


def merge_received(accepted: pd.DataFrame, quarantined: pd.DataFrame) -> pd.DataFrame:
    """Merge accepted observations and quarantined readings into :data:`COLUMNS`, in order of arrival.

    A bound is a reading of its signal that arrived, without a value: a limit says nothing of level, noise or unit.
    """
    is_bound = accepted["signal"].isin(BOUNDS)
    if is_bound.any():
        signal = accepted["signal"].astype(object).map(measured_signal)
        accepted = accepted.assign(signal=signal, value=accepted["value"].mask(is_bound))
    unused = quarantined.reindex(columns=[*COLUMNS, "comparator"])
    value = to_numbers(unused["value"]).where(unused.pop("comparator").isna())
    unused = unused.assign(value=value, recorded_at=unused["recorded_at"].fillna(unused["observed_at"]))
    parts = [accepted.assign(reason="")[list(COLUMNS)], unused]
    for column in ("observed_at", "recorded_at"):
        for part in parts:
            part[column] = pd.to_datetime(part[column], utc=True).astype(TIME)
    rows = pd.concat([part for part in parts if len(part)] or parts, ignore_index=True)
    # A reading without a time still has a time of arrival. It counts as unused.
    rows = rows.assign(observed_at=rows["observed_at"].fillna(rows["recorded_at"]))
    rows = rows[rows["recorded_at"].notna()]
    for column in _CATEGORIES:
        rows[column] = rows[column].astype(object).where(rows[column].notna(), "").astype(str).astype("category")
    return rows.iloc[np.argsort(rows["recorded_at"].to_numpy("datetime64[us]"), kind="stable")].reset_index(drop=True)
