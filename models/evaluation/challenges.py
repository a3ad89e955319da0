"""The figures by which the open challenges rank their entries, as their rules define them.

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

from models.statistics.bootstrap import Resamples, ratio

Float64 = NDArray[np.float64]
Flags = NDArray[np.bool_]

# Hours from the onset at which an alarm begins to earn, earns most, and no longer earns; and what it can earn or cost.
EARLY: Final = -12
OPTIMAL: Final = -6
LATE: Final = 3
MOST_FOR_ALARM: Final = 1.0
MOST_FOR_SILENCE: Final = -2.0
FALSE_ALARM: Final = -0.05
LABEL_LEAD: Final = 6  # the label turns positive so many hours before the onset

RISK_GROUPS: Final = 10


@dataclass(frozen=True)
class Utility:
    """What an alarm gains over silence at each hour, by the rules of the 2019 challenge.

    Attributes:
        gain: of every hour, shape (n_rows,); silence everywhere is worth 0.
        best: the same of the best that could be done: alarms in these hours, silence in the others.
    """

    gain: Float64
    best: Float64

    @classmethod
    def of(cls, label: Float64, subject_id: "pd.Series[str]") -> "Utility":
        """From the official label, hours of a stay in order and none missing.

        Args:
            label: 0 or 1 an hour.
            subject_id: whose hour it is; hours of one subject are neighbours.
        """
        subject, _ = pd.factorize(subject_id)
        hour = pd.Series(subject).groupby(subject).cumcount().to_numpy()
        first = pd.Series(np.where(label == 1, hour, np.inf)).groupby(subject).transform("min").to_numpy()
        septic = np.isfinite(first)
        since = np.where(septic, hour - np.where(septic, first, 0.0) - LABEL_LEAD, 0.0)  # hours since the onset
        rising = np.maximum(MOST_FOR_ALARM * (since - EARLY) / (OPTIMAL - EARLY), FALSE_ALARM)
        falling = MOST_FOR_ALARM * (LATE - since) / (LATE - OPTIMAL)
        missed = MOST_FOR_SILENCE * (since - OPTIMAL) / (LATE - OPTIMAL)
        in_time, at_all = since <= OPTIMAL, since <= LATE
        gain = np.where(in_time, rising, np.where(at_all, falling - missed, 0.0))
        gain = np.where(septic, gain, FALSE_ALARM)
        return cls(gain, np.where(septic & (since >= EARLY) & at_all, gain, 0.0))

    def normalised(self, alarm: Flags) -> float:
        """The utility of alarms: 1 is the best that could be done, 0 silence. NaN without an onset."""
        return float(ratio(self.gain[alarm].sum(), self.best.sum()))

    def draws(self, alarm: Flags, resamples: Resamples) -> Float64:
        """The same in each resample of the patients, shape (RESAMPLES,)."""
        return ratio(resamples.sums(np.where(alarm, self.gain, 0.0)), resamples.sums(self.best))

    def threshold(self, probability: Float64) -> float:
        """The threshold of highest utility on these very hours; freeze it before others are scored."""
        order = np.argsort(-probability, kind="stable")
        return _best(probability[order], np.cumsum(self.gain[order]))


def event1(label: Float64, alarm: Flags) -> float:
    """The lower of sensitivity and positive predictivity (Event 1 of 2012), 0 without an alarm."""
    hits = float(label[alarm].sum())
    return min(hits / label.sum(), hits / alarm.sum()) if alarm.any() and label.any() else 0.0


def event1_threshold(label: Float64, probability: Float64) -> float:
    """The threshold of the highest :func:`event1` on these very stays; freeze it before others are scored."""
    order = np.argsort(-probability, kind="stable")
    hits = np.cumsum(label[order])
    lower = np.minimum(hits / max(label.sum(), 1), hits / np.arange(1, len(label) + 1))
    return _best(probability[order], lower)


def event_draws(label: Float64, probability: Float64, alarm: Flags, resamples: Resamples) -> dict[str, Float64]:
    """:func:`event1` and :func:`event2` of one row a stay in each resample, each of shape (RESAMPLES,)."""
    drawn = [np.repeat(np.arange(len(label)), times[resamples.patient]) for times in resamples.times]
    return {
        "event1": np.array([event1(label[rows], alarm[rows]) for rows in drawn]),
        "event2": np.array([event2(label[rows], probability[rows]) for rows in drawn]),
    }


def event2(label: Float64, probability: Float64) -> float:
    """Range-normalised Hosmer-Lemeshow statistic (Event 2 of 2012): lower is better; scatters widely even when right.

    H / (mean risk of the highest group - that of the lowest), H the sum over ten groups of (O - E)^2 / (n p (1 - p) + 0.001).
    """
    order = np.argsort(probability, kind="stable")
    statistic, means = 0.0, []
    for group in np.array_split(order, RISK_GROUPS):
        p = float(probability[group].mean())
        means.append(p)
        statistic += (label[group].sum() - len(group) * p) ** 2 / (len(group) * p * (1 - p) + 0.001)
    return float(statistic / (means[-1] - means[0])) if means[-1] > means[0] else float("inf")


def _best(ranked: Float64, reached: Float64) -> float:
    """The probability, of those from the highest down, at which most is reached; ties sound together."""
    last_of_ties = np.append(ranked[1:] != ranked[:-1], True)
    return float(ranked[last_of_ties][np.argmax(reached[last_of_ties])])
