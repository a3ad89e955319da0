"""The feature store: nothing from after t, nothing stale, no row dropped, and online features bit-identical to offline ones."""

import numpy as np
import pandas as pd
import pytest

from vigil.features.catalogue import SERVICES, STANDARD, VIEWS, list_features, service_views
from vigil.features.observations import TIME
from vigil.features.store import client
from vigil.features.store.client import Store, StoreError

T0 = pd.Timestamp("2026-03-01T08:00:00Z").as_unit("us")
HOUR = pd.Timedelta(hours=1)
NAMES = [feature.name for view in VIEWS.values() for feature in view]


def random_features(subject_id, hours, seed):
    """Return random features of one subject at the given hours after T0, a fifth of them missing."""
    generator = np.random.default_rng(seed)
    values = pd.DataFrame(generator.normal(size=(len(hours), len(NAMES))), columns=NAMES).astype("float32")
    values = values.mask(generator.random(values.shape) < 0.2)
    values.insert(0, "subject_id", subject_id)
    values.insert(1, "index_time", pd.Series([T0 + h * HOUR for h in hours]).astype(TIME))
    return values


@pytest.fixture(scope="module")
def features():
    return {"a": random_features("a", range(5), 1), "b": random_features("b", [2, 3, 4, 5], 2)}


@pytest.fixture(scope="module")
def store(tmp_path_factory, features):
    store = Store(tmp_path_factory.mktemp("store"))
    for part, frame in enumerate(features.values()):
        store.partitions.write(part, frame, fingerprint=f"source {part}")
    store.apply()
    for service in ("everything", "mortality_v2", "pressure_v1"):
        assert list(store.materialize(service)) == [0, 1]
    return store


def requests(*pairs):
    """Return rows to join from (subject, hours after T0), with the position of each as its label."""
    frame = pd.DataFrame([(subject, T0 + hours * HOUR, n) for n, (subject, hours) in enumerate(pairs)])
    frame.columns = ["subject_id", "index_time", "label"]
    return frame.astype({"index_time": TIME})


@pytest.mark.parametrize("service", SERVICES)
def test_training_frame_equals_the_stored_features_bit_for_bit(store, features, service):
    names = list(SERVICES[service])
    frame = store.read_training_frame(requests(("b", 3), ("a", 0), ("a", 4)), service)
    assert frame["label"].tolist() == [1, 2, 0]  # ordered by subject and time, with the other columns
    expected = np.stack([features["a"][names].loc[0], features["a"][names].loc[4], features["b"][names].loc[1]])
    np.testing.assert_array_equal(frame[names].to_numpy(), expected)
    assert set(frame[names].dtypes) == {np.dtype("float32")}


def test_training_frame_has_no_later_and_no_stale_features(store, features):
    names = list(SERVICES["vital_signs_v1"])
    frame = store.read_training_frame(requests(("b", 1.99), ("a", 3.5), ("a", 5.01), ("unknown", 3)), "vital_signs_v1")
    by_label = frame.set_index("label")[names]
    assert by_label.loc[0].isna().all()  # before the first row
    np.testing.assert_array_equal(by_label.loc[1].to_numpy(), features["a"][names].loc[3].to_numpy())  # the hour before
    assert by_label.loc[2].isna().all()  # more than one index step after the last
    assert by_label.loc[3].isna().all()
    assert len(frame) == 4  # no row is dropped


@pytest.mark.parametrize("service", SERVICES)
def test_online_gives_the_latest_row_bit_for_bit(store, features, service):
    names = list(SERVICES[service])
    result = store.online(["b", "unknown", "a"], service)
    assert result["subject_id"].tolist() == ["b", "unknown", "a"]
    assert result["index_time"].tolist() == [T0 + 5 * HOUR, pd.NaT, T0 + 4 * HOUR]
    np.testing.assert_array_equal(result[names].loc[0].to_numpy(np.float32), features["b"][names].iloc[-1].to_numpy(np.float32))
    np.testing.assert_array_equal(result[names].loc[2].to_numpy(np.float32), features["a"][names].iloc[-1].to_numpy(np.float32))
    assert result[names].loc[1].isna().all()


def test_online_keeps_the_order_of_many_patients(store):
    subjects = ["a", "b", "unknown"] * 150
    result = store.online(subjects, "vital_signs_v1")
    assert result["subject_id"].tolist() == subjects
    assert result["index_time"].isna().tolist() == [False, False, True] * 150


