"""A patient's readings of one signal over one window of time, in a dozen numbers: what is unusual shows in one of them.

A series is what one device says of one signal of one patient. However long he stays and however often he is measured he is one
row a window, so that a test over rows is a test over patients.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from models.monitoring.received import REPEATS

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

KEYS: Final = ["window", "subject_id", "signal", "device_id", "source"]
LADDER: Final = (0.5, 1.0, 2.0, 4.0, 5.0, 10.0, 20.0)  # steps to which a value may have been rounded
_MINUTE: Final = 60e6


@dataclass(frozen=True, slots=True)
class Unit:
    """Another unit that devices say a signal in.

    Attributes:
        fault: as it is called.
        signals: that may come in it.
        factor, offset: value in our unit = (value - offset) * factor.
        usual: range of each signal in our unit that nearly all adults on a ward keep to.
    """

    fault: str
    usual: dict[str, tuple[float, float]]
    factor: float
    offset: float = 0.0


# Conversions: NIST SP 811, appendix B; glucose by its molar mass of 180.156 g/mol.
UNITS: Final = (
    Unit("fahrenheit", {"body_temperature": (31, 43)}, 1 / 1.8, 32),
    Unit("millimole", {"glucose": (32, 600)}, 18.0156),
    Unit("kilopascal", {"systolic_bp": (50, 250), "diastolic_bp": (25, 150), "mean_bp": (35, 180)}, 7.500617),
)
UNIT_OF: Final = {signal: unit for unit in UNITS for signal in unit.usual}


def series(rows: pd.DataFrame) -> pd.DataFrame:
    """Numbers of every series.

    Args:
        rows: :data:`models.monitoring.received.COLUMNS` and ``window``, a whole number.

    Returns:
        One row a series. :data:`KEYS`; ``came`` (readings, without what was delivered again); ``accepted``; shares of
        what came: ``zero``, ``converted`` (makes sense in another unit only); ``repeated`` (deliveries again, as a share
        of all); of the accepted: ``level`` (median), ``noise`` (mean step from one to the next, without the largest),
        ``run`` (most in a row that are equal), ``run_minutes``, ``on_<step>`` (share that is a multiple of it);
        ``interval`` (median, minutes); ``early, delay, late`` (5th, 50th and 95th percentile of the time until it was
        recorded, minutes; negative where most are observed after they are recorded); ``first, last``: when something was
        recorded, microseconds.
    """
    codes, keys = _groups(rows)
    number = len(keys)
    value = rows["value"].to_numpy(np.float64)
    observed = rows["observed_at"].to_numpy("datetime64[us]").astype(np.int64)
    recorded = rows["recorded_at"].to_numpy("datetime64[us]").astype(np.int64)
    reason = rows["reason"].astype(str).to_numpy()
    again = np.isin(reason, REPEATS)
    came, accepted = ~again, reason == ""
    count = _count(codes, came, number)
    with np.errstate(invalid="ignore"):
        zero = (reason == "implausible") & (value == 0)  # of some signals 0 is a value
    every = pd.DataFrame(
        {
            "came": count,
            "accepted": _count(codes, accepted, number),
            "zero": _share(_count(codes, zero, number), count),
            "converted": _share(_count(codes, came & _only_converted(rows["signal"], value), number), count),
            "repeated": _share(_count(codes, again, number), _count(codes, np.ones(len(rows), dtype=bool), number)),
            "first": _extreme(np.minimum, codes, recorded, number),
            "last": _extreme(np.maximum, codes, recorded, number),
        }
    )
    delay = (recorded - observed) / _MINUTE
    timed = came & (accepted | (reason == "recorded_before_observed"))
    for name, share in (("early", 0.05), ("delay", 0.5), ("late", 0.95)):
        every[name] = _quantile(codes[timed], delay[timed], share, number)
    order = np.lexsort((observed, codes))
    every["interval"] = _interval(codes[order][came[order]], observed[order][came[order]], number)
    of_values = order[accepted[order]]
    return pd.concat([keys, every, _values(codes[of_values], value[of_values], observed[of_values], number)], axis=1)


def _groups(rows: pd.DataFrame) -> tuple[Int64, pd.DataFrame]:
    """The number of each row's series, and the series' keys in order of number."""
    combined = np.zeros(len(rows), dtype=np.int64)
    for key in KEYS:
        part, values = pd.factorize(rows[key])
        combined = combined * (len(values) + 1) + part
        combined = pd.factorize(combined)[0].astype(np.int64)
    first = np.unique(combined, return_index=True)[1] if len(rows) else np.empty(0, dtype=np.int64)
    return combined, rows.iloc[first][KEYS].reset_index(drop=True)


def _values(codes: Int64, value: Float64, observed: Int64, number: int) -> pd.DataFrame:
    """Of accepted values in order of series and time."""
    found = pd.DataFrame({"level": _quantile(codes, value, 0.5, number)})
    follows = np.flatnonzero(codes[1:] == codes[:-1]) + 1 if len(codes) else np.empty(0, dtype=np.int64)
    step = np.abs(value[follows] - value[follows - 1])
    largest = _quantile(codes[follows], step, 0.95, number)
    small = step <= largest[codes[follows]]
    found["noise"] = _share(
        np.bincount(codes[follows][small], step[small], number), np.bincount(codes[follows][small], minlength=number)
    )
    breaks = np.ones(len(value), dtype=bool)
    breaks[follows] = step > 0
    run = np.cumsum(breaks) - 1
    length = np.bincount(run) if len(run) else np.empty(0, dtype=np.int64)
    begins = np.flatnonzero(breaks)
    minutes = (observed[begins + length - 1] - observed[begins]) / _MINUTE
    found["run"] = _extreme(np.maximum, codes[begins], length.astype(np.int64), number)
    found["run_minutes"] = _extreme(np.maximum, codes[begins], minutes.astype(np.int64), number)
    count = np.bincount(codes, minlength=number)
    for ladder_step in LADDER:
        multiple = np.abs(value / ladder_step - np.rint(value / ladder_step)) < 1e-6
        found[f"on_{ladder_step:g}"] = _share(np.bincount(codes[multiple], minlength=number), count)
    return found


def _only_converted(signals: "pd.Series[str]", value: Float64) -> NDArray[np.bool_]:
    """Values that nobody has, but most have if they are in the other unit."""
    found = np.zeros(len(value), dtype=bool)
    for signal, unit in UNIT_OF.items():
        low, high = unit.usual[signal]
        at = np.flatnonzero((signals == signal).to_numpy())
        with np.errstate(invalid="ignore"):
            ours, theirs = value[at], (value[at] - unit.offset) * unit.factor
            found[at] = ((ours < low) | (ours > high)) & (theirs >= low) & (theirs <= high)
    return found


def _count(codes: Int64, among: NDArray[np.bool_], number: int) -> Int64:
    return np.bincount(codes[among], minlength=number)


def _share(part: NDArray[np.generic], whole: NDArray[np.generic]) -> Float64:
    some = whole.astype(np.float64)
    share: Float64 = np.divide(part.astype(np.float64), some, out=np.full(len(part), np.nan), where=some > 0)
    return share


def _extreme(which: np.ufunc, codes: Int64, value: Int64, number: int) -> Int64:
    start = np.iinfo(np.int64).max if which is np.minimum else 0
    found = np.full(number, start, dtype=np.int64)
    which.at(found, codes, value)
    return found


def _quantile(codes: Int64, value: Float64, share: float, number: int) -> Float64:
    """Quantile of each group: the value with that share of the others below it. NaN for an empty one."""
    order = np.lexsort((value, codes))
    count = np.bincount(codes, minlength=number)
    begin = np.cumsum(count) - count
    place = begin + np.rint(share * (count - 1)).astype(np.int64)
    found = np.full(number, np.nan)
    some = count > 0
    found[some] = value[order][place[some]]
    return found


def _interval(codes: Int64, observed: Int64, number: int) -> Float64:
    """Median time from one reading to the next, minutes."""
    follows = np.flatnonzero((codes[1:] == codes[:-1]) & (observed[1:] > observed[:-1])) + 1
    return _quantile(codes[follows], (observed[follows] - observed[follows - 1]) / _MINUTE, 0.5, number)
