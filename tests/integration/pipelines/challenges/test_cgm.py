"""Glucose monitors: sets as they are distributed, what is asked of them, and a protocol in which no person is on both sides."""

import zipfile

import numpy as np
import pandas as pd
import pytest

from vigil.pipelines.challenges import BenchmarkError
from vigil.pipelines.challenges.cgm import MODELS, Question, ask, count_alarms
from vigil.pipelines.challenges.cgm_features import MINUTE, Glucose, compute_features, read_glucose
from vigil.pipelines.challenges.run import run
from vigil.pipelines.sources import SourceError
from vigil.pipelines.sources.cgm import read_cgm_set, read_local_times

HEAD = "timestamp,glucose_value_mg_dl\n"


def write_set(path, persons, name="New"):
    """Write a set: text of the file by person."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{name}-metadata.csv", "person_id,age\n")
        archive.writestr(f"__MACOSX/{name}-extracted-glucose-files/._1.csv", b"\x00\x05\x16\x07")
        archive.writestr(f"{name}-extracted-glucose-files/.DS_Store", b"\x00\x00\x00\x01")
        for person, text in persons.items():
            archive.writestr(f"{name}-extracted-glucose-files/{person}.csv", text)
    return path


def person(seed, days=4):
    """Return the file of a person whose glucose swings, and falls below 70 from time to time."""
    rng = np.random.default_rng(seed)
    time = pd.date_range("2024-01-01T00:02", periods=days * 288, freq="5min")
    value = 105 + 45 * np.sin(np.arange(len(time)) / (20 + 5 * rng.random())) + np.cumsum(rng.normal(0, 1.5, len(time)))
    value = np.clip(value - 0.1 * (value - 105), 38, 300)
    texts = ["Low" if own < 40 else f"{own:.0f}" for own in value]
    return HEAD + "".join(f"{at:%Y-%m-%d %H:%M:%S},{text}\n" for at, text in zip(time, texts, strict=True))


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cgm")
    for number, name in enumerate(("A", "B")):
        write_set(folder / f"{name}.zip", {f"Subject {own}": person(10 * number + own) for own in range(6)}, name)
    return folder


def test_a_set_is_read_with_what_a_mac_left_in_it(tmp_path):
    text = (
        "\ufeff" + HEAD + "2024-01-01 00:00:00,100\n2024-01-01 00:05:00,Low\n2024-01-01 00:10:00,1.8\n2024-01-01 00:05:00,Low\n"
    )
    checked = read_cgm_set(write_set(tmp_path / "new.zip", {"Subject 8": text}))
    assert checked.accepted[["subject_id", "signal", "value"]].to_numpy().tolist() == [
        ["New/Subject 8", "glucose", 100.0],
        ["New/Subject 8", "glucose_below_range", 40.0],
    ]
    assert sorted(checked.quarantined["reason"]) == ["duplicate_reading", "implausible"]
    assert read_glucose(checked).value.tolist() == [100.0, 39.0]


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["2024-01-31 23:55:00", "2024-02-01", "2024-02-01 00:05"], ["01-31 23:55", "02-01 00:00", "02-01 00:05"]),
        (["01/02/2024 23:55", "02/02/2024 00:00", "02/02/2024 00:05"], ["02-01 23:55", "02-02 00:00", "02-02 00:05"]),
        (["01/31/2024 11:55 PM", "02/01/2024 12:00 AM"], ["01-31 23:55", "02-01 00:00"]),
        (["2024-01-31T23:55:00", "tomorrow"], ["01-31 23:55", None]),
    ],
)
def test_times_are_read_in_the_order_of_day_and_month_in_which_they_follow_each_other(texts, expected):
    assert read_local_times(pd.Series(texts)).dt.strftime("%m-%d %H:%M").replace(np.nan, None).tolist() == expected


def glucose_of(values, minutes=None):
    minutes = np.arange(len(values)) * 5 if minutes is None else np.array(minutes)
    return Glucose(["p"], np.array([0, len(values)]), minutes * MINUTE, np.array(values, dtype=float))


def test_what_is_asked():
    low = ask(glucose_of([90, 80, 75, 69, 75, 90, 90, 90, 90, 90, 90, 90]), 30)
    # After the low reading nothing is asked for half an hour. The last reading has no horizon.
    assert np.flatnonzero(low.is_asked).tolist() == [0, 1, 2, 10]
    assert low.label.tolist() == [True, True, True, *[False] * 9]
    assert low.onsets.tolist() == [3]
    late = ask(glucose_of([90, 65, 80], [0, 31, 100]), 30)
    assert not late.is_asked.any()  # 31 minutes later is beyond the horizon, and nothing is in it
    assert ask(glucose_of([90, 65, 80], [0, 31, 100]), 60).label.tolist() == [True, False, False]


def test_alarms_are_counted_once_in_half_an_hour_and_for_their_episode():
    glucose = glucose_of([90] * 20 + [60])
    question = Question(glucose.value >= 70, np.zeros(21, dtype=bool), np.array([20]))
    is_high = np.zeros(21, dtype=bool)
    is_high[[2, 3, 16, 17]] = True
    figures = count_alarms(glucose, question, is_high, 30)
    assert (figures["recall"], figures["warning_minutes"]) == (1.0, 20.0)
    assert figures["alarms_per_day"] == pytest.approx(2 / (100 / 1440))


def test_features_know_nothing_of_later(sets):
    glucose = read_glucose(read_cgm_set(sets / "A.zip"))
    whole = compute_features(glucose)
    for number in (1, 40, 300, 700):
        cut = Glucose(["p"], np.array([0, number]), glucose.time[:number], glucose.value[:number])
        pd.testing.assert_frame_equal(compute_features(cut), whole[:number], check_exact=True)


@pytest.mark.parametrize("option", ["folder", "named", "left_out"])
def test_the_protocol_scores_persons_whom_no_model_has_seen(sets, option):
    test = {"folder": [sets], "named": [sets / "B.zip"], "left_out": []}[option]
    train = [sets / "A.zip"] if option == "named" else [sets]
    if option == "folder":
        with pytest.raises(BenchmarkError, match="in both"):
            run("cgm", train, test)
        return
    result = run("cgm", train, test)
    assert list(result.metrics) == list(MODELS)
    judged = {"A", "B"} if option == "left_out" else {"B"}
    rows = result.predictions
    assert set(rows["subject_id"].str.partition("/")[0]) == judged
    assert not rows.duplicated(["model", "subject_id", "index_time", "horizon_minutes"]).any()
    assert rows["probability"].between(0, 1).all()
    for name in judged:
        figures = {model: values[f"{name}_30m_auroc"] for model, values in result.metrics.items()}
        assert min(figures.values()) > 0.7
        assert result.metrics["value"][f"{name}_30m_prevalence"] == result.metrics["line"][f"{name}_30m_prevalence"] > 0


def test_what_is_no_set_is_refused(tmp_path):
    (tmp_path / "no.zip").write_bytes(b"PK")
    with pytest.raises(SourceError, match="cannot be read"):
        read_cgm_set(tmp_path / "no.zip")
    with pytest.raises(SourceError, match="no <set>-extracted-glucose-files"):
        read_cgm_set(write_set(tmp_path / "empty.zip", {}))
    with pytest.raises(SourceError, match="no column glucose_value_mg_dl"):
        read_cgm_set(write_set(tmp_path / "other.zip", {"1": "timestamp,mmol\n2024-01-01 00:00:00,5\n"}))
    (tmp_path / "folder").mkdir()
    with pytest.raises(BenchmarkError, match="holds no zip"):
        run("cgm", [tmp_path / "folder"], [])
