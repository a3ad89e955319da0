"""The eICU demo: every number of a file becomes the right observation, and the labels of both tasks are reproduced."""

import numpy as np
import pandas as pd
import pytest

from vigil.features.declarations import OWN_UNITS
from vigil.features.observations import check
from vigil.models.cohort import assign_splits, index_times, label_index_times, patient_of
from vigil.models.tasks import TASKS
from vigil.pipelines.jobs.ingest import check_stays
from vigil.pipelines.sources import SourceError, open_source
from vigil.pipelines.sources.eicu_demo import EPOCH, SIGNALS_BY_COLUMN, EicuDemo

HOUR = pd.Timedelta(hours=1)


def make_labels(stay, hours, first_positive=None):
    positive = [first_positive is not None and hour >= first_positive for hour in range(hours)]
    return pd.DataFrame({"stay_id": stay, "hour": range(hours), "label": positive})


def make_hourly(*rows):
    return pd.DataFrame(rows, columns=["stay_id", "hour", *SIGNALS_BY_COLUMN, "methb"])


@pytest.fixture
def folder(tmp_path):
    tables = {
        "label_sepsis": pd.concat(
            [make_labels(21, 9), make_labels(3, 14, first_positive=1), make_labels(104, 8, first_positive=0)]
        ),
        "label_aki": make_labels(21, 3),
        "hourly": make_hourly(
            {"stay_id": 21, "hour": 0, "hr": 80, "fio2": 40, "temp": 36.711113, "methb": 1},
            {"stay_id": 21, "hour": 8, "urine": 250, "fio2": 21, "tnt": 0.03},
            {"stay_id": 21, "hour": 9, "hr": 81},  # after the last label
            {"stay_id": 3, "hour": 13, "o2sat": 97, "hr": 0},
            {"stay_id": 999, "hour": 0, "hr": 70},  # not labelled
        ),
        "static": pd.DataFrame(
            {
                "stay_id": [3, 21, 104, 999],
                "age": [87.0, 34, np.nan, 1],
                "sex": ["Female", "Male", None, None],
                "height": [157.5, np.nan, 15.2, 1],
                "weight": [46.5, 77.5, np.nan, 1],
            }
        ),
        "patient": pd.DataFrame(
            {
                "patientunitstayid": [3, 21, 104, 999],
                "uniquepid": ["002-1", "003-7", "002-1", "004-2"],
                "hospitalid": [59, 68, 59, 1],
                "unittype": ["MICU", "SICU", None, "MICU"],
                "hospitaladmitoffset": [-90, -1, 30, 0],
            }
        ),
    }
    for name, table in tables.items():
        table.to_parquet(tmp_path / f"{name}.parquet", index=False)
    return tmp_path


def single_batch(batches):
    (batch,) = batches
    return batch


def test_eicu_observations_have_signal_time_and_value_of_the_hourly_table(folder):
    source = EicuDemo(folder, "sepsis")
    assert (source.name, source.task.name, len(source)) == ("eicu_sepsis", "sepsis", 1)
    readings = single_batch(source.batches()).observations
    hour = (readings["observed_at"] - EPOCH) / HOUR
    observations = sorted(zip(readings["subject_id"], hour, readings["signal"], readings["value"].round(6), strict=True))
    assert observations == sorted(
        [
            ("002-1~104", 0, "body_height", 15.2),
            ("003-7~21", 0, "body_temperature", 36.711113),
            ("003-7~21", 0, "body_weight", 77.5),
            ("003-7~21", 0, "fio2", 40),
            ("003-7~21", 0, "heart_rate", 80),
            ("003-7~21", 8, "fio2", 21),
            ("003-7~21", 8, "troponin_t", 0.03),
            ("003-7~21", 8, "urine_output", 250),
            ("002-1~3", 0, "body_height", 157.5),
            ("002-1~3", 0, "body_weight", 46.5),
            ("002-1~3", 13, "heart_rate", 0),
            ("002-1~3", 13, "spo2", 97),
        ]
    )
    assert readings["recorded_at"].equals(readings["observed_at"])
    quarantined = check(readings, declared=OWN_UNITS).quarantined
    assert sorted(zip(quarantined["signal"], quarantined["value"], strict=True)) == [("body_height", 15.2), ("heart_rate", 0)]


def test_eicu_stays_and_outcomes_follow_from_labels_and_statics(folder):
    batch = single_batch(EicuDemo(folder, "sepsis").batches())
    check_stays(batch)
    stays = batch.stays.set_index("subject_id")
    assert ((stays["end"] - stays["start"]) / HOUR).to_dict() == {"002-1~3": 13, "003-7~21": 8, "002-1~104": 7}
    assert stays["start"].eq(EPOCH).all()
    assert ((stays["hospital_admitted_at"] - stays["unit_admitted_at"]) / pd.Timedelta(minutes=1)).tolist() == [-90, -1, 30]
    np.testing.assert_array_equal(stays["age"], [87, 34, np.nan])
    np.testing.assert_array_equal(stays["sex"], [0, 1, np.nan])
    assert stays["site"].tolist() == ["eicu-59", "eicu-68", "eicu-59"]
    assert stays["unit"].fillna("?").tolist() == ["MICU", "SICU", "?"]

    outcomes = batch.outcomes.set_index("subject_id")
    assert ((outcomes["onset"] - EPOCH) / HOUR).to_dict() == {"002-1~3": 7, "002-1~104": 6}
    assert outcomes["onset_known"].to_dict() == {"002-1~3": True, "002-1~104": False}
    assert outcomes["kind"].eq("sepsis").all()


