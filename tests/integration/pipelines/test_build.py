"""Building features: only new partitions are computed, a crash loses nothing, and the files are always the same."""

import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest

from vigil.features.batch import build_features
from vigil.features.catalogue import STANDARD, VIEWS
from vigil.features.declarations import OWN_UNITS
from vigil.features.observations import check
from vigil.features.store.client import Store
from vigil.models.cohort import index_times
from vigil.models.tasks import TASKS
from vigil.pipelines.cohort_store import CohortStore
from vigil.pipelines.home import Home
from vigil.pipelines.jobs import build_features as build_module
from vigil.pipelines.jobs.build_features import BuildResult, build
from vigil.pipelines.jobs.ingest import ingest
from vigil.pipelines.sources.cinc2019 import Cinc2019
from vigil.pipelines.sources.simulated import SimulatedWard

PARTS = 4
BUILD = """
import sys
from pathlib import Path
from vigil.pipelines.home import Home
from vigil.pipelines.jobs.build_features import build
build(Home(Path(sys.argv[1])))
"""


def ward(task="deterioration", **settings):
    source = SimulatedWard(**{"patients": 20, "patients_per_batch": 20 // PARTS, **settings})
    source.task = TASKS[task]
    return source


def files(home):
    folder = home / "features"
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    home = tmp_path_factory.mktemp("uninterrupted")
    ingest(ward(), Home(home))
    assert build(Home(home)) == BuildResult(len(index_times(CohortStore(home).read("stays"))), computed=PARTS, reused=0)
    return files(home)


def test_build_again_computes_nothing_and_changes_nothing(tmp_path, uninterrupted):
    ingest(ward(), Home(tmp_path))
    first = build(Home(tmp_path))
    ingest(ward(), Home(tmp_path))  # the same observations again
    assert build(Home(tmp_path)) == BuildResult(first.index_times, computed=0, reused=PARTS)
    assert files(tmp_path) == uninterrupted


def test_build_computes_only_the_partition_with_new_observations(tmp_path, uninterrupted):
    ingest(ward(patients=18), Home(tmp_path))  # the last part lacks two patients
    build(Home(tmp_path))
    ingest(ward(), Home(tmp_path))
    assert build(Home(tmp_path)).computed == 1
    assert files(tmp_path) == uninterrupted


def test_build_of_a_smaller_cohort_removes_the_larger_one(tmp_path):
    ingest(ward(), Home(tmp_path))
    build(Home(tmp_path))
    ingest(ward(patients=10), Home(tmp_path))
    index = index_times(CohortStore(tmp_path).read("stays"))
    assert build(Home(tmp_path)) == BuildResult(len(index), computed=0, reused=PARTS // 2)
    assert len(Store(tmp_path).partitions) == PARTS // 2


def test_build_computes_features_again_when_their_definition_changes(tmp_path, monkeypatch):
    ingest(ward(patients=5), Home(tmp_path))
    build(Home(tmp_path))
    monkeypatch.setattr(build_module, "fingerprint_definition", lambda: "another")
    assert build(Home(tmp_path)).computed == 1


def test_build_makes_a_view_only_if_the_task_reads_it(tmp_path, uninterrupted):
    """And removes one that is no longer read: a home with another task equals a new home."""
    for task, views in (
        ("mortality", (*STANDARD, "stay", "organs")),
        ("hypotension", (*STANDARD, "pressure")),
        ("deterioration", STANDARD),
    ):
        ingest(ward(task), Home(tmp_path))
        assert build(Home(tmp_path)).computed == PARTS
        assert Store(tmp_path).partitions.views == views
    assert files(tmp_path) == uninterrupted


def test_build_computes_features_again_when_the_views_change(tmp_path, monkeypatch):
    ingest(ward(patients=5), Home(tmp_path))
    build(Home(tmp_path))
    for views in ((*STANDARD, "pressure"), STANDARD):
        monkeypatch.setattr(build_module, "views_to_compute", lambda _, views=views: views)
        assert build(Home(tmp_path)).computed == 1
        assert Store(tmp_path).partitions.views == views


@pytest.mark.parametrize("written", [1, 11, 20])
def test_build_completes_a_run_that_was_killed(tmp_path, uninterrupted, written):
    ingest(ward(), Home(tmp_path))
    process = subprocess.Popen([sys.executable, "-c", BUILD, str(tmp_path)], stderr=subprocess.DEVNULL)
    while len(list((tmp_path / "features").rglob("*.parquet"))) < written and process.poll() is None:
        time.sleep(0.001)
    process.kill()
    process.wait()
    assert not (tmp_path / "feature_store.yaml").exists()  # no job trains on unfinished features
    assert build(Home(tmp_path)).index_times > 0
    assert files(tmp_path) == uninterrupted


def test_features_at_a_time_do_not_depend_on_later_observations_of_real_stays(cinc2019_zip, monkeypatch):
    monkeypatch.setattr("vigil.pipelines.sources.cinc2019.STAYS_PER_BATCH", 40)
    batch = next(iter(Cinc2019(cinc2019_zip).batches()))
    observations, index = check(batch.observations, declared=OWN_UNITS).accepted, index_times(batch.stays)
    whole = build_features(observations, index, VIEWS)
    rng = np.random.default_rng(7)
    cut = index.groupby("subject_id").sample(1, random_state=rng)
    at = observations["subject_id"].astype(object).map(cut.set_index("subject_id")["index_time"])
    known = observations[(observations["observed_at"] <= at) & (observations["recorded_at"] <= at)]
    assert len(known) < 0.8 * len(observations)
    expected = whole.merge(cut[["subject_id", "index_time"]], on=["subject_id", "index_time"])
    pd.testing.assert_frame_equal(build_features(known, cut, VIEWS), expected, check_exact=True)
