"""Alarms over a cohort: how often they sound, how often they are right, and how long before the onset.

The rules are those of circEWS (Hyland SL, et al. Early prediction of circulatory failure in the intensive care unit using
machine learning. Nat Med 2020;26:364-373). Only the hours before the onset count. An alarm sounds when the risk reaches the
threshold. A refractory period follows. After it the next alarm sounds if the risk is at or above the threshold. The safety net
sounds beside the model, by the rules of :mod:`vigil.models.alarms.policy`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final

import numba
import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from vigil.features.catalogue import INDEX_STEP
from vigil.models.alarms.safety_net import ALARM_FROM, ENDS_BELOW, HOLDS_FOR, LONGEST_DIP
from vigil.models.cohort import number_patients
from vigil.models.statistics.bootstrap import Resamples, percentile_bounds, ratio
from vigil.models.statistics.proportions import clopper_pearson, proportion_limits

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

REFRACTORY_PERIOD: Final = timedelta(hours=8)
HORIZON: Final = timedelta(hours=12)
_NEVER: Final = np.iinfo(np.int64).max  # stands for the onset of a subject without one
_NO_ONSET: Final = _NEVER // 2  # a longer lead means that there is no onset
_HOUR: Final = 3.6e9  # microseconds
STEPS_PER_DAY: Final = timedelta(days=1) / INDEX_STEP


@dataclass(frozen=True)
class AlarmTimeline:
    """Index times before the onset, ordered by subject and time, over which the alarms of a threshold are computed.

    All attributes of rows have the shape (n_rows,).

    Attributes:
        subject: subject code of each row.
        patient: number of each subject's patient, shape (n_subjects,).
        time: index time in microseconds.
        onset: onset in microseconds, or the largest int64 if there is none.
        probability: risk at each row, or a score.
        net_score: NEWS2 of sustained values, NaN where it does not apply; all NaN: there is no safety net.
        net_spot: of these points, those of signals that are measured by spot checks.
        refractory_period: the refractory period between two alarms of a patient.
        news2_from: NEWS2 at or above which the safety net sounds.
    """

    subject: Int64
    patient: Int64
    time: Int64
    onset: Int64
    probability: Float64
    net_score: Float64
    net_spot: Float64
    refractory_period: timedelta = REFRACTORY_PERIOD
    news2_from: int = ALARM_FROM

    @classmethod
    def from_frame(cls, frame: pd.DataFrame) -> "AlarmTimeline":
        """Build a timeline from a frame.

        Its columns are ``subject_id, index_time, onset, onset_known, probability``; with a safety net also ``net_score,
        net_spot``.

        Subjects with an event that began before the record are left out, because they have no hours before the onset.
        """
        frame = rows_before_onset(frame)
        onset = frame["onset"].to_numpy("datetime64[us]").astype(np.int64)
        subject, subjects = pd.factorize(frame["subject_id"])
        net = frame.reindex(columns=["net_score", "net_spot"]).astype(np.float64)
        return cls(
            subject=subject.astype(np.int64),
            patient=number_patients(subjects)[0],
            time=frame["index_time"].to_numpy("datetime64[us]").astype(np.int64),
            onset=np.where(frame["onset"].isna(), _NEVER, onset),
            probability=frame["probability"].to_numpy(np.float64),
            net_score=net["net_score"].to_numpy(),
            net_spot=net["net_spot"].to_numpy(),
        )

    @classmethod
    def from_unlabelled_frame(cls, frame: pd.DataFrame) -> "AlarmTimeline":
        """Build a timeline of all hours from the same columns without the onset, which is not known yet."""
        never = pd.Series(pd.NaT, index=frame.index, dtype=frame["index_time"].dtype)
        return cls.from_frame(frame.assign(onset=never, onset_known=True))

    def with_score(self, score: Float64) -> "AlarmTimeline":
        """Return the same hours with another score and the same safety net."""
        return replace(self, probability=score)

    def without_net(self) -> "AlarmTimeline":
        """Return the same hours with the model alone."""
        nothing = np.full(len(self.time), np.nan)
        return replace(self, net_score=nothing, net_spot=nothing)

    def net_alone(self) -> "AlarmTimeline":
        """Return the same hours with the safety net alone."""
        return replace(self, probability=np.full(len(self.time), np.nan))

    def parts(self) -> dict[str, "AlarmTimeline"]:
        """Return the same hours with the ``model`` alone, with the ``net`` alone, and with ``both``."""
        return {"model": self.without_net(), "net": self.net_alone(), "both": self}

    @property
    def patient_days(self) -> float:
        """Days at risk; an index time stands for one index step."""
        return len(self.time) / STEPS_PER_DAY

    def alarms_at(self, threshold: float) -> NDArray[np.bool_]:
        """Return where an alarm sounds at a threshold of the risk, shape (n_rows,)."""
        fired: NDArray[np.bool_] = _fire(
            self.subject,
            self.time,
            self.probability,
            threshold,
            self.net_score,
            self.net_spot,
            self.news2_from,
            _microseconds(self.refractory_period),
            _microseconds(HOLDS_FOR),
            _microseconds(LONGEST_DIP),
        )
        return fired

    def count(self, threshold: float, rows: NDArray[np.bool_] | None = None) -> "AlarmCounts":
        """Count the alarms at a threshold, subject by subject.

        Args:
            threshold: of the risk.
            rows: count only the alarms of these rows, and the onsets right after one of them. Other alarms still sound and have
                a refractory period.
        """
        counted = np.ones(len(self.time), dtype=bool) if rows is None else rows
        lead = self.onset - self.time
        counts = _count(self.subject, lead, self.alarms_at(threshold), counted, _microseconds(HORIZON), len(self.patient))
        steps, alarms, right, event, first_lead = counts
        days = steps / STEPS_PER_DAY
        return AlarmCounts(
            self.patient, days, alarms, right, event, np.where(event & (first_lead > 0), first_lead / _HOUR, np.nan)
        )


@dataclass(frozen=True)
class AlarmCounts:
    """Numbers of alarms by subject (a stay), each of shape (n_subjects,).

    Attributes:
        patient: number of the subject's patient.
        days: days before the onset.
        alarms: number of alarms that sounded.
        right: number of these that the onset followed within the horizon.
        event: whether there was an onset.
        lead_hours: lead time from the first alarm within the horizon to the onset; NaN if there was no such alarm: the event
            was missed.
    """

    patient: Int64
    days: Float64
    alarms: Int64
    right: Int64
    event: NDArray[np.bool_]
    lead_hours: Float64

    def figures(self) -> dict[str, float]:
        """Return ``event_recall, alarm_precision, alarms_per_patient_day`` and ``lead_time_hours``, the median."""
        caught = ~np.isnan(self.lead_hours)
        return {
            "event_recall": float(ratio(caught.sum(), self.event.sum())),
            "alarm_precision": float(ratio(self.right.sum(), self.alarms.sum())),
            "alarms_per_patient_day": float(ratio(self.alarms.sum(), self.days.sum())),
            "lead_time_hours": float(np.median(self.lead_hours[caught])) if caught.any() else float("nan"),
        }

    def draws(self, resamples: Resamples) -> dict[str, Float64]:
        """Return the :meth:`figures` in each resample of the patients, each of shape (RESAMPLES,)."""
        caught, alarms = ~np.isnan(self.lead_hours), resamples.sums(self.alarms)
        order = np.flatnonzero(caught)[np.argsort(self.lead_hours[caught], kind="stable")]
        return {
            "event_recall": ratio(resamples.sums(caught), resamples.sums(self.event)),
            "alarm_precision": ratio(resamples.sums(self.right), alarms),
            "alarms_per_patient_day": ratio(alarms, resamples.sums(self.days)),
            "lead_time_hours": _medians(self.lead_hours[order], resamples.times[:, resamples.patient[order]]),
        }

    def bounds(self, draws: Mapping[str, Float64]) -> dict[str, float]:
        """Return 95 % intervals as ``<figure>_low`` and ``<figure>_high``.

        Rates and times have percentile intervals. Recall and precision are proportions of often few patients, sometimes of all
        or none of them. There a bootstrap is too sure, so they have exact limits, those of precision clustered by patient.

        Args:
            draws: as :meth:`draws` returns them.
        """
        recall = clopper_pearson(float((~np.isnan(self.lead_hours)).sum()), float(self.event.sum()))
        _, *precision = proportion_limits(self.by_patient(self.right), self.by_patient(self.alarms))
        return percentile_bounds({name: draws[name] for name in ("alarms_per_patient_day", "lead_time_hours")}) | {
            "event_recall_low": recall[0],
            "event_recall_high": recall[1],
            "alarm_precision_low": precision[0],
            "alarm_precision_high": precision[1],
        }

    def resamples(self, seed: int) -> Resamples:
        """Draw resamples of the patients; the rows are the subjects."""
        return Resamples.draw(self.patient, seed)

    def by_patient(self, value: ArrayLike) -> Float64:
        """Return the sums of the subjects' values within each patient, shape (n_patients,)."""
        return np.bincount(self.patient, weights=np.asarray(value, dtype=np.float64)).astype(np.float64)


