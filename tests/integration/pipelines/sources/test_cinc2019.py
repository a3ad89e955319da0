"""The 2019 challenge: every number of a file becomes the right observation, and a part of the real cohort is read."""

import zipfile

import numpy as np
import pandas as pd
import pytest

from vigil.features.batch import build_features
from vigil.features.declarations import OWN_UNITS
from vigil.features.observations import check
from vigil.models.cohort import index_times, label_index_times
from vigil.models.tasks import TASKS
from vigil.pipelines.sources import SourceError, open_source
from vigil.pipelines.sources.cinc2019 import EPOCH, HEADER, Cinc2019

HOUR = pd.Timedelta(hours=1)


def make_psv(*rows):
    """Return the text of a file. Each row maps columns to values; other columns have defaults."""
    defaults = {"Age": 61.5, "Gender": 1, "Unit1": 0, "Unit2": 1, "HospAdmTime": -2.5, "SepsisLabel": 0}
    lines = ["|".join(str({**defaults, **row}.get(column, "NaN")) for column in HEADER) for row in rows]
    return "\n".join(["|".join(HEADER), *lines]) + "\n"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "p000001.psv").write_text(
        make_psv({"ICULOS": 3, "HR": 80, "FiO2": 0.4}, {"ICULOS": 4, "HR": 81.5, "FiO2": 0.21})
    )
    septic = [{"ICULOS": hour, "Temp": 39, "SepsisLabel": int(hour >= 3)} for hour in range(1, 9)]
    (tmp_path / "p000002.psv").write_text(make_psv(*septic))
    (tmp_path / "p000003.psv").write_text(
        make_psv({"ICULOS": 1, "Unit1": "NaN", "Unit2": "NaN", "SepsisLabel": 1, "HospAdmTime": "NaN"})
    )
    return tmp_path


def single_batch(batches):
    (batch,) = batches
    return batch


def test_cinc2019_observations_stays_and_outcomes_are_those_of_the_files(folder):
    batch = single_batch(Cinc2019(folder).batches())
    first = batch.observations[batch.observations["subject_id"] == "p000001"]
    observations = sorted(zip(first["signal"], (first["observed_at"] - EPOCH) / HOUR, first["value"], strict=True))
    assert observations == [
        ("fio2", 3, 40),
        ("fio2", 4, 21),
        ("heart_rate", 3, 80),
        ("heart_rate", 4, 81.5),
    ]
    assert batch.observations["recorded_at"].equals(batch.observations["observed_at"])

    stay = batch.stays.set_index("subject_id").loc["p000001"]
    assert ((stay["start"] - EPOCH) / HOUR, (stay["end"] - EPOCH) / HOUR) == (3, 4)
    assert (stay["unit_admitted_at"] - stay["hospital_admitted_at"]) / HOUR == 2.5
    assert (stay["age"], stay["sex"], stay["unit"]) == (61.5, 1, "Unit2")
    assert batch.stays["unit"].isna().tolist() == [False, False, True]

    outcomes = batch.outcomes.set_index("subject_id")
    assert ((outcomes["onset"] - EPOCH) / HOUR).to_dict() == {"p000002": 9, "p000003": 7}
    assert outcomes["onset_known"].to_dict() == {"p000002": True, "p000003": False}


def test_cinc2019_implausible_fio2_gives_no_on_oxygen(tmp_path):
    (tmp_path / "p000001.psv").write_text(
        make_psv({"ICULOS": 1, "FiO2": 0.03}, {"ICULOS": 2, "FiO2": 0}, {"ICULOS": 3, "FiO2": 10})
    )
    checked = check(single_batch(Cinc2019(tmp_path).batches()).observations, declared=OWN_UNITS)
    assert checked.accepted.empty
    assert checked.quarantined["signal"].tolist() == ["fio2"] * 3


