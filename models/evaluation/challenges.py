"""Challenge scores: the metrics by which two open challenges rank their entries, as their rules define them.

Challenge 2012: Silva I, Moody G, Scott DJ, Celi LA, Mark RG. Predicting in-hospital mortality of ICU patients: the
PhysioNet/Computing in Cardiology Challenge 2012. Comput Cardiol 2012;39:245-248.
Challenge 2019: Reyna MA, Josef CS, Jeter R, et al. Early prediction of sepsis from clinical data. Crit Care Med
2020;48(2):210-217.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vigil.models.statistics.bootstrap import Resamples, ratio

Float64 = NDArray[np.float64]
Flags = NDArray[np.bool_]

# Rules of 2019. Hours from the onset at which an alarm starts to score, scores most, and stops; then the scores themselves.
EARLY: Final = -12
OPTIMAL: Final = -6
LATE: Final = 3
MOST_FOR_ALARM: Final = 1.0
MOST_FOR_SILENCE: Final = -2.0
FALSE_ALARM: Final = -0.05
LABEL_LEAD: Final = 6  # hours by which the official label precedes the onset

RISK_GROUPS: Final = 10


@dataclass(frozen=True)
class Utility:
    """Utility of an alarm against no alarm at each hour, by the rules of the 2019 challenge.

    Attributes:
        gain: utility of an alarm in every hour, shape (n_rows,). No alarm at all is worth 0.
        best: utility of the best strategy in every hour: an alarm where it helps, none where it does not; shape (n_rows,).
    """

    gain: Float64
    best: Float64

    @classmethod
    def from_labels(cls, label: Float64, subject_id: "pd.Series[str]") -> "Utility":
        """Compute the utility from the official label.

        Args:
            label: 0 or 1 per hour, shape (n_rows,).
            subject_id: subject of each hour. The hours of a subject must be adjacent, in order and complete.
        """
        subject, _ = pd.factorize(subject_id)
        hour = pd.Series(subject).groupby(subject).cumcount().to_numpy()
        first_positive = pd.Series(np.where(label == 1, hour, np.inf)).groupby(subject).transform("min").to_numpy()
        septic = np.isfinite(first_positive)
        since = np.where(septic, hour - np.where(septic, first_positive, 0.0) - LABEL_LEAD, 0.0)  # hours since the onset
        rising = np.maximum(MOST_FOR_ALARM * (since - EARLY) / (OPTIMAL - EARLY), FALSE_ALARM)
        falling = MOST_FOR_ALARM * (LATE - since) / (LATE - OPTIMAL)
        missed = MOST_FOR_SILENCE * (since - OPTIMAL) / (LATE - OPTIMAL)
        is_early, is_in_time = since <= OPTIMAL, since <= LATE
        gain = np.where(is_early, rising, np.where(is_in_time, falling - missed, 0.0))
        gain = np.where(septic, gain, FALSE_ALARM)
        return cls(gain, np.where(septic & (since >= EARLY) & is_in_time, gain, 0.0))

    def normalised(self, alarm: Flags) -> float:
        """Return the normalised utility of alarms: 1 is the best strategy, 0 is no alarm; NaN without an onset.

        >>> import numpy as np
        >>> import pandas as pd
        >>> utility = Utility.from_labels(np.array([0.0, 1.0, 1.0]), pd.Series(["a", "a", "a"]))
        >>> utility.normalised(np.array([True, True, True])), utility.normalised(np.array([False, False, False]))
        (1.0, 0.0)
        """
        return float(ratio(self.gain[alarm].sum(), self.best.sum()))

    def draws(self, alarm: Flags, resamples: Resamples) -> Float64:
        """Return the normalised utility in each resample of the patients, shape (RESAMPLES,)."""
        return ratio(resamples.sums(np.where(alarm, self.gain, 0.0)), resamples.sums(self.best))

    def threshold(self, probability: Float64) -> float:
        """Return the threshold of highest utility on these hours; freeze it before scoring other patients."""
        order = np.argsort(-probability, kind="stable")
        return _best_threshold(probability[order], np.cumsum(self.gain[order]))


def score_event1(label: Float64, alarm: Flags) -> float:
    """Return the lower of sensitivity and positive predictivity (Event 1 of 2012); 0 without an alarm.

    >>> import numpy as np
    >>> float(score_event1(np.array([1.0, 1.0, 0.0, 0.0]), np.array([True, False, False, False])))
    0.5
    """
    hits = float(label[alarm].sum())
    return min(hits / label.sum(), hits / alarm.sum()) if alarm.any() and label.any() else 0.0


def choose_event1_threshold(label: Float64, probability: Float64) -> float:
    """Return the threshold of the highest :func:`score_event1` on these stays; freeze it before scoring other patients."""
    order = np.argsort(-probability, kind="stable")
    hits = np.cumsum(label[order])
    lower = np.minimum(hits / max(label.sum(), 1), hits / np.arange(1, len(label) + 1))
    return _best_threshold(probability[order], lower)


def resample_events(label: Float64, probability: Float64, alarm: Flags, resamples: Resamples) -> dict[str, Float64]:
    """Return :func:`score_event1` and :func:`score_event2` in each resample, each of shape (RESAMPLES,).

    Expects one row per stay.
    """
    drawn = [np.repeat(np.arange(len(label)), times[resamples.patient]) for times in resamples.times]
    return {
        "event1": np.array([score_event1(label[rows], alarm[rows]) for rows in drawn]),
        "event2": np.array([score_event2(label[rows], probability[rows]) for rows in drawn]),
    }


def score_event2(label: Float64, probability: Float64) -> float:
    """Return the range-normalised Hosmer-Lemeshow statistic (Event 2 of 2012); lower is better.

    It is H / (mean risk of the highest group - mean risk of the lowest). H is the sum over ten groups by risk of
    (O - E)^2 / (n p (1 - p) + 0.001). The statistic varies widely by chance, even for a calibrated risk.
    """
    order = np.argsort(probability, kind="stable")
    statistic, means = 0.0, []
    for group in np.array_split(order, RISK_GROUPS):
        p = float(probability[group].mean())
        means.append(p)
        statistic += (label[group].sum() - len(group) * p) ** 2 / (len(group) * p * (1 - p) + 0.001)
    return float(statistic / (means[-1] - means[0])) if means[-1] > means[0] else float("inf")


def _best_threshold(ranked: Float64, score: Float64) -> float:
    """Return the probability of the highest score; probabilities descend, and equal ones count together."""
    last_of_ties = np.append(ranked[1:] != ranked[:-1], True)
    return float(ranked[last_of_ties][np.argmax(score[last_of_ties])])
