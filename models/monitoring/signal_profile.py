"""Signal profiles: the readings of one signal of one patient in one window of time, summarised in a dozen numbers.

A profile belongs to one device. However long a patient stays, and however often they are measured, they are one row a window.
So a test over rows is a test over patients.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vigil.models.monitoring.received import REPEATS

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

KEYS: Final = ["window", "subject_id", "signal", "device_id", "source"]
LADDER: Final = (0.5, 1.0, 2.0, 4.0, 5.0, 10.0, 20.0)  # steps to which a value may have been rounded
_MINUTE: Final = 60e6  # microseconds


@dataclass(frozen=True, slots=True)
class Unit:
    """Another unit in which devices may send a signal.

    Attributes:
        fault: name of the fault.
        usual: by signal, the range in our unit of nearly all adults on a ward.
        factor, offset: value in our unit = (value - offset) * factor.
    """

    fault: str
    usual: dict[str, tuple[float, float]]
    factor: float
    offset: float = 0.0


# Conversions: NIST SP 811, appendix B. Glucose: its molar mass is 180.156 g/mol.
UNITS: Final = (
    Unit("fahrenheit", {"body_temperature": (31, 43)}, 1 / 1.8, 32),
    Unit("millimole", {"glucose": (32, 600)}, 18.0156),
    Unit("kilopascal", {"systolic_bp": (50, 250), "diastolic_bp": (25, 150), "mean_bp": (35, 180)}, 7.500617),
)
UNIT_OF: Final = {signal: unit for unit in UNITS for signal in unit.usual}


def profile_signals(rows: pd.DataFrame) -> pd.DataFrame:
    """Summarise readings in one row for each window, patient, signal, device and gateway.

    Args:
        rows: :data:`vigil.models.monitoring.received.COLUMNS` and ``window``, a whole number.

    Returns:
        :data:`KEYS` and these numbers:

        - ``came``: readings, without repeated deliveries;
        - ``accepted``: readings that can be used;
        - ``zero``, ``converted``: shares of ``came`` that are 0, and that could not be used but make sense in another unit;
        - ``repeated``: share of all deliveries that are repetitions;
        - ``first``, ``last``: when the first and the last were recorded, microseconds;
        - ``early``, ``delay``, ``late``: 5th, 50th and 95th percentile of the minutes from observed to recorded; negative
          where most are observed after they are recorded;
        - ``interval``: median minutes from one reading to the next;
        - of the accepted with a value: ``level`` (median), ``noise`` (mean step from one to the next, without the largest),
          ``run`` (most equal values in a row), ``run_minutes`` (the longest time one value lasted), ``on_<step>`` (share that
          is a multiple of the step).
    """
    codes, keys = _number_profiles(rows)
    number = len(keys)
    value = rows["value"].to_numpy(np.float64)
    observed = rows["observed_at"].to_numpy("datetime64[us]").astype(np.int64)
    recorded = rows["recorded_at"].to_numpy("datetime64[us]").astype(np.int64)
    reason = rows["reason"].astype(str).to_numpy()
    repeated = np.isin(reason, REPEATS)
    came, accepted = ~repeated, reason == ""
    count = _count(codes, came, number)
    with np.errstate(invalid="ignore"):
        zero = (reason == "implausible") & (value == 0)  # 0 is a valid value of some signals
    summary = pd.DataFrame(
        {
            "came": count,
            "accepted": _count(codes, accepted, number),
            "zero": _share(_count(codes, zero, number), count),
            # What was accepted had its unit, or only one to choose from: a low glucose in mg/dL is a low glucose.
            "converted": _share(_count(codes, came & ~accepted & _is_other_unit(rows["signal"], value), number), count),
            "repeated": _share(_count(codes, repeated, number), _count(codes, np.ones(len(rows), dtype=bool), number)),
            "first": _extreme(np.minimum, codes, recorded, number),
            "last": _extreme(np.maximum, codes, recorded, number),
        }
    )
    delay = (recorded - observed) / _MINUTE
    timed = came & (accepted | (reason == "recorded_before_observed"))
    for name, share in (("early", 0.05), ("delay", 0.5), ("late", 0.95)):
        summary[name] = _quantile(codes[timed], delay[timed], share, number)
    order = np.lexsort((observed, codes))
    summary["interval"] = _median_interval(codes[order][came[order]], observed[order][came[order]], number)
    usable = order[(accepted & ~np.isnan(value))[order]]  # a bound can be used, and has no value
    return pd.concat([keys, summary, _summarise_values(codes[usable], value[usable], observed[usable], number)], axis=1)


def _number_profiles(rows: pd.DataFrame) -> tuple[Int64, pd.DataFrame]:
    """Return the number of each row's profile, and the keys of the profiles in order of number."""
    combined = np.zeros(len(rows), dtype=np.int64)
    for key in KEYS:
        part, values = pd.factorize(rows[key])
        combined = combined * (len(values) + 1) + part
        combined = pd.factorize(combined)[0].astype(np.int64)
    first = np.unique(combined, return_index=True)[1] if len(rows) else np.empty(0, dtype=np.int64)
    return combined, rows.iloc[first][KEYS].reset_index(drop=True)


