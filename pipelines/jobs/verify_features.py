"""Verify that training and serving compute the same features, bit for bit.

The batch features are what Feast's point-in-time join returns from the files of the home. The online features are computed from
the observations of one patient, one index time after another. Each index time knows only what was recorded by then, after the
computation has dropped the observations that it no longer needs. The last index time of each stay then goes through Feast's
online store and back.
"""

import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vigil.features.batch import KEYS, PATIENT_COLUMNS, encode_observations
from vigil.features.catalogue import STANDARD, list_features, views_to_compute
from vigil.features.errors import VigilError
from vigil.features.kernel.plan import UNBOUNDED, Int64
from vigil.features.observations import TIME
from vigil.features.online import SubjectFeatures
from vigil.features.revisions import counts_until
from vigil.models.cohort import index_times
from vigil.pipelines.cohort_store import CohortStore
from vigil.pipelines.environment import prepare_process
from vigil.pipelines.home import Home
from vigil.pipelines.progress import track

EVERYTHING: Final = "everything"  # the feature service of all standard features

Float32 = NDArray[np.float32]


class SkewError(VigilError):
    """A feature that differs between training and serving."""


@dataclass(frozen=True)
class VerificationResult:
    """Numbers of rows and values that were compared and are equal.

    Attributes:
        index_times: rows compared, batch against online computation.
        compared: values of these rows.
        online_rows: rows compared after their way through the online store.
        online_compared: values of these rows.
    """

    index_times: int
    compared: int
    online_rows: int
    online_compared: int


def verify_features(home: Home) -> VerificationResult:
    """Compare every feature of the home at every index time; load each stay's last index time into the online store.

    Raises:
        SkewError: a value differs.
    """
    cohort, store = home.cohort, home.features
    services, names = _services(cohort), list(list_features(*_views(cohort)))
    rows = online_rows = 0
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn"), initializer=prepare_process) as pool:
        parts = pool.map(_verify_part, *zip(*[(home.path, part) for part in range(cohort.count_partitions())], strict=True))
        for part_rows in track(parts, "batch against online computation", cohort.count_partitions()):
            rows += part_rows
    for service in services:
        for _ in track(store.materialize(service), "write last index times online", cohort.count_partitions()):
            pass
    for part in track(range(cohort.count_partitions()), "read them back", cohort.count_partitions()):
        last = index_times(cohort.read_partition("stays", part), cohort.task.index).groupby("subject_id", sort=False).tail(1)
        batch = _joined([store.read_training_frame(last[KEYS], service) for service in services])
        online = [store.online(batch["subject_id"].tolist(), service) for service in services]
        if not all(batch["index_time"].equals(frame["index_time"]) for frame in online):
            raise SkewError(
                "the online store holds other times than the last of each stay; is another process writing to this home? If "
                "so, stop it and try again"
            )
        _compare(batch[names], _joined(online)[names].to_numpy(), "the online store")
        online_rows += len(batch)
    return VerificationResult(rows, rows * len(names), online_rows, online_rows * len(names))


def _views(cohort: CohortStore) -> tuple[str, ...]:
    """Return the views that the cohort's home computes."""
    return views_to_compute(cohort.task.feature_service)


def _services(cohort: CohortStore) -> list[str]:
    """Return feature services that together read all features of these views."""
    return [EVERYTHING] if _views(cohort) == STANDARD else [EVERYTHING, cohort.task.feature_service]


def _joined(frames: list[pd.DataFrame]) -> pd.DataFrame:
    """Join features of the same rows, each feature once."""
    frame = pd.concat(frames, axis=1)
    return frame.loc[:, ~frame.columns.duplicated()]


def _verify_part(home_path: Path, part: int) -> int:
    """Verify one partition of the cohort in a process of its own; return the number of index times."""
    home = Home(home_path)
    views = _views(home.cohort)
    index = index_times(home.cohort.read_partition("stays", part), home.cohort.task.index)
    batch = _joined([home.features.read_training_frame(index[KEYS], service) for service in _services(home.cohort)])
    online = np.concatenate(list(online_features(home.cohort.read_partition("observations", part), index, views)))
    _compare(batch[list(list_features(*views))], online, "the online computation")
    return len(index)


def online_features(observations: pd.DataFrame, index: pd.DataFrame, views: tuple[str, ...]) -> Iterator[Float32]:
    """Compute the features of each subject as the online path does at each index time.

    Yields:
        The features of one subject, shape (n_index_times, n_features).
    """
    until = pd.Series(counts_until(observations), index=observations.index)
    rows_of = {subject: rows.index for subject, rows in observations.groupby("subject_id", sort=False, observed=True)}
    for subject, rows in index.groupby("subject_id", sort=True):
        known = observations.loc[rows_of.get(subject, [])]
        known_until = until[known.index].to_numpy()
        yield _features_of_subject(known.drop(columns="superseded_at", errors="ignore"), known_until, rows, views)


def _features_of_subject(observations: pd.DataFrame, until: Int64, index: pd.DataFrame, views: tuple[str, ...]) -> Float32:
    """Compute the features of one subject. As in the server, what a correction or retraction concerns is computed anew."""
    stay = index.iloc[0]
    facts = {name: stay[name] for name in (*PATIENT_COLUMNS, "pregnant") if name in stay}
    order = np.argsort(observations["recorded_at"].to_numpy("datetime64[us]"), kind="stable")
    columns = [column[order] for column in encode_observations(observations)]
    recorded, until = columns[2], until[order]
    changes = np.unique(until[until < UNBOUNDED])
    features = np.empty((len(index), len(list_features(*views))), dtype=np.float32)
    patient, first, changed = SubjectFeatures(**facts, views=views), 0, 0
    for row, t in enumerate(index["index_time"].astype(TIME).to_numpy("datetime64[us]").astype(np.int64)):
        last = int(np.searchsorted(recorded, t, side="right"))
        if (changed_now := int(np.searchsorted(changes, t, side="right"))) > changed:
            patient, first, changed = SubjectFeatures(**facts, views=views), 0, changed_now
        counts = until[first:last] > t
        patient.insert(*(column[first:last][counts] for column in columns))
        first = last
        features[row] = patient.at(np.array([t]))[0]
        patient.forget(int(t))
    return features


def _compare(batch: pd.DataFrame, other: Float32, what: str) -> None:
    values, other = np.ascontiguousarray(batch.to_numpy()), np.ascontiguousarray(other)
    differs = (values.view(np.int32) != other.view(np.int32)) & ~(np.isnan(values) & np.isnan(other))
    if differs.any():
        names = [str(name) for name, column in zip(batch, differs.any(axis=0), strict=True) if column]
        raise SkewError(
            f"{differs.sum():,} of {differs.size:,} values of the batch and of {what} differ, in {len(names)} features: "
            f"{', '.join(names[:5])}; was the code changed after vigil features? If so, run that again; if not, it is a defect"
        )