def test_cinc2019_zip_and_folder_give_the_same_tables(folder, tmp_path_factory):
    archive = tmp_path_factory.mktemp("zip") / "training.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in folder.iterdir():
            file.write(path, f"training/{path.name}")
    zipped, plain = (single_batch(Cinc2019(path).batches()) for path in (archive, folder))
    pd.testing.assert_frame_equal(zipped.observations.drop(columns="source"), plain.observations.drop(columns="source"))
    pd.testing.assert_frame_equal(zipped.stays, plain.stays)
    pd.testing.assert_frame_equal(zipped.outcomes, plain.outcomes)


def test_cinc2019_onsets_reproduce_the_official_label(folder):
    batch = single_batch(Cinc2019(folder).batches())
    labelled = label_index_times(index_times(batch.stays), batch.outcomes, TASKS["sepsis"])
    by_stay = labelled.groupby("subject_id")["label"].apply(list).to_dict()
    assert by_stay == {"p000001": [0, 0], "p000002": [0, 0, 1, 1, 1, 1, 1, 1], "p000003": [1]}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("p1.psv", "a|b\n1|2\n", "p1.psv: not a Challenge 2019 header; expected HR|O2Sat"),
        (
            "p1.psv",
            make_psv({"ICULOS": 1, "HR": "fast"}),
            "p1.psv: expected rows of 41 numbers, with NaN or nothing where one is unknown",
        ),
        ("p1.psv", make_psv({"ICULOS": 1}) + "1|2\n", "p1.psv: expected rows of 41 numbers"),
        ("p1.psv", make_psv({"ICULOS": 1}) + "\n1|2\n", "p1.psv: expected rows of 41 numbers"),
        ("p1.psv", make_psv({"ICULOS": 1}, {"ICULOS": 1}), "p1.psv: ICULOS: an hour twice"),
        ("p1.psv", make_psv({"ICULOS": 1}, {"ICULOS": "NaN"}), "p1.psv: ICULOS: an hour is missing"),
        ("p1.psv", make_psv({"ICULOS": 1.5}), "p1.psv: ICULOS: an hour is missing, not whole"),
        ("p1.psv", make_psv({"ICULOS": 1, "SepsisLabel": 2}), "p1.psv: SepsisLabel: expected 0 or 1"),
        ("p1.psv", make_psv({"ICULOS": 1, "SepsisLabel": "NaN"}), "p1.psv: SepsisLabel: expected 0 or 1"),
        ("p1.psv", make_psv(), "p1.psv: a header but no row"),
    ],
)
def test_cinc2019_error_names_the_broken_file_without_its_values(tmp_path, name, text, message):
    """The broken file lies between complete ones. The error does not quote it, since it holds a patient's values."""
    for other in ("p0.psv", "p2.psv"):
        (tmp_path / other).write_text(make_psv({"ICULOS": 1}))
    (tmp_path / name).write_text(text)
    with pytest.raises(SourceError, match=message.replace("|", r"\|")) as refused:
        list(Cinc2019(tmp_path).batches())
    assert "fast" not in str(refused.value)
    assert refused.value.__cause__ is refused.value.__context__ is None


def test_cinc2019_refuses_two_files_of_the_same_stay(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "p000001.psv").write_text(make_psv({"ICULOS": 1}))
    with pytest.raises(SourceError, match="two files of the same name"):
        Cinc2019(tmp_path)


def test_cinc2019_refuses_a_zip_bomb_before_it_is_read(tmp_path):
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("p000001.psv", b"0" * 20_000_000)
    assert path.stat().st_size < 100_000
    with pytest.raises(SourceError, match=r"p000001\.psv: 20,000,000 bytes; expected at most 10,000,000 for one stay"):
        next(Cinc2019(path).batches())


def test_cinc2019_error_names_missing_data(tmp_path):
    with pytest.raises(SourceError, match="no .psv file in it"):
        open_source("cinc2019", tmp_path)
    with pytest.raises(SourceError, match="expected the official .zip or a folder"):
        open_source("cinc2019", tmp_path / "missing.zip")


