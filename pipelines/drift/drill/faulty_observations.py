"""Faults of readings as they happen in hospitals: what arrives instead of what was sent.

Strength 0 can just be noticed by looking for it. Strength 1 is obvious.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vigil.features.derived import MEASUREMENT_ERROR
from vigil.features.signals import SIGNALS
from vigil.models.monitoring.signal_profile import UNIT_OF

Scope = Literal["gateway", "device", "pair"]
Mask = NDArray[np.bool_]
Apply = Callable[[pd.DataFrame, float, np.random.Generator], pd.DataFrame]


@dataclass(frozen=True)
class Injection:
    """How to put a fault of readings into a replay.

    Attributes:
        scope: the location it hits.
        signals: it hits one of them; empty: it hits all signals.
        apply: turns the readings it hits into what arrives instead, given a strength; may return fewer or more rows.
        along: signals that are hit together with the chosen one.
    """

    scope: Scope
    signals: tuple[str, ...]
    apply: Apply
    along: tuple[str, ...] = ()


def _draw_messages(rows: pd.DataFrame, strength: float, rng: np.random.Generator) -> Mask:
    """Draw a share of the messages, as if one of several adapters sent them. Values of one moment stay together."""
    moment = rows.groupby(["device_id", "observed_at"], observed=True).ngroup().to_numpy()
    hit: Mask = rng.random(moment.max(initial=-1) + 1)[moment] < 0.3 + 0.7 * strength
    return hit


def _convert(signal: str) -> Apply:
    """Return a function that converts a share of the messages to the signal's other unit."""
    unit = UNIT_OF[signal]

    def apply(rows: pd.DataFrame, strength: float, rng: np.random.Generator) -> pd.DataFrame:
        converted = np.round(rows["value"] / unit.factor + unit.offset, 1)
        return rows.assign(value=np.where(_draw_messages(rows, strength, rng), converted, rows["value"]))

    return apply


def _swap_pressures(rows: pd.DataFrame, strength: float, rng: np.random.Generator) -> pd.DataFrame:
    names = rows["signal"].astype(str)
    other = names.map({"systolic_bp": "diastolic_bp", "diastolic_bp": "systolic_bp"}).fillna(names)
    return rows.assign(signal=np.where(_draw_messages(rows, strength, rng), other, names))


def _stick(rows: pd.DataFrame, strength: float, rng: np.random.Generator) -> pd.DataFrame:
    """Repeat a value; it changes now and then where the strength is low."""
    moves = rng.random(len(rows)) < 0.01 * (1 - strength)
    values = rows["value"].where(rows["value"] > 0).ffill().bfill()  # not 0, which is another fault
    return rows.assign(value=values.where(moves | (np.arange(len(rows)) == 0)).ffill())


def _round(rows: pd.DataFrame, strength: float, rng: np.random.Generator) -> pd.DataFrame:
    del rng
    step = _COARSE[str(rows["signal"].iloc[0])][0 if strength < 0.5 else 1]
    return rows.assign(value=np.round(rows["value"] / step) * step)


def _zero(rows: pd.DataFrame, strength: float, rng: np.random.Generator) -> pd.DataFrame:
    return rows.assign(value=np.where(rng.random(len(rows)) < 0.3 + 0.7 * strength, 0.0, rows["value"]))


def _lose_decimal_point(rows: pd.DataFrame, strength: float, rng: np.random.Generator) -> pd.DataFrame:
    """Multiply values by ten: no patient has such values, in any unit."""
    return rows.assign(value=np.where(rng.random(len(rows)) < 0.6 + 0.4 * strength, 10 * rows["value"], rows["value"]))


def _skew_clock(rows: pd.DataFrame, strength: float, rng: np.random.Generator) -> pd.DataFrame:
    return _shift_clock(rows, rng.choice([-1, 1]) * pd.Timedelta(minutes=5 + 25 * strength))


def _change_zone(rows: pd.DataFrame, strength: float, rng: np.random.Generator) -> pd.DataFrame:
    return _shift_clock(rows, rng.choice([-1, 1]) * pd.Timedelta(hours=1 + round(7 * strength)))


def _shift_clock(rows: pd.DataFrame, error: pd.Timedelta) -> pd.DataFrame:
    return rows.assign(observed_at=rows["observed_at"] + error)


def _thin_out(rows: pd.DataFrame, strength: float, rng: np.random.Generator) -> pd.DataFrame:
    """Keep every n-th message only."""
    del rng
    every = 2 + round(4 * strength)
    return rows[rows.groupby(["subject_id", "signal"], observed=True).cumcount() % every == 0]


def _remove(rows: pd.DataFrame, strength: float, rng: np.random.Generator) -> pd.DataFrame:
    patients = rows["subject_id"].unique()
    off = rng.choice(patients, max(2, round((0.5 + 0.5 * strength) * len(patients))), replace=False)
    return rows[~rows["subject_id"].isin(off)]


