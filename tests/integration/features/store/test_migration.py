"""Migration of the feature store: the features of a store whose join key was ``patient_id`` are read as they were."""

import sqlite3
import tarfile
from contextlib import closing

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from tests.integration.features.store.test_client import random_features, requests
from tests.support import HOMES
from vigil.features.catalogue import SERVICES
from vigil.features.store import client, migration
from vigil.features.store.client import Store, StoreError

SERVICE = "vital_signs_v3"


@pytest.fixture
def former(tmp_path, monkeypatch):
    """A store as the version before wrote it: the migration, applied backwards."""
    store = Store(tmp_path)
    for part, name in enumerate("ab"):
        store.partitions.write(part, random_features(name, range(4), part), fingerprint=f"source {part}")
    store.apply()
    assert list(store.materialize(SERVICE)) == [0, 1]
    config = tmp_path / "feature_store.yaml"
    config.write_text(config.read_text().replace(migration.REVISION, ""))
    with monkeypatch.context() as backwards:
        backwards.setattr(migration, "_KEY", "patient_id")
        backwards.setattr(migration, "_FORMER_KEY", "subject_id")
        migration.migrate_partitions(store.partitions.folder)
        migration.migrate_online(tmp_path / "feast" / "online.db")
    return tmp_path


def stored(home):
    """Return the columns of every feature file and the keys of every online row."""
    from feast.infra.key_encoding_utils import deserialize_entity_key

    columns = {name for path in (home / "features").glob("*/*.parquet") for name in pq.read_schema(path).names}
    with closing(sqlite3.connect(home / "feast" / "online.db")) as online:
        tables = [table for (table,) in online.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        keys = [deserialize_entity_key(key) for table in tables for (key,) in online.execute(f"SELECT entity_key FROM {table}")]
    return columns, {(key.join_keys[0], key.entity_values[0].string_val) for key in keys}


def test_store_of_the_version_before_gives_the_same_features(former):
    columns, keys = stored(former)
    assert "patient_id" in columns
    assert keys == {("patient_id", "a"), ("patient_id", "b")}
    store, names = Store(former), list(SERVICES[SERVICE])
    assert store.is_former
    online = store.online(["a", "b"], SERVICE)
    frame = store.read_training_frame(requests(("a", 2), ("b", 3)), SERVICE)
    for part, (name, hours) in enumerate((("a", 2), ("b", 3))):
        features = random_features(name, range(4), part)[names].to_numpy()
        np.testing.assert_array_equal(online[names].to_numpy()[part], features[-1])
        np.testing.assert_array_equal(frame[names].to_numpy()[part], features[hours])
    columns, keys = stored(former)
    assert "patient_id" not in columns
    assert keys == {("subject_id", "a"), ("subject_id", "b")}
    assert not store.is_former
    assert list(store.materialize(SERVICE)) == [0, 1]
    assert store.partitions.read_fingerprint(1) == "source 1"  # so nothing has to be computed again


def test_interrupted_migration_is_repeated(former, monkeypatch):
    def interrupted(_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(client, "migrate_online", interrupted)
        with pytest.raises(KeyboardInterrupt):
            Store(former).online(["a"], SERVICE)
    assert Store(former).is_former
    expected = random_features("a", range(4), 0)[list(SERVICES[SERVICE])].to_numpy()
    np.testing.assert_array_equal(Store(former).online(["a"], SERVICE)[list(SERVICES[SERVICE])].to_numpy()[0], expected[-1])


def test_online_store_of_a_home_of_the_version_before_keeps_every_row(tmp_path):
    with tarfile.open(HOMES / "before_2026_12.tar.xz") as archive:
        archive.extract("./feast/online.db", tmp_path, filter="data")
    database = tmp_path / "feast" / "online.db"
    query = "SELECT * FROM vigil_vital_signs ORDER BY entity_key, feature_name"
    with closing(sqlite3.connect(database)) as online:
        before = pd.read_sql(query, online)
        migration.migrate_online(database)
        after = pd.read_sql(query, online)
    assert len(before) > 0
    from feast.infra.key_encoding_utils import deserialize_entity_key

    values = [column for column in before if column != "entity_key"]
    pd.testing.assert_frame_equal(before[values], after[values])
    for former_key, key in zip(before["entity_key"], after["entity_key"], strict=True):
        old, new = deserialize_entity_key(former_key), deserialize_entity_key(key)
        assert (list(old.join_keys), list(new.join_keys)) == (["patient_id"], ["subject_id"])
        assert list(old.entity_values) == list(new.entity_values)


def test_apply_migrates_a_store_that_was_restored_from_a_former_backup(former):
    Store(former).apply()
    columns, keys = stored(former)
    assert "patient_id" not in columns
    assert keys == {("subject_id", "a"), ("subject_id", "b")}


def test_store_of_the_version_before_without_feature_files_has_to_be_built_again(former):
    for path in (former / "features").glob("*/*.parquet"):
        path.unlink()
    Store(former).migrate()
    with pytest.raises(StoreError, match="create it first: vigil features"):
        Store(former).online(["a"], SERVICE)
    assert stored(former)[1] == {("subject_id", "a"), ("subject_id", "b")}
