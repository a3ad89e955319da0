"""Moments: the observations known of a patient at one index time, as a subject of its own.

Directional tests change moments and score them again.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vigil.features.batch import KEYS, build_features
from vigil.features.derived import SCORE_CARRY_HOURS
from vigil.features.observations import TIME
from vigil.features.revisions import counts_until

Int64 = NDArray[np.int64]
Float64 = NDArray[np.float64]
Bool = NDArray[np.bool_]

# The number of moments to try. Ours: 300 show a share of 5 % to within 2 to 3 percentage points, in seconds.
MOST_MOMENTS: Final = 300
# Lengths of the history: little more than one set of readings; a shift; longer. Ours: a model reads windows of 1, 6 and 24 h.
LENGTHS: Final = ("under 2 h", "2 to 12 h", "over 12 h")
_LENGTH_EDGES: Final = (2.0, 12.0)
_HOUR: Final = np.timedelta64(1, "h")


@dataclass(frozen=True)
class Moments:
    """Index times, each as a subject of its own.

    Attributes:
        observations: checked observations; ``subject_id`` is the name of the moment. They were observed and recorded by its
            index time, and are ordered by moment, signal, ``observed_at``, ``recorded_at`` and value.
        index: one row per moment, in order of its name, as :func:`vigil.features.batch.build_features` expects it.
        length: length of the history: hours since the first observation became known, shape (n_moments,).
    """

    observations: pd.DataFrame
    index: pd.DataFrame
    length: Float64

    def __len__(self) -> int:
        """Return the number of moments."""
        return len(self.index)

    def features(self, views: Iterable[str]) -> pd.DataFrame:
        """Return the feature row of each moment, in order."""
        return build_features(self.observations, self.index, views)

    def moment_numbers(self) -> Int64:
        """Return the row in ``index`` of each observation's moment, shape (n_observations,)."""
        names = self.observations["subject_id"].array
        assert isinstance(names, pd.Categorical)
        return np.asarray(pd.Index(self.index["subject_id"]).get_indexer(names.categories)[names.codes], dtype=np.int64)

    def select(self, chosen: Bool) -> Self:
        """Return the moments where ``chosen``, of shape (n_moments,), is true."""
        readings = self.observations[chosen[self.moment_numbers()]]
        return replace(self, observations=readings, index=self.index[chosen].reset_index(drop=True), length=self.length[chosen])

    def latest_values(self) -> pd.DataFrame:
        """Return the latest value of each signal that is less than a day old: one row per moment, one column per signal."""
        latest_values = self.observations[self.is_latest()].astype({"subject_id": object, "signal": object})
        return (
            latest_values.pivot_table("value", "subject_id", "signal").reindex(self.index["subject_id"]).reset_index(drop=True)
        )

    def is_latest(self) -> Bool:
        """Return whether each observation is the latest of its signal and less than a day old, shape (n_observations,)."""
        readings = self.observations
        last = ~readings.duplicated(["subject_id", "signal"], keep="last").to_numpy()
        now = self.index["index_time"].to_numpy("datetime64[us]")[self.moment_numbers()]
        return np.asarray(last & (now - readings["observed_at"].to_numpy("datetime64[us]") < SCORE_CARRY_HOURS * _HOUR))


