"""Partitions of features: complete or absent, with the fingerprint of their source."""

import pandas as pd
import pytest

from vigil.features.catalogue import FEATURES, STANDARD, VIEWS, list_features
from vigil.features.observations import TIME
from vigil.features.store.partitions import FeaturePartitions


@pytest.fixture
def parts(tmp_path):
    return FeaturePartitions(tmp_path / "features")


@pytest.fixture
def frame():
    times = pd.Series(pd.to_datetime(["2026-03-01T08:00Z", "2026-03-01T09:00Z"])).astype(TIME)
    values = pd.DataFrame(1.5, index=range(2), columns=list(FEATURES)).astype("float32")
    return pd.concat([pd.DataFrame({"subject_id": ["a", "a"], "index_time": times}), values], axis=1)


def test_holds_compares_the_fingerprint_of_a_partition(parts, frame):
    parts.write(0, frame, "source 1")
    assert parts.is_current(0, "source 1", VIEWS)
    assert not parts.is_current(0, "source 2", VIEWS)
    assert not parts.is_current(1, "source 1", VIEWS)
    assert parts.read_fingerprint(0) == "source 1"


@pytest.mark.parametrize("view", VIEWS)
def test_holds_is_false_for_a_partition_without_one_of_its_files(parts, frame, view):
    parts.write(0, frame, "f")
    parts.write(1, frame, "f")
    (parts.folder / view / "part-00000.parquet").unlink()
    assert not parts.is_current(0, "f", VIEWS)
    assert parts.is_current(0, "f", set(VIEWS) - {view})
    assert parts.views == tuple(VIEWS)
    assert len(parts) == 1


def test_holds_is_false_for_a_file_that_is_not_parquet(parts, frame):
    parts.write(0, frame, "f")
    (parts.folder / "scores" / "part-00000.parquet").write_bytes(b"half a file")
    assert not parts.is_current(0, "f", VIEWS)


def test_views_are_those_that_were_written(parts, frame):
    assert (parts.views, len(parts)) == ((), 0)
    parts.write(0, frame[["subject_id", "index_time", *list_features(*STANDARD)]], "f")
    assert (parts.views, len(parts)) == (STANDARD, 1)
    assert parts.is_current(0, "f", STANDARD)
    assert not parts.is_current(0, "f", VIEWS)


def test_keep_removes_unfinished_files_other_partitions_and_other_views(parts, frame):
    for part in range(3):
        parts.write(part, frame, "f")
    (parts.folder / "scores" / "part-00000.unfinished").write_bytes(b"cut off")
    parts.remove_all_but(2, STANDARD)
    assert (parts.views, len(parts)) == (STANDARD, 2)
    assert {path.name for path in parts.folder.rglob("part-*")} == {"part-00000.parquet", "part-00001.parquet"}


def test_equal_features_give_equal_bytes(parts, frame):
    parts.write(0, frame, "f")
    parts.write(1, frame, "f")
    for view in VIEWS:
        first, second = ((parts.folder / view / f"part-0000{part}.parquet").read_bytes() for part in (0, 1))
        assert first == second


def test_read_latest_gives_the_last_row_of_each_patient(parts, frame):
    other = frame.assign(subject_id="b").iloc[:1]
    parts.write(0, pd.concat([frame, other]), "f")
    latest = parts.read_latest(0, "scores")
    assert latest["subject_id"].tolist() == ["a", "b"]
    assert latest["event_timestamp"].tolist() == [frame["index_time"][1], frame["index_time"][0]]