def test_home_without_features_says_what_to_do(tmp_path):
    with pytest.raises(StoreError, match="no features; expected those of a cohort; build them first: vigil features"):
        Store(tmp_path).apply()
    with pytest.raises(
        StoreError,
        match=r"feature_store.yaml: no feature store; expected the file that the job writes; create it first: vigil features",
    ):
        Store(tmp_path).online(["a"], "vital_signs_v1")


def test_service_with_views_that_were_not_built_is_refused(tmp_path, features):
    store = Store(tmp_path)
    standard = ["subject_id", "index_time", *list_features(*STANDARD)]
    store.partitions.write(0, features["a"][standard], "a")
    store.apply()
    names = list(SERVICES["everything"])
    np.testing.assert_array_equal(
        store.read_training_frame(requests(("a", 3)), "everything")[names], features["a"][names].iloc[[3]]
    )
    for action in (
        lambda: store.read_training_frame(requests(("a", 1)), "mortality_v1"),
        lambda: list(store.materialize("mortality_v1")),
        lambda: store.online(["a"], "mortality_v1"),
        lambda: store.write_online(features["a"], "mortality_v1"),
    ):
        with pytest.raises(
            StoreError, match="mortality_v1: reads the view stay, which this home did not build.*vigil features"
        ):
            action()
    registered = {service.name for service in store._open().list_feature_services()}
    assert registered == set(SERVICES) - {"mortality_v1", "mortality_v2", "mortality_v3", "pressure_v1", "pressure_v2"}


def test_apply_unregisters_views_that_are_no_longer_built(tmp_path, features):
    store = Store(tmp_path)
    for views in (VIEWS, STANDARD, VIEWS):
        store.withdraw()
        store.partitions.write(0, features["a"][["subject_id", "index_time", *list_features(*views)]], "a")
        store.partitions.remove_all_but(1, views)
        store.apply()
        assert {view.name for view in store._open().list_feature_views()} == set(views)
        assert ("mortality_v1" in {service.name for service in store._open().list_feature_services()}) == (views is VIEWS)
        assert list(store.materialize("everything")) == [0]
    list(store.materialize("mortality_v1"))
    assert store.online(["a"], "mortality_v1")["index_time"].tolist() == [T0 + 4 * HOUR]


def test_withdrawn_features_cannot_be_read(tmp_path, features):
    store = Store(tmp_path)
    store.partitions.write(0, features["a"], "a")
    store.apply()
    store.withdraw()
    assert list(tmp_path.rglob("*.parquet"))  # most of them may still be valid
    for action in (
        lambda: Store(tmp_path).read_training_frame(requests(("a", 1)), "vital_signs_v1"),
        lambda: list(store.materialize("vital_signs_v1")),
    ):
        with pytest.raises(StoreError, match="create it first: vigil features"):
            action()


def test_training_frame_joins_a_large_frame_in_chunks_and_in_order(store, monkeypatch):
    request = requests(*[(subject, hour) for hour in (4, 3, 2, 1) for subject in "ab"])
    whole = store.read_training_frame(request, "vital_signs_v1")
    monkeypatch.setattr(client, "_JOIN_VALUES", 3 * len(SERVICES["vital_signs_v1"]))
    pd.testing.assert_frame_equal(store.read_training_frame(request, "vital_signs_v1"), whole, check_exact=True)
    assert whole["label"].tolist() == [6, 4, 2, 0, 7, 5, 3, 1]


def test_training_frame_refuses_a_column_with_the_name_of_a_feature(store):
    with pytest.raises(StoreError, match="columns with the names of features: age; remove or rename them"):
        store.read_training_frame(requests(("a", 1)).assign(age=70), "vital_signs_v1")


