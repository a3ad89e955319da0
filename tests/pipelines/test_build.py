"""Building features: only what is new, nothing lost in a crash, the same files whatever happened on the way."""

import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest

from features.batch import build_features
from features.catalogue import STANDARD, VIEWS
from features.observations import check
from features.store.client import Store
from models.cohort import index_times
from pipelines.cohort_store import CohortStore
from pipelines.jobs import build_features as build_module
from pipelines.jobs.build_features import Built, build
from pipelines.jobs.ingest import ingest
from pipelines.sources.cinc2019 import Cinc2019
from pipelines.sources.simulated import SimulatedWard

PARTS = 4
BUILD = "from pathlib import Path; import sys; from pipelines.jobs.build_features import build; build(Path(sys.argv[1]))"


def ward(**more):
    return SimulatedWard(**{"patients": 20, "patients_per_batch": 20 // PARTS, **more})


def of_task(task, source):
    """The ward, asked another question."""
    source.task = task
    return source


def files(home):
    folder = home / "features"
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    home = tmp_path_factory.mktemp("uninterrupted")
    ingest(ward(), home)
    assert build(home) == Built(len(index_times(CohortStore(home).read("stays"))), computed=PARTS, kept=0)
    return files(home)


def test_a_second_run_computes_nothing_and_changes_nothing(tmp_path, uninterrupted):
    ingest(ward(), tmp_path)
    first = build(tmp_path)
    ingest(ward(), tmp_path)  # the same readings again
    assert build(tmp_path) == Built(first.index_times, computed=0, kept=PARTS)
    assert files(tmp_path) == uninterrupted


def test_only_the_part_with_new_readings_is_computed(tmp_path, uninterrupted):
    ingest(ward(patients=18), tmp_path)  # the last part lacks two patients
    build(tmp_path)
    ingest(ward(), tmp_path)
    assert build(tmp_path).computed == 1
    assert files(tmp_path) == uninterrupted


def test_a_smaller_cohort_leaves_nothing_of_the_larger(tmp_path):
    ingest(ward(), tmp_path)
    build(tmp_path)
    ingest(ward(patients=10), tmp_path)
    assert build(tmp_path) == Built(len(index_times(CohortStore(tmp_path).read("stays"))), computed=0, kept=PARTS // 2)
    assert len(Store(tmp_path).parts) == PARTS // 2


def test_features_defined_otherwise_are_computed_anew(tmp_path, monkeypatch):
    ingest(ward(patients=5), tmp_path)
    build(tmp_path)
    monkeypatch.setattr(build_module, "definition", lambda: "another")
    assert build(tmp_path).computed == 1


def test_a_view_is_built_only_where_the_task_asks_for_it(tmp_path, uninterrupted):
    """And one that is no longer asked for goes: a home of which another question is asked is as a new one."""
    for task, views in (
        ("mortality", (*STANDARD, "stay", "organs")),
        ("hypotension", (*STANDARD, "pressure")),
        ("deterioration", STANDARD),
    ):
        ingest(of_task(task, ward()), tmp_path)
        assert build(tmp_path).computed == PARTS
        assert Store(tmp_path).parts.views == views
    assert files(tmp_path) == uninterrupted


def test_other_views_of_the_same_index_times_are_computed_anew(tmp_path, monkeypatch):
    ingest(ward(patients=5), tmp_path)
    build(tmp_path)
    for views in ((*STANDARD, "pressure"), STANDARD):
        monkeypatch.setattr(build_module, "computed_for", lambda _, views=views: views)
        assert build(tmp_path).computed == 1
        assert Store(tmp_path).parts.views == views


@pytest.mark.parametrize("written", [1, 11, 20])
def test_a_run_that_was_killed_is_completed_by_the_next(tmp_path, uninterrupted, written):
    ingest(ward(), tmp_path)
    process = subprocess.Popen([sys.executable, "-c", BUILD, str(tmp_path)], stderr=subprocess.DEVNULL)
    while len(list((tmp_path / "features").rglob("*.parquet"))) < written and process.poll() is None:
        time.sleep(0.001)
    process.kill()
    process.wait()
    assert not (tmp_path / "feature_store.yaml").exists()  # what is unfinished is not trained on
    assert build(tmp_path).index_times > 0
    assert files(tmp_path) == uninterrupted


def test_cutting_real_stays_off_at_t_leaves_the_features_at_t(cinc2019_zip, monkeypatch):
    monkeypatch.setattr("pipelines.sources.cinc2019.STAYS_PER_BATCH", 40)
    batch = next(iter(Cinc2019(cinc2019_zip).batches()))
    observations, index = check(batch.observations).accepted, index_times(batch.stays)
    whole = build_features(observations, index, VIEWS)
    rng = np.random.default_rng(7)
    cut = index.groupby("subject_id").sample(1, random_state=rng)
    at = observations["subject_id"].astype(object).map(cut.set_index("subject_id")["index_time"])
    known = observations[(observations["observed_at"] <= at) & (observations["recorded_at"] <= at)]
    assert len(known) < 0.8 * len(observations)
    expected = whole.merge(cut[["subject_id", "index_time"]], on=["subject_id", "index_time"])
    pd.testing.assert_frame_equal(build_features(known, cut, VIEWS), expected, check_exact=True)
