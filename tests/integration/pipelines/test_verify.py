"""Verification that training and serving compute the same features, and that it notices a single differing bit."""

import numpy as np
import pandas as pd
import pytest

from vigil.features.catalogue import STANDARD, list_features
from vigil.features.kernel.plan import UNBOUNDED
from vigil.models.tasks import TASKS
from vigil.pipelines.home import Home
from vigil.pipelines.jobs.build_features import build
from vigil.pipelines.jobs.ingest import ingest
from vigil.pipelines.jobs.verify_features import SkewError, VerificationResult, _verify_part, verify_features
from vigil.pipelines.sources.cinc2019 import Cinc2019
from vigil.pipelines.sources.simulated import SimulatedWard


@pytest.fixture(scope="module")
def ward(tmp_path_factory):
    home = tmp_path_factory.mktemp("verify")
    ingest(SimulatedWard(patients=6, patients_per_batch=3), Home(home))
    return home, build(Home(home)).index_times


def test_verify_features_compares_every_value(ward):
    home, index_times = ward
    result = verify_features(Home(home))
    features = len(list_features(*STANDARD))
    assert (result.index_times, result.compared) == (index_times, index_times * features)
    assert (result.online_rows, result.online_compared) == (6, 6 * features)


def test_verify_features_notices_a_single_bit(ward):
    home, _ = ward
    path = home / "features" / "dynamics" / "part-00001.parquet"
    content = path.read_bytes()
    frame = pd.read_parquet(path)
    frame.loc[5, "heart_rate_median_24h"] += 2**-17  # the last bit of a heart rate
    frame.to_parquet(path, index=False)
    with pytest.raises(
        SkewError, match="1 of .* values of the batch and of the online computation differ, in 1 features: heart_r"
    ):
        _verify_part(home, 1)
    path.write_bytes(content)


def test_verify_features_notices_an_online_side_that_ignores_corrections(ward, monkeypatch):
    """In the second partition a retracted reading counted at an index time."""
    home, _ = ward
    assert Home(home).cohort.read_partition("observations", 1)["superseded_at"].notna().any()
    _verify_part(home, 1)
    monkeypatch.setattr("vigil.pipelines.jobs.verify_features.counts_until", lambda rows: np.full(len(rows), UNBOUNDED))
    with pytest.raises(SkewError, match="values of the batch and of the online computation differ"):
        _verify_part(home, 1)


def test_verify_features_compares_views_that_only_the_task_reads(tmp_path):
    source = SimulatedWard(patients=3, patients_per_batch=3)
    source.task = TASKS["mortality"]
    ingest(source, Home(tmp_path))
    build(Home(tmp_path))
    features = len(list_features(*STANDARD, "stay", "organs"))
    assert verify_features(Home(tmp_path)) == VerificationResult(
        index_times=3, compared=3 * features, online_rows=3, online_compared=3 * features
    )


def test_verify_features_passes_on_real_stays(cinc2019_zip, tmp_path, monkeypatch):
    monkeypatch.setattr("vigil.pipelines.sources.cinc2019.STAYS_PER_BATCH", 60)
    source = Cinc2019(cinc2019_zip)
    source._files = source._files[:60]
    ingest(source, Home(tmp_path))
    build(Home(tmp_path))
    assert _verify_part(tmp_path, 0) > 2000
