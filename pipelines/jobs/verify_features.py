"""Verify: the features that training reads and those that serving computes are the same, bit for bit.

Batch is what Feast's point-in-time join returns of the features on disk. Online is what one patient's recent readings give,
hour by hour, each hour knowing only what had been recorded by then and having forgotten what it could. Then the last hour
of each stay goes through Feast's online store and back.
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

from features.batch import KEYS, PATIENT_COLUMNS, as_steps
from features.catalogue import STANDARD, computed_for, of
from features.errors import VigilError
from features.observations import TIME
from features.online import PatientFeatures
from features.store.client import Store
from models.cohort import index_times
from pipelines.cohort_store import CohortStore
from pipelines.environment import settle
from pipelines.progress import track

EVERYTHING: Final = "everything"

Float32 = NDArray[np.float32]


class SkewError(VigilError):
    """Training and serving would see different features."""


@dataclass(frozen=True)
class Verified:
    """How much was compared, and found equal.

    Attributes:
        index_times: hours of stays, each with every feature, batch against online.
        compared: the same, values.
        online_rows: rows that went through the online store and back.
        online_compared: the same, values.
    """

    index_times: int
    compared: int
    online_rows: int
    online_compared: int


def verify(home: Path) -> Verified:
    """Compare every feature of the home at every index time; each stay's last hour is loaded into its online store.

    Raises:
        SkewError: a value differs.
    """
    cohort, store = CohortStore(home), Store(home)
    services, names = _services(cohort), list(of(*_views(cohort)))
    rows = online_rows = 0
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn"), initializer=settle) as pool:
        parts = pool.map(_verify_part, *zip(*[(home, part) for part in range(cohort.parts())], strict=True))
        for part_rows in track(parts, "batch against online, each hour", cohort.parts()):
            rows += part_rows
    for service in services:
        for _ in track(store.materialize(service), "write each stay's last hour online", cohort.parts()):
            pass
    for part in track(range(cohort.parts()), "read it back", cohort.parts()):
        last = index_times(cohort.read_part("stays", part), cohort.task.index).groupby("subject_id", sort=False).tail(1)
        batch = _joined([store.training_frame(last[KEYS], service) for service in services])
        read = [store.online(batch["subject_id"].tolist(), service) for service in services]
        if not all(batch["index_time"].equals(frame["index_time"]) for frame in read):
            raise SkewError("the online store holds other times than each stay's last; is something else writing to this home?")
        _compare(batch[names], _joined(read)[names].to_numpy(), "the online store")
        online_rows += len(batch)
    return Verified(rows, rows * len(names), online_rows, online_rows * len(names))


def _views(cohort: CohortStore) -> tuple[str, ...]:
    """Those that this cohort's home computes."""
    return computed_for(cohort.task.feature_service)


def _services(cohort: CohortStore) -> list[str]:
    """Those that together read all features of these views."""
    return [EVERYTHING] if _views(cohort) == STANDARD else [EVERYTHING, cohort.task.feature_service]


def _joined(frames: list[pd.DataFrame]) -> pd.DataFrame:
    """Features of the same rows, each once."""
    frame = pd.concat(frames, axis=1)
    return frame.loc[:, ~frame.columns.duplicated()]


def _verify_part(home: Path, part: int) -> int:
    """One part of the cohort; returns the number of index times."""
    cohort, store = CohortStore(home), Store(home)
    views = _views(cohort)
    index = index_times(cohort.read_part("stays", part), cohort.task.index)
    batch = _joined([store.training_frame(index[KEYS], service) for service in _services(cohort)])
    online = np.concatenate(list(online_features(cohort.read_part("observations", part), index, views)))
    _compare(batch[list(of(*views))], online, "the online computation")
    return len(index)


def online_features(observations: pd.DataFrame, index: pd.DataFrame, views: tuple[str, ...]) -> Iterator[Float32]:
    """Features of each subject in turn, as the online path would have had them at each index time."""
    observations = observations.sort_values(["subject_id", "recorded_at"], kind="stable", ignore_index=True)
    signal, observed, recorded, steps = as_steps(observations)
    codes, subjects = pd.factorize(observations["subject_id"])
    bounds = np.searchsorted(codes, np.arange(len(subjects) + 1))
    run = {subject: (bounds[number], bounds[number + 1]) for number, subject in enumerate(subjects)}
    for subject, rows in index.groupby("subject_id", sort=True):
        stay = rows.iloc[0]
        facts = {name: stay[name] for name in (*PATIENT_COLUMNS, "pregnant") if name in stay}
        patient = PatientFeatures(**facts, views=views)
        times = rows["index_time"].astype(TIME).to_numpy("datetime64[us]").astype(np.int64)
        first, end = run.get(subject, (0, 0))
        found = np.empty((len(times), len(of(*views))), dtype=np.float32)
        for row, t in enumerate(times):
            known = first + int(np.searchsorted(recorded[first:end], t, side="right"))
            patient.insert(signal[first:known], observed[first:known], recorded[first:known], steps[first:known])
            first = known
            found[row] = patient.at(times[row : row + 1])[0]
            patient.forget(int(t))
        yield found


def _compare(batch: pd.DataFrame, other: Float32, what: str) -> None:
    values, other = np.ascontiguousarray(batch.to_numpy()), np.ascontiguousarray(other)
    differs = (values.view(np.int32) != other.view(np.int32)) & ~(np.isnan(values) & np.isnan(other))
    if differs.any():
        names = [str(name) for name, column in zip(batch, differs.any(axis=0), strict=True) if column]
        raise SkewError(
            f"{differs.sum():,} of {differs.size:,} values of the batch and of {what} differ, in {len(names)} features: "
            f"{', '.join(names[:5])}; was the code changed after vigil features? If a second run says the same, it is a defect"
        )
