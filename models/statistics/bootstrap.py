"""Bootstrap of patients: intervals from samples of whole patients, because hours of one patient are not independent.

Efron B, Tibshirani RJ. An introduction to the bootstrap. New York: Chapman & Hall, 1993, ch. 8 and 13.
Davison AC, Hinkley DV. Bootstrap methods and their application. Cambridge University Press, 1997, ch. 5.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vigil.models.cohort import number_patients

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]
Interval = tuple[float, float]

RESAMPLES: Final = 200
_TAIL: Final = 2.5  # percent on either side of a 95 % interval


@dataclass(frozen=True)
class Resamples:
    """Samples of patients with replacement, each as large as the cohort; :data:`RESAMPLES` of them.

    Two models evaluated on the same rows with the same seed get the same resamples. Their differences are paired.

    Attributes:
        patient: number of each row's patient, shape (n_rows,).
        times: how often each patient was drawn, shape (RESAMPLES, n_patients).
    """

    patient: Int64
    times: NDArray[np.int32]

    @classmethod
    def draw(cls, subject_id: ArrayLike, seed: int) -> "Resamples":
        """Draw resamples of the patients that the rows belong to.

        >>> resamples = Resamples.draw(["a", "a", "b", "c"], seed=0)
        >>> resamples.times.shape, set(resamples.times.sum(axis=1).tolist())
        ((200, 3), {3})
        """
        patient, patients = number_patients(subject_id)
        n = len(patients)
        generator = np.random.default_rng(seed)
        draws = [np.bincount(generator.integers(max(n, 1), size=n), minlength=n) for _ in range(RESAMPLES)]
        return cls(patient, np.array(draws, dtype=np.int32))

    def by_patient(self, value: ArrayLike) -> Float64:
        """Return the sums of the rows' values within each patient, shape (n_patients,)."""
        sums = np.bincount(self.patient, weights=np.asarray(value, dtype=np.float64), minlength=self.times.shape[1])
        return sums.astype(np.float64)  # without rows numpy returns integers

    def sums(self, value: ArrayLike) -> Float64:
        """Return the sum of the rows' values in each resample, shape (RESAMPLES,)."""
        return np.asarray(self.times @ self.by_patient(value))


def ratio(numerator: ArrayLike, denominator: ArrayLike) -> Float64:
    """Return the elementwise quotient; NaN where the denominator is 0."""
    above, below = np.asarray(numerator, dtype=np.float64), np.asarray(denominator, dtype=np.float64)
    unknown = np.full(np.broadcast_shapes(above.shape, below.shape), np.nan)
    return np.asarray(np.divide(above, below, out=unknown, where=below != 0), dtype=np.float64)


def percentile_interval(draws: Float64) -> Interval:
    """Return the 95 % percentile interval of a figure over the resamples; NaN if it is finite in none of them."""
    draws = draws[np.isfinite(draws)]
    if not len(draws):
        return float("nan"), float("nan")
    low, high = np.percentile(draws, [_TAIL, 100 - _TAIL])
    return float(low), float(high)


def basic_interval(estimate: float, draws: Float64) -> Interval:
    """Return the 95 % basic interval, for figures that cannot be negative and that chance inflates.

    Such a figure is the expected calibration error. A resample adds its own chance to that of the sample. So the middle of the
    draws lies above the estimate, as the estimate lies above the truth. The basic interval (Davison & Hinkley, 5.2) turns the
    draws about the estimate and so removes that bias. It is widened to hold the estimate.
    """
    low, high = percentile_interval(draws)
    return max(0.0, min(estimate, 2 * estimate - high)), max(estimate, 2 * estimate - low)


def percentile_bounds(draws: Mapping[str, Float64]) -> dict[str, float]:
    """Return percentile intervals as ``<name>_low`` and ``<name>_high``."""
    return {
        f"{name}_{side}": value
        for name, values in draws.items()
        for side, value in zip(("low", "high"), percentile_interval(values), strict=True)
    }
