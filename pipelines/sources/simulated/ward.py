"""The ward: who its patients are, when they come, and who comes back."""

import math
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

import numpy as np

from pipelines.sources import Batch
from pipelines.sources.simulated.devices import DAY_MINUTES, MINUTE, SECOND
from pipelines.sources.simulated.physiology import draw_patient
from pipelines.sources.simulated.stays import Stay, simulate_stay
from pipelines.sources.simulated.tables import batch_of

FIRST_DAY: Final = datetime(2026, 1, 1, tzinfo=UTC)
ADMISSION_DAYS: Final = 42  # stays start within six weeks
# The last patient of each dozen comes back, so that the names of stays are known without simulating them. Jencks SF, Williams
# MV, Coleman EA (N Engl J Med 2009;360:1418-1428) found a fifth of patients back within 30 days; a twelfth is ours, since the
# ward sees only those who return to it within six weeks.
COMES_BACK_EVERY: Final = 12
FIRST_OF_TWO: Final = 0.5  # the first stay begins in this part of the admission days; ours: it leaves time for the second
AWAY: Final = (0.05, 0.25)  # between two stays, as part of the admission days: 2 to 10 days; ours
LONGEST_HOURS_OF_FIRST: Final = 62.0  # ours: patients who come back were sent home early


class SimulatedWard:
    """A ward of monitored patients, the same for the same seed. Some patients have two stays: a stay is a subject."""

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
            yield batch_of([stay for number in range(first, last) for stay in simulate_patient(self.seed, number)])


def subjects_of(number: int) -> tuple[str, ...]:
    """Names of a patient's stays: ``sim-000010``; or ``sim-000011~1`` and ``sim-000011~2`` of a patient who comes back."""
    patient = f"sim-{number:06d}"
    comes_back = number % COMES_BACK_EVERY == COMES_BACK_EVERY - 1
    return (f"{patient}~1", f"{patient}~2") if comes_back else (patient,)


def simulate_patient(seed: int, number: int) -> tuple[Stay, ...]:
    """All stays of one patient."""
    rng = np.random.default_rng([seed, number])
    patient = draw_patient(rng)
    first, *second = subjects_of(number)
    day = rng.uniform(0, ADMISSION_DAYS * (FIRST_OF_TWO if second else 1.0))
    start = int(FIRST_DAY.timestamp()) * SECOND + int(day * DAY_MINUTES) * MINUTE
    if not second:
        return (simulate_stay(first, 2 * number, patient, start, rng),)
    stay = simulate_stay(first, 2 * number, patient, start, rng, longest_hours=LONGEST_HOURS_OF_FIRST)
    again = stay.end + int(DAY_MINUTES * ADMISSION_DAYS * rng.uniform(*AWAY)) * MINUTE
    return stay, simulate_stay(second[0], 2 * number + 1, patient, again, rng)
