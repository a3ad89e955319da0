"""The 2012 challenge: every number of a file becomes the right observation, and both real sets are read."""

import tarfile

import numpy as np
import pandas as pd
import pytest

from vigil.features.declarations import OWN_UNITS
from vigil.features.observations import check
from vigil.models.cohort import index_times
from vigil.pipelines.jobs.ingest import check_stays
from vigil.pipelines.sources import SourceError, open_source
from vigil.pipelines.sources.cinc2012 import EPOCH, Cinc2012

HOUR = pd.Timedelta(hours=1)
OUTCOME_HEADER = "RecordID,SAPS-I,SOFA,Length_of_stay,Survival,In-hospital_death\n"


def make_record(stay, *lines, age="61", sex="1", icu="2", height="-1"):
    statics = (f"RecordID,{stay}", f"Age,{age}", f"Gender,{sex}", f"Height,{height}", f"ICUType,{icu}")
    return "\n".join(["Time,Parameter,Value", *(f"00:00,{line}" for line in statics), *lines]) + "\n"


@pytest.fixture
def folder(tmp_path):
    """A set x of one stay with readings, one with statics only, and three with a death."""
    lines = ("00:00,Weight,-1", "00:07,HR,73", "00:07,SysABP,105", "00:07,NISysABP,110", "01:30,NIMAP,66.33", "01:30,FiO2,0.4")
    lines += ("26:05,FiO2,0.21", "26:05,GCS,15", "26:05,MechVent,1", "26:05,Weight,81.6", "48:00,Urine,0", "48:00,pH,735")
    lines += ("48:00,TroponinT,-1", "48:00,Mystery,7")
    texts = {
        "100001": make_record("100001", *lines, height="175.3"),
        "100002": make_record("100002", "00:00,Weight,-1", age="90", sex="-1", icu="4"),
        "100003": make_record("100003", "02:00,HR,60", icu="-1"),
        "100004": make_record("100004", "02:00,HR,60", "02:00,HR,62", sex="0"),
        "100005": make_record("100005", "02:00,HR,60"),
    }
    outcomes = ("100001,16,8,8,-1,0", "100002,-1,0,19,-1,0", "100003,21,11,9,6,1", "100004,0,-1,5,-1,1", "100005,7,7,-1,-1,1")
    return write_set(tmp_path / "set-x", texts, outcomes)


def write_set(folder, texts, outcomes, header=OUTCOME_HEADER):
    folder.mkdir()
    for stay, text in texts.items():
        (folder / f"{stay}.txt").write_text(text)
    name = folder.name.removeprefix("set-")
    (folder.parent / f"Outcomes-{name}.txt").write_text(header + "\n".join(outcomes) + "\n")
    return folder


def single_batch(batches):
    (batch,) = batches
    return batch


def test_cinc2012_observations_have_signal_time_value_and_device_of_the_file(folder):
    readings = single_batch(Cinc2012(folder).batches()).observations
    one = readings[readings["subject_id"] == "100001"]
    minute = ((one["observed_at"] - EPOCH) / pd.Timedelta(minutes=1)).astype(int)
    observations = sorted(
        zip(minute, one["signal"], one["value"].round(6), one["device_id"].astype(object).fillna(""), strict=True)
    )
    assert observations == [
        (0, "body_height", 175.3, ""),
        (7, "heart_rate", 73, ""),
        (7, "systolic_bp", 105, "arterial_line"),
        (7, "systolic_bp", 110, "cuff"),
        (90, "fio2", 40, ""),
        (90, "mean_bp", 66.33, "cuff"),
        (1565, "body_weight", 81.6, ""),
        (1565, "fio2", 21, ""),
        (1565, "glasgow_coma_scale", 15, ""),
        (1565, "mechanical_ventilation", 1, ""),
        (2880, "Mystery", 7, ""),
        (2880, "ph", 735, ""),
        (2880, "urine_output", 0, ""),
    ]
    assert readings["recorded_at"].equals(readings["observed_at"])
    assert readings["source"].eq("set-x").all()
    checked = check(readings, declared=OWN_UNITS)
    assert checked.quarantined.set_index("signal")["reason"].to_dict() == {"ph": "implausible", "Mystery": "unknown_signal"}
    simultaneous = checked.accepted[checked.accepted["subject_id"] == "100004"]
    assert simultaneous["value"].tolist() == [62, 60]  # two values at the same time are two observations, the worse last


