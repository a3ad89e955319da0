"""The ward: who its patients are, how they are when nothing happens, and the three tables of every batch."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from typing import Final

import numpy as np
import pandas as pd
import pyarrow as pa

from pipelines.sources import Batch
from pipelines.sources.simulated.deterioration import (
    DETERIORATIONS,
    DISTURBANCES,
    Course,
    FloatArray,
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


@dataclass(frozen=True, slots=True)
class Norm:
    """A signal in a resting adult of 60 on a ward; all in the signal's unit.

    Attributes:
        mean: between patients.
        between: standard deviation between patients.
        circadian: half the difference between afternoon and small hours.
        drift: standard deviation within a patient over hours.
        flutter: standard deviation within a patient over minutes.
        per_decade: change of the mean with ten years of age.
    """

    mean: float
    between: float
    circadian: float = 0.0
    drift: float = 0.0
    flutter: float = 0.0
    per_decade: float = 0.0


NORMS: Final = {
    "heart_rate": Norm(76, 8, 5, 3, 3, per_decade=-1),
    "respiratory_rate": Norm(16, 1.5, 0.8, 0.8, 1, per_decade=0.3),
    "spo2": Norm(96.5, 0.8, 0.3, 0.5, 0.5, per_decade=-0.25),
    "systolic_bp": Norm(125, 11, 6, 5, 4, per_decade=3),
    "diastolic_bp": Norm(73, 7, 4, 3, 3),
    "body_temperature": Norm(36.8, 0.2, 0.3, 0.2, 0.05, per_decade=-0.03),
    "glucose": Norm(112, 12, 0, 12, 3),
    # The expected ACVPU code: about one round in a hundred finds a well patient drowsy.
    "consciousness": Norm(0.01, 0),
}


@dataclass(frozen=True, slots=True)
class Condition:
    """A chronic condition: how common at 40 and 80 years, how it shifts the norm and scales the answer to illness."""

    name: str
    prevalence: tuple[float, float]
    shift: dict[str, float]
    response: dict[str, float] = field(default_factory=dict)


CONDITIONS: Final = (
    Condition("copd", (0.04, 0.18), {"spo2": -5, "respiratory_rate": 4, "heart_rate": 5}),
    Condition("heart_failure", (0.02, 0.16), {"respiratory_rate": 3, "heart_rate": 8, "systolic_bp": -12, "spo2": -1.5}),
    Condition("hypertension", (0.15, 0.55), {"systolic_bp": 16, "diastolic_bp": 8}),
    Condition("beta_blockade", (0.06, 0.32), {"heart_rate": -9, "systolic_bp": -5}, response={"heart_rate": 0.5}),
    Condition("athlete", (0.12, 0.03), {"heart_rate": -14, "respiratory_rate": -1.5}),
    Condition("low_pressure", (0.08, 0.05), {"systolic_bp": -16, "diastolic_bp": -8}),
    Condition("diabetes", (0.10, 0.28), {"glucose": 45}),
    Condition("dementia", (0.0, 0.14), {"consciousness": 0.45}),
)

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

ACTIVITY: Final = {"heart_rate": 18.0, "respiratory_rate": 4.0, "spo2": -0.7, "systolic_bp": 8.0}
BOUTS_PER_DAY, BOUT_MINUTES = 7.0, (4, 25)
WAKING_HOURS: Final = (7, 22)
MEAL_HOURS, MEAL_GLUCOSE = (8.0, 12.5, 18.5), 45.0  # mg/dL, an hour after the meal, in diabetes
OXYGEN_BELOW, OXYGEN_BELOW_COPD = 91.5, 87.5  # SpO2 at a round: lower ends of the usual targets, 92-96 and 88-92 %
OXYGEN_GAIN: Final = 3.0  # SpO2 while on oxygen
MESSAGES_PER_STAY: Final = len(SIGNAL_NAMES) * MESSAGES_PER_SIGNAL
FLOOR: Final = {
    "heart_rate": 35,
    "respiratory_rate": 6,
    "spo2": 60,
    "diastolic_bp": 25,
    "systolic_bp": 50,
    "glucose": 45,
}


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
    course = _undisturbed(age, conditions, minutes, start, rng)

    if rng.random() < DISTURBED_SHARE:
        disturb(course, choose(DISTURBANCES, names, rng), response, rng)
    onset, kind = None, None
    if rng.random() < EVENT_SHARE:
        event = choose(DETERIORATIONS, names, rng)
        until_onset = int(minutes - 60 * rng.uniform(*AFTER_ONSET_HOURS))
        deteriorate(course, event, until_onset, response, rng)
        onset, kind = start + until_onset * MINUTE, event.kind

    at_rounds = rounds(minutes, rng)
    _care(course, at_rounds, OXYGEN_BELOW_COPD if "copd" in names else OXYGEN_BELOW, rng)
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


def _undisturbed(age: float, conditions: Sequence[Condition], minutes: int, start: int, rng: np.random.Generator) -> Course:
    """The patient's own physiology when nothing happens: baseline, day and night, wandering, meals, getting up."""
    shift: dict[str, float] = {}
    for condition in conditions:
        for signal, change in condition.shift.items():
            shift[signal] = shift.get(signal, 0.0) + change * rng.uniform(0.5, 1.4)
    minute = np.arange(minutes)
    hour = (start // MINUTE + minute) % DAY_MINUTES / 60
    # Heart rate, pressure and temperature are highest in the afternoon.
    day_night = np.cos((hour - 16) * 2 * np.pi / 24)
    course = {}
    for signal, norm in NORMS.items():
        baseline = norm.mean + norm.per_decade * (age - 60) / 10 + norm.between * rng.standard_normal()
        course[signal] = (
            baseline
            + shift.get(signal, 0.0)
            + norm.circadian * rng.uniform(0.4, 1.6) * day_night
            + norm.drift * _wander(minutes, 180, rng)
            + norm.flutter * _wander(minutes, 8, rng)
        )
    active = np.zeros(minutes)
    for begin in rng.integers(0, minutes, rng.poisson(BOUTS_PER_DAY * minutes / DAY_MINUTES)):
        if WAKING_HOURS[0] <= hour[begin] < WAKING_HOURS[1]:
            active[begin : begin + rng.integers(*BOUT_MINUTES)] = rng.uniform(0.4, 1.3)
    for signal, change in ACTIVITY.items():
        course[signal] += change * active
    if "glucose" in shift:
        for meal in MEAL_HOURS:
            course["glucose"] += MEAL_GLUCOSE * np.interp((hour - meal) % 24, [0, 1, 3.5, 24], [0.0, 1.0, 0.0, 0.0])
    return course


def _wander(minutes: int, memory: float, rng: np.random.Generator) -> FloatArray:
    """Noise of unit variance whose autocorrelation falls to 1/e in ``memory`` minutes; shape (minutes,)."""
    knots_per_memory, length = 8, 32
    kernel = np.exp(-np.arange(length) / knots_per_memory)
    spacing = memory / knots_per_memory
    white = rng.standard_normal(int(minutes / spacing) + 1 + length)
    knots = np.convolve(white, kernel / np.linalg.norm(kernel), "valid")
    return np.interp(np.arange(minutes), spacing * np.arange(knots.size), knots)


def _care(course: Course, at_rounds: IntArray, oxygen_below: float, rng: np.random.Generator) -> None:
    """Close the course, in place: physiological limits, oxygen as the nurses give it, the state of consciousness."""
    minutes = course["spo2"].size
    for signal, low in FLOOR.items():
        course[signal] = np.maximum(course[signal], low)
    course["spo2"] = np.minimum(course["spo2"], 100)
    course["on_oxygen"] = np.zeros(minutes)
    given = False
    for begin, end in pairwise([*at_rounds, minutes]):
        seen = course["spo2"][max(begin - 15, 0) : begin + 1].mean() + rng.normal(0, 0.7)
        given = bool(seen < oxygen_below + (2.0 if given else 0.0))  # weaned only when well above
        course["on_oxygen"][begin:end] = given
    course["spo2"] = np.minimum(course["spo2"] + OXYGEN_GAIN * course["on_oxygen"], 100)
    course["consciousness"] = rng.binomial(4, np.clip(course["consciousness"], 0, 4) / 4).astype(float)
    course["diastolic_bp"] = np.minimum(course["diastolic_bp"], course["systolic_bp"] - 12)
    course["mean_bp"] = course["diastolic_bp"] + (course["systolic_bp"] - course["diastolic_bp"]) / 3


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
