"""Injection: put a fault into a replay without faults, to measure how well drift detection works."""

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import pandas as pd

from vigil.features.derived import MEASUREMENT_ERROR
from vigil.models.monitoring.faults import FAULTS
from vigil.pipelines.drift.drill.faulty_observations import READING_FAULTS, Injection
from vigil.pipelines.drift.drill.faulty_patients import PATIENT_FAULTS, FaultError
from vigil.pipelines.drift.drill.replay import Replay

_DAY: Final = pd.Timedelta(days=1)
_LEAST: Final = 6  # readings of a patient, over at least the next: with fewer in a day, a fault cannot show within the day
_LEAST_TIME: Final = pd.Timedelta(hours=6)
_LEAST_PATIENTS: Final = 3  # of a gateway, or it cannot be told from its devices
# Two patients who cannot be told apart are not told apart. So patients with swapped devices differ at strength 0 by the first
# number of measurement errors (features.derived; over the signals as in a Euclidean distance), at strength 1 by the second.
APART: Final = (3.0, 7.0)
_NEAREST: Final = 5  # pairs, one of which is drawn
_WORN_FOR: Final = pd.Timedelta(hours=3)  # before and after a swap: a patient who has just come is not known yet


@dataclass(frozen=True)
class Hit:
    """What a fault hit.

    Attributes:
        fault: its name.
        signal: the signal it hit; None: all, or none in particular.
        where: a gateway or a device, or two devices; empty: the ward.
        since: when it began.
    """

    fault: str
    signal: str | None
    where: tuple[str, ...]
    since: pd.Timestamp


def inject(
    replay: Replay, name: str, *, since: pd.Timestamp, strength: float, seed: int, where: tuple[str, ...] = ()
) -> tuple[Replay, Hit]:
    """Put a fault into a replay from a time on, and return the replay, in order of arrival, with what was hit.

    The same seed gives the same result.

    Args:
        replay: of a ward.
        name: a key of :data:`vigil.models.monitoring.faults.FAULTS`.
        since: readings observed before stay as they are.
        strength: 0 (hardly) to 1 (grossly).
        seed: of the location, the signal and all draws.
        where: gateway or devices; default: drawn from those that deliver the signal.

    Raises:
        FaultError: there is no such fault, or nothing to hit.
    """
    if name not in FAULTS:
        raise FaultError(f"fault {name}: no such fault; expected one of {', '.join(FAULTS)}")
    if not 0 <= strength <= 1:
        raise FaultError(f"strength {strength}: expected 0 (hardly) to 1 (grossly)")
    rng = np.random.default_rng([seed, list(FAULTS).index(name)])
    if name in READING_FAULTS:
        readings, hit = _inject_into_readings(replay.readings, name, since, strength, rng, where)
        return replace(replay, readings=readings), hit
    if where:
        raise FaultError(f"fault {name}: hits the ward as a whole; leave the location out")
    return PATIENT_FAULTS[name](replay, since, strength, rng), Hit(name, None, (), since)


def _inject_into_readings(
    readings: pd.DataFrame,
    name: str,
    since: pd.Timestamp,
    strength: float,
    rng: np.random.Generator,
    where: tuple[str, ...],
) -> tuple[pd.DataFrame, Hit]:
    """Choose a location and a signal, and replace the readings there."""
    fault = READING_FAULTS[name]
    late = (readings["observed_at"] >= since).to_numpy()
    if fault.scope == "pair":
        signal, where = None, where or _choose_pair(readings, name, fault, since, strength, rng)
        if len(where) != 2:
            raise FaultError(f"fault {name}: {len(where)} devices; expected two")
    else:
        signal, where = _choose_location(readings[late], name, fault, where, rng)
    hit = late & readings[_location_column(fault)].isin(where).to_numpy()
    # A swapped device takes all its signals with it.
    if fault.scope != "pair" and (wanted := [*([signal] if signal else fault.signals), *fault.along]):
        hit &= readings["signal"].isin(wanted).to_numpy()
    if not hit.any():
        raise FaultError(f"fault {name}: {' and '.join(where)} delivers nothing since then; expected readings to hit")
    changed = fault.apply(readings[hit].reset_index(drop=True), strength, rng)
    merged = pd.concat([readings[~hit], changed], ignore_index=True)
    order = np.argsort(merged["recorded_at"].to_numpy("datetime64[us]"), kind="stable")
    return merged.iloc[order].reset_index(drop=True), Hit(name, signal, where, since)


