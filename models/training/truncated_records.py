"""Truncated records: a stay as if monitoring had begun late, or known by its last set of observations alone."""

from collections.abc import Mapping
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vigil.features.batch import KEYS
from vigil.features.derived import LABORATORY_CARRY_HOURS, SCORE_CARRY_HOURS
from vigil.features.revisions import counts_until
from vigil.features.signal import Kind
from vigil.features.signals import STORED
from vigil.models.training.draws import draw_per_row

Int64 = NDArray[np.int64]

# Index times of a late start that are learned from. Our choice: windows of trends are six hours long, and after twelve hours a
# record is nearly like the whole one.
LATE_HOURS: Final = 12
# Index times of a stay that are learned from by their last set alone. Our choice: hours of a stay repeat each other. Three keep
# the frame small (a tenth of the rows of a cohort of intensive care), and include an hour with an event for most patients with
# one.
LAST_SETS: Final = 3
# Hours for which a reading of the last set counts: as long as scores carry it forward. What nurses chart once a shift or less,
# such as weight, counts as long as a blood result.
CARRY_HOURS: Final[Mapping[Kind, int]] = {
    "vital": SCORE_CARRY_HOURS,
    "support": SCORE_CARRY_HOURS,
    "bedside": LABORATORY_CARRY_HOURS,
    "laboratory": LABORATORY_CARRY_HOURS,
}

_HOUR: Final = 3_600_000_000  # microseconds


def late_start(observations: pd.DataFrame, index: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Begin each stay's record at a random moment between its start and its last index time.

    Args:
        observations: checked observations.
        index: ``subject_id, index_time, start`` and any others, in order of subject and time.

    Returns:
        The observations from that moment on, and the first :data:`LATE_HOURS` index rows from it on. Both leave out subjects
        that are not in the index.
    """
    subject, subjects = pd.factorize(index["subject_id"])
    last = index.drop_duplicates("subject_id", keep="last")
    share = draw_per_row(pd.DataFrame({"subject_id": pd.Categorical(last["subject_id"])}), "record.begins.at")
    start = _microseconds(last["start"])
    begin = start + (share * (_microseconds(last["index_time"]) - start)).astype(np.int64)
    later = np.flatnonzero(_microseconds(index["index_time"]) >= begin[subject])
    rows = index.iloc[later[_rank(subject[later]) < LATE_HOURS]]
    begins = np.append(begin, np.iinfo(np.int64).max)[_positions(observations["subject_id"], subjects)]
    return observations[_microseconds(observations["observed_at"]) >= begins], rows


def last_sets(observations: pd.DataFrame, index: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Keep only the latest observation of each signal, for :data:`LAST_SETS` random index times of each stay.

    Args:
        observations: checked observations.
        index: ``subject_id, index_time`` and any others, in order of subject and time.

    Returns:
        The observations and the index rows. Both have a number in place of the subject, one for each stay and time. An
        observation was observed and recorded by that time, counted then, and is less than :data:`CARRY_HOURS` old.
    """
    subject, subjects = pd.factorize(index["subject_id"])
    times = index[KEYS].assign(subject_id=index["subject_id"].astype("category").array)
    order = np.lexsort((draw_per_row(times, "last.set.is.at.."), subject))
    turn = np.empty(len(index), dtype=np.int64)
    turn[order] = _rank(subject[order])
    chosen = np.flatnonzero(turn < LAST_SETS)
    rows = index.iloc[chosen].assign(subject_id=np.arange(len(chosen)))
    row_of = np.full((LAST_SETS, len(subjects) + 1), -1)  # the last column is for subjects that are not in the index
    row_of[turn[chosen], subject[chosen]] = rows["subject_id"]
    at = np.append(_microseconds(rows["index_time"]), np.iinfo(np.int64).min)  # the last one lies before any observation
    signal, signals = pd.factorize(observations["signal"])
    carried = np.array([CARRY_HOURS[STORED[str(name)].kind] * _HOUR for name in signals], dtype=np.int64)[signal]
    observed, recorded = _microseconds(observations["observed_at"]), _microseconds(observations["recorded_at"])
    until = counts_until(observations)
    observations = observations.drop(columns="superseded_at", errors="ignore")
    value, owner = observations["value"].to_numpy(np.float64), _positions(observations["subject_id"], subjects)
    sets = []
    for row in row_of[:, owner]:
        time = at[row]
        known = np.flatnonzero((observed <= time) & (recorded <= time) & (time < until) & (observed > time - carried))
        series = row[known] * len(signals) + signal[known]
        order = np.lexsort((value[known], recorded[known], observed[known], series))
        latest = known[order[np.diff(series[order], append=-1) != 0]]
        sets.append(observations.iloc[latest].assign(subject_id=row[latest]))
    return pd.concat(sets), rows


def _rank(groups: Int64) -> Int64:
    """Return the number of each row within its group, from 0; the rows of a group follow each other."""
    first = np.flatnonzero(np.diff(groups, prepend=-1))
    return np.arange(len(groups)) - np.repeat(first, np.diff(first, append=len(groups)))


def _positions(names: "pd.Series[str]", among: "pd.Index[str]") -> Int64:
    """Return the position of each name among others; -1 if it is none of them."""
    codes, distinct = pd.factorize(names)
    return pd.Index(among).astype(object).get_indexer(pd.Index(distinct).astype(object))[codes].astype(np.int64)


def _microseconds(times: "pd.Series[pd.Timestamp]") -> Int64:
    return times.to_numpy("datetime64[us]").astype(np.int64)
