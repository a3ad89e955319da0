"""Build: features of every index time of the cohort, into Feast; then, for serving, the latest of each patient online."""

from pathlib import Path

from features.build import build_features
from features.catalogue import VIEWS
from features.store.client import Store
from models.cohort import index_times
from pipelines.cohort_store import CohortStore
from pipelines.progress import track, working
from serving.clock import keep_replay_clock


def build(home: Path) -> int:
    """Compute all features part by part and apply them to Feast; returns the number of feature rows."""
    cohort, store = CohortStore(home), Store(home)
    parts = track(cohort.iterate("observations", "stays"), "features", cohort.parts())
    store.clear()
    rows = 0
    for part, (observations, stays) in enumerate(parts):
        features = build_features(observations, index_times(stays))
        store.write(features, part)
        rows += len(features)
    with working("apply to Feast"):
        store.apply()
    return rows


def materialize(home: Path) -> int:
    """Load the latest features of every patient online; the cohort is retrospective, so the clock becomes a replay's.

    Returns the number of patients.
    """
    cohort = CohortStore(home)
    stays = cohort.read("stays")
    for _ in track(Store(home).materialize(), "materialize", len(VIEWS)):
        pass
    keep_replay_clock(home, index_times(stays))
    return len(stays)