def _location_column(fault: Injection) -> str:
    return "source" if fault.scope == "gateway" else "device_id"


def _choose_location(
    late: pd.DataFrame, name: str, fault: Injection, where: tuple[str, ...], rng: np.random.Generator
) -> tuple[str | None, tuple[str, ...]]:
    """Draw a signal and a location, from those with enough readings in a day for the fault to show."""
    column = _location_column(fault)
    if where:
        late = late[late[column].isin(where)]
    day = late[late["observed_at"] < late["observed_at"].min() + _DAY]
    needed = _LEAST_PATIENTS if fault.scope == "gateway" else 1
    choices = []
    for signal in fault.signals or [None]:
        rows = day if signal is None else day[day["signal"] == signal]
        by_patient = rows.groupby([column, "subject_id"], observed=True)["observed_at"].agg(["count", "min", "max"])
        enough = (by_patient["count"] >= _LEAST) & (by_patient["max"] - by_patient["min"] >= _LEAST_TIME)
        patients = enough.groupby(level=0, observed=True).sum()
        if locations := sorted(str(location) for location in patients.index[patients >= needed]):
            choices.append((signal, locations))
    if not choices:
        raise FaultError(
            f"fault {name}: no {fault.scope} delivers {' or '.join(fault.signals) or 'readings'} of "
            f"{needed} patients often enough in the day since then; expected one to hit; choose another time"
        )
    signal, locations = choices[rng.integers(len(choices))]
    return signal, where or (str(rng.choice(locations)),)


def _choose_pair(
    readings: pd.DataFrame,
    name: str,
    fault: Injection,
    since: pd.Timestamp,
    strength: float,
    rng: np.random.Generator,
) -> tuple[str, ...]:
    """Draw two devices that each were worn before and after, from the pairs nearest to the distance of :data:`APART`."""
    rows = readings[readings["signal"].isin(fault.signals).to_numpy()]
    age = rows["observed_at"] - since
    before = rows[((age >= -_WORN_FOR) & (age < pd.Timedelta(0))).to_numpy()]
    after = rows[((age >= pd.Timedelta(0)) & (age < _WORN_FOR)).to_numpy()]
    count = [part.groupby("device_id", observed=True)["observed_at"].nunique() for part in (before, after)]
    worn = sorted(str(device) for device in count[0].index if min(count[0][device], count[1].get(device, 0)) >= _LEAST)
    level = before.pivot_table(index="device_id", columns="signal", values="value", aggfunc="median", observed=True)
    level.index = level.index.astype(str)
    level.columns = level.columns.astype(str)
    in_errors = level.reindex(worn) / pd.Series(MEASUREMENT_ERROR).reindex(level.columns)
    values = in_errors.dropna(how="all", axis=1).dropna()
    if len(values) < 2:
        raise FaultError(
            f"fault {name}: {len(values)} devices deliver {', '.join(fault.signals)} for three hours before and after; "
            "expected two; choose another time"
        )
    first, second = np.triu_indices(len(values), 1)
    apart = np.linalg.norm(values.to_numpy()[first] - values.to_numpy()[second], axis=1)
    wanted = APART[0] + (APART[1] - APART[0]) * strength
    if apart.max() < APART[0]:
        raise FaultError(
            f"fault {name}: no two patients differ by {APART[0]:g} measurement errors; expected two who can be told apart; "
            "choose another time"
        )
    distance = np.where(apart < APART[0], np.inf, np.abs(apart - wanted))
    nearest = np.argsort(distance, kind="stable")[: min(_NEAREST, int(np.isfinite(distance).sum()))]
    chosen = rng.choice(nearest)
    return tuple(sorted((str(values.index[first[chosen]]), str(values.index[second[chosen]]))))


__all__ = ["APART", "PATIENT_FAULTS", "READING_FAULTS", "FaultError", "Hit", "inject"]
