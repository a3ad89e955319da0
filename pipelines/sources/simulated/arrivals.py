"""Patients at arrival, known by their first set of vital signs alone: does a model see level without any history?

They are patients of the simulated ward: its people, its illnesses and its nurses' readings. No clinical evidence.
"""

from dataclasses import dataclass, fields
from typing import Final

import numpy as np
import pandas as pd

from features.scores import NEWS2_BANDS
from pipelines.sources.simulated.admissions import draw_illness
from pipelines.sources.simulated.devices import DAY_MINUTES, MINUTE, SECOND, SIGNAL_NAMES, Readings, observe, rounds
from pipelines.sources.simulated.physiology import Patient, care, draw_patient, undisturbed
from pipelines.sources.simulated.tables import instants
from pipelines.sources.simulated.ward import ADMISSION_DAYS, FIRST_DAY

MINUTES: Final = 60  # of physiology: the first round comes within them, and no other


@dataclass(frozen=True, slots=True)
class State:
    """How patients are at arrival; ``under_way`` and ``strength`` as :func:`draw_illness` takes them, None of the well."""

    name: str
    share: float
    under_way: tuple[float, float] | None = None
    strength: tuple[float, float] | None = None


# Ours: half are well, so that false alarms can be counted; the ill are many more than on a ward, so that misses can be.
STATES: Final = (
    State("well", 0.5),
    State("moderately ill", 0.25, (0.4, 0.8), (0.7, 1.3)),
    State("severely ill", 0.25, (0.85, 1.0), (1.5, 2.6)),
)


def arrivals(number: int, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Simulate patients at arrival. A patient depends on the seed and the patient's place among them only.

    Args:
        number: of patients.
        seed: another one gives other patients.

    Returns:
        observations: ``subject_id, observed_at, signal, value, recorded_at``; one reading of each of the seven components of
            NEWS2, a patient's all at one time.
        index: one row a patient, as :func:`features.batch.build_features` takes it: ``subject_id, index_time`` (when the
            last of the set is recorded), ``age, sex, unit_admitted_at, hospital_admitted_at``; and ``state``, a name in
            :data:`STATES`.
    """
    found = [_arrive(seed, place) for place in range(number)]
    subjects = pd.array([f"arrival-{place:06d}" for place in range(number)], dtype="string[pyarrow]")
    sets = Readings.concatenate([one.first_set for one in found])
    observations = pd.DataFrame(
        {
            "subject_id": subjects.take(np.repeat(np.arange(number), [one.first_set.value.size for one in found])),
            "observed_at": instants(sets.observed),
            "signal": pd.Categorical.from_codes(sets.signal, pd.Index(SIGNAL_NAMES)),
            "value": sets.value,
            "recorded_at": instants(sets.recorded),
        }
    )
    index = pd.DataFrame(
        {
            "subject_id": subjects,
            "index_time": instants([int(one.first_set.recorded.max()) for one in found]),
            "age": [one.patient.age for one in found],
            "sex": [one.patient.sex for one in found],
            "unit_admitted_at": instants([one.admitted for one in found]),
            "hospital_admitted_at": instants([one.admitted for one in found]),  # they come from the street
            "state": pd.array([one.state for one in found], dtype="string[pyarrow]"),
        }
    )
    return observations, index


@dataclass(frozen=True, slots=True)
class _Arrival:
    """One patient at arrival; ``admitted`` in microseconds since 1970."""

    patient: Patient
    state: str
    admitted: int
    first_set: Readings


def _arrive(seed: int, place: int) -> _Arrival:
    rng = np.random.default_rng([seed, place])
    patient = draw_patient(rng)
    state = STATES[rng.choice(len(STATES), p=[state.share for state in STATES])]
    start = int(FIRST_DAY.timestamp()) * SECOND + int(rng.integers(ADMISSION_DAYS * DAY_MINUTES)) * MINUTE
    course = undisturbed(patient, MINUTES, start, rng)
    if state.under_way is not None and state.strength is not None:
        illness = draw_illness(patient.conditions, rng, under_way=state.under_way, strength=state.strength)
        illness.act_on(course, patient, rng)
    at_round = rounds(MINUTES, 4, rng)
    care(course, at_round, patient, rng)
    return _Arrival(patient, state.name, start, _once(observe(course, (), start, at_round, rng, worn_from=MINUTES)))


def _once(readings: Readings) -> Readings:
    """The components of NEWS2, without messages that were delivered again."""
    wanted = [SIGNAL_NAMES.index(signal) for signal in NEWS2_BANDS]
    _, first = np.unique(readings.message, return_index=True)
    kept = first[np.isin(readings.signal[first], wanted)]
    return Readings(*(getattr(readings, field.name)[kept] for field in fields(Readings)))