def choose_moments(observations: pd.DataFrame, index: pd.DataFrame, *, at_most: int = MOST_MOMENTS) -> Moments:
    """Choose index times of a cohort, equally many of each length of history as far as there are, as moments.

    The choice depends only on the subject and the time of each row.

    Args:
        observations: checked observations.
        index: one row per index time, as :func:`vigil.features.batch.build_features` expects it. Index times without a known
            observation are left out.
        at_most: the number of moments to choose.
    """
    index = index.sort_values(KEYS, kind="stable", ignore_index=True)
    observations = observations[observations["subject_id"].isin(index["subject_id"])]
    known_at = _known_at(observations)
    first = pd.Series(known_at, index=observations["subject_id"].astype(object)).groupby(level=0).min()
    length = _hours(
        index["index_time"].to_numpy("datetime64[us]") - first.reindex(index["subject_id"]).to_numpy("datetime64[us]")
    )
    chosen = np.sort(np.concatenate([positions[: -(-at_most // len(LENGTHS))] for positions in _by_length(index, length)]))
    return split_into_moments(observations, index.iloc[chosen])


def split_into_moments(observations: pd.DataFrame, index: pd.DataFrame) -> Moments:
    """Turn each index time into a subject of its own that holds only the observations that were known and counted then.

    Args:
        observations: checked observations.
        index: one row per index time, as :func:`vigil.features.batch.build_features` expects it.
    """
    index = index.sort_values(KEYS, kind="stable", ignore_index=True)
    subject = pd.Index(index["subject_id"].unique()).get_indexer(pd.Index(observations["subject_id"].astype(object)))
    observations = observations.assign(_subject=subject)[subject >= 0]
    observations = observations.sort_values(["_subject", "signal", "observed_at", "recorded_at", "value"], kind="stable")
    bounds = np.searchsorted(observations["_subject"].to_numpy(), np.arange(subject.max(initial=-1) + 2))
    known_at, until = _known_at(observations), counts_until(observations).astype("datetime64[us]")
    positions, lengths = [], np.full(len(index), np.nan)
    subject_of_row, _ = pd.factorize(index["subject_id"])
    for row, (subject_number, time) in enumerate(
        zip(subject_of_row, index["index_time"].to_numpy("datetime64[us]"), strict=True)
    ):
        begin, end = (bounds[subject_number], bounds[subject_number + 1]) if subject_number + 1 < len(bounds) else (0, 0)
        known = begin + np.flatnonzero((known_at[begin:end] <= time) & (time < until[begin:end]))
        positions.append(known)
        if len(known):
            lengths[row] = (time - known_at[known].min()) / _HOUR
    names = pd.Index([f"moment-{row:06d}" for row in range(len(index))])
    readings = observations.drop(columns=["_subject", "superseded_at"], errors="ignore").iloc[
        np.concatenate([*positions, np.empty(0, dtype=np.int64)]).astype(np.int64)
    ]
    moment = pd.Categorical.from_codes(np.repeat(np.arange(len(index)), [len(known) for known in positions]), categories=names)
    readings = readings.assign(subject_id=moment, signal=pd.Categorical(readings["signal"]))
    return Moments(readings.reset_index(drop=True), index.assign(subject_id=names), lengths)


def classify_length(length: Float64) -> NDArray[np.int64]:
    """Return the position in :data:`LENGTHS` of each length in hours.

    >>> import numpy as np
    >>> classify_length(np.array([0.5, 2.0, 30.0])).tolist()
    [0, 1, 2]
    """
    return np.digitize(length, _LENGTH_EDGES).astype(np.int64)


def _by_length(index: pd.DataFrame, length: Float64) -> list[Int64]:
    """Return the positions of the index times of each length, ordered by a hash of subject and time."""
    keys = index[KEYS].astype({"subject_id": object, "index_time": TIME})
    order = np.argsort(pd.util.hash_pandas_object(keys, index=False, hash_key="vigil.of.moments").to_numpy(), kind="stable")
    known = order[~np.isnan(length[order]) & (length[order] >= 0)]
    return [known[classify_length(length[known]) == number] for number in range(len(LENGTHS))]


def _known_at(observations: pd.DataFrame) -> "NDArray[np.datetime64]":
    """Return when each observation became known, that is both observed and recorded."""
    observed, recorded = (observations[column].to_numpy("datetime64[us]") for column in ("observed_at", "recorded_at"))
    return np.asarray(np.maximum(observed, recorded), dtype="datetime64[us]")


def _hours(duration: "NDArray[np.timedelta64]") -> Float64:
    """Return durations in hours; NaN if missing."""
    return np.asarray(np.where(np.isnat(duration), np.nan, duration / _HOUR), dtype=np.float64)
