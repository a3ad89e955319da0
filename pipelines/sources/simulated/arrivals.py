"""Simulated patients at arrival, known by their first set of vital signs alone.

They show whether a model recognises abnormal levels without any history. The patients, illnesses and readings are those of the
simulated ward. They are no clinical evidence.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd

from vigil.features.scores import NEWS2_BANDS
from vigil.pipelines.sources.simulated.admissions import draw_illness
from vigil.pipelines.sources.simulated.devices import DAY_MINUTES, MINUTE, SECOND, SIGNAL_NAMES, Readings, draw_rounds, observe
from vigil.pipelines.sources.simulated.physiology import Patient, complete_course, draw_patient, simulate_baseline
from vigil.pipelines.sources.simulated.tables import to_timestamps
from vigil.pipelines.sources.simulated.ward import ADMISSION_DAYS, FIRST_DAY

MINUTES: Final = 60  # of physiology; they hold the first round and no other


@dataclass(frozen=True, slots=True)
class State:
    """A state of health at arrival.

    Attributes:
        name: of the state.
        share: of all arrivals.
        passed, strength: as :func:`draw_illness` takes them, or None if the patient is well.
    """

    name: str
    share: float
    passed: tuple[float, float] | None = None
    strength: tuple[float, float] | None = None


# Ours: half are well, so that false alarms can be counted. Many more are ill than on a ward, so that misses can be counted.
STATES: Final = (
    State("well", 0.5),
    State("moderately ill", 0.25, (0.4, 0.8), (0.7, 1.3)),
    State("severely ill", 0.25, (0.85, 1.0), (1.5, 2.6)),
)


def simulate_arrivals(number: int, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Simulate patients at arrival. A patient depends on the seed and their own number only.

    Args:
        number: of patients.
        seed: of the generator. Another seed gives other patients.

    Returns:
        observations: ``subject_id, observed_at, signal, value, recorded_at``. Each patient has one observation of each of the
            seven components of NEWS2, all at one time.
        index: one row for each patient, as :func:`vigil.features.batch.build_features` takes it: ``subject_id, index_time``
            (when the last of the set is recorded), ``age, sex, unit_admitted_at, hospital_admitted_at``. It also holds
            ``state``, a name in :data:`STATES`.
    """
    patients = [_simulate_arrival(seed, serial) for serial in range(number)]
    subjects = pd.array([f"arrival-{serial:06d}" for serial in range(number)], dtype="string[pyarrow]")
    sets = Readings.concatenate([arrival.first_set for arrival in patients])
    observations = pd.DataFrame(
        {
            "subject_id": subjects.take(np.repeat(np.arange(number), [arrival.first_set.value.size for arrival in patients])),
            "observed_at": to_timestamps(sets.observed),
            "signal": pd.Categorical.from_codes(sets.signal, pd.Index(SIGNAL_NAMES)),
            "value": sets.value,
            "recorded_at": to_timestamps(sets.recorded),
        }
    )
    index = pd.DataFrame(
        {
            "subject_id": subjects,
            "index_time": to_timestamps([int(arrival.first_set.recorded.max()) for arrival in patients]),
            "age": [arrival.patient.age for arrival in patients],
            "sex": [arrival.patient.sex for arrival in patients],
            "unit_admitted_at": to_timestamps([arrival.admitted for arrival in patients]),
            "hospital_admitted_at": to_timestamps(
                [arrival.admitted for arrival in patients]
            ),  # they come from outside the hospital
            "state": pd.array([arrival.state for arrival in patients], dtype="string[pyarrow]"),
        }
    )
    return observations, index


@dataclass(frozen=True, slots=True)
class _Arrival:
    """A patient at arrival. ``admitted`` is in microseconds since 1970."""

    patient: Patient
    state: str
    admitted: int
    first_set: Readings


def _simulate_arrival(seed: int, serial: int) -> _Arrival:
    rng = np.random.default_rng([seed, serial])
    patient = draw_patient(rng)
    state = STATES[rng.choice(len(STATES), p=[state.share for state in STATES])]
    start = int(FIRST_DAY.timestamp()) * SECOND + int(rng.integers(ADMISSION_DAYS * DAY_MINUTES)) * MINUTE
    course = simulate_baseline(patient, MINUTES, start, rng)
    if state.passed is not None and state.strength is not None:
        illness = draw_illness(patient.conditions, rng, passed=state.passed, strength=state.strength)
        illness.add_to(course, patient, rng)
    at_round = draw_rounds(MINUTES, 4, rng)
    complete_course(course, at_round, patient, rng)
    readings = observe(course, (), start, at_round, rng, worn_from=MINUTES)
    return _Arrival(patient, state.name, start, _select_news2_components(readings))


def _select_news2_components(readings: Readings) -> Readings:
    """Return the components of NEWS2, without repeated messages."""
    components = [SIGNAL_NAMES.index(signal) for signal in NEWS2_BANDS]
    _, first = np.unique(readings.message, return_index=True)
    rows = first[np.isin(readings.signal[first], components)]
    return readings.take(rows)
