"""The simulated ward: its patients, their admissions and their readmissions."""

import math
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

import numpy as np

from vigil.models.tasks import TASKS
from vigil.pipelines.sources import Batch, Source
from vigil.pipelines.sources.simulated.devices import DAY_MINUTES, MINUTE, SECOND
from vigil.pipelines.sources.simulated.mistakes import add_mistakes
from vigil.pipelines.sources.simulated.physiology import draw_patient
from vigil.pipelines.sources.simulated.stays import Stay, simulate_stay
from vigil.pipelines.sources.simulated.tables import to_batch

FIRST_DAY: Final = datetime(2026, 1, 1, tzinfo=UTC)
ADMISSION_DAYS: Final = 42  # stays start within six weeks
# The last patient of each dozen is readmitted, so that the names of stays are known without simulating them. Jencks SF,
# Williams MV, Coleman EA (N Engl J Med 2009;360:1418-1428) report that a fifth of patients are readmitted within 30 days. A
# twelfth is ours, since this ward sees only patients who return to it within six weeks.
READMITTED_EVERY: Final = 12
FIRST_OF_TWO: Final = 0.5  # the first stay begins in this part of the admission days; ours: it leaves time for the second
AWAY: Final = (0.05, 0.25)  # between two stays, as part of the admission days: 2 to 10 days; ours
LONGEST_HOURS_OF_FIRST: Final = 62.0  # ours: readmitted patients were discharged early
_MISTAKES: Final = 1  # names the generators of mistakes; those of patients have no third number


class SimulatedWard(Source):
    """A ward of monitored patients, the same for the same seed. Some patients have two stays; each stay is a subject.

    Example:
        >>> (batch,) = SimulatedWard(patients=3).batches()
        >>> batch.stays["subject_id"].tolist()
        ['sim-000000', 'sim-000001', 'sim-000002']
    """

    name = "simulated"
    simulated = True
    deidentified = True
    task = TASKS["deterioration"]

    def __init__(self, patients: int = 600, seed: int = 20260101, patients_per_batch: int = 100) -> None:
        """Describe the ward. Nothing is simulated until :meth:`batches`.

        Raises:
            ValueError: a number of patients is below 1, or the seed is below 0.
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
        """Yield the ward in batches. A patient depends on the seed and their number only, not on other patients."""
        for first in range(0, self.patients, self.patients_per_batch):
            last = min(first + self.patients_per_batch, self.patients)
            yield to_batch([stay for number in range(first, last) for stay in simulate_patient(self.seed, number)])


def name_stays(number: int) -> tuple[str, ...]:
    """Return the subject of each stay of a patient.

    Example:
        >>> name_stays(10)
        ('sim-000010',)
        >>> name_stays(11)
        ('sim-000011~1', 'sim-000011~2')
    """
    patient = f"sim-{number:06d}"
    is_readmitted = number % READMITTED_EVERY == READMITTED_EVERY - 1
    return (f"{patient}~1", f"{patient}~2") if is_readmitted else (patient,)


def simulate_patient(seed: int, number: int) -> tuple[Stay, ...]:
    """Simulate all stays of one patient, with the mistakes of those who typed their readings in."""
    return tuple(
        replace(stay, readings=add_mistakes(stay.readings, np.random.default_rng([seed, stay.serial, _MISTAKES])))
        for stay in _simulate_stays(seed, number)
    )


def _simulate_stays(seed: int, number: int) -> tuple[Stay, ...]:
    rng = np.random.default_rng([seed, number])
    patient = draw_patient(rng)
    first, *second = name_stays(number)
    day = rng.uniform(0, ADMISSION_DAYS * (FIRST_OF_TWO if second else 1.0))
    start = int(FIRST_DAY.timestamp()) * SECOND + int(day * DAY_MINUTES) * MINUTE
    if not second:
        return (simulate_stay(first, 2 * number, patient, start, rng),)
    stay = simulate_stay(first, 2 * number, patient, start, rng, longest_hours=LONGEST_HOURS_OF_FIRST)
    readmission = stay.end + int(DAY_MINUTES * ADMISSION_DAYS * rng.uniform(*AWAY)) * MINUTE
    return stay, simulate_stay(second[0], 2 * number + 1, patient, readmission, rng)
