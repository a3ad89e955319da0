"""What a glucose monitor knows at each of its readings: the last hours, the person's own level, and their days before.

No feature at a time reads anything later than that time.
"""

from typing import Final, NamedTuple

import numba
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vigil.features.glucose import one_reading_a_time
from vigil.features.observations import CheckedObservations

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

MINUTE: Final = 60_000_000  # microseconds
HOUR: Final = 60 * MINUTE
DAY: Final = 24 * HOUR
LAGS: Final = tuple(f"lag_{number}" for number in range(1, 21))

_BACK: Final = (5, 10, 15, 20, 25, 30, 40, 50, 60, 75, 90, 120, 150, 180)  # minutes
_TOLERANCE: Final = 10 * MINUTE  # by which a reading may be older than asked for
_SLOPES: Final = (15, 30, 60)  # minutes
_HOURS: Final = (1, 3, 6, 24)
_DAYS: Final = (1, 7, 14)
_LIMITS: Final = (54, 70, 80)  # mg/dL: level 2 and level 1 hypoglycaemia, and near it
_DAYS_BEFORE: Final = 7


class Glucose(NamedTuple):
    """Readings of some persons, person after person, in order of time, one at each time.

    Attributes:
        subjects: names of the persons.
        bounds: person p has the readings [bounds[p], bounds[p + 1]).
        time: microseconds.
        value: mg/dL; a bound counts as one step beyond its limit.
    """

    subjects: list[str]
    bounds: Int64
    time: Int64
    value: Float64

    def person(self, number: int) -> slice:
        """Return the readings of a person."""
        return slice(int(self.bounds[number]), int(self.bounds[number + 1]))


def read_glucose(checked: CheckedObservations) -> Glucose:
    """Return the readings of checked observations. Of several values of one time the worse counts, as everywhere."""
    rows = one_reading_a_time(checked.accepted)
    subjects, first = np.unique(rows["subject_id"].to_numpy(), return_index=True)
    bounds = np.append(first, len(rows)).astype(np.int64)
    time = rows["observed_at"].to_numpy("datetime64[us]").astype(np.int64)
    return Glucose(subjects.tolist(), bounds, time, rows["value"].to_numpy())


def compute_features(glucose: Glucose) -> pd.DataFrame:
    """Return the features of every reading, float32, in the order of the readings."""
    persons = range(len(glucose.subjects))
    parts = [_features_of(glucose.time[glucose.person(own)], glucose.value[glucose.person(own)]) for own in persons]
    return pd.concat([pd.DataFrame(part, dtype=np.float32) for part in parts], ignore_index=True)


def _features_of(time: Int64, value: Float64) -> dict[str, Float64]:
    features = {"value": value}
    for number, name in enumerate(LAGS, 1):
        features[name] = np.concatenate([np.full(min(number, len(value)), np.nan), value[:-number]])
    earlier = {minutes: _value_before(time, value, minutes * MINUTE) for minutes in _BACK}
    features |= {f"change_{minutes}m": value - before for minutes, before in earlier.items()}
    slopes = {minutes: compute_slope(time, value, minutes * MINUTE) for minutes in _SLOPES}
    features |= {f"slope_{minutes}m": slope for minutes, slope in slopes.items()}
    features["bend"] = slopes[15] - slopes[60]
    features |= {f"line_{minutes}m": value + np.nan_to_num(slopes[15]) * minutes / 2 for minutes in (30, 60)}
    for hours in _HOURS:
        features |= _summary(time, value, hours * HOUR, f"{hours}h", with_extremes=True)
    for days in _DAYS:
        features |= _summary(time, value, days * DAY, f"{days}d", with_extremes=False)
        features |= {f"below_{limit}_{days}d": _mean(time, value < limit, days * DAY) for limit in _LIMITS}
    features["interval"] = np.concatenate([[np.nan], np.diff(time) / MINUTE])
    features["hours_since_low"] = _hours_since(time, value < 70)
    angle = 2 * np.pi * (time % DAY) / DAY
    features |= {"day_sin": np.sin(angle), "day_cos": np.cos(angle)}
    return features | _days_before(time, value)