def test_materialize_loads_only_new_partitions(tmp_path, features, monkeypatch):
    store = Store(tmp_path)
    for part, frame in enumerate(features.values()):
        store.partitions.write(part, frame, f"first {part}")
    store.apply()
    written = []
    write = Store._write_online
    monkeypatch.setattr(
        Store, "_write_online", lambda self, view, rows: written.append((view, *rows["subject_id"])) or write(self, view, rows)
    )
    list(store.materialize("vital_signs_v1"))
    assert len(written) == 2 * len(service_views("vital_signs_v1"))
    written.clear()
    list(store.materialize("vital_signs_v1"))
    assert not written
    store.partitions.write(1, features["b"].iloc[:2], "second")
    list(store.materialize("vital_signs_v1"))
    assert set(written) == {(view, "b") for view in service_views("vital_signs_v1")}
    assert store.online(["a", "b"], "vital_signs_v1")["index_time"].tolist() == [T0 + 4 * HOUR, T0 + 3 * HOUR]


def test_materialize_loads_a_cohort_again_after_another_one(tmp_path, features):
    """In between, another cohort has a patient of the same name in another partition."""
    store = Store(tmp_path)
    names = list(SERVICES["vital_signs_v1"])

    def load(*parts):
        for number, (frame, fingerprint) in enumerate(parts):
            store.partitions.write(number, frame, fingerprint)
        store.partitions.remove_all_but(len(parts), VIEWS)
        store.apply()
        list(store.materialize("vital_signs_v1"))

    first = ((features["a"], "a"), (features["b"], "b"))
    load(*first)
    load((features["b"].assign(**dict.fromkeys(names, np.float32(7))), "other"))
    assert (store.online(["b"], "vital_signs_v1")[names] == 7).all(axis=None)
    load(*first)
    np.testing.assert_array_equal(
        store.online(["b"], "vital_signs_v1")[names].to_numpy(np.float32)[0], features["b"][names].iloc[-1].to_numpy()
    )


def test_interrupted_materialize_is_completed_by_the_next(tmp_path, features, monkeypatch):
    store = Store(tmp_path)
    for part, frame in enumerate(features.values()):
        store.partitions.write(part, frame, f"{part}")
    store.apply()
    write = Store._write_online

    def cut_off(self, view, rows):
        if (view, *rows["subject_id"]) == ("support", "b"):
            raise KeyboardInterrupt
        write(self, view, rows)

    monkeypatch.setattr(Store, "_write_online", cut_off)
    with pytest.raises(KeyboardInterrupt):
        list(store.materialize("vital_signs_v1"))
    assert store.online(["b"], "vital_signs_v1")["index_time"].isna().all()  # an incomplete row counts as missing
    monkeypatch.setattr(Store, "_write_online", write)
    list(store.materialize("vital_signs_v1"))
    assert store.online(["a", "b"], "vital_signs_v1")["index_time"].tolist() == [T0 + 4 * HOUR, T0 + 5 * HOUR]


def test_materialize_loads_a_removed_online_store_again(tmp_path, features):
    for _ in range(2):
        store = Store(tmp_path)
        store.partitions.write(0, features["a"], "a")
        store.apply()
        list(store.materialize("vital_signs_v1"))
        assert store.online(["a"], "vital_signs_v1")["index_time"].tolist() == [T0 + 4 * HOUR]
        (tmp_path / "feast" / "online.db").unlink()


def test_online_without_subjects_is_empty(store):
    assert store.online([], "vital_signs_v1").empty


def test_write_online_and_online_round_trip_bit_for_bit(tmp_path, features):
    store = Store(tmp_path)
    store.partitions.write(0, features["a"], "a")
    store.apply()
    names = list(SERVICES["everything"])
    latest = pd.concat([features["a"].iloc[[1]], features["b"].iloc[[3]]])
    store.write_online(latest, "everything")
    result = store.online(["a", "b"], "everything")
    np.testing.assert_array_equal(result[names].to_numpy(np.float32), latest[names].to_numpy())
    assert result["index_time"].tolist() == latest["index_time"].tolist()


def test_training_frame_ignores_features_that_were_created_later(tmp_path, features):
    """Features of an hour that were created later must not reach a training row of that hour."""
    store = Store(tmp_path)
    store.partitions.write(0, features["a"], "a")
    late = tmp_path / "features" / "scores" / "part-00000.parquet"
    frame = pd.read_parquet(late)
    frame["created_timestamp"] += 30 * HOUR
    frame.to_parquet(late, index=False)
    store.apply()
    result = store.read_training_frame(requests(("a", 3)), "vital_signs_v1")
    assert result[[feature.name for feature in VIEWS["scores"]]].isna().all(axis=None)
    assert not result[[feature.name for feature in VIEWS["patient"]]].isna().all(axis=None)
