"""One stay of a simulated patient, from admission to the last message."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from vigil.pipelines.sources.simulated.admissions import (
    DAYS_BEFORE,
    FROM_ANOTHER_UNIT_SHARE,
    HOURS_UNMONITORED,
    ILL_ON_ARRIVAL_SHARE,
    LONGEST_HOURS,
    MOVES_AFTER,
    MOVES_SHARE,
    Illness,
    Monitoring,
    choose_monitoring,
    draw_illness,
)
from vigil.pipelines.sources.simulated.deterioration import DETERIORATIONS, DISTURBANCES, Course, choose, deteriorate, disturb
from vigil.pipelines.sources.simulated.devices import (
    CGM,
    CHART,
    CUFF,
    DAY_MINUTES,
    MINUTE,
    PATCH,
    THERMOMETER,
    WEARABLE,
    Readings,
    draw_rounds,
    observe,
)
from vigil.pipelines.sources.simulated.physiology import Patient, complete_course, simulate_baseline

# A stay has a minimum length and an exponential remainder, cut off without heaping. The distribution is the same with and
# without an event, so the time in the unit does not predict one. The middle half lies between one and a half and five days.
# Patients who are ill on arrival have such stays only without an event; with one, the stay ends after it.
SHORTEST_HOURS, MEAN_FURTHER_HOURS = 14.0, 72.0
EVENT_SHARE: Final = 0.19  # of patients who are well on arrival; with those who are ill about a quarter of all
AFTER_ONSET_HOURS: Final = (1.5, 2.5)  # until the transfer to intensive care
DISTURBED_SHARE: Final = 1 / 3  # of stays have a harmless disturbance, in addition to chronic conditions
PATCH_SHARE: Final = 0.25
UNITS: Final = ("medicine", "surgery", "cardiology", "geriatrics")  # each with its own gateway


@dataclass(frozen=True, slots=True)
class Stay:
    """One stay of a patient. Times are in microseconds since 1970.

    Attributes:
        subject: its identifier.
        serial: its number among all stays of the ward. Two numbers are reserved for each patient.
        patient: the patient.
        monitoring: how the patient is monitored.
        illness: the illness on arrival, or None if the patient was well.
        unit: index into :data:`UNITS` of the unit in which monitoring began.
        moved: when the patient moved to another unit, and its index, or None if they did not.
        unit_admitted, hospital_admitted, start, end: as in the source contract.
        onset, kind: of the event, or None without one.
        readings: all readings that were delivered.
    """

    subject: str
    serial: int
    patient: Patient
    monitoring: Monitoring
    illness: Illness | None
    unit: int
    moved: tuple[int, int] | None
    unit_admitted: int
    hospital_admitted: int
    start: int
    end: int
    onset: int | None
    kind: str | None
    readings: Readings


def simulate_stay(
    subject: str,
    serial: int,
    patient: Patient,
    start: int,
    rng: np.random.Generator,
    *,
    longest_hours: float = LONGEST_HOURS,
) -> Stay:
    """Simulate one stay.

    Args:
        subject, serial, patient, start: as in :class:`Stay`.
        rng: the stay's own generator.
        longest_hours: of the stay, unless the way of monitoring allows less.
    """
    monitoring = choose_monitoring(serial)
    illness = draw_illness(patient.conditions, rng) if rng.random() < ILL_ON_ARRIVAL_SHARE else None
    longest_further = min(longest_hours, monitoring.longest_hours) - SHORTEST_HOURS
    minutes = int(60 * (SHORTEST_HOURS + rng.exponential(MEAN_FURTHER_HOURS) % longest_further))
    after_onset = int(60 * rng.uniform(*AFTER_ONSET_HOURS))
    if illness is not None and illness.treated_from is None:
        minutes = illness.onset + after_onset
    course = simulate_baseline(patient, minutes, start, rng)
    if rng.random() < DISTURBED_SHARE:
        disturb(course, choose(DISTURBANCES, patient.conditions, rng), patient.response, rng)
    kind = _add_event(course, patient, illness, minutes - after_onset, rng)
    unit, moved, unit_admitted, hospital_admitted = _draw_transfers(start, minutes, rng)
    return Stay(
        subject=subject,
        serial=serial,
        patient=patient,
        monitoring=monitoring,
        illness=illness,
        unit=unit,
        moved=moved,
        unit_admitted=unit_admitted,
        hospital_admitted=hospital_admitted,
        start=start,
        end=start + minutes * MINUTE,
        onset=None if kind is None else start + (minutes - after_onset) * MINUTE,
        kind=kind,
        readings=_monitor(course, patient, monitoring, start, rng),
    )


def _add_event(course: Course, patient: Patient, illness: Illness | None, onset: int, rng: np.random.Generator) -> str | None:
    """Add the patient's deterioration to the course, in place, and return the kind of the event, or None without one."""
    if illness is not None:
        illness.add_to(course, patient, rng)
        return illness.event.kind if illness.treated_from is None else None
    if rng.random() >= EVENT_SHARE:
        return None
    event = choose(DETERIORATIONS, patient.conditions, rng)
    deteriorate(course, event, onset, patient.response, rng)
    return event.kind


def _draw_transfers(start: int, minutes: int, rng: np.random.Generator) -> tuple[int, tuple[int, int] | None, int, int]:
    """Draw the first unit, the move to another (or None), and the times of admission to the unit and the hospital."""
    unit = int(rng.integers(len(UNITS)))
    moved = None
    if rng.random() < MOVES_SHARE:
        next_unit = (unit + int(rng.integers(1, len(UNITS)))) % len(UNITS)
        moved = (start + int(minutes * rng.uniform(*MOVES_AFTER)) * MINUTE, next_unit)
    if rng.random() < FROM_ANOTHER_UNIT_SHARE:
        unit_admitted = start - int(60 * rng.uniform(*HOURS_UNMONITORED)) * MINUTE
        return unit, moved, unit_admitted, unit_admitted - int(DAY_MINUTES * rng.uniform(*DAYS_BEFORE)) * MINUTE
    return unit, moved, start, start - int(60 * rng.uniform(1, 30)) * MINUTE


def _monitor(course: Course, patient: Patient, monitoring: Monitoring, start: int, rng: np.random.Generator) -> Readings:
    """Add nursing care to the course, in place, and return the readings of the devices."""
    minutes = course["heart_rate"].size
    at_rounds = draw_rounds(minutes, int(rng.choice(monitoring.every_hours)), rng)
    complete_course(course, at_rounds, patient, rng)
    temperature = PATCH if rng.random() < PATCH_SHARE else THERMOMETER
    devices = (WEARABLE, CUFF, temperature, CHART, *((CGM,) if "diabetes" in patient.conditions else ()))
    worn_from = minutes if monitoring.worn_after is None else int(60 * rng.uniform(*monitoring.worn_after))
    return observe(course, devices, start, at_rounds[: monitoring.sets], rng, worn_from=worn_from)
