"""Faults of readings as they happen in hospitals: what arrives instead of what was sent.

Strengths go from what one could just notice, looking for it (0), to what strikes everybody (1).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from features.derived import MEASUREMENT_ERROR
from features.signals import SIGNALS
from models.monitoring.signal_profile import UNIT_OF

Scope = Literal["gateway", "device", "pair"]
Mask = NDArray[np.bool_]
Apply = Callable[[pd.DataFrame, float, np.random.Generator], pd.DataFrame]


@dataclass(frozen=True)
class Injection:
    """How a fault of readings is put in.

    Attributes:
        scope: what it hits at once.
        signals: one of which it hits; empty: all of what it hits.
        apply: readings that are hit, and a strength, to what arrives instead; may hold fewer or more rows.
        along: signals that are hit with the chosen one.
    """

    scope: Scope
    signals: tuple[str, ...]
    apply: Apply
    along: tuple[str, ...] = ()


def _messages(rows: pd.DataFrame, strength: float, rng: np.random.Generator) -> Mask:
    """A share of the messages: one of several adapters does it. What a device measured at once goes one way."""
    moment = rows.groupby(["device_id", "observed_at"], observed=True).ngroup().to_numpy()
    hit: Mask = rng.random(moment.max(initial=-1) + 1)[moment] < 0.3 + 0.7 * strength
    return hit


def _in_unit(signal: str) -> Apply:
    unit = UNIT_OF[signal]

    def apply(rows: pd.DataFrame, strength: float, rng: np.random.Generator) -> pd.DataFrame:
        there = np.round(rows["value"] / unit.factor + unit.offset, 1)
        return rows.assign(value=np.where(_messages(rows, strength, rng), there, rows["value"]))

    return apply


def _swapped(rows: pd.DataFrame, strength: float, rng: np.random.Generator) -> pd.DataFrame:
    names = rows["signal"].astype(str)
    other = names.map({"systolic_bp": "diastolic_bp", "diastolic_bp": "systolic_bp"}).fillna(names)
    return rows.assign(signal=np.where(_messages(rows, strength, rng), other, names))


def _stuck(rows: pd.DataFrame, strength: float, rng: np.random.Generator) -> pd.DataFrame:
    """It moves now and then where the strength is low."""
    moves = rng.random(len(rows)) < 0.01 * (1 - strength)
    values = rows["value"].where(rows["value"] > 0).ffill().bfill()  # not at 0, which another fault is
    return rows.assign(value=values.where(moves | (np.arange(len(rows)) == 0)).ffill())


def _rounded(rows: pd.DataFrame, strength: float, rng: np.random.Generator) -> pd.DataFrame:
    del rng
    step = _COARSE[str(rows["signal"].iloc[0])][0 if strength < 0.5 else 1]
    return rows.assign(value=np.round(rows["value"] / step) * step)


def _zeros(rows: pd.DataFrame, strength: float, rng: np.random.Generator) -> pd.DataFrame:
    return rows.assign(value=np.where(rng.random(len(rows)) < 0.3 + 0.7 * strength, 0.0, rows["value"]))


def _unusable(rows: pd.DataFrame, strength: float, rng: np.random.Generator) -> pd.DataFrame:
    """A decimal point is lost: nobody has such values, in any unit."""
    return rows.assign(value=np.where(rng.random(len(rows)) < 0.6 + 0.4 * strength, 10 * rows["value"], rows["value"]))


def _skewed(rows: pd.DataFrame, strength: float, rng: np.random.Generator) -> pd.DataFrame:
    return _clock(rows, rng.choice([-1, 1]) * pd.Timedelta(minutes=5 + 25 * strength))


def _zone(rows: pd.DataFrame, strength: float, rng: np.random.Generator) -> pd.DataFrame:
    return _clock(rows, rng.choice([-1, 1]) * pd.Timedelta(hours=1 + round(7 * strength)))


def _clock(rows: pd.DataFrame, wrong: pd.Timedelta) -> pd.DataFrame:
    return rows.assign(observed_at=rows["observed_at"] + wrong)


def _seldom(rows: pd.DataFrame, strength: float, rng: np.random.Generator) -> pd.DataFrame:
    """Every n-th message only."""
    del rng
    every = 2 + round(4 * strength)
    return rows[rows.groupby(["subject_id", "signal"], observed=True).cumcount() % every == 0]


def _missing(rows: pd.DataFrame, strength: float, rng: np.random.Generator) -> pd.DataFrame:
    patients = rows["subject_id"].unique()
    off = rng.choice(patients, max(2, round((0.5 + 0.5 * strength) * len(patients))), replace=False)
    return rows[~rows["subject_id"].isin(off)]


def _exchanged(rows: pd.DataFrame, strength: float, rng: np.random.Generator) -> pd.DataFrame:
    """Identifiers stay where the system put them, bodies do not; until the next patient, who gets a device of his own."""
    del strength, rng
    device, subject = rows["device_id"].astype(str), rows["subject_id"].astype(str)
    owner = rows.assign(device_id=device).drop_duplicates("device_id").set_index("device_id")
    devices = sorted(owner.index)
    exchanged = rows.copy()
    for mine, other in (devices, devices[::-1]):
        here = (device == mine) & (subject == str(owner.loc[mine, "subject_id"]))
        exchanged["device_id"] = exchanged["device_id"].astype(object).mask(here, other)
        for column in ("subject_id", "source"):
            exchanged[column] = exchanged[column].astype(object).mask(here, str(owner.loc[other, column]))
    return exchanged


def _biased(rows: pd.DataFrame, strength: float, rng: np.random.Generator) -> pd.DataFrame:
    """By one and a half to four measurement errors: by one a device may be off, or it is none by its standard."""
    signal = str(rows["signal"].iloc[0])
    sign = -1.0 if signal == "spo2" else rng.choice([-1.0, 1.0])
    off = sign * MEASUREMENT_ERROR[signal] * (1.5 + 2.5 * strength)
    return rows.assign(value=_sayable(signal, rows["value"] + off))


def _noisy(rows: pd.DataFrame, strength: float, rng: np.random.Generator) -> pd.DataFrame:
    signal = str(rows["signal"].iloc[0])
    noise = rng.normal(0, MEASUREMENT_ERROR[signal] * (1 + 2 * strength), len(rows))
    return rows.assign(value=_sayable(signal, rows["value"] + noise))


def _sayable(signal: str, values: "pd.Series[float]") -> "pd.Series[float]":
    """A sensor that is wrong still says what it can say: no saturation over 100 %, and no more digits than before.

    Halves go up: to the even neighbour they would make coarse values of fine ones.
    """
    digit = 0.1 if signal == "body_temperature" else 1.0
    steps = np.floor(values.clip(upper=SIGNALS[signal].high) / digit + 0.5)
    return pd.Series(steps * digit, index=values.index).round(1)


def _twice(rows: pd.DataFrame, strength: float, rng: np.random.Generator) -> pd.DataFrame:
    again = rows[rng.random(len(rows)) < 0.05 + 0.75 * strength]
    return pd.concat([rows, again.assign(recorded_at=again["recorded_at"] + pd.Timedelta(seconds=30))], ignore_index=True)


def _held_back(rows: pd.DataFrame, strength: float, rng: np.random.Generator) -> pd.DataFrame:
    """Each reading waits until the connection is there again, every 15 to 60 minutes or so."""
    if rows.empty:
        return rows
    gap = pd.Timedelta(minutes=15 + 45 * strength).to_timedelta64().astype("timedelta64[us]").astype(np.int64)
    recorded = rows["recorded_at"].to_numpy("datetime64[us]").astype(np.int64)
    number = int((recorded.max() - recorded.min()) // gap) * 2 + 4
    there = recorded.min() + np.cumsum(rng.uniform(0.5, 1.5, number) * gap).astype(np.int64)
    sent = there[np.searchsorted(there, recorded)]
    return rows.assign(recorded_at=pd.DatetimeIndex(sent.astype("datetime64[us]"), tz="UTC"))


_COARSE: Final = {  # steps, the lesser and the greater
    "heart_rate": (5, 10), "respiratory_rate": (4, 5), "spo2": (2, 5), "systolic_bp": (10, 20), "body_temperature": (0.5, 1),
}  # fmt: skip
_WORN: Final = ("heart_rate", "respiratory_rate", "spo2")
_MEASURED: Final = (*_WORN, "systolic_bp", "body_temperature")
_PRESSURES: Final = ("diastolic_bp", "mean_bp")

OF_READINGS: Final[Mapping[str, Injection]] = {
    "fahrenheit": Injection("gateway", ("body_temperature",), _in_unit("body_temperature")),
    "millimole": Injection("gateway", ("glucose",), _in_unit("glucose")),
    "kilopascal": Injection("gateway", ("systolic_bp",), _in_unit("systolic_bp"), _PRESSURES),
    "swapped_pressures": Injection("gateway", ("systolic_bp",), _swapped, ("diastolic_bp",)),
    "stuck": Injection("device", _WORN, _stuck),
    "rounded": Injection("gateway", _MEASURED, _rounded),
    "zeros": Injection("device", _WORN, _zeros),
    "unusable": Injection("gateway", ("heart_rate", "spo2", "systolic_bp"), _unusable),
    "clock_skew": Injection("gateway", (), _skewed),
    "time_zone": Injection("gateway", (), _zone),
    "sampling": Injection("gateway", _WORN, _seldom),
    "missing": Injection("gateway", _MEASURED, _missing),
    "exchanged": Injection("pair", _WORN, _exchanged),
    "bias": Injection("gateway", _MEASURED, _biased),
    "noise": Injection("gateway", (*_WORN, "systolic_bp"), _noisy),
    "duplicates": Injection("gateway", (), _twice),
    "late": Injection("gateway", (), _held_back),
}