def rows_before_onset(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the rows on which alarms count, ordered by subject and time: those before a known onset, or without one."""
    before = frame["onset"].isna() | ((frame["index_time"] < frame["onset"]) & frame["onset_known"])
    return frame[before].sort_values(["subject_id", "index_time"], kind="stable")


def build_timeline(frame: pd.DataFrame) -> AlarmTimeline:
    """Build the timeline of a frame; an empty one if the task has one index time per stay: no alarms, and figures are NaN."""
    return AlarmTimeline.from_frame(frame if frame["subject_id"].duplicated().any() else frame.iloc[:0])


def count_alarms_where(frame: pd.DataFrame, above: NDArray[np.bool_]) -> AlarmCounts:
    """Count the alarms of thresholds that differ between rows.

    Args:
        frame: as :meth:`AlarmTimeline.from_frame` takes it, without ``probability``.
        above: where the row's threshold is reached, shape (n_rows,).
    """
    return AlarmTimeline.from_frame(frame.assign(probability=above.astype(np.float64))).count(1.0)


def threshold_at_budget(timeline: AlarmTimeline, alarms_per_patient_day: float) -> float:
    """Return the lowest threshold that keeps the alarms within the budget; a value just above all risks if none does."""
    return _lowest(
        timeline.probability, lambda at: timeline.alarms_at(at).sum() <= alarms_per_patient_day * timeline.patient_days
    )


def threshold_without_labels(frame: pd.DataFrame, alarms_per_patient_day: float) -> float:
    """Return the threshold for a budget while events are unknown, as in a ward that is new to a model.

    Hours after an onset count too, because they cannot be told apart. So before onsets the alarms stay a little below the
    budget.

    Args:
        frame: ``subject_id, index_time, probability`` of every hour of the ward's patients.
        alarms_per_patient_day: the budget.
    """
    return threshold_at_budget(AlarmTimeline.from_unlabelled_frame(frame), alarms_per_patient_day)


def threshold_at_recall(timeline: AlarmTimeline, event_recall: float) -> float:
    """Return the highest threshold that still catches this share of the onsets; the lowest risk if none does."""
    beyond = _lowest(timeline.probability, lambda at: not timeline.count(at).figures()["event_recall"] >= event_recall)
    below = timeline.probability[timeline.probability < beyond]
    return float(below.max() if len(below) else beyond)


def _lowest(risk: Float64, holds: Callable[[float], bool]) -> float:
    """Return the lowest risk from which on a condition holds, by bisection; a number just above all risks if it never does."""
    candidates = np.unique(risk[~np.isnan(risk)])
    candidates = np.append(candidates, np.nextafter(candidates[-1], np.inf)) if len(candidates) else np.array([np.inf])
    low, high = 0, len(candidates) - 1
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(float(candidates[middle])) else (middle + 1, high)
    return float(candidates[low])


def _medians(value: Float64, times: NDArray[np.int32]) -> Float64:
    """Return the median of ascending values in each resample, each counted as often as it was drawn; NaN if none was."""
    if not len(value):
        return np.full(len(times), np.nan)
    reached = np.cumsum(times, axis=1)
    drawn = reached[:, -1]
    lower, upper = ((reached >= rank[:, None]).argmax(axis=1) for rank in ((drawn + 1) // 2, drawn // 2 + 1))
    return np.where(drawn > 0, (value[lower] + value[upper]) / 2, np.nan)


def _microseconds(duration: timedelta) -> int:
    return duration // timedelta(microseconds=1)


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _fire(
    subject: Int64,
    time: Int64,
    probability: Float64,
    threshold: float,
    net_score: Float64,
    net_spot: Float64,
    news2_from: int,
    refractory_period: int,
    holds_for: int,
    longest_dip: int,
) -> NDArray[np.bool_]:
    """Return where an alarm sounds, by the rules of :func:`vigil.models.alarms.policy.decide` without a budget."""
    fired = np.zeros(len(time), dtype=np.bool_)
    last, emergency, since, dipped_at = -1, False, -1, -1
    for i in range(len(time)):
        if i == 0 or subject[i] != subject[i - 1]:
            last, emergency, since, dipped_at = -1, False, -1, -1
        if net_score[i] < ENDS_BELOW:
            emergency = False
        if net_score[i] >= news2_from:
            if since < 0 or (dipped_at >= 0 and time[i] - time[dipped_at] > longest_dip):
                since = i
            dipped_at = -1
        elif net_score[i] >= ENDS_BELOW:
            dipped_at = i if since >= 0 and dipped_at < 0 else dipped_at
        elif not (np.isnan(probability[i]) and np.isnan(net_score[i])):
            since, dipped_at = -1, -1
        refractory = last >= 0 and time[i] - time[last] < refractory_period
        if net_score[i] >= news2_from and (net_spot[i] >= news2_from or time[i] - time[since] >= holds_for):
            fired[i] = not (refractory and emergency)  # the first alarm of the net is news and does not wait
            emergency |= fired[i]
        else:
            fired[i] = probability[i] >= threshold and not refractory
        if fired[i]:
            last = i
    return fired


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _count(
    subject: Int64, lead: Int64, fired: NDArray[np.bool_], counted: NDArray[np.bool_], horizon: int, subjects: int
) -> tuple[Int64, Int64, Int64, NDArray[np.bool_], Int64]:
    """Return by subject: counted rows, alarms and right alarms; whether the last row counts and has an onset; longest lead."""
    rows, alarms, right = np.zeros(subjects, np.int64), np.zeros(subjects, np.int64), np.zeros(subjects, np.int64)
    event, first_lead = np.zeros(subjects, np.bool_), np.zeros(subjects, np.int64)
    for i in range(len(subject)):
        stay = subject[i]
        is_right = fired[i] and lead[i] <= horizon
        if is_right:
            first_lead[stay] = max(first_lead[stay], lead[i])
        if counted[i]:
            rows[stay] += 1
            alarms[stay] += fired[i]
            right[stay] += is_right
        if i + 1 == len(subject) or subject[i + 1] != stay:
            event[stay] = counted[i] and lead[i] < _NO_ONSET
    return rows, alarms, right, event, first_lead
