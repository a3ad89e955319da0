"""Moments: what was known of patients at single index times, each as a subject of its own, to be changed and scored again."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from features.batch import KEYS, build_features
from features.derived import SCORE_CARRY_HOURS
from features.observations import TIME

Int64 = NDArray[np.int64]
Float64 = NDArray[np.float64]
Bool = NDArray[np.bool_]

# Moments of a cohort that are tried. Ours: so many show a share of 5 % to within 2 to 3 points, in seconds.
MOST_MOMENTS: Final = 300
# Lengths of the history in hours: little more than one set; a shift; longer. Ours: a model reads windows of 1, 6 and 24 h.
LENGTHS: Final = ("under 2 h", "2 to 12 h", "over 12 h")
_LENGTH_EDGES: Final = (2.0, 12.0)
_HOUR: Final = np.timedelta64(1, "h")


@dataclass(frozen=True)
class Moments:
    """Index times as subjects of their own.

    Attributes:
        observations: checked readings; ``subject_id`` names the moment. Only readings that were observed and recorded by its
            index time, ordered by moment, signal, ``observed_at``, ``recorded_at`` and value.
        index: one row a moment, in order of its name, as :func:`features.batch.build_features` takes it.
        length: of the history, hours since the first reading became known; shape (n_moments,).
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

    def numbers(self) -> Int64:
        """Return the position of each reading's moment in ``index``, shape (n_readings,)."""
        named = self.observations["subject_id"].array
        assert isinstance(named, pd.Categorical)
        return np.asarray(pd.Index(self.index["subject_id"]).get_indexer(named.categories)[named.codes], dtype=np.int64)

    def only(self, chosen: Bool) -> Self:
        """Return some of the moments."""
        readings = self.observations[chosen[self.numbers()]]
        return replace(self, observations=readings, index=self.index[chosen].reset_index(drop=True), length=self.length[chosen])

    def latest(self) -> pd.DataFrame:
        """Return the latest value of each signal that is at most a day old: one row a moment, one column a signal."""
        latest = self.observations[self.latest_readings()].astype({"subject_id": object, "signal": object})
        return latest.pivot_table("value", "subject_id", "signal").reindex(self.index["subject_id"]).reset_index(drop=True)

    def latest_readings(self) -> Bool:
        """Return which readings are the latest of their signal and at most a day old, shape (n_readings,)."""
        readings = self.observations
        last = ~readings.duplicated(["subject_id", "signal"], keep="last").to_numpy()
        now = self.index["index_time"].to_numpy("datetime64[us]")[self.numbers()]
        return np.asarray(last & (now - readings["observed_at"].to_numpy("datetime64[us]") < SCORE_CARRY_HOURS * _HOUR))


def moments(observations: pd.DataFrame, index: pd.DataFrame, *, at_most: int = MOST_MOMENTS) -> Moments:
    """Choose index times of a cohort, as many of each length of history as there are, and make moments of them.

    Which are chosen depends on their subject and time alone.

    Args:
        observations: checked.
        index: one row an index time, as :func:`features.batch.build_features` takes it. Times at which no reading was known are
            left out.
        at_most: how many are chosen.
    """
    index = index.sort_values(KEYS, kind="stable", ignore_index=True)
    observations = observations[observations["subject_id"].isin(index["subject_id"])]
    known_at = _known_at(observations)
    first = pd.Series(known_at, index=observations["subject_id"].astype(object)).groupby(level=0).min()
    length = _hours(
        index["index_time"].to_numpy("datetime64[us]") - first.reindex(index["subject_id"]).to_numpy("datetime64[us]")
    )
    chosen = np.sort(np.concatenate([places[: -(-at_most // len(LENGTHS))] for places in _by_length(index, length)]))
    return exploded(observations, index.iloc[chosen])


def exploded(observations: pd.DataFrame, index: pd.DataFrame) -> Moments:
    """Make a subject of each index time, which holds only what was known then.

    Args:
        observations: checked.
        index: as :func:`features.batch.build_features` takes it.
    """
    index = index.sort_values(KEYS, kind="stable", ignore_index=True)
    subject = pd.Index(index["subject_id"].unique()).get_indexer(pd.Index(observations["subject_id"].astype(object)))
    observations = observations.assign(_subject=subject)[subject >= 0]
    observations = observations.sort_values(["_subject", "signal", "observed_at", "recorded_at", "value"], kind="stable")
    bounds = np.searchsorted(observations["_subject"].to_numpy(), np.arange(subject.max(initial=-1) + 2))
    known_at = _known_at(observations).astype("datetime64[us]")
    places, lengths = [], np.full(len(index), np.nan)
    of_row, _ = pd.factorize(index["subject_id"])
    for row, (number, time) in enumerate(zip(of_row, index["index_time"].to_numpy("datetime64[us]"), strict=True)):
        begin, end = (bounds[number], bounds[number + 1]) if number + 1 < len(bounds) else (0, 0)
        known = begin + np.flatnonzero(known_at[begin:end] <= time)
        places.append(known)
        if len(known):
            lengths[row] = (time - known_at[known].min()) / _HOUR
    names = pd.Index([f"moment-{row:06d}" for row in range(len(index))])
    readings = observations.drop(columns="_subject").iloc[
        np.concatenate([*places, np.empty(0, dtype=np.int64)]).astype(np.int64)
    ]
    of_moment = pd.Categorical.from_codes(np.repeat(np.arange(len(index)), [len(known) for known in places]), categories=names)
    readings = readings.assign(subject_id=of_moment, signal=pd.Categorical(readings["signal"]))
    return Moments(readings.reset_index(drop=True), index.assign(subject_id=names), lengths)


def length_class(length: Float64) -> NDArray[np.int64]:
    """Return the position in :data:`LENGTHS` of each length in hours."""
    return np.digitize(length, _LENGTH_EDGES).astype(np.int64)


def _by_length(index: pd.DataFrame, length: Float64) -> list[Int64]:
    """Positions of the index times of each length, in an order that is their own."""
    keys = index[KEYS].astype({"subject_id": object, "index_time": TIME})
    order = np.argsort(pd.util.hash_pandas_object(keys, index=False, hash_key="vigil.of.moments").to_numpy(), kind="stable")
    known = order[~np.isnan(length[order]) & (length[order] >= 0)]
    return [known[length_class(length[known]) == number] for number in range(len(LENGTHS))]


def _known_at(observations: pd.DataFrame) -> "NDArray[np.datetime64]":
    """When each reading became known: observed and recorded."""
    observed, recorded = (observations[column].to_numpy("datetime64[us]") for column in ("observed_at", "recorded_at"))
    return np.asarray(np.maximum(observed, recorded), dtype="datetime64[us]")


def _hours(duration: "NDArray[np.timedelta64]") -> Float64:
    return np.asarray(np.where(np.isnat(duration), np.nan, duration / _HOUR), dtype=np.float64)
