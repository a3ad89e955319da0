"""Physiology of a simulated patient without an event: norms, chronic conditions, day and night, meals, and nursing care."""

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

import numpy as np

from vigil.pipelines.sources.simulated.deterioration import Course, FloatArray
from vigil.pipelines.sources.simulated.devices import DAY_MINUTES, MINUTE, IntArray


@dataclass(frozen=True, slots=True)
class Norm:
    """The distribution of a signal in resting adults of 60 on a ward, in the signal's unit.

    Attributes:
        mean: over patients.
        between: standard deviation between patients.
        circadian: half the difference between the afternoon and the early morning.
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
    # The expected ACVPU code: in about one round in a hundred a well patient is drowsy.
    "consciousness": Norm(0.01, 0),
}


@dataclass(frozen=True, slots=True)
class Condition:
    """A chronic condition.

    Attributes:
        name: of the condition.
        prevalence: at 40 and at 80 years of age.
        shift: change of each signal's norm.
        response: factor on each signal's change in illness (1 where absent).
    """

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


@dataclass(frozen=True, slots=True)
class Patient:
    """A patient, with what is the same in all of their stays.

    Attributes:
        age: years.
        sex: 0 female, 1 male.
        conditions: names of the chronic conditions.
        response: factor on each signal's change in illness (1 where absent).
        level: the patient's own mean of each signal, in its unit.
        swing: half the difference of each signal between the patient's afternoon and early morning.
    """

    age: float
    sex: float
    conditions: frozenset[str]
    response: dict[str, float]
    level: dict[str, float]
    swing: dict[str, float]


ACTIVITY: Final = {"heart_rate": 18.0, "respiratory_rate": 4.0, "spo2": -0.7, "systolic_bp": 8.0}
BOUTS_PER_DAY, BOUT_MINUTES = 7.0, (4, 25)
WAKING_HOURS: Final = (7, 22)
MEAL_HOURS, MEAL_GLUCOSE = (8.0, 12.5, 18.5), 45.0  # mg/dL, an hour after the meal, in diabetes
OXYGEN_BELOW, OXYGEN_BELOW_COPD = 91.5, 87.5  # SpO2 at a round; lower limits of the usual targets, 92-96 and 88-92 %
OXYGEN_GAIN: Final = 3.0  # of SpO2 while on oxygen
LOWER_LIMITS: Final = {
    "heart_rate": 35,
    "respiratory_rate": 6,
    "spo2": 60,
    "diastolic_bp": 25,
    "systolic_bp": 50,
    "glucose": 45,
}


def draw_patient(rng: np.random.Generator) -> Patient:
    """Draw an adult patient of a medical ward: age, sex, chronic conditions, and own levels."""
    age = float(np.clip(np.round(rng.normal(64, 16)), 18, 98))
    conditions = [c for c in CONDITIONS if rng.random() < np.interp(age, [40, 80], c.prevalence)]
    level = {name: norm.mean + norm.per_decade * (age - 60) / 10 + norm.between * rng.normal() for name, norm in NORMS.items()}
    for condition in conditions:
        for signal, change in condition.shift.items():
            level[signal] += change * rng.uniform(0.5, 1.4)
    return Patient(
        age=age,
        sex=float(rng.integers(2)),
        conditions=frozenset(condition.name for condition in conditions),
        response={signal: factor for condition in conditions for signal, factor in condition.response.items()},
        level=level,
        swing={name: norm.circadian * rng.uniform(0.4, 1.6) for name, norm in NORMS.items()},
    )


def simulate_baseline(patient: Patient, minutes: int, start: int, rng: np.random.Generator) -> Course:
    """Simulate the patient's physiology without an event: own levels, day and night, slow variation, meals, activity.

    Args:
        patient: as drawn.
        minutes: length of the course.
        start: of the stay, in microseconds since 1970.
        rng: the stay's own generator.
    """
    minute = np.arange(minutes)
    hour = (start // MINUTE + minute) % DAY_MINUTES / 60
    # Heart rate, blood pressure and temperature are highest in the afternoon.
    day_night = np.cos((hour - 16) * 2 * np.pi / 24)
    course = {
        signal: patient.level[signal]
        + patient.swing[signal] * day_night
        + norm.drift * _smooth_noise(minutes, 180, rng)
        + norm.flutter * _smooth_noise(minutes, 8, rng)
        for signal, norm in NORMS.items()
    }
    active = np.zeros(minutes)
    for begin in rng.integers(0, minutes, rng.poisson(BOUTS_PER_DAY * minutes / DAY_MINUTES)):
        if WAKING_HOURS[0] <= hour[begin] < WAKING_HOURS[1]:
            active[begin : begin + rng.integers(*BOUT_MINUTES)] = rng.uniform(0.4, 1.3)
    for signal, change in ACTIVITY.items():
        course[signal] += change * active
    if "diabetes" in patient.conditions:
        for meal in MEAL_HOURS:
            course["glucose"] += MEAL_GLUCOSE * np.interp((hour - meal) % 24, [0, 1, 3.5, 24], [0.0, 1.0, 0.0, 0.0])
    return course


def _smooth_noise(minutes: int, memory: float, rng: np.random.Generator) -> FloatArray:
    """Return noise of unit variance with an autocorrelation that falls to 1/e in ``memory`` minutes; shape (minutes,)."""
    knots_per_memory, length = 8, 32
    kernel = np.exp(-np.arange(length) / knots_per_memory)
    spacing = memory / knots_per_memory
    white = rng.standard_normal(int(minutes / spacing) + 1 + length)
    knots = np.convolve(white, kernel / np.linalg.norm(kernel), "valid")
    return np.interp(np.arange(minutes), spacing * np.arange(knots.size), knots)


def complete_course(course: Course, at_rounds: IntArray, patient: Patient, rng: np.random.Generator) -> None:
    """Complete the course, in place, with physiological limits, oxygen given by nurses, and the state of consciousness."""
    oxygen_below = OXYGEN_BELOW_COPD if "copd" in patient.conditions else OXYGEN_BELOW
    minutes = course["spo2"].size
    for signal, low in LOWER_LIMITS.items():
        course[signal] = np.maximum(course[signal], low)
    course["spo2"] = np.minimum(course["spo2"], 100)
    course["on_oxygen"] = np.zeros(minutes)
    on_oxygen = False
    for begin, end in pairwise([*at_rounds, minutes]):
        seen = course["spo2"][max(begin - 15, 0) : begin + 1].mean() + rng.normal(0, 0.7)
        on_oxygen = bool(seen < oxygen_below + (2.0 if on_oxygen else 0.0))  # stopped only when SpO2 is well above the limit
        course["on_oxygen"][begin:end] = on_oxygen
    course["spo2"] = np.minimum(course["spo2"] + OXYGEN_GAIN * course["on_oxygen"], 100)
    course["consciousness"] = rng.binomial(4, np.clip(course["consciousness"], 0, 4) / 4).astype(float)
    course["diastolic_bp"] = np.minimum(course["diastolic_bp"], course["systolic_bp"] - 12)
    course["mean_bp"] = course["diastolic_bp"] + (course["systolic_bp"] - course["diastolic_bp"]) / 3
