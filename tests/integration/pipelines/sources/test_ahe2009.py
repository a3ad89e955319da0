"""The 2009 challenge: only pressure before the forecast start is read, and the definition of an episode fits the label."""

import numpy as np
import pandas as pd
import pytest

from vigil.features.declarations import OWN_UNITS
from vigil.features.observations import check
from vigil.models.cohort import index_times
from vigil.pipelines.jobs.ingest import check_stays
from vigil.pipelines.sources import SourceError, open_source
from vigil.pipelines.sources.ahe2009 import T0, Ahe2009, find_first_episode

MINUTE = pd.Timedelta(minutes=1)


def write_tables(folder, pressure, records):
    rows = [(record, minute, value) for record, minutes in pressure.items() for minute, value in minutes.items()]
    table = pd.DataFrame(rows, columns=["record", "minute", "map_mmHg"])
    table.astype({"map_mmHg": "float32"}).to_parquet(folder / "map_1min.parquet", index=False)
    pd.DataFrame(records, columns=["record", "split", "ahe_label"]).to_parquet(folder / "records.parquet", index=False)
    return folder


@pytest.fixture
def folder(tmp_path):
    low = dict.fromkeys(range(13, 60), 55)
    pressure = {
        "H1": {-120: 80, -119: 79.5, -1: 62} | dict.fromkeys(range(13), 70) | low,
        "H2": {-61: -3, -1: 61} | dict.fromkeys(range(60), 50),
        "C1": {-60: 90} | dict.fromkeys(range(60), 91),
        "A1": {-60: 66},  # no data after T0
    }
    return write_tables(tmp_path, pressure, [("H1", "train", 1), ("H2", "train", 1), ("C1", "train", 0), ("A1", "testA", 1)])


def single_batch(batches):
    (batch,) = batches
    return batch


def test_ahe2009_observations_end_before_the_forecast_starts(folder):
    readings = single_batch(Ahe2009(folder).batches()).observations
    observations = zip(readings["subject_id"], (readings["observed_at"] - T0) / MINUTE, readings["value"], strict=True)
    assert sorted(observations) == [
        ("A1", -60, 66),
        ("C1", -60, 90),
        ("H1", -120, 80),
        ("H1", -119, 79.5),
        ("H1", -1, 62),
        ("H2", -61, -3),
        ("H2", -1, 61),
    ]
    assert readings["signal"].eq("mean_bp").all()
    assert readings["recorded_at"].equals(readings["observed_at"])
    assert check(readings, declared=OWN_UNITS).quarantined["value"].tolist() == [-3]


def test_ahe2009_stay_ends_at_the_forecast_start_which_is_an_index_time(folder):
    batch = single_batch(Ahe2009(folder).batches())
    check_stays(batch)
    stays = batch.stays.set_index("subject_id")
    assert ((stays["start"] - T0) / MINUTE).to_dict() == {"A1": -60, "C1": -60, "H1": -120, "H2": -120}
    assert stays["end"].eq(T0).all()
    assert stays[["age", "sex", "unit", "unit_admitted_at", "hospital_admitted_at"]].isna().all(axis=None)
    assert (index_times(batch.stays).groupby("subject_id")["index_time"].max() == T0).all()


def test_ahe2009_onsets_lie_after_the_forecast_start(folder):
    outcomes = single_batch(Ahe2009(folder).batches()).outcomes.set_index("subject_id")
    assert (outcomes["onset"] - T0).to_dict() == {
        "H1": 10 * MINUTE,  # the first of thirty minutes of which 27 are low
        "H2": pd.Timedelta(microseconds=1),  # low from the first minute
        "A1": 30 * MINUTE,
    }
    assert outcomes["kind"].eq("acute_hypotension").all()
    assert outcomes["onset_known"].all()


@pytest.mark.parametrize(
    ("low", "minute"),
    [
        (range(30, 60), 27),  # three high minutes may come first
        (range(33, 60), 30),
        (range(34, 60), None),
        ([*range(5, 20), *range(23, 60)], 5),
        ([*range(0, 60, 2)], None),
        ([], None),
    ],
)
def test_hypotensive_episode_is_thirty_minutes_of_which_nine_tenths_are_low(low, minute):
    pressure = np.where(np.isin(range(60), [*low]), 60, 60.1)
    assert find_first_episode(pd.DataFrame({"minute": range(60), "map_mmHg": pressure})) == minute


