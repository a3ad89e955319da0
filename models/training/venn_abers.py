"""Risk ranges by Venn-Abers prediction: the two ends of a range bracket a perfectly calibrated probability.

Vovk V, Petej I, Fedorova V. Large-scale probabilistic predictors with and without guarantees of validity. NeurIPS 2015. The
patient is added to the evidence twice. The lower end is the calibrated probability if the patient has no event, the upper end
that if the patient has one.

The guarantee holds for exchangeable examples. Hours of one patient are not exchangeable, so the evidence is one random hour of
each patient. It weighs as much as the patient has hours, because the range is that of a random hour and not of a random patient
(Tibshirani RJ, Barber RF, Candes EJ, Ramdas A. Conformal prediction under covariate shift. NeurIPS 2019). A range is wider
where few patients were as ill. It is the mean over several draws, because a single draw leaves most hours out.
"""

from dataclasses import dataclass
from typing import Final, NamedTuple

import numba
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression

from vigil.models.cohort import number_patients

Float64 = NDArray[np.float64]

_KNOTS: Final = 60  # scores at which the range is computed; between two knots it is the wider of their ranges
_DRAWS: Final = 10


@dataclass(frozen=True)
class VennAbers:
    """Ranges at some scores, non-decreasing.

    Attributes:
        knots: scores, ascending, shape (n_knots,).
        low, high: the ends of the range at each knot, shape (n_knots,).
    """

    knots: Float64
    low: Float64
    high: Float64

    @classmethod
    def fit(cls, score: Float64, label: Float64, subject_id: "pd.Series[str]", *, seed: int) -> "VennAbers":
        """Learn the ranges from scores of patients that the model has not seen.

        Args:
            score: any score that ranks, shape (n_rows,).
            label: 0 or 1, shape (n_rows,).
            subject_id: subject of each row.
            seed: of the draw of one row per patient.
        """
        generator = np.random.default_rng(seed)
        knots = np.unique(np.quantile(score, np.linspace(0, 1, _KNOTS), method="nearest"))
        patient, patients = number_patients(subject_id)
        hours = np.bincount(patient)[patient] * len(patients) / len(patient)
        has_one_row_each = len(patients) == len(patient)
        draws = [_draw_row_per_patient(patient, generator) for _ in range(1 if has_one_row_each else _DRAWS)]
        evidence = [_Evidence.of(score[rows], label[rows], hours[rows]) for rows in draws]
        low, high = (
            np.mean([[drawn.fit_at(knot, outcome) for knot in knots] for drawn in evidence], axis=0) for outcome in (0.0, 1.0)
        )
        return cls(knots, low, high)

    def range(self, score: Float64) -> tuple[Float64, Float64]:
        """Return the lower and the upper end for each score; beyond the outermost knots, those of the nearest knot."""
        above = np.searchsorted(self.knots, score, side="left")
        below = np.searchsorted(self.knots, score, side="right") - 1
        last = len(self.knots) - 1
        return self.low[np.clip(below, 0, last)], self.high[np.clip(above, 0, last)]


def _draw_row_per_patient(patient: NDArray[np.int64], generator: np.random.Generator) -> NDArray[np.int64]:
    """Return one random row of each patient."""
    shuffled = generator.permutation(len(patient))
    return shuffled[~pd.Series(patient[shuffled]).duplicated().to_numpy()]


class _Evidence(NamedTuple):
    """Examples in order of score and label, each of shape (n_rows,). They are sorted once for all knots."""

    score: Float64
    label: Float64
    weight: Float64

    @classmethod
    def of(cls, score: Float64, label: Float64, weight: Float64) -> "_Evidence":
        order = np.lexsort((label, score))
        return cls(score[order], label[order], weight[order])

    def fit_at(self, knot: float, outcome: float) -> float:
        """Return the isotonic fit at a knot after an example of that score and outcome, of weight 1, has joined."""
        first, last = np.searchsorted(self.score, knot, side="left"), np.searchsorted(self.score, knot, side="right")
        position = first + np.searchsorted(self.label[first:last], outcome, side="right")
        score, label, weight = (
            np.insert(values, position, value) for values, value in zip(self, (knot, outcome, 1.0), strict=True)
        )
        score, label, weight = _join_ties(score, label, weight)
        return float(np.interp(knot, score, isotonic_regression(label, weights=weight).x))


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _join_ties(score: Float64, label: Float64, weight: Float64) -> tuple[Float64, Float64, Float64]:
    """Return the distinct scores, ascending, with the mean label and the sum of weights of each."""
    distinct, sums, weights = np.empty_like(score), np.empty_like(score), np.empty_like(score)
    last = -1
    for row in range(len(score)):
        if last < 0 or score[row] > distinct[last]:
            last += 1
            distinct[last], sums[last], weights[last] = score[row], 0.0, 0.0
        sums[last] += label[row] * weight[row]
        weights[last] += weight[row]
    return distinct[: last + 1], sums[: last + 1] / weights[: last + 1], weights[: last + 1]
