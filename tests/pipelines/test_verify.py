"""The proof that training and serving see the same features, and that it would notice if they did not."""

import pandas as pd
import pytest

from features.catalogue import STANDARD, of
from pipelines.jobs import verify_features as verify_module
from pipelines.jobs.build_features import build
from pipelines.jobs.ingest import ingest
from pipelines.jobs.verify_features import SkewError, Verified, verify
from pipelines.sources.cinc2019 import Cinc2019
from pipelines.sources.simulated import SimulatedWard


@pytest.fixture(scope="module")
def ward(tmp_path_factory):
    home = tmp_path_factory.mktemp("verify")
    ingest(SimulatedWard(patients=6, patients_per_batch=3), home)
    return home, build(home).index_times


def test_every_value_of_the_ward_is_compared(ward):
    home, index_times = ward
    found = verify(home)
    features = len(of(*STANDARD))
    assert (found.index_times, found.compared) == (index_times, index_times * features)
    assert (found.online_rows, found.online_compared) == (6, 6 * features)


def test_a_single_bit_is_noticed(ward):
    home, _ = ward
    path = home / "features" / "dynamics" / "part-00001.parquet"
    kept = path.read_bytes()
    frame = pd.read_parquet(path)
    frame.loc[5, "heart_rate_median_24h"] += 2**-17  # the last bit of a heart rate
    frame.to_parquet(path, index=False)
    with pytest.raises(
        SkewError, match="1 of .* values of the batch and of the online computation differ, in 1 features: heart_r"
    ):
        verify_module._verify_part(home, 1)
    path.write_bytes(kept)


def test_what_only_the_task_asks_for_is_compared_too(tmp_path):
    source = SimulatedWard(patients=3, patients_per_batch=3)
    source.task = "mortality"
    ingest(source, tmp_path)
    build(tmp_path)
    features = len(of(*STANDARD, "stay", "organs"))
    assert verify(tmp_path) == Verified(index_times=3, compared=3 * features, online_rows=3, online_compared=3 * features)


def test_real_stays_too(cinc2019_zip, tmp_path, monkeypatch):
    monkeypatch.setattr("pipelines.sources.cinc2019.STAYS_PER_BATCH", 60)
    source = Cinc2019(cinc2019_zip)
    source._files = source._files[:60]
    ingest(source, tmp_path)
    build(tmp_path)
    assert verify_module._verify_part(tmp_path, 0) > 2000