def _swap_devices(rows: pd.DataFrame, strength: float, rng: np.random.Generator) -> pd.DataFrame:
    """Swap what two devices send, while the system still maps each device to its patient.

    The swap ends with the next patient, who gets a device of their own.
    """
    del strength, rng
    device, subject = rows["device_id"].astype(str), rows["subject_id"].astype(str)
    owner = rows.assign(device_id=device).drop_duplicates("device_id").set_index("device_id")
    devices = sorted(owner.index)
    swapped = rows.copy()
    for mine, other in (devices, devices[::-1]):
        worn = (device == mine) & (subject == str(owner.loc[mine, "subject_id"]))
        swapped["device_id"] = swapped["device_id"].astype(object).mask(worn, other)
        for column in ("subject_id", "source"):
            swapped[column] = swapped[column].astype(object).mask(worn, str(owner.loc[other, column]))
    return swapped


def _offset(rows: pd.DataFrame, strength: float, rng: np.random.Generator) -> pd.DataFrame:
    """Add one and a half to four measurement errors: the standard of a device allows it to be off by one."""
    signal = str(rows["signal"].iloc[0])
    sign = -1.0 if signal == "spo2" else rng.choice([-1.0, 1.0])
    offset = sign * MEASUREMENT_ERROR[signal] * (1.5 + 2.5 * strength)
    return rows.assign(value=_as_displayed(signal, rows["value"] + offset))


def _add_noise(rows: pd.DataFrame, strength: float, rng: np.random.Generator) -> pd.DataFrame:
    signal = str(rows["signal"].iloc[0])
    noise = rng.normal(0, MEASUREMENT_ERROR[signal] * (1 + 2 * strength), len(rows))
    return rows.assign(value=_as_displayed(signal, rows["value"] + noise))


def _as_displayed(signal: str, values: "pd.Series[float]") -> "pd.Series[float]":
    """Return values that a sensor can display: no saturation over 100 %, and no more digits than before.

    Halves are rounded up. Rounded to even they would turn fine values into coarse ones.
    """
    digit = 0.1 if signal == "body_temperature" else 1.0
    steps = np.floor(values.clip(upper=SIGNALS[signal].high) / digit + 0.5)
    return pd.Series(steps * digit, index=values.index).round(1)


def _repeat(rows: pd.DataFrame, strength: float, rng: np.random.Generator) -> pd.DataFrame:
    again = rows[rng.random(len(rows)) < 0.05 + 0.75 * strength]
    return pd.concat([rows, again.assign(recorded_at=again["recorded_at"] + pd.Timedelta(seconds=30))], ignore_index=True)


def _hold_back(rows: pd.DataFrame, strength: float, rng: np.random.Generator) -> pd.DataFrame:
    """Let each reading wait until the connection returns, about every 15 to 60 minutes."""
    if rows.empty:
        return rows
    gap = pd.Timedelta(minutes=15 + 45 * strength).to_timedelta64().astype("timedelta64[us]").astype(np.int64)
    recorded = rows["recorded_at"].to_numpy("datetime64[us]").astype(np.int64)
    number = int((recorded.max() - recorded.min()) // gap) * 2 + 4
    connected = recorded.min() + np.cumsum(rng.uniform(0.5, 1.5, number) * gap).astype(np.int64)
    sent = connected[np.searchsorted(connected, recorded)]
    return rows.assign(recorded_at=pd.DatetimeIndex(sent.astype("datetime64[us]"), tz="UTC"))


_COARSE: Final = {  # steps: the smaller and the larger
    "heart_rate": (5, 10), "respiratory_rate": (4, 5), "spo2": (2, 5), "systolic_bp": (10, 20), "body_temperature": (0.5, 1),
}  # fmt: skip
_WORN: Final = ("heart_rate", "respiratory_rate", "spo2")
_MEASURED: Final = (*_WORN, "systolic_bp", "body_temperature")
_PRESSURES: Final = ("diastolic_bp", "mean_bp")

READING_FAULTS: Final[Mapping[str, Injection]] = {
    "fahrenheit": Injection("gateway", ("body_temperature",), _convert("body_temperature")),
    "millimole": Injection("gateway", ("glucose",), _convert("glucose")),
    "kilopascal": Injection("gateway", ("systolic_bp",), _convert("systolic_bp"), _PRESSURES),
    "swapped_pressures": Injection("gateway", ("systolic_bp",), _swap_pressures, ("diastolic_bp",)),
    "stuck": Injection("device", _WORN, _stick),
    "rounded": Injection("gateway", _MEASURED, _round),
    "zeros": Injection("device", _WORN, _zero),
    "unusable": Injection("gateway", ("heart_rate", "spo2", "systolic_bp"), _lose_decimal_point),
    "clock_skew": Injection("gateway", (), _skew_clock),
    "time_zone": Injection("gateway", (), _change_zone),
    "sampling": Injection("gateway", _WORN, _thin_out),
    "missing": Injection("gateway", _MEASURED, _remove),
    "exchanged": Injection("pair", _WORN, _swap_devices),
    "bias": Injection("gateway", _MEASURED, _offset),
    "noise": Injection("gateway", (*_WORN, "systolic_bp"), _add_noise),
    "duplicates": Injection("gateway", (), _repeat),
    "late": Injection("gateway", (), _hold_back),
}