def test_cinc2012_stays_last_48_hours_and_have_the_statics_of_the_file(folder):
    batch = single_batch(Cinc2012(folder).batches())
    check_stays(batch)
    stays = batch.stays.set_index("subject_id")
    assert stays.index.tolist() == ["100001", "100002", "100003", "100004", "100005"]
    assert stays["start"].eq(EPOCH).all()
    assert stays["end"].eq(EPOCH + 48 * HOUR).all()
    assert stays["unit_admitted_at"].eq(EPOCH).all()
    assert stays["hospital_admitted_at"].isna().all()
    assert stays["age"].tolist() == [61, 90, 61, 61, 61]
    np.testing.assert_array_equal(stays["sex"], [1, np.nan, 1, 0, 1])
    assert stays["unit"].fillna("?").tolist() == ["cardiac_surgery", "surgical", "?", "cardiac_surgery", "cardiac_surgery"]
    assert stays["site"].eq("cinc2012").all()


def test_cinc2012_deaths_come_after_the_48_hours_of_the_record(folder):
    outcomes = single_batch(Cinc2012(folder).batches()).outcomes.set_index("subject_id")
    instant = pd.Timedelta(microseconds=1)
    assert (outcomes["onset"] - EPOCH).to_dict() == {
        "100003": pd.Timedelta(days=6),  # the days survived
        "100004": pd.Timedelta(days=5),  # survival unknown: the length of the stay
        "100005": pd.Timedelta(days=2) + instant,  # neither known
    }
    assert outcomes["kind"].eq("death").all()
    assert outcomes["onset_known"].all()


@pytest.mark.parametrize("days", ["0", "1", "2"])
def test_cinc2012_death_within_two_days_is_placed_after_the_record(tmp_path, days):
    source = Cinc2012(write_set(tmp_path / "set-x", {"1": make_record("1")}, [f"1,1,1,9,{days},1"]))
    batch = single_batch(source.batches())
    assert (batch.outcomes["onset"] - batch.stays["end"]).tolist() == [pd.Timedelta(microseconds=1)]


def test_cinc2012_severity_scores_are_read_with_nan_for_unknown(folder):
    severity = Cinc2012(folder).read_severity()
    assert severity["subject_id"].tolist() == ["100001", "100002", "100003", "100004", "100005"]
    np.testing.assert_array_equal(severity["saps_i"], [16, np.nan, 21, 0, 7])
    np.testing.assert_array_equal(severity["sofa"], [8, 0, 11, np.nan, 7])


def test_cinc2012_archive_and_folder_give_the_same_tables(folder):
    archive = folder.parent / "set-x.tar.gz"
    with tarfile.open(archive, "w:gz") as file:
        file.add(folder, "set-x")
    packed, plain = (Cinc2012(path) for path in (archive, folder))
    pd.testing.assert_frame_equal(packed.read_severity(), plain.read_severity())
    packed, plain = (single_batch(source.batches()) for source in (packed, plain))
    pd.testing.assert_frame_equal(packed.observations.drop(columns="source"), plain.observations.drop(columns="source"))
    pd.testing.assert_frame_equal(packed.stays, plain.stays)
    pd.testing.assert_frame_equal(packed.outcomes, plain.outcomes)


def test_cinc2012_set_name_gives_the_path_of_its_outcomes(tmp_path, monkeypatch):
    source = Cinc2012(write_set(tmp_path / "set-held.out 2", {"1": make_record("1")}, ["1,1,1,9,9,1"]))
    assert len(single_batch(source.batches()).outcomes) == 1
    monkeypatch.chdir(source.data)
    assert len(Cinc2012(type(source.data)()).read_severity()) == 1  # the folder named by "."


def test_cinc2012_batches_together_equal_the_whole_set(folder, monkeypatch):
    whole = single_batch(Cinc2012(folder).batches())
    monkeypatch.setattr("vigil.pipelines.sources.cinc2012.STAYS_PER_BATCH", 2)
    source = Cinc2012(folder)
    parts = list(source.batches())
    assert len(source) == len(parts) == 3
    for table in ("stays", "outcomes"):
        together = pd.concat([getattr(part, table) for part in parts], ignore_index=True)
        pd.testing.assert_frame_equal(together, getattr(whole, table))
    assert sum(len(part.observations) for part in parts) == len(whole.observations)


def test_cinc2012_reads_a_set_without_any_observation_or_death(tmp_path):
    texts = {"1": make_record("1", "00:00,Weight,-1"), "2": "Time,Parameter,Value\n", "3": "Time,Parameter,Value"}
    batch = single_batch(Cinc2012(write_set(tmp_path / "set-x", texts, [f"{stay},-1,-1,-1,-1,0" for stay in texts])).batches())
    check_stays(batch)
    assert batch.observations.empty
    assert batch.outcomes.empty
    assert batch.stays["age"].fillna(-1).tolist() == [61, -1, -1]
    assert check(batch.observations, declared=OWN_UNITS).accepted.empty


