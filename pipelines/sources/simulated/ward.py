"""The ward: who its patients are, how long they stay, and the three tables of every batch."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import numpy as np
import pandas as pd
import pyarrow as pa

from pipelines.sources import Batch
from pipelines.sources.simulated.deterioration import (
    DETERIORATIONS,
    DISTURBANCES,
    choose,
    deteriorate,
    disturb,
)
from pipelines.sources.simulated.devices import (
    CGM,
    CHART,
    CUFF,
    DAY_MINUTES,
    DEVICES,
    MESSAGES_PER_SIGNAL,
    MINUTE,
    PATCH,
    SECOND,
    SIGNAL_NAMES,
    THERMOMETER,
    WEARABLE,
    IntArray,
    Readings,
    observe,
    rounds,
)
from pipelines.sources.simulated.physiology import CONDITIONS, OXYGEN_BELOW, OXYGEN_BELOW_COPD, care, undisturbed

FIRST_DAY: Final = datetime(2026, 1, 1, tzinfo=UTC)
ADMISSION_DAYS: Final = 42  # stays start within six weeks
# Length of stay: a least one and a memoryless rest, cut off without heaping, the same for stays with and without an
# event: time in the unit says nothing of what is to come. The middle half lies between one and a half and five days.
SHORTEST_HOURS, MEAN_FURTHER_HOURS, LONGEST_HOURS = 14.0, 72.0, 240.0
EVENT_SHARE: Final = 0.23
AFTER_ONSET_HOURS: Final = (1.5, 2.5)  # until the transfer to intensive care
DISTURBED_SHARE: Final = 1 / 3  # pass through something harmless; the chronically ill come on top
PATCH_SHARE: Final = 0.25
UNITS: Final = ("medicine", "surgery", "cardiology", "geriatrics")  # each with a gateway of its own

MESSAGES_PER_STAY: Final = len(SIGNAL_NAMES) * MESSAGES_PER_SIGNAL


@dataclass(frozen=True, slots=True)
class Stay:
    """One patient's stay. Times in microseconds since 1970; ``onset`` and ``kind`` are None without an event."""

    number: int
    age: float
    sex: float
    unit: int
    hospital_admitted: int
    start: int
    end: int
    onset: int | None
    kind: str | None
    readings: Readings


class SimulatedWard:
    """A ward of monitored patients, the same for the same seed."""

    name = "simulated"
    simulated = True
    deidentified = True
    task = "deterioration"

    def __init__(self, patients: int = 600, seed: int = 20260101, patients_per_batch: int = 100) -> None:
        """Describe the ward; nothing is simulated until :meth:`batches`.

        Raises:
            ValueError: a number of patients below 1, or a seed below 0.
        """
        for name, number, least in (
            ("patients", patients, 1),
            ("patients_per_batch", patients_per_batch, 1),
            ("seed", seed, 0),
        ):
            if number < least:
                raise ValueError(f"{name}={number}: expected at least {least}")
        self.patients = patients
        self.seed = seed
        self.patients_per_batch = patients_per_batch

    def __len__(self) -> int:
        return math.ceil(self.patients / self.patients_per_batch)

    def batches(self) -> Iterator[Batch]:
        """The ward in parts. A patient depends on the seed and the patient's number only, not on the other patients."""
        for first in range(0, self.patients, self.patients_per_batch):
            last = min(first + self.patients_per_batch, self.patients)
            yield _batch([simulate_stay(self.seed, number) for number in range(first, last)])


