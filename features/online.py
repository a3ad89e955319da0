"""Compute the features of one patient online, as observations arrive. The computation is that of a whole cohort.

Only recent observations are kept. Observations older than the longest window of their signal are replaced by their exact sums.
The first day is kept, because a late observation may still change its beginning.
"""

from collections.abc import Sequence
from typing import Final

import numba
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vigil.features.batch import (
    IndexTimes,
    compute_features,
    encode_observations,
    fill_from_windows,
    plan_computation,
    severity,
)
from vigil.features.catalogue import STANDARD
from vigil.features.kernel import ObservationArrays, compute_window_statistics
from vigil.features.kernel.plan import HOUR_US, UNBOUNDED, Int64, Plan
from vigil.features.signals import BOUNDS, STORED_NAMES

# Observations of each signal for which there is space at first. Few patients have bounds.
_INITIAL_CAPACITY: Final = np.array([4 if name in BOUNDS else 64 for name in STORED_NAMES])

_ONE_ROW: Final = np.array([0, 1])  # bounds of index times

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]


class SubjectFeatures:
    """The observations of one patient that features still need, and the features at any time from now on.

    >>> from vigil.features.observations import check
    >>> time = pd.Timestamp("2026-01-31T08:00:00Z")
    >>> patient = SubjectFeatures(views=("vital_signs",))
    >>> patient.add(check(
    ...     pd.DataFrame({"subject_id": ["a"], "observed_at": time, "signal": "heart_rate", "value": 112.0})
    ... ).accepted)
    >>> features = patient.at(np.array([time.value // 1000]))
    >>> features.shape == (1, len(plan_computation(("vital_signs",)).features))
    True
    >>> features[0, plan_computation(("vital_signs",)).features.index("heart_rate_last_24h")].item()
    112.0
    """

    def __init__(
        self,
        age: float = np.nan,
        sex: float = np.nan,
        unit_admitted_at: pd.Timestamp = pd.NaT,  # type: ignore[assignment]
        hospital_admitted_at: pd.Timestamp = pd.NaT,  # type: ignore[assignment]
        views: tuple[str, ...] = STANDARD,
        pregnant: float = np.nan,
    ) -> None:
        """Start without observations.

        Args:
            age: Years, or NaN if unknown.
            sex: 0 female, 1 male, or NaN if unknown.
            unit_admitted_at, hospital_admitted_at: Times with a time zone, or NaT if unknown.
            views: Views to compute. Observations that only other views need are forgotten earlier.
            pregnant: 0 or 1, or NaN if unknown.

        Raises:
            ValueError: An admission time has no time zone.
        """
        self.views = views
        self.patient = {
            "age": age,
            "sex": sex,
            "unit_admitted": _to_microseconds(unit_admitted_at),
            "hospital_admitted": _to_microseconds(hospital_admitted_at),
            "pregnant": pregnant,
        }
        space = int(_INITIAL_CAPACITY.sum())
        self._observed, self._recorded, self._steps = (np.zeros(space, dtype=np.int64) for _ in range(3))
        self._begin = np.cumsum(_INITIAL_CAPACITY) - _INITIAL_CAPACITY  # start of each signal's space in the arrays
        self._end = self._begin.copy()
        self._forgotten = np.zeros((len(STORED_NAMES), 1, 3), dtype=np.int64)
        self._forgotten_at = -UNBOUNDED

    def __len__(self) -> int:
        """Return the number of observations kept."""
        return int((self._end - self._begin).sum())

    def add(self, observations: pd.DataFrame) -> None:
        """Add checked observations of this patient, in any order.

        An observation has no effect on features at times before it was recorded. A duplicate counts once. Duplicates of
        observations that were already forgotten are not detected: the caller must leave them out, as the journal does.

        Raises:
            ObservationError: An observation was not checked.
        """
        self.insert(*encode_observations(observations))

    def insert(self, signal: Int64, observed: Int64, recorded: Int64, steps: Int64) -> None:
        """Add observations that :func:`vigil.features.batch.encode_observations` encoded as arrays.

        Args:
            signal: Position of the signal in ``computation().signals``.
            observed, recorded: Microseconds UTC.
            steps: Values in steps of the signal's resolution.
        """
        needed = self._end - self._begin + np.bincount(signal, minlength=len(self._begin))
        capacity = np.diff(self._begin, append=len(self._observed))
        if (needed > capacity).any():
            self._reallocate(np.where(needed > capacity, 2 * needed, capacity))
        new = signal, observed, recorded, steps
        if not _is_strictly_sorted(signal, observed, recorded):
            order = np.lexsort((steps, severity(signal, steps), recorded, observed, signal))
            new = signal[order], observed[order], recorded[order], steps[order]
        if _merge(self._observed, self._recorded, self._steps, self._begin, self._end, *new):
            for code in np.unique(signal):
                self._order_ties(code)

    def at(self, times: Int64) -> Float32:
        """Compute the features as known at each time.

        Args:
            times: Microseconds UTC, ascending.

        Returns:
            Array of shape (n_times, n_features) with the columns ``computation(views).features``.

        Raises:
            ValueError: The times do not ascend, or one lies before the latest time that was passed to :meth:`forget`.
        """
        if (np.diff(times) < 0).any():
            raise ValueError("times: not in order; expected ascending times; sort them first")
        self._check_remembered(times)
        index_times = IndexTimes(
            times=times,
            bounds=np.array([0, len(times)]),
            **{name: np.full(len(times), value) for name, value in self.patient.items()},
        )
        return compute_features(self._readings, index_times, self.views)

    def compute_windows(self, time: Int64, out: Float64) -> None:
        """Write the window statistics as known at a time, shape (1,), into an array of shape (n_statistics, 1).

        Raises:
            ValueError: The time lies before the latest time that was passed to :meth:`forget`.
        """
        self._check_remembered(time)
        compute_window_statistics(plan_computation(self.views).plan, self._readings, time, _ONE_ROW, out)

    @property
    def _readings(self) -> ObservationArrays:
        begin, end = self._begin[:, None], self._end[:, None]
        return ObservationArrays(self._observed, self._recorded, self._steps, begin, end, self._forgotten)

    def _check_remembered(self, times: Int64) -> None:
        if len(times) and times[0] < self._forgotten_at:
            raise ValueError("times: observations were forgotten up to a later time; expected that time or later")

    def forget(self, t: int) -> None:
        """Replace old observations by their sums, if no feature at or after a time depends on more than the sums.

        Args:
            t: Microseconds UTC. Features can no longer be computed for earlier times.
        """
        longest = _longest_windows(plan_computation(self.views).plan)
        _forget(self._observed, self._recorded, self._steps, self._begin, self._end, longest, t, self._forgotten)
        self._forgotten_at = max(self._forgotten_at, t)

    def _order_ties(self, signal: int) -> None:
        """Order what was observed and recorded at one time by severity, though it was added one after the other."""
        kept = slice(self._begin[signal], self._end[signal])
        observed, recorded, steps = self._observed[kept], self._recorded[kept], self._steps[kept]
        order = np.lexsort((steps, severity(np.full(len(steps), signal), steps), recorded, observed))
        for column in (observed, recorded, steps):
            column[:] = column[order]

    def _reallocate(self, capacity: Int64) -> None:
        begin = np.cumsum(capacity) - capacity
        arrays = []
        for old in (self._observed, self._recorded, self._steps):
            new = np.zeros(capacity.sum(), dtype=np.int64)
            for signal, (first, last) in enumerate(zip(self._begin, self._end, strict=True)):
                new[begin[signal] : begin[signal] + last - first] = old[first:last]
            arrays.append(new)
        self._observed, self._recorded, self._steps = arrays
        self._begin, self._end = begin, begin + self._end - self._begin