def test_cinc2012_value_that_is_no_number_and_time_that_is_no_time_are_quarantined_unchanged(tmp_path):
    text = make_record("1", "01:00,HR,fast", "01:00,Na,", "1h,HR,80", "01:60,HR,81", "02:00,HR,82", "02:00,FiO2,high")
    batch = single_batch(Cinc2012(write_set(tmp_path / "set-x", {"1": text}, ["1,1,1,1,-1,0"])).batches())
    checked = check(batch.observations, declared=OWN_UNITS)
    assert checked.accepted["value"].tolist() == [82]
    quarantined = checked.quarantined[["signal", "value", "reason"]].astype(str).to_numpy().tolist()
    assert quarantined == [
        ["heart_rate", "fast", "not_a_number"],
        ["sodium", "", "not_a_number"],
        ["heart_rate", "80.0", "missing_time"],
        ["heart_rate", "81.0", "missing_time"],
        ["fio2", "high", "not_exact"],
    ]


def test_cinc2012_implausible_fio2_gives_no_on_oxygen(tmp_path):
    text = make_record("1", "01:00,FiO2,0.03", "02:00,FiO2,0", "03:00,FiO2,40")
    batch = single_batch(Cinc2012(write_set(tmp_path / "set-x", {"1": text}, ["1,1,1,1,-1,0"])).batches())
    assert batch.observations["signal"].tolist() == ["fio2"] * 3
    assert check(batch.observations, declared=OWN_UNITS).quarantined["reason"].tolist() == ["implausible"] * 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Time|Parameter|Value\n", "1.txt: not a Challenge 2012 header; expected Time,Parameter,Value"),
        ("", "1.txt: not a Challenge 2012 header"),
        (make_record("1", "01:00,HR"), "1.txt: line 7: expected Time,Parameter,Value"),
        (make_record("1", "01:00,HR,77,8"), "1.txt: line 7: expected Time,Parameter,Value"),
        (make_record("1", "", "01:00,HR,77"), "1.txt: line 7: expected Time,Parameter,Value"),
        (make_record("1", age="old"), "1.txt: Age: not a number; expected one, or -1"),
        (make_record("2"), "1.txt: RecordID: of another stay; expected that of the file's name"),
    ],
)
def test_cinc2012_error_names_the_broken_file_without_its_values(tmp_path, text, message):
    source = Cinc2012(write_set(tmp_path / "set-x", {"1": text}, ["1,1,1,1,-1,0"]))
    with pytest.raises(SourceError) as raised:
        list(source.batches())
    assert message in str(raised.value)
    assert "77" not in str(raised.value)
    assert "old" not in str(raised.value)


def test_cinc2012_error_names_a_file_that_is_not_utf8(tmp_path):
    folder = write_set(tmp_path / "set-x", {"1": make_record("1")}, ["1,1,1,1,-1,0"])
    (folder / "1.txt").write_bytes(b"Time,Parameter,Value\n01:00,H\xff,77\n")
    with pytest.raises(SourceError, match="1.txt: line 2: expected Time,Parameter,Value, three fields of UTF-8 text"):
        list(Cinc2012(folder).batches())


@pytest.mark.parametrize(
    ("outcomes", "message"),
    [
        (
            [],
            "Outcomes-x.txt: no row for 2 of the 2 stays in .*set-x, the first 1; .*check that this is the outcomes file",
        ),
        (["1,1,1,1,-1,0"], "Outcomes-x.txt: no row for 1 of the 2 stays in .*set-x, the first 2"),
        (["1,1,1,1,1,1", "2,1,1,1,1,1", "3,1,1,1,1,1"], "set-x: no file for 1 of the 3 stays .*, the first 3.txt; .*extract"),
        (["1,1,1,1,1,1", "1,1,1,1,1,1"], "Outcomes-x.txt: RecordID: a stay twice"),
        (["1,1,1,1,1,1", "2,1,high,1,1,1"], "Outcomes-x.txt: SOFA: not a number in every row"),
        (["1,1,1,1,1,1", "2,1,1,1,1,2"], "Outcomes-x.txt: In-hospital_death: expected 0 or 1"),
        (["1,1,1,1,1,1", "2,1,1,1,1,1,1,1"], "Outcomes-x.txt: not a table"),
    ],
)
def test_cinc2012_refuses_outcomes_that_do_not_fit_the_set(tmp_path, outcomes, message):
    with pytest.raises(SourceError, match=message):
        Cinc2012(write_set(tmp_path / "set-x", {"1": make_record("1"), "2": make_record("2")}, outcomes))