def simulate_stay(seed: int, number: int) -> Stay:
    """One patient, from admission to the last message."""
    rng = np.random.default_rng([seed, number])
    age = float(np.clip(np.round(rng.normal(64, 16)), 18, 98))
    conditions = [c for c in CONDITIONS if rng.random() < np.interp(age, [40, 80], c.prevalence)]
    names = frozenset(condition.name for condition in conditions)
    response = {signal: factor for condition in conditions for signal, factor in condition.response.items()}

    minutes = int(60 * (SHORTEST_HOURS + rng.exponential(MEAN_FURTHER_HOURS) % (LONGEST_HOURS - SHORTEST_HOURS)))
    start = int(FIRST_DAY.timestamp()) * SECOND + int(rng.integers(ADMISSION_DAYS * DAY_MINUTES)) * MINUTE
    course = undisturbed(age, conditions, minutes, start, rng)

    if rng.random() < DISTURBED_SHARE:
        disturb(course, choose(DISTURBANCES, names, rng), response, rng)
    onset, kind = None, None
    if rng.random() < EVENT_SHARE:
        event = choose(DETERIORATIONS, names, rng)
        until_onset = int(minutes - 60 * rng.uniform(*AFTER_ONSET_HOURS))
        deteriorate(course, event, until_onset, response, rng)
        onset, kind = start + until_onset * MINUTE, event.kind

    at_rounds = rounds(minutes, rng)
    care(course, at_rounds, OXYGEN_BELOW_COPD if "copd" in names else OXYGEN_BELOW, rng)
    temperature = PATCH if rng.random() < PATCH_SHARE else THERMOMETER
    devices = (WEARABLE, CUFF, temperature, CHART, *((CGM,) if "diabetes" in names else ()))
    return Stay(
        number=number,
        age=age,
        sex=float(rng.integers(2)),
        unit=int(rng.integers(len(UNITS))),
        hospital_admitted=start - int(60 * rng.uniform(1, 30)) * MINUTE,
        start=start,
        end=start + minutes * MINUTE,
        onset=onset,
        kind=kind,
        readings=observe(course, devices, start, at_rounds, rng),
    )


def _batch(stays: Sequence[Stay]) -> Batch:
    subjects = pd.array([f"sim-{stay.number:06d}" for stay in stays], dtype="string[pyarrow]")
    return Batch(
        observations=_observations(stays, subjects),
        stays=pd.DataFrame(
            {
                "subject_id": subjects,
                "start": _times([stay.start for stay in stays]),
                "end": _times([stay.end for stay in stays]),
                "unit_admitted_at": _times([stay.start for stay in stays]),
                "hospital_admitted_at": _times([stay.hospital_admitted for stay in stays]),
                "age": [stay.age for stay in stays],
                "sex": [stay.sex for stay in stays],
                "site": "simulated",
                "unit": [UNITS[stay.unit] for stay in stays],
            }
        ).astype({"site": "string[pyarrow]", "unit": "string[pyarrow]"}),
        outcomes=pd.DataFrame(
            {
                "subject_id": subjects[[stay.onset is not None for stay in stays]],
                "onset": _times([stay.onset for stay in stays if stay.onset is not None]),
                "kind": pd.array([stay.kind for stay in stays if stay.kind is not None], dtype="string[pyarrow]"),
                "onset_known": True,
            }
        ),
    )


def _observations(stays: Sequence[Stay], subjects: pd.api.extensions.ExtensionArray) -> pd.DataFrame:
    """All readings of a batch in the order in which the gateways deliver them."""
    readings = Readings.concatenate([stay.readings for stay in stays])
    row = np.repeat(np.arange(len(stays)), [stay.readings.message.size for stay in stays])
    device_ids = [f"{device.kind}-{stay.number:06d}" for stay in stays for device in DEVICES]
    gateways = [f"gateway-{unit + 1}" for unit in range(len(UNITS))]
    number = np.array([stay.number for stay in stays])
    unit = np.array([stay.unit for stay in stays])
    message = pa.array(number[row] * MESSAGES_PER_STAY + readings.message).cast(pa.large_string())
    frame = pd.DataFrame(
        {
            "subject_id": subjects.take(row),
            "observed_at": _times(readings.observed),
            "signal": pd.Categorical.from_codes(readings.signal, pd.Index(SIGNAL_NAMES)),
            "value": readings.value,
            "recorded_at": _times(readings.recorded),
            "device_id": pd.Categorical.from_codes(row * len(DEVICES) + readings.device, pd.Index(device_ids)),
            "source": pd.Categorical.from_codes(unit[row], pd.Index(gateways)),
            "message_id": pd.arrays.ArrowStringArray(pa.chunked_array([message])),
        }
    )
    return frame.iloc[np.argsort(readings.recorded, kind="stable")].reset_index(drop=True)


def _times(microseconds: Sequence[int] | IntArray) -> pd.DatetimeIndex:
    """Microseconds since 1970 as instants in UTC."""
    return pd.DatetimeIndex(np.asarray(microseconds, dtype="datetime64[us]"), tz="UTC")