def features_of_each(patients: Sequence[SubjectFeatures], times: Int64) -> Float32:
    """Compute the features of several patients, each as known at a time of its own, as :meth:`SubjectFeatures.at` does.

    What is derived from the windows is computed for all of them at once; one by one that takes most of the time.

    Args:
        patients: All of the same views; at least one.
        times: Microseconds UTC, shape (n_patients,).

    Returns:
        Array of shape (n_patients, n_features).

    Raises:
        ValueError: A time lies before the latest time that was passed to :meth:`SubjectFeatures.forget`.
    """
    planned = plan_computation(patients[0].views)
    windows = np.empty((len(patients), planned.width, 1))
    for row, patient in enumerate(patients):
        patient.compute_windows(times[row : row + 1], windows[row])
    known = {name: np.array([patient.patient[name] for patient in patients]) for name in patients[0].patient}
    index_times = IndexTimes(times=times, bounds=np.arange(len(patients) + 1), **known)
    matrix = np.empty((len(planned.features), len(patients)), dtype=np.float32)
    fill_from_windows(planned, np.ascontiguousarray(windows[:, :, 0].T), index_times, matrix)
    return matrix.T


def _longest_windows(plan: Plan) -> Int64:
    """Return the longest window of each signal in microseconds, 0 where a signal has no bounded window."""
    longest = np.zeros(len(plan.steps_per_unit), dtype=np.int64)
    signal = np.repeat(np.arange(len(longest)), np.diff(plan.windows))
    np.maximum.at(longest, signal, np.where(plan.width == UNBOUNDED, 0, plan.width))
    return longest


