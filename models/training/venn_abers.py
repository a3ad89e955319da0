"""A range for each probability: Venn-Abers prediction, whose two ends bracket a perfectly calibrated probability.

Vovk V, Petej I, Fedorova V. Large-scale probabilistic predictors with and without guarantees of validity. NeurIPS 2015. The
lower end is the calibrated probability if the patient turned out without an event and were added to the evidence, the upper if
with one. The guarantee asks for exchangeable examples, which hours of one patient are not: the evidence is one hour of each
patient, drawn at random. It weighs as much as the patient has hours, since the range is that of a random hour, not of a random
patient (Tibshirani RJ, Barber RF, Candes EJ, Ramdas A. Conformal prediction under covariate shift. NeurIPS 2019). The range
grows where few were as ill, and is the mean over several draws, since a single one leaves most hours out.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.isotonic import IsotonicRegression

from models.cohort import by_patient

Float64 = NDArray[np.float64]

_KNOTS: Final = 60  # scores at which the range is computed; between two it is the wider of theirs
_DRAWS: Final = 10


@dataclass(frozen=True)
class VennAbers:
    """Ranges at some scores, non-decreasing.

    Attributes:
        knots: scores, ascending, shape (n_knots,).
        low, high: the ends of the range at each.
    """

    knots: Float64
    low: Float64
    high: Float64

    @classmethod
    def fit(cls, score: Float64, label: Float64, subject_id: "pd.Series[str]", *, seed: int) -> "VennAbers":
        """From scores of patients that the model had not seen.

        Args:
            score: any that ranks, shape (n_rows,).
            label: 0 or 1.
            subject_id: whose row it is.
            seed: of the draw of one row a patient.
        """
        generator = np.random.default_rng(seed)
        knots = np.unique(np.quantile(score, np.linspace(0, 1, _KNOTS), method="nearest"))
        patient, patients = by_patient(subject_id)
        hours = np.bincount(patient)[patient] * len(patients) / len(patient)
        once = len(patients) == len(patient)
        draws = [_one_each(patient, generator) for _ in range(1 if once else _DRAWS)]
        low, high = (
            np.mean(
                [[_fitted(score[rows], label[rows], hours[rows], knot, outcome) for knot in knots] for rows in draws], axis=0
            )
            for outcome in (0.0, 1.0)
        )
        return cls(knots, low, high)

    def range(self, score: Float64) -> tuple[Float64, Float64]:
        """Lower and upper end for each score; those of the nearest knot outside of all."""
        above = np.searchsorted(self.knots, score, side="left")
        below = np.searchsorted(self.knots, score, side="right") - 1
        last = len(self.knots) - 1
        return self.low[np.clip(below, 0, last)], self.high[np.clip(above, 0, last)]


def _one_each(patient: NDArray[np.int64], generator: np.random.Generator) -> NDArray[np.int64]:
    """A random row of each patient."""
    shuffled = generator.permutation(len(patient))
    return shuffled[~pd.Series(patient[shuffled]).duplicated().to_numpy()]


def _fitted(score: Float64, label: Float64, weight: Float64, at: float, outcome: float) -> float:
    """The isotonic fit at a score after an example of that score and outcome, of weight 1, has joined the evidence."""
    isotonic = IsotonicRegression(out_of_bounds="clip")
    isotonic.fit(np.append(score, at), np.append(label, outcome), sample_weight=np.append(weight, 1.0))
    return float(isotonic.predict([at])[0])