def test_eicu_task_has_the_stays_of_its_own_labels(folder):
    source = open_source("eicu_aki", folder)
    batch = single_batch(source.batches())
    assert (source.name, source.task.name) == ("eicu_aki", "aki")
    assert batch.stays["subject_id"].tolist() == ["003-7~21"]
    assert batch.outcomes.empty
    assert batch.observations["observed_at"].max() == EPOCH  # the label table ends before hour 8
    check_stays(batch)


def change_table(folder, name, change):
    path = folder / f"{name}.parquet"
    change(pd.read_parquet(path)).to_parquet(path, index=False)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("hourly", lambda t: t.drop(columns=["hr", "tnt"]), "hourly.parquet: no column hr, tnt; expected stay_id, hour, hr"),
        ("static", lambda t: t[t["stay_id"] != 21], "static.parquet: stay_id: no row for 1 of 3 labelled stays"),
        ("patient", lambda t: pd.concat([t, t]), "patient.parquet: patientunitstayid: a stay twice"),
        ("label_sepsis", lambda t: pd.concat([t, t.head(1)]), "label_sepsis.parquet: an hour of a stay twice"),
        ("label_sepsis", lambda t: t.astype({"label": float}), "label: type float64; expected true or false"),
        ("label_sepsis", lambda t: t.head(0), "label_sepsis.parquet: no row"),
    ],
)
def test_eicu_error_names_the_broken_table(folder, name, change, message):
    change_table(folder, name, change)
    with pytest.raises(SourceError, match=message):
        list(EicuDemo(folder, "sepsis").batches())


def test_eicu_error_names_missing_data(folder):
    for task in ("sepsis", "aki"):
        with pytest.raises(SourceError, match=f"--data is missing: eicu_{task} needs the folder .*label_{task}.parquet"):
            open_source(f"eicu_{task}", None)
    with pytest.raises(SourceError, match="expected the folder of hourly.parquet and label_aki.parquet; there is none"):
        open_source("eicu_aki", folder / "nowhere")
    (folder / "label_sepsis.parquet").write_text("no table")
    with pytest.raises(SourceError, match="label_sepsis.parquet: not a Parquet file"):
        open_source("eicu_sepsis", folder)
    (folder / "label_sepsis.parquet").unlink()
    with pytest.raises(
        SourceError, match="label_sepsis.parquet: not there; expected a table with columns stay_id, hour, label"
    ):
        open_source("eicu_sepsis", folder)


@pytest.mark.parametrize(("task", "stays", "events", "unknown"), [("sepsis", 896, 63, 6), ("aki", 1988, 698, 21)])
def test_eicu_demo_has_the_published_counts_and_labels(eicu_demo, task, stays, events, unknown):
    """Counts are the published ones, onsets alone give the labels of the file, and nothing lies after the end of a stay."""
    batch = single_batch(open_source(f"eicu_{task}", eicu_demo).batches())
    check_stays(batch)
    split = assign_splits(batch.stays["subject_id"])
    assert split.groupby(batch.stays["subject_id"].map(patient_of).to_numpy()).nunique().max() == 1
    assert (len(batch.stays), len(batch.outcomes), int((~batch.outcomes["onset_known"]).sum())) == (stays, events, unknown)
    index = index_times(batch.stays)
    labelled = label_index_times(index, batch.outcomes, TASKS["sepsis"])  # six hours ahead, positive to the end of the record
    expected = pd.read_parquet(eicu_demo / f"label_{task}.parquet").rename(columns={"label": "expected"})
    stay = batch.stays["subject_id"].str.partition("~")[2].astype("int64")
    expected["subject_id"] = expected["stay_id"].map(pd.Series(batch.stays["subject_id"].array, index=stay.array))
    expected["index_time"] = EPOCH + pd.to_timedelta(expected["hour"], unit="h")
    both = labelled.merge(expected, on=["subject_id", "index_time"], how="outer")
    np.testing.assert_array_equal(both["label"], both["expected"].astype(float))

    end = batch.observations["subject_id"].map(batch.stays.set_index("subject_id")["end"])
    assert batch.observations["observed_at"].between(EPOCH, end).all()
    checked = check(batch.observations, declared=OWN_UNITS)
    assert set(checked.quarantined["reason"]) == {"implausible"}
    assert len(checked.quarantined) < 0.001 * len(batch.observations)
    assert checked.accepted["signal"].nunique() == len(SIGNALS_BY_COLUMN) + 3  # on_oxygen, body_height, body_weight
