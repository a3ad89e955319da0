"""One stay of a simulated patient, from admission to the last message."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from pipelines.sources.simulated.admissions import (
    DAYS_BEFORE,
    FROM_ANOTHER_UNIT_SHARE,
    HOURS_UNWATCHED,
    ILL_ON_ARRIVAL_SHARE,
    LONGEST_HOURS,
    MOVES_AFTER,
    MOVES_SHARE,
    Illness,
    Monitoring,
    draw_illness,
    monitoring_of,
)
from pipelines.sources.simulated.deterioration import DETERIORATIONS, DISTURBANCES, Course, choose, deteriorate, disturb
from pipelines.sources.simulated.devices import (
    CGM,
    CHART,
    CUFF,
    DAY_MINUTES,
    MINUTE,
    PATCH,
    THERMOMETER,
    WEARABLE,
    Readings,
    observe,
    rounds,
)
from pipelines.sources.simulated.physiology import Patient, care, undisturbed

# Length of stay: a least one and a memoryless rest, cut off without heaping, the same for stays with and without an
# event: time in the unit says nothing of what is to come. The middle half lies between one and a half and five days.
# Of those ill on arrival only the stays without an event are so; the others end with the event that they came with.
SHORTEST_HOURS, MEAN_FURTHER_HOURS = 14.0, 72.0
EVENT_SHARE: Final = 0.19  # of those who are well on arrival; with those who are ill about a quarter of all
AFTER_ONSET_HOURS: Final = (1.5, 2.5)  # until the transfer to intensive care
DISTURBED_SHARE: Final = 1 / 3  # pass through something harmless; the chronically ill come on top
PATCH_SHARE: Final = 0.25
UNITS: Final = ("medicine", "surgery", "cardiology", "geriatrics")  # each with a gateway of its own


@dataclass(frozen=True, slots=True)
class Stay:
    """One stay. Times in microseconds since 1970.

    Attributes:
        subject: its identifier.
        serial: its number among all stays of the ward, of which each patient has room for two.
        patient: who stays.
        monitoring: how the patient is watched.
        illness: with which the patient arrived; None: well.
        unit: index into :data:`UNITS` of the unit in which the monitoring began.
        moved: when the patient moved on, and the index of the next unit; None: the patient did not.
        unit_admitted, hospital_admitted, start, end: as of the source contract.
        onset, kind: of the event; None without one.
        readings: everything that was delivered.
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
        subject, serial, patient, start: as of :class:`Stay`.
        rng: the stay's own generator.
        longest_hours: of the stay, unless the monitoring says less.
    """
    monitoring = monitoring_of(serial)
    illness = draw_illness(patient.conditions, rng) if rng.random() < ILL_ON_ARRIVAL_SHARE else None
    further = min(longest_hours, monitoring.longest_hours) - SHORTEST_HOURS
    minutes = int(60 * (SHORTEST_HOURS + rng.exponential(MEAN_FURTHER_HOURS) % further))
    after_onset = int(60 * rng.uniform(*AFTER_ONSET_HOURS))
    if illness is not None and illness.treated_from is None:
        minutes = illness.onset + after_onset
    course = undisturbed(patient, minutes, start, rng)
    if rng.random() < DISTURBED_SHARE:
        disturb(course, choose(DISTURBANCES, patient.conditions, rng), patient.response, rng)
    kind = _fall_ill(course, patient, illness, minutes - after_onset, rng)
    unit, moved, unit_admitted, hospital_admitted = _transfers(start, minutes, rng)
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
        readings=_watch(course, patient, monitoring, start, rng),
    )


def _fall_ill(course: Course, patient: Patient, illness: Illness | None, onset: int, rng: np.random.Generator) -> str | None:
    """Lead the course, in place, through what becomes of the patient; return the kind of the event, if there is one."""
    if illness is not None:
        illness.act_on(course, patient, rng)
        return illness.event.kind if illness.treated_from is None else None
    if rng.random() >= EVENT_SHARE:
        return None
    event = choose(DETERIORATIONS, patient.conditions, rng)
    deteriorate(course, event, onset, patient.response, rng)
    return event.kind


def _transfers(start: int, minutes: int, rng: np.random.Generator) -> tuple[int, tuple[int, int] | None, int, int]:
    """Draw the first unit, the move to another (None: no move), and when unit and hospital admitted the patient."""
    unit = int(rng.integers(len(UNITS)))
    moved = None
    if rng.random() < MOVES_SHARE:
        another = (unit + int(rng.integers(1, len(UNITS)))) % len(UNITS)
        moved = (start + int(minutes * rng.uniform(*MOVES_AFTER)) * MINUTE, another)
    if rng.random() < FROM_ANOTHER_UNIT_SHARE:
        unit_admitted = start - int(60 * rng.uniform(*HOURS_UNWATCHED)) * MINUTE
        return unit, moved, unit_admitted, unit_admitted - int(DAY_MINUTES * rng.uniform(*DAYS_BEFORE)) * MINUTE
    return unit, moved, start, start - int(60 * rng.uniform(1, 30)) * MINUTE


def _watch(course: Course, patient: Patient, monitoring: Monitoring, start: int, rng: np.random.Generator) -> Readings:
    """Care for the patient, which changes the course in place, and read the devices."""
    minutes = course["heart_rate"].size
    at_rounds = rounds(minutes, int(rng.choice(monitoring.every_hours)), rng)
    care(course, at_rounds, patient, rng)
    temperature = PATCH if rng.random() < PATCH_SHARE else THERMOMETER
    devices = (WEARABLE, CUFF, temperature, CHART, *((CGM,) if "diabetes" in patient.conditions else ()))
    worn_from = minutes if monitoring.worn_after is None else int(60 * rng.uniform(*monitoring.worn_after))
    return observe(course, devices, start, at_rounds[: monitoring.sets], rng, worn_from=worn_from)
