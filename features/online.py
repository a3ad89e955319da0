"""Online: the features of one patient, kept current as readings come, by the same computation as a whole cohort's.

Only recent readings are kept. What is older than the longest window of its signal is summed up, exactly, and forgotten; the
first day stays, since a late reading may yet move its beginning.
"""

from typing import Final

import numba
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from features.batch import IndexTimes, as_steps, computation, feature_matrix
from features.catalogue import STANDARD
from features.kernel import Readings
from features.kernel.plan import HOUR_US, UNBOUNDED, Int64, Plan

_ROOM: Final = 64  # readings of each signal for which there is room at first

Float32 = NDArray[np.float32]


class PatientFeatures:
    """The readings of one patient that features may yet need, and the features as of any time from now on."""

    def __init__(
        self,
        age: float = np.nan,
        sex: float = np.nan,
        unit_admitted_at: pd.Timestamp = pd.NaT,  # type: ignore[assignment]
        hospital_admitted_at: pd.Timestamp = pd.NaT,  # type: ignore[assignment]
        views: tuple[str, ...] = STANDARD,
        pregnant: float = np.nan,
    ) -> None:
        """Begin without readings.

        Args:
            age: years, NaN where unknown.
            sex: 0 female, 1 male, NaN where unknown.
            unit_admitted_at, hospital_admitted_at: NaT where unknown.
            views: what is asked for; readings that only others would need are forgotten sooner.
            pregnant: 0 or 1, NaN where unknown.
        """
        self._views = views
        self._patient = {
            "age": age,
            "sex": sex,
            "unit_admitted": _instant(unit_admitted_at),
            "hospital_admitted": _instant(hospital_admitted_at),
            "pregnant": pregnant,
        }
        signals = len(computation().signals)
        self._observed, self._recorded, self._steps = (np.zeros(signals * _ROOM, dtype=np.int64) for _ in range(3))
        self._begin = np.arange(signals) * _ROOM  # of the room of each signal
        self._end = self._begin.copy()
        self._forgotten = np.zeros((signals, 1, 3), dtype=np.int64)
        self._forgotten_at = -UNBOUNDED

    def __len__(self) -> int:
        """Number of readings kept."""
        return int((self._end - self._begin).sum())

    def add(self, observations: pd.DataFrame) -> None:
        """Take in checked observations of this patient, in any order; nothing is made of those recorded after t until then.

        A reading delivered again counts once, unless it was forgotten already: whoever keeps the journal knows its messages.

        Raises:
            ObservationError: a reading was not checked.
        """
        self.insert(*as_steps(observations))

    def insert(self, signal: Int64, observed: Int64, recorded: Int64, steps: Int64) -> None:
        """The same as arrays: place of the signal in ``computation().signals``, microseconds, and steps of its resolution."""
        needed = self._end - self._begin + np.bincount(signal, minlength=len(self._begin))
        room = np.diff(self._begin, append=len(self._observed))
        if (needed > room).any():
            self._move(np.where(needed > room, 2 * needed, room))
        new = signal, observed, recorded, steps
        if not _in_order(*new):
            order = np.lexsort(new[::-1])
            new = signal[order], observed[order], recorded[order], steps[order]
        _insert(self._observed, self._recorded, self._steps, self._begin, self._end, *new)

    def at(self, times: Int64) -> Float32:
        """Features as known at each time (microseconds UTC, ascending), columns those of ``computation(views).features``.

        Raises:
            ValueError: times that do not ascend, or one before the time up to which readings were forgotten.
        """
        if (np.diff(times) < 0).any():
            raise ValueError("times in another order; expected them to ascend")
        if len(times) and times[0] < self._forgotten_at:
            raise ValueError("as of a time whose readings were forgotten already; expected the latest time of forget, or later")
        at = IndexTimes(
            times=times,
            bounds=np.array([0, len(times)]),
            **{name: np.full(len(times), value) for name, value in self._patient.items()},
        )
        readings = Readings(
            self._observed, self._recorded, self._steps, self._begin[:, None], self._end[:, None], self._forgotten
        )
        return feature_matrix(readings, at, self._views)

    def forget(self, t: int) -> None:
        """Sum up and drop what no feature at or after t (microseconds UTC) can tell from its sum."""
        longest = _longest_windows(computation(self._views).plan)
        _forget(self._observed, self._recorded, self._steps, self._begin, self._end, longest, t, self._forgotten)
        self._forgotten_at = max(self._forgotten_at, t)

    def _move(self, room: Int64) -> None:
        begin = np.cumsum(room) - room
        arrays = []
        for old in (self._observed, self._recorded, self._steps):
            new = np.zeros(room.sum(), dtype=np.int64)
            for signal, (first, last) in enumerate(zip(self._begin, self._end, strict=True)):
                new[begin[signal] : begin[signal] + last - first] = old[first:last]
            arrays.append(new)
        self._observed, self._recorded, self._steps = arrays
        self._begin, self._end = begin, begin + self._end - self._begin