def test_cinc2012_refuses_outcomes_without_the_expected_columns(tmp_path):
    with pytest.raises(SourceError, match="no column Survival, In-hospital_death; expected RecordID, .*; got RecordID, SAPS-I"):
        Cinc2012(write_set(tmp_path / "set-x", {"1": make_record("1")}, ["1,1,1,1"], "RecordID,SAPS-I,SOFA,Length_of_stay\n"))


def test_cinc2012_error_names_missing_data(folder):
    with pytest.raises(SourceError, match="--data is missing: cinc2012 needs set-a.tar.gz or the folder set-a"):
        open_source("cinc2012", None)
    with pytest.raises(SourceError, match="set-z.tar.gz: expected the official set-x.tar.gz or the folder set-x"):
        open_source("cinc2012", folder.parent / "set-z.tar.gz")
    with pytest.raises(SourceError, match="expected the official set-x.tar.gz or the folder set-x"):
        open_source("cinc2012", folder.parent)
    (folder.parent / "Outcomes-x.txt").rename(folder.parent / "Outcomes-y.txt")
    with pytest.raises(SourceError, match="Outcomes-x.txt: not there; expected the set's outcomes next to the set"):
        open_source("cinc2012", folder)
    (folder.parent / "set-y").mkdir()
    with pytest.raises(SourceError, match="set-y: holds no stay; expected files such as 132539.txt"):
        open_source("cinc2012", folder.parent / "set-y")


def test_cinc2012_refuses_a_truncated_archive_and_a_file_that_is_none(folder):
    archive = folder.parent / "set-x.tar.gz"
    with tarfile.open(archive, "w:gz") as file:
        file.add(folder, "set-x")
    whole = archive.read_bytes()
    for bytes_ in (whole[: len(whole) // 2], b"not an archive", b""):
        archive.write_bytes(bytes_)
        with pytest.raises(SourceError, match="set-x.tar.gz: not a complete .tar.gz .*download it again"):
            Cinc2012(archive)


def test_cinc2012_refuses_two_files_of_the_same_stay(folder):
    (folder / "again").mkdir()
    (folder / "again" / "100001.txt").write_text(make_record("100001"))
    with pytest.raises(SourceError, match="holds 100001.txt twice"):
        Cinc2012(folder)


PUBLISHED_COUNTS = {"set-a.tar.gz": (554, 3), "set-b.tar.gz": (568, 7)}  # deaths, stays without an observation


def test_cinc2012_sets_have_the_published_counts(cinc2012_set):
    """Counts of the whole sets are the published ones, and the observations of some stays are those of their files."""
    source = Cinc2012(cinc2012_set)
    batches = list(source.batches())
    assert len(source) == len(batches) == 2
    observations, stays, outcomes = (
        pd.concat([getattr(batch, table) for batch in batches], ignore_index=True)
        for table in ("observations", "stays", "outcomes")
    )
    deaths, without_series = PUBLISHED_COUNTS[cinc2012_set.name]
    assert (len(stays), stays["subject_id"].nunique(), len(outcomes)) == (4000, 4000, deaths)
    assert outcomes["onset"].gt(EPOCH + 48 * HOUR).all()
    assert observations["observed_at"].between(EPOCH, EPOCH + 48 * HOUR).all()
    assert len(source.read_severity()) == 4000
    measured = observations[~observations["signal"].isin(["body_height", "body_weight"])]["subject_id"].nunique()
    assert 4000 - measured == without_series
    index = index_times(stays)
    assert (index.groupby("subject_id")["index_time"].max() == EPOCH + 48 * HOUR).all()

    checked = check(observations, declared=OWN_UNITS)
    reasons = checked.quarantined["reason"].value_counts() / len(observations)
    assert set(reasons.index) == {"implausible", "duplicate_reading"}
    assert reasons.max() < 0.002
    with tarfile.open(cinc2012_set) as archive:
        for stay in (stays["subject_id"].iloc[7], stays["subject_id"].iloc[3999]):
            file = pd.read_csv(archive.extractfile(f"{cinc2012_set.name[:5]}/{stay}.txt"))
            hr = file[file["Parameter"] == "HR"]
            found = observations[(observations["subject_id"] == stay) & (observations["signal"] == "heart_rate")]
            assert found["value"].tolist() == hr["Value"].tolist()
            minutes = hr["Time"].str[:2].astype(int) * 60 + hr["Time"].str[3:].astype(int)
            assert ((found["observed_at"] - EPOCH) / pd.Timedelta(minutes=1)).tolist() == minutes.tolist()
