"""Build: features of every index time of the cohort, into Feast; then, for serving, the latest of each patient online."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from features.batch import build_features, definition
from features.catalogue import computed_for
from features.store.client import Store
from models.cohort import index_times
from pipelines.cohort_store import CohortStore
from pipelines.progress import track, working
from serving.records.clock import keep_replay_clock


@dataclass(frozen=True)
class Built:
    """What a build made: feature rows, and how many parts of the cohort were computed now or found as they should be."""

    index_times: int
    computed: int
    kept: int


def build(home: Path) -> Built:
    """Compute the features of each part of the cohort that is new or has changed, and apply all to Feast.

    They are those of the standard views and of what the models of the cohort's task read besides.

    A run that is cut off loses nothing: the next one finds the finished parts, and ends with the same files, byte for byte.
    """
    cohort, store = CohortStore(home), Store(home)
    parts, views = cohort.parts(), computed_for(cohort.task.feature_service)
    store.withdraw()
    rows = computed = 0
    for part in track(range(parts), "features", parts):
        index = index_times(cohort.read_part("stays", part), cohort.task.index)
        fingerprint = _fingerprint(index, cohort.digest("observations", part), views)
        if not store.parts.holds(part, fingerprint, views):
            store.parts.write(part, build_features(cohort.read_part("observations", part), index, views), fingerprint)
            computed += 1
        rows += len(index)
    store.parts.keep(parts, views)
    with working("apply to Feast"):
        store.apply()
    return Built(rows, computed, parts - computed)


def materialize(home: Path) -> int:
    """Load the latest features of every patient online; the cohort is retrospective, so the clock becomes a replay's.

    Returns the number of patients.
    """
    cohort = CohortStore(home)
    stays = cohort.read("stays")
    for _ in track(Store(home).materialize(cohort.task.feature_service), "materialize", cohort.parts()):
        pass
    keep_replay_clock(home, index_times(stays, cohort.task.index))
    return len(stays)


def _fingerprint(index: pd.DataFrame, observations: str, views: tuple[str, ...]) -> str:
    """Of everything that features are made of: how they are defined, which and when they are asked for, and the readings."""
    hashed = hashlib.blake2b(f"{definition()} {observations} {' '.join(views)}".encode(), digest_size=16)
    hashed.update(pd.util.hash_pandas_object(index, index=False).to_numpy().tobytes())
    return hashed.hexdigest()
