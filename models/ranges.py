"""A range for each probability: Venn-Abers prediction, whose two ends bracket a perfectly calibrated probability.

Vovk V, Petej I, Fedorova V. Large-scale probabilistic predictors with and without guarantees of validity. NeurIPS 2015. The
lower end is the calibrated probability if the patient turned out without an event and were added to the evidence, the upper if
with one. The guarantee asks for exchangeable examples, which hours of one patient are not: the evidence is one hour of each
patient, drawn at random. So the range is that of a random hour of a patient like those, and grows where few were as ill. It is
the mean over several draws, since a single one leaves most hours out.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.isotonic import IsotonicRegression

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
        draws = [_one_each(subject_id, generator) for _ in range(1 if subject_id.is_unique else _DRAWS)]
        low, high = (
            np.mean([[_fitted(score[rows], label[rows], knot, outcome) for knot in knots] for rows in draws], axis=0)
            for outcome in (0.0, 1.0)
        )
        return cls(knots, low, high)

    def range(self, score: Float64) -> tuple[Float64, Float64]:
        """Lower and upper end for each score; those of the nearest knot outside of all."""
        above = np.searchsorted(self.knots, score, side="left")
        below = np.searchsorted(self.knots, score, side="right") - 1
        last = len(self.knots) - 1
        return self.low[np.clip(below, 0, last)], self.high[np.clip(above, 0, last)]


def _one_each(subject_id: "pd.Series[str]", generator: np.random.Generator) -> NDArray[np.int64]:
    """A random row of each subject."""
    shuffled = generator.permutation(len(subject_id))
    return shuffled[~pd.Series(subject_id.to_numpy()[shuffled]).duplicated().to_numpy()]


def _fitted(score: Float64, label: Float64, at: float, outcome: float) -> float:
    """The isotonic fit at a score after an example of that score and outcome has joined the evidence."""
    isotonic = IsotonicRegression(out_of_bounds="clip").fit(np.append(score, at), np.append(label, outcome))
    return float(isotonic.predict([at])[0])
