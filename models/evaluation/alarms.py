"""What a ward would feel: how often an alarm sounds, how often rightly, and how long before.

Semantics of circEWS (Hyland SL, et al. Early prediction of circulatory failure in the intensive care unit using machine
learning. Nat Med 2020;26:364-373): only the hours before the onset count. An alarm fires when the risk reaches the
threshold, then is silent; when the silence ends it fires again if the risk is still, or again, at or above the threshold.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import numba
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from features.catalogue import INDEX_STEP

SILENCE: Final = timedelta(hours=8)
HORIZON: Final = timedelta(hours=12)


@dataclass(frozen=True)
class Watch:
    """Index times before the onset, ordered by subject and time, ready for alarms to be replayed over.

    Attributes:
        subject: subject code of each row.
        time: index time in microseconds.
        onset: onset in microseconds, or the largest int64 where there is none.
        probability: risk at each row.
    """

    subject: NDArray[np.int64]
    time: NDArray[np.int64]
    onset: NDArray[np.int64]
    probability: NDArray[np.float64]

    @classmethod
    def of(cls, frame: pd.DataFrame) -> "Watch":
        """From columns ``subject_id, index_time, onset, onset_known, probability``.

        Subjects whose event was under way when the record began are left out: they have no hours before the onset.
        """
        before = frame["onset"].isna() | ((frame["index_time"] < frame["onset"]) & frame["onset_known"])
        frame = frame[before].sort_values(["subject_id", "index_time"], kind="stable")
        onset = frame["onset"].to_numpy("datetime64[us]").astype(np.int64)
        return cls(
            subject=pd.factorize(frame["subject_id"])[0].astype(np.int64),
            time=frame["index_time"].to_numpy("datetime64[us]").astype(np.int64),
            onset=np.where(frame["onset"].isna(), np.iinfo(np.int64).max, onset),
            probability=frame["probability"].to_numpy(np.float64),
        )

    @property
    def patient_days(self) -> float:
        """Days watched, an index time standing for one index step."""
        return len(self.time) * (INDEX_STEP / timedelta(days=1))

    def fired(self, threshold: float) -> NDArray[np.bool_]:
        """Where an alarm fires, shape (n_rows,)."""
        fired: NDArray[np.bool_] = _fire(self.subject, self.time, self.probability >= threshold, _us(SILENCE))
        return fired


def alarms(watch: Watch, threshold: float) -> dict[str, float]:
    """``event_recall, alarm_precision, alarms_per_patient_day, lead_time_hours`` (median of the first alarm) at a threshold."""
    fired = watch.fired(threshold)
    lead = watch.onset - watch.time
    right = fired & (lead <= _us(HORIZON))
    first_lead = pd.Series(lead[right]).groupby(watch.subject[right]).max()
    with_onset = np.unique(watch.subject[watch.onset != np.iinfo(np.int64).max])
    return {
        "event_recall": float(len(first_lead) / len(with_onset)) if len(with_onset) else float("nan"),
        "alarm_precision": float(right.sum() / fired.sum()) if fired.any() else float("nan"),
        "alarms_per_patient_day": float(fired.sum() / watch.patient_days),
        "lead_time_hours": float(first_lead.median() / 3.6e9) if len(first_lead) else float("nan"),
    }


def threshold_at_budget(watch: Watch, alarms_per_patient_day: float) -> float:
    """The lowest threshold whose alarms stay within the budget."""
    candidates = np.unique(np.quantile(watch.probability, np.linspace(0, 1, 2001)))
    low, high = 0, len(candidates) - 1
    while low < high:
        middle = (low + high) // 2
        within = watch.fired(candidates[middle]).sum() / watch.patient_days <= alarms_per_patient_day
        low, high = (low, middle) if within else (middle + 1, high)
    return float(candidates[low])


def _us(duration: timedelta) -> int:
    return duration // timedelta(microseconds=1)


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _fire(subject: NDArray[np.int64], time: NDArray[np.int64], above: NDArray[np.bool_], silence: int) -> NDArray[np.bool_]:
    fired = np.zeros(len(time), dtype=np.bool_)
    last = -1
    for i in range(len(time)):
        if i == 0 or subject[i] != subject[i - 1]:
            last = -1
        if above[i] and (last < 0 or time[i] - time[last] >= silence):
            fired[i] = True
            last = i
    return fired