def _value_before(time: Int64, value: Float64, back: int) -> Float64:
    """Return the latest value at least ``back`` before each time, NaN where it is older than tolerated."""
    position = np.searchsorted(time, time - back, side="right") - 1
    found = time[np.maximum(position, 0)]
    is_near = (position >= 0) & (time - back - found <= _TOLERANCE)
    return np.where(is_near, value[np.maximum(position, 0)], np.nan)


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def compute_slope(time: Int64, value: Float64, window: int) -> Float64:
    """Return the least-squares slope of the readings of a window up to each of them, mg/dL per minute; NaN: one reading."""
    slope = np.full(len(time), np.nan)
    for last in range(len(time)):
        first = last
        while first > 0 and time[first - 1] > time[last] - window:
            first -= 1
        number = last - first + 1
        if number < 2:
            continue
        middle, mean = 0.0, 0.0
        for row in range(first, last + 1):
            middle += (time[row] - time[last]) / number
            mean += value[row] / number
        covariance, variance = 0.0, 0.0
        for row in range(first, last + 1):
            away = time[row] - time[last] - middle
            covariance += away * (value[row] - mean)
            variance += away * away
        slope[last] = covariance / variance * 60e6
    return slope


def _summary(time: Int64, value: Float64, window: int, name: str, *, with_extremes: bool) -> dict[str, Float64]:
    mean = _mean(time, value, window)
    spread = np.sqrt(np.maximum(_mean(time, value**2, window) - mean**2, 0))
    found = {f"mean_{name}": mean, f"std_{name}": spread, f"above_mean_{name}": value - mean}
    if with_extremes:
        rolling = pd.Series(value, index=pd.DatetimeIndex(time.view("datetime64[us]"))).rolling(pd.Timedelta(window, "us"))
        found |= {f"min_{name}": rolling.min().to_numpy(), f"max_{name}": rolling.max().to_numpy()}
    return found


def _mean(time: Int64, value: NDArray[np.generic], window: int) -> Float64:
    """Return the mean of the readings of a window (t - window, t]."""
    first = np.searchsorted(time, time - window, side="right")
    total = np.concatenate([[0.0], np.cumsum(value, dtype=np.float64)])
    last = np.arange(1, len(time) + 1)
    mean: Float64 = (total[last] - total[first]) / (last - first)
    return mean


def _hours_since(time: Int64, is_so: NDArray[np.bool_]) -> Float64:
    """Return the hours since something was so, up to two weeks; NaN: it never was."""
    last = np.maximum.accumulate(np.where(is_so, np.arange(len(time)), -1))
    hours = (time - time[np.maximum(last, 0)]) / HOUR
    return np.where(last >= 0, np.minimum(hours, 14 * 24), np.nan)


def _days_before(time: Int64, value: Float64) -> dict[str, Float64]:
    """Return what followed at the same time of the days before, within an hour: lowest values, and how often one was low."""
    lowest = np.full((_DAYS_BEFORE, len(time)), np.nan)
    for day in range(1, _DAYS_BEFORE + 1):
        first = np.searchsorted(time, time - day * DAY, side="right")
        end = np.searchsorted(time, time - day * DAY + HOUR, side="right")
        lowest[day - 1] = lowest_between(value, first, end)
    known = ~np.isnan(lowest)
    number = known.sum(axis=0)
    with np.errstate(invalid="ignore"):
        low_days = np.where(number > 0, (lowest < 70).sum(axis=0) / number, np.nan)
        mean = np.where(number > 0, np.where(known, lowest, 0).sum(axis=0) / number, np.nan)
    return {"lowest_yesterday": lowest[0], "lowest_week_before": mean, "low_days_before": low_days}


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def lowest_between(value: Float64, first: Int64, end: Int64) -> Float64:
    """Return the lowest value of each interval of positions; NaN where it is empty."""
    lowest = np.full(len(first), np.nan)
    for row in range(len(first)):
        for position in range(first[row], end[row]):
            if not value[position] >= lowest[row]:
                lowest[row] = value[position]
    return lowest