def _to_microseconds(time: pd.Timestamp) -> float:
    if pd.isna(time):
        return np.nan
    if time.tzinfo is None:
        raise ValueError("admission time without a time zone; expected one such as 2026-01-31T08:00:00Z")
    return float(time.to_datetime64().astype("datetime64[us]").astype(np.int64))


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _is_strictly_sorted(signal: Int64, observed: Int64, recorded: Int64) -> bool:
    for i in range(1, len(signal)):
        if (signal[i - 1], observed[i - 1], recorded[i - 1]) >= (signal[i], observed[i], recorded[i]):
            return False
    return True


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _merge(
    kept_observed: Int64,
    kept_recorded: Int64,
    kept_steps: Int64,
    begin: Int64,
    end: Int64,
    signal: Int64,
    observed: Int64,
    recorded: Int64,
    steps: Int64,
) -> bool:
    """Merge new observations into the kept series. Both are ordered by signal, time observed, time recorded and severity.

    Returns whether a new and a kept observation were observed and recorded at one time, so that they may be out of order.

    The work is proportional to the number of new observations, and of kept observations since the earliest new one. The same
    value at the same time counts once, by its first delivery, as in :func:`vigil.features.observations.check`. Only the kept
    values of the same time are searched. These are few, because a signal has only some hundred different values.
    """
    first, has_ties = 0, False
    while first < len(signal):
        s = signal[first]
        last = first
        while last < len(signal) and signal[last] == s:
            last += 1
        since = begin[s] + np.searchsorted(kept_observed[begin[s] : end[s]], observed[first])
        later_observed = kept_observed[since : end[s]].copy()
        later_recorded = kept_recorded[since : end[s]].copy()
        later_steps = kept_steps[since : end[s]].copy()
        i, j, target, same_time = 0, first, since, since
        while i < len(later_observed) or j < last:
            if i < len(later_observed) and j < last:
                has_ties |= (observed[j], recorded[j]) == (later_observed[i], later_recorded[i])
            if i == len(later_observed) or (j < last and (observed[j], recorded[j]) < (later_observed[i], later_recorded[i])):
                next_observed, next_recorded, next_steps = observed[j], recorded[j], steps[j]
                j += 1
            else:
                next_observed, next_recorded, next_steps = later_observed[i], later_recorded[i], later_steps[i]
                i += 1
            if target == since or kept_observed[target - 1] != next_observed:
                same_time = target
            repeated = False
            for k in range(same_time, target):
                repeated |= kept_steps[k] == next_steps
            if not repeated:
                kept_observed[target], kept_recorded[target], kept_steps[target] = next_observed, next_recorded, next_steps
                target += 1
        end[s] = target
        first = last
    return has_ties


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _forget(
    observed: Int64, recorded: Int64, steps: Int64, begin: Int64, end: Int64, longest: Int64, t: int, forgotten: Int64
) -> None:
    """Replace observations before the longest window by their sums. Keep the first day and the latest known observation."""
    for s in range(len(begin)):
        day_end, latest = t, -1
        for i in range(end[s] - 1, begin[s] - 1, -1):
            if recorded[i] <= t and observed[i] <= t:
                day_end = observed[i] + 24 * HOUR_US
                latest = max(latest, i)
        target = begin[s]
        for i in range(begin[s], end[s]):
            is_old = observed[i] <= t - longest[s] and observed[i] >= day_end and i != latest and recorded[i] <= t
            if is_old:
                forgotten[s, 0, 0] += 1
                forgotten[s, 0, 1] += steps[i]
                forgotten[s, 0, 2] += steps[i] * steps[i]
            else:
                observed[target], recorded[target], steps[target] = observed[i], recorded[i], steps[i]
                target += 1
        end[s] = target