def _summarise_values(codes: Int64, value: Float64, observed: Int64, number: int) -> pd.DataFrame:
    """Summarise accepted values, given in order of profile and time."""
    summary = pd.DataFrame({"level": _quantile(codes, value, 0.5, number)})
    follows = np.flatnonzero(codes[1:] == codes[:-1]) + 1 if len(codes) else np.empty(0, dtype=np.int64)
    step = np.abs(value[follows] - value[follows - 1])
    largest = _quantile(codes[follows], step, 0.95, number)
    small = step <= largest[codes[follows]]
    summary["noise"] = _share(
        np.bincount(codes[follows][small], step[small], number), np.bincount(codes[follows][small], minlength=number)
    )
    breaks = np.ones(len(value), dtype=bool)
    breaks[follows] = step > 0
    run = np.cumsum(breaks) - 1
    length = np.bincount(run) if len(run) else np.empty(0, dtype=np.int64)
    begins = np.flatnonzero(breaks)
    minutes = (observed[begins + length - 1] - observed[begins]) / _MINUTE
    summary["run"] = _extreme(np.maximum, codes[begins], length.astype(np.int64), number)
    summary["run_minutes"] = _extreme(np.maximum, codes[begins], minutes.astype(np.int64), number)
    count = np.bincount(codes, minlength=number)
    for ladder_step in LADDER:
        multiple = np.abs(value / ladder_step - np.rint(value / ladder_step)) < 1e-6
        summary[f"on_{ladder_step:g}"] = _share(np.bincount(codes[multiple], minlength=number), count)
    return summary


def _is_other_unit(signals: "pd.Series[str]", value: Float64) -> NDArray[np.bool_]:
    """Return which values lie outside the usual range in our unit, and inside it if they are in the other unit."""
    result = np.zeros(len(value), dtype=bool)
    for signal, unit in UNIT_OF.items():
        low, high = unit.usual[signal]
        at = np.flatnonzero((signals == signal).to_numpy())
        with np.errstate(invalid="ignore"):
            ours, converted = value[at], (value[at] - unit.offset) * unit.factor
            result[at] = ((ours < low) | (ours > high)) & (converted >= low) & (converted <= high)
    return result


def _count(codes: Int64, mask: NDArray[np.bool_], number: int) -> Int64:
    return np.bincount(codes[mask], minlength=number)


def _share(part: NDArray[np.generic], whole: NDArray[np.generic]) -> Float64:
    """Divide; NaN where the whole is 0."""
    divisor = whole.astype(np.float64)
    share: Float64 = np.divide(part.astype(np.float64), divisor, out=np.full(len(part), np.nan), where=divisor > 0)
    return share


def _extreme(which: np.ufunc, codes: Int64, value: Int64, number: int) -> Int64:
    start = np.iinfo(np.int64).max if which is np.minimum else 0
    result = np.full(number, start, dtype=np.int64)
    which.at(result, codes, value)
    return result


def _quantile(codes: Int64, value: Float64, share: float, number: int) -> Float64:
    """Return the quantile of each group: the value with that share of the others below it. NaN for an empty group."""
    order = np.lexsort((value, codes))
    count = np.bincount(codes, minlength=number)
    begin = np.cumsum(count) - count
    position = begin + np.rint(share * (count - 1)).astype(np.int64)
    result = np.full(number, np.nan)
    filled = count > 0
    result[filled] = value[order][position[filled]]
    return result


def _median_interval(codes: Int64, observed: Int64, number: int) -> Float64:
    """Return the median time from one reading to the next, minutes."""
    follows = np.flatnonzero((codes[1:] == codes[:-1]) & (observed[1:] > observed[:-1])) + 1
    return _quantile(codes[follows], (observed[follows] - observed[follows - 1]) / _MINUTE, 0.5, number)
