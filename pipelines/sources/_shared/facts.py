"""Facts about patients from files: what cannot be true is unknown, as a reading outside its range is quarantined."""

from typing import Final, Literal

import pandas as pd

from vigil.features.observations import TIME

OLDEST: Final = 130  # years, as the API accepts
_LONGEST: Final = pd.Timedelta(days=3660)  # between an admission and the record; far above any stay


def plausible_age(years: "pd.Series[float]") -> "pd.Series[float]":
    """Return ages in years, NaN where one is negative or above any that was ever reached.

    >>> plausible_age(pd.Series([71.0, -1.0, 600.0])).tolist()
    [71.0, nan, nan]
    """
    return years.astype("float64").where(years.between(0, OLDEST))


def plausible_sex(codes: "pd.Series[float]") -> "pd.Series[float]":
    """Return 0 (female), 1 (male) or NaN for any other code."""
    return codes.astype("float64").where(codes.isin([0, 1]))


def time_after(
    start: pd.Timestamp, offset: "pd.Series[float]", unit: Literal["s", "min", "h", "d"]
) -> "pd.Series[pd.Timestamp]":
    """Return times an offset after a start (before it, if negative), NaT where one lies ten years away."""
    largest = _LONGEST / pd.Timedelta(1, unit)
    return (start + pd.to_timedelta(offset.where(offset.abs() <= largest), unit=unit)).astype(TIME)