def test_cinc2019_features_of_real_stays_equal_those_computed_with_pandas(cinc2019_zip, tmp_path):
    """Four hundred real stays: counts and labels are those of the files, and features are computed again with pandas."""
    with zipfile.ZipFile(cinc2019_zip) as archive:
        names = sorted(name for name in archive.namelist() if name.endswith(".psv"))[:400]
        archive.extractall(tmp_path, names)
    files = {path.stem: pd.read_csv(path, sep="|") for path in tmp_path.rglob("*.psv")}
    batch = single_batch(Cinc2019(tmp_path).batches())
    index = index_times(batch.stays)
    labelled = label_index_times(index, batch.outcomes, TASKS["sepsis"])
    expected = pd.concat([files[stay]["SepsisLabel"] for stay in sorted(files)], ignore_index=True)
    np.testing.assert_array_equal(labelled["label"], expected)

    checked = check(batch.observations, declared=OWN_UNITS)
    measured = sum(int(file[list(HEADER[:34])].notna().sum().sum()) for file in files.values())
    measured += sum(int(file["FiO2"].between(0.2, 1.0).sum()) for file in files.values())  # each also gives on_oxygen
    assert len(checked.accepted) + len(checked.quarantined) == measured
    features = build_features(checked.accepted, index)
    for stay in ("p000009", "p000100", "p000400"):
        file = files[stay]
        rows = features[features["subject_id"] == stay].reset_index(drop=True)
        np.testing.assert_array_equal(rows["heart_rate_mean_1h"], file["HR"].astype("float32"))
        highest = file["HR"].rolling(6, min_periods=1).max()
        np.testing.assert_allclose(rows["heart_rate_max_6h"], highest, rtol=1e-6)
        lactate = file["Lactate"].ffill(limit=71)
        np.testing.assert_allclose(rows["lactate_last_72h"], lactate, rtol=1e-6)
        np.testing.assert_array_equal(rows["hours_in_unit"], file["ICULOS"])


@pytest.mark.parametrize("end", ["", "\n", "\r\n", "\n\n\n"])
def test_file_with_another_end_is_still_the_file(tmp_path, end):
    (tmp_path / "p1.psv").write_bytes((make_psv({"ICULOS": 1, "HR": 80}, {"ICULOS": 2, "HR": 82}).rstrip("\n") + end).encode())
    assert single_batch(Cinc2019(tmp_path).batches()).observations["value"].tolist() == [80.0, 82.0]


def test_rows_count_by_their_hour_whatever_their_place(tmp_path):
    hours = [{"ICULOS": hour, "HR": 80 + hour, "SepsisLabel": int(hour >= 3)} for hour in range(1, 7)]
    tables = []
    for folder, rows in (("sorted", hours), ("shuffled", [hours[place] for place in (4, 0, 5, 2, 1, 3)])):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "p1.psv").write_text(make_psv(*rows))
        batch = single_batch(Cinc2019(tmp_path / folder).batches())
        tables.append((batch.observations.drop(columns="source"), batch.stays, batch.outcomes))
    for one, other in zip(*tables, strict=True):
        pd.testing.assert_frame_equal(one, other)


@pytest.mark.parametrize(
    ("facts", "column"),
    [({"Age": -1}, "age"), ({"Age": 600}, "age"), ({"Gender": 2}, "sex"), ({"HospAdmTime": 1e7}, "hospital_admitted_at")],
)
def test_facts_that_cannot_be_true_are_unknown(tmp_path, facts, column):
    (tmp_path / "p1.psv").write_text(make_psv({"ICULOS": 1, "Age": 60, "Gender": 1, "HospAdmTime": -10} | facts))
    stay = single_batch(Cinc2019(tmp_path).batches()).stays.iloc[0]
    assert stay[["age", "sex", "hospital_admitted_at"]].isna().to_dict() == {
        name: name == column for name in ("age", "sex", "hospital_admitted_at")
    }