def test_hypotensive_episode_does_not_count_a_missing_or_implausible_minute():
    after = pd.DataFrame({"minute": range(60), "map_mmHg": 50.0})
    assert find_first_episode(after) == 0
    assert find_first_episode(after[after["minute"] % 7 != 0]) is None
    assert find_first_episode(after.assign(map_mmHg=[-20.0 if minute % 7 == 0 else 50 for minute in range(60)])) is None


def test_ahe2009_split_has_only_its_own_records(folder):
    assert [single_batch(Ahe2009(folder, split).batches()).stays["subject_id"].tolist() for split in ("train", "testA")] == [
        ["C1", "H1", "H2"],
        ["A1"],
    ]
    with pytest.raises(SourceError, match="no split testC; choose one of testA, train"):
        Ahe2009(folder, "testC")


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        (
            "map_1min",
            lambda t: t.drop(columns="minute"),
            "map_1min.parquet: no column minute; expected record, minute, map_mmHg",
        ),
        ("map_1min", lambda t: t.astype({"minute": float}), "minute: type float64; expected whole minutes from T0"),
        ("map_1min", lambda t: pd.concat([t, t]), "map_1min.parquet: minute: repeated within a record"),
        ("map_1min", lambda t: t[t["record"] != "A1"], "no minute before T0 in record A1"),
        ("records", lambda t: pd.concat([t, t]), "records.parquet: record: a record twice"),
        ("records", lambda t: t.assign(ahe_label=2), "records.parquet: ahe_label: expected 0 or 1"),
    ],
)
def test_ahe2009_error_names_the_broken_table(folder, name, change, message):
    path = folder / f"{name}.parquet"
    change(pd.read_parquet(path)).to_parquet(path, index=False)
    with pytest.raises(SourceError, match=message):
        Ahe2009(folder)


def test_ahe2009_error_names_missing_data(folder):
    with pytest.raises(
        SourceError, match="--data is missing: ahe2009 needs the folder of map_1min.parquet and records.parquet"
    ):
        open_source("ahe2009", None)
    with pytest.raises(SourceError, match="expected the folder of map_1min.parquet and records.parquet; there is none"):
        open_source("ahe2009", folder / "nowhere")
    (folder / "records.parquet").unlink()
    with pytest.raises(SourceError, match="records.parquet: not there"):
        open_source("ahe2009", folder)


@pytest.mark.parametrize(
    ("split", "stays", "events"), [(None, 110, 49), ("train", 60, 30), ("testA", 10, 5), ("testB", 40, 14)]
)
def test_ahe2009_records_have_the_published_counts(ahe2009, split, stays, events):
    batch = single_batch(Ahe2009(ahe2009, split).batches())
    check_stays(batch)
    assert (len(batch.stays), len(batch.outcomes)) == (stays, events)
    assert len(batch.observations) == 600 * stays
    assert batch.observations["observed_at"].lt(T0).all()
    assert batch.outcomes["onset"].between(T0, T0 + 60 * MINUTE, inclusive="neither").all()
    assert (batch.stays["end"] - batch.stays["start"]).eq(600 * MINUTE).all()
    checked = check(batch.observations, declared=OWN_UNITS)
    assert set(checked.quarantined["reason"]) == {"implausible"}
    assert len(checked.quarantined) <= 40


def test_episode_definition_reproduces_26_of_30_labels_with_an_episode(ahe2009):
    """Only the training records hold the hour after T0."""
    records = pd.read_parquet(ahe2009 / "records.parquet").set_index("record")["ahe_label"]
    pressure = pd.read_parquet(ahe2009 / "map_1min.parquet")
    after = pressure[pressure["minute"] >= 0].groupby("record", observed=True)
    has_episode = pd.Series({record: find_first_episode(rows) is not None for record, rows in after})
    assert pd.crosstab(records.loc[has_episode.index], has_episode).to_numpy().tolist() == [[30, 0], [4, 26]]
