"""Compute the features of every index time of the cohort into Feast, and load the latest of each patient online."""

import hashlib
from dataclasses import dataclass

import pandas as pd

from vigil.features.batch import build_features, fingerprint_definition
from vigil.features.catalogue import ADDED, views_to_compute
from vigil.features.installed import fingerprint_packages
from vigil.models.cohort import index_times
from vigil.pipelines.home import Home
from vigil.pipelines.progress import timed_step, track
from vigil.serving.records.clock import store_replay_clock


@dataclass(frozen=True)
class BuildResult:
    """Result of a build.

    Attributes:
        index_times: number of feature rows.
        computed: partitions whose features were computed.
        reused: partitions whose features were up to date.
    """

    index_times: int
    computed: int
    reused: int


def build(home: Home) -> BuildResult:
    """Compute the features of each partition of the cohort that is new or has changed, and apply all to Feast.

    The views are the standard ones and those that the models of the cohort's task read.

    An interrupted run loses nothing. The next run reuses the finished partitions and ends with the same files, byte for byte.
    """
    cohort, store = home.cohort, home.features
    parts, views = cohort.count_partitions(), views_to_compute(cohort.task.feature_service)
    home.record_use("features", views)
    store.withdraw()
    rows = computed = 0
    for part in track(range(parts), "features", parts):
        index = index_times(cohort.read_partition("stays", part), cohort.task.index)
        fingerprint = _fingerprint(index, cohort.digest("observations", part), views)
        if not store.partitions.is_current(part, fingerprint, views):
            store.partitions.write(part, build_features(cohort.read_partition("observations", part), index, views), fingerprint)
            computed += 1
        rows += len(index)
    store.partitions.remove_all_but(parts, views)
    with timed_step("apply to Feast"):
        store.apply()
    return BuildResult(rows, computed, parts - computed)


def materialize(home: Home) -> int:
    """Load the latest features of every patient into the online store; return the number of patients.

    The cohort lies in the past, so the home's clock becomes a replay clock: it shows each patient's last index time.
    """
    cohort = home.cohort
    stays = cohort.read("stays")
    for _ in track(home.features.materialize(cohort.task.feature_service), "materialize", cohort.count_partitions()):
        pass
    store_replay_clock(home.path, index_times(stays, cohort.task.index))
    return len(stays)


def _fingerprint(index: pd.DataFrame, observations: str, views: tuple[str, ...]) -> str:
    """Return a digest of everything that features depend on: definitions, views, index times and observations."""
    added = f" {fingerprint_packages()}" if ADDED.keys() & set(views) else ""  # the views of Vigil depend on no package
    hashed = hashlib.blake2b(f"{fingerprint_definition()} {observations} {' '.join(views)}{added}".encode(), digest_size=16)
    hashed.update(pd.util.hash_pandas_object(index, index=False).to_numpy().tobytes())
    return hashed.hexdigest()