def _longest_windows(plan: Plan) -> Int64:
    """Of each signal, microseconds; 0 where there is none."""
    longest = np.zeros(len(plan.steps_per_unit), dtype=np.int64)
    signal = np.repeat(np.arange(len(longest)), np.diff(plan.windows))
    np.maximum.at(longest, signal, np.where(plan.width == UNBOUNDED, 0, plan.width))
    return longest


def _instant(time: pd.Timestamp) -> float:
    if pd.isna(time):
        return np.nan
    if time.tzinfo is None:
        raise ValueError("admission without a time zone; expected an instant")
    return float(time.to_datetime64().astype("datetime64[us]").astype(np.int64))


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _in_order(signal: Int64, observed: Int64, recorded: Int64, steps: Int64) -> bool:
    for i in range(1, len(signal)):
        before = signal[i - 1], observed[i - 1], recorded[i - 1], steps[i - 1]
        if before > (signal[i], observed[i], recorded[i], steps[i]):
            return False
    return True


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _insert(
    kept_observed: Int64,
    kept_recorded: Int64,
    kept_steps: Int64,
    begin: Int64,
    end: Int64,
    signal: Int64,
    observed: Int64,
    recorded: Int64,
    steps: Int64,
) -> None:
    """Merge readings, in order of signal, time observed, time recorded and value, into their series, in the same order.

    Work is in proportion to the new readings and those kept that were observed since the first of them. The same value at the
    same time counts once, by its first delivery, as :func:`features.observations.check` has it; a signal has some hundred
    values, so those of one time are few.
    """
    first = 0
    while first < len(signal):
        s = signal[first]
        last = first
        while last < len(signal) and signal[last] == s:
            last += 1
        since = begin[s] + np.searchsorted(kept_observed[begin[s] : end[s]], observed[first])
        later_observed = kept_observed[since : end[s]].copy()
        later_recorded = kept_recorded[since : end[s]].copy()
        later_steps = kept_steps[since : end[s]].copy()
        i, j, to, same_time = 0, first, since, since
        while i < len(later_observed) or j < last:
            if i == len(later_observed) or (
                j < last and (observed[j], recorded[j], steps[j]) < (later_observed[i], later_recorded[i], later_steps[i])
            ):
                next_observed, next_recorded, next_steps = observed[j], recorded[j], steps[j]
                j += 1
            else:
                next_observed, next_recorded, next_steps = later_observed[i], later_recorded[i], later_steps[i]
                i += 1
            if to == since or kept_observed[to - 1] != next_observed:
                same_time = to
            repeated = False
            for k in range(same_time, to):
                repeated |= kept_steps[k] == next_steps
            if not repeated:
                kept_observed[to], kept_recorded[to], kept_steps[to] = next_observed, next_recorded, next_steps
                to += 1
        end[s] = to
        first = last


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _forget(
    observed: Int64, recorded: Int64, steps: Int64, begin: Int64, end: Int64, longest: Int64, t: int, forgotten: Int64
) -> None:
    for s in range(len(begin)):
        day_end, latest = t, -1
        for i in range(end[s] - 1, begin[s] - 1, -1):
            if recorded[i] <= t and observed[i] <= t:
                day_end = observed[i] + 24 * HOUR_US
                latest = max(latest, i)
        kept = begin[s]
        for i in range(begin[s], end[s]):
            old = observed[i] <= t - longest[s] and observed[i] >= day_end and i != latest and recorded[i] <= t
            if old:
                forgotten[s, 0, 0] += 1
                forgotten[s, 0, 1] += steps[i]
                forgotten[s, 0, 2] += steps[i] * steps[i]
            else:
                observed[kept], recorded[kept], steps[kept] = observed[i], recorded[i], steps[i]
                kept += 1
        end[s] = kept
