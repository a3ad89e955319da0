"""Measurement augmentation: observations are left out, never added, and draws depend on the patient alone."""

from typing import get_args

import numpy as np
import pandas as pd
import pytest

from vigil.features.batch import build_features
from vigil.features.catalogue import group_by_view
from vigil.features.declarations import OWN_UNITS
from vigil.features.observations import TIME, check
from vigil.features.signals import SIGNALS
from vigil.models.training.measurement_augmentation import (
    EVALUATION_DRAW,
    LEAST_SHARE,
    MAX_NEGATIVES,
    MAX_RESULT_DELAY,
    NEVER_SHARE,
    OFFSET_SHARE,
    SPREAD,
    TRAINING_DRAWS,
    Augmented,
    Way,
    augment,
    changed_habits,
    evaluation_rows,
    join_parts,
    other_habits,
    share_of_negatives,
)
from vigil.models.training.truncated_records import CARRY_HOURS, LAST_SETS, LATE_HOURS, last_sets, late_start

START = pd.Timestamp("2026-01-01T00:00:00Z")
HOUR = pd.Timedelta(hours=1)
FEATURES = [
    "heart_rate_count_24h",
    "heart_rate_last_24h",
    "heart_rate_std_24h",
    "lactate_last_72h",
    "news2",
    "age",
    "hours_in_unit",
]


@pytest.fixture(scope="module")
def observations():
    """Observations of 300 patients, hourly for two days; blood results every eight hours."""
    hours = pd.DataFrame({"hour": range(48)})
    patients = pd.DataFrame({"subject_id": [f"p{number}" for number in range(300)]})
    signals = pd.DataFrame(
        {
            "signal": [
                "heart_rate",
                "spo2",
                "fio2",
                "on_oxygen",
                "lactate",
                "creatinine",
                "glasgow_coma_scale",
                "urine_output",
            ],
            "value": [80, 97, 40, 1, 1.5, 0.9, 15, 60],
        }
    )
    rows = hours.merge(patients, how="cross").merge(signals, how="cross")
    rows = rows[~rows["signal"].isin(["lactate", "creatinine"]) | (rows["hour"] % 8 == 0)]
    return check(
        rows.assign(observed_at=(START + pd.to_timedelta(rows["hour"], unit="h")).astype(TIME)), declared=OWN_UNITS
    ).accepted


def shares(rows, observations):
    """Return the share of observations that are left, by patient and signal."""
    keys = ["subject_id", "signal"]
    share = (rows.groupby(keys).size() / observations.groupby(keys).size()).fillna(0)
    return share.rename("share").reset_index().pivot_table(index="subject_id", columns="signal", values="share")


def test_remeasured_leaves_observations_out_and_adds_none(observations):
    left = other_habits(observations)
    pd.testing.assert_frame_equal(left, observations.loc[left.index])
    assert left.index.is_monotonic_increasing
    assert 0.4 < len(left) / len(observations) < 0.8


def test_remeasured_draws_habits_for_each_patient(observations):
    share = shares(other_habits(observations), observations)
    # Uniform between the least share and all, but for the chance of 48 readings.
    assert share["heart_rate"].mean() == pytest.approx((1 + LEAST_SHARE["vital"]) / 2, abs=0.04)
    assert share["heart_rate"].quantile(0.05) < 0.5
    assert share["heart_rate"].quantile(0.95) > 0.93
    assert share["fio2"].mean() == pytest.approx(0.5, abs=0.06)
    assert share["fio2"].min() < 0.05
    assert abs(share["heart_rate"].corr(share["spo2"])) < 0.2  # each vital sign has a habit of its own


def test_remeasured_keeps_amounts_that_are_summed_up(observations):
    share = shares(other_habits(observations), observations)
    assert (share["urine_output"] == 1).all()
    assert share["glasgow_coma_scale"].mean() < 0.8


def test_remeasured_leaves_out_together_what_is_measured_together(observations):
    left = other_habits(observations)
    times = {signal: set(zip(rows["subject_id"], rows["observed_at"], strict=True)) for signal, rows in left.groupby("signal")}
    assert times["lactate"] == times["creatinine"]
    assert times["fio2"] == times["on_oxygen"]
    assert times["heart_rate"] != times["spo2"]


def test_remeasured_gives_for_a_part_of_the_cohort_what_the_whole_gives(observations):
    some = observations["subject_id"].isin([f"p{number}" for number in range(0, 300, 7)])
    whole = other_habits(observations)
    alone = other_habits(observations[some].astype({"subject_id": "category", "signal": object}))
    np.testing.assert_array_equal(alone.index, whole.index[whole["subject_id"].isin(observations.loc[some, "subject_id"])])


def test_changed_habits_never_measure_some_panels_and_few_vital_signs(observations):
    share = shares(changed_habits(observations, 1), observations).reindex(columns=observations["signal"].unique()).fillna(0)
    assert (share["lactate"] == 0).mean() == pytest.approx(NEVER_SHARE["laboratory"], abs=0.1)
    assert (share["heart_rate"] == 0).mean() == pytest.approx(NEVER_SHARE["vital"], abs=0.03)
    assert abs(share["lactate"].corr(share["creatinine"])) < 0.25  # panels of their own
    assert abs(share["fio2"].corr(share["on_oxygen"])) < 0.25
    assert (share["urine_output"] == 1).all()


def test_changed_habits_delay_blood_results_and_nothing_else(observations):
    left = changed_habits(observations, 1)
    assert left.index.is_monotonic_increasing
    late = left["recorded_at"] - observations["recorded_at"].loc[left.index]
    blood = left["signal"].isin(["lactate", "creatinine"])
    assert late[~blood].max() == pd.Timedelta(0)
    assert late[blood].between(pd.Timedelta(0), pd.Timedelta(hours=MAX_RESULT_DELAY)).all()
    assert late[blood].mean() == pytest.approx(HOUR, abs=pd.Timedelta(minutes=10))
    assert (late[blood].groupby([left["subject_id"], left["signal"]]).nunique().fillna(1) <= 1).all()  # a habit


def test_changed_habits_give_each_device_an_offset_of_its_own(observations):
    left = changed_habits(observations, 1)
    offset = left["value"] - observations["value"].loc[left.index]
    of_device = offset.groupby([left["subject_id"], left["signal"]], observed=True).agg(["min", "max"])
    assert (of_device["max"] - of_device["min"] < 1e-9).all()
    heart = of_device["max"].xs("heart_rate", level="signal")
    assert heart.std() == pytest.approx(OFFSET_SHARE * SPREAD["heart_rate"], rel=0.15)
    assert heart.mean() == pytest.approx(0, abs=0.4)
    assert left["value"].max() <= 100.0
    assert (offset[~left["signal"].isin(SPREAD)] == 0).all()
    check(left)  # whole steps of the resolution, within the plausible range


def test_changed_habits_have_independent_draws_and_evaluation_uses_one_of_its_own(observations):
    assert EVALUATION_DRAW not in TRAINING_DRAWS
    draws = (EVALUATION_DRAW, *TRAINING_DRAWS)
    share = [shares(changed_habits(observations, draw), observations)["heart_rate"] for draw in draws]
    assert max(abs(share[0].corr(share[1])), abs(share[0].corr(share[2])), abs(share[1].corr(share[2]))) < 0.25


def test_augment_thins_rows_without_an_event_and_the_others_stand_for_them(stays):
    observations, index = stays
    habits, *_, late, _ = augment(observations, index, FEATURES, negative_share=0.25)
    label = index["label"].to_numpy()[habits.rows]
    assert (label == 1).sum() == (index["label"] == 1).sum()
    assert (label == 0).sum() == pytest.approx(0.25 * (index["label"] == 0).sum(), rel=0.15)
    assert set(habits.hours[label == 0]) == {4}
    assert set(habits.hours[label == 1]) == {1}
    assert late.hours.sum() == pytest.approx(index["label"].notna().sum())  # every labelled hour is represented once
    judging = evaluation_rows(observations, index, FEATURES, negative_share=0.25)
    np.testing.assert_array_equal(judging.rows, habits.rows)


def test_share_of_quiet_rows_keeps_them_up_to_a_limit():
    assert share_of_negatives(1_000) == 1
    assert share_of_negatives(0) == 1
    assert share_of_negatives(800_000) == MAX_NEGATIVES / 800_000


def stays_of(patients, hours, seed):
    """Return observations and hourly index of stays; observations come at any minute, some are recorded hours later."""
    generator = np.random.default_rng(seed)
    index, rows = [], []
    for number in range(patients):
        start = START + pd.Timedelta(minutes=int(generator.integers(0, 60)))
        length = int(generator.integers(1, hours))
        label = (generator.random(length + 1) < 0.1).astype(float)
        label[generator.random(length + 1) < 0.1] = np.nan
        label[generator.integers(0, length + 1)] = 0
        index += [
            {"subject_id": f"p{number:03}", "index_time": start + hour * HOUR, "start": start, "end": start + length * HOUR,
             "label": label[hour], "age": 40.0 + number, "sex": 0.0, "unit_admitted_at": start - 5 * HOUR}
            for hour in range(length + 1)
        ]  # fmt: skip
        for name in ("heart_rate", "spo2", "lactate", "body_weight", "on_oxygen"):
            for minute in generator.integers(0, length * 60 + 1, size=int(generator.integers(0, length + 2))):
                at = start + pd.Timedelta(minutes=int(minute))
                late = int(generator.integers(0, 5)) * (generator.random() < 0.3)
                value = {"spo2": 97.0, "on_oxygen": 1.0}.get(name, float(generator.integers(30, 50)))
                rows.append((f"p{number:03}", at, at + late * HOUR, name, value))
    readings = pd.DataFrame(rows, columns=["subject_id", "observed_at", "recorded_at", "signal", "value"])
    frame = pd.DataFrame(index).assign(row=np.arange(len(index)), hospital_admitted_at=pd.Series(pd.NaT, dtype=TIME))
    frame = frame.astype(dict.fromkeys(["index_time", "start", "end", "unit_admitted_at"], TIME))
    return check(readings.astype({"observed_at": TIME, "recorded_at": TIME}), declared=OWN_UNITS).accepted, frame


@pytest.fixture(scope="module")
def stays():
    return stays_of(120, 70, 3)


def test_late_start_keeps_observations_and_the_first_hours_from_one_moment_on(stays):
    observations, index = stays
    left, rows = late_start(observations, index)
    assert set(rows["subject_id"]) == set(index["subject_id"])
    for subject, times in index.groupby("subject_id")["index_time"]:
        learned = rows.loc[rows["subject_id"] == subject, "index_time"]
        first = int(np.flatnonzero(times == learned.iloc[0])[0])
        assert learned.tolist() == times.iloc[first : first + LATE_HOURS].tolist()
        before = times.iloc[first - 1] if first else times.iloc[0] - HOUR  # the moment lies between these two
        theirs = observations[observations["subject_id"] == subject]
        is_kept = theirs.index.isin(left.index)
        assert is_kept[theirs["observed_at"] >= learned.iloc[0]].all()
        assert not is_kept[theirs["observed_at"] <= before].any()
        assert (
            not is_kept.any()
            or theirs.loc[~is_kept, "observed_at"].max() < theirs.loc[is_kept, "observed_at"].min()
            or is_kept.all()
        )
    pd.testing.assert_frame_equal(left, observations.loc[left.index])


def test_late_start_lies_anywhere_in_the_stay(stays):
    _, index = stays
    _, rows = late_start(*stays)
    begin = rows.drop_duplicates("subject_id").set_index("subject_id")["index_time"]
    stay = index.drop_duplicates("subject_id").set_index("subject_id")
    share = ((begin - stay["start"]) / (stay["end"] - stay["start"]))[stay["end"] - stay["start"] > 20 * HOUR]
    assert share.mean() == pytest.approx(0.5, abs=0.1)
    assert share.quantile(0.9) > 0.8
    assert share.quantile(0.1) < 0.2


def test_last_sets_hold_what_a_slow_search_finds(stays):
    observations, index = stays
    left, rows = last_sets(observations, index)
    for number, (_, row) in enumerate(rows.iterrows()):
        time, whose = row["index_time"], index.loc[row["row"], "subject_id"]
        expected = {}
        for reading in observations[observations["subject_id"] == whose].itertuples():
            carry = CARRY_HOURS[SIGNALS[reading.signal].kind] * HOUR
            if max(reading.observed_at, reading.recorded_at) <= time < reading.observed_at + carry:
                newest = (reading.observed_at, reading.recorded_at, reading.value)
                expected[reading.signal] = max(expected.get(reading.signal, newest), newest)
        result = left[left["subject_id"] == number]
        assert row["subject_id"] == number
        assert result["signal"].is_unique
        assert {r.signal: (r.observed_at, r.recorded_at, r.value) for r in result.itertuples()} == expected


def test_last_sets_leave_out_what_was_superseded_by_then(stays):
    observations, index = stays
    generator = np.random.default_rng(2)
    ends = observations["recorded_at"] + pd.to_timedelta(generator.integers(1, 600, len(observations)), unit="min")
    observations = observations.assign(superseded_at=ends.where(generator.random(len(observations)) < 1 / 3))
    left, rows = last_sets(observations, index)
    assert "superseded_at" not in left
    for number, (_, row) in enumerate(rows.iloc[:100].iterrows()):
        whose = index.loc[row["row"], "subject_id"]
        is_over = (observations["superseded_at"] <= row["index_time"]).to_numpy()
        then = observations[(observations["subject_id"] == whose) & ~is_over].drop(columns="superseded_at")
        expected, _ = last_sets(then, index.loc[[row["row"]]])
        columns = ["signal", "observed_at", "recorded_at", "value"]
        pd.testing.assert_frame_equal(
            left.loc[left["subject_id"] == number, columns].sort_values("signal", ignore_index=True),
            expected[columns].sort_values("signal", ignore_index=True),
        )


def test_last_sets_are_of_random_times_of_every_stay_and_events_are_as_frequent_there(stays):
    observations, index = stays
    _, rows = last_sets(observations, index)
    drawn = index.loc[rows["row"]].groupby("subject_id").size()
    assert (drawn == index.groupby("subject_id").size().clip(upper=LAST_SETS)).all()
    position = ((rows["index_time"] - rows["start"]) / (rows["end"] - rows["start"])).to_numpy()
    assert position.mean() == pytest.approx(0.5, abs=0.05)
    assert rows["label"].mean() == pytest.approx(index["label"].mean(), abs=0.04)


def test_augment_makes_truncated_records_of_labelled_times_and_keeps_the_clock(stays):
    observations, index = stays
    habits, first, second, late, sets = augment(observations, index, FEATURES, ways=get_args(Way))
    assert [way.way for way in (habits, first, late, sets)] == ["other_habits", "changed_habits", "late_start", "last_set"]
    for way in (habits, first, second):
        np.testing.assert_array_equal(way.rows, np.flatnonzero(index["label"].notna()))
        assert (way.hours == 1).all()
    assert not first.features.equals(second.features)
    as_measured = build_features(observations, index, group_by_view(FEATURES))
    for way in (late, sets):
        assert index.loc[way.rows, "label"].notna().all()
        assert list(way.features) == FEATURES
        for name in ("age", "hours_in_unit"):
            np.testing.assert_array_equal(way.features[name], as_measured[name].to_numpy()[way.rows])
        known, whole = way.features["heart_rate_count_24h"], as_measured["heart_rate_count_24h"].to_numpy()[way.rows]
        assert (known <= whole).all()
        assert known.mean() < 0.7 * whole.mean()
    assert set(sets.features["heart_rate_count_24h"]) == {0, 1}
    assert sets.features["heart_rate_std_24h"].isna().all()
    np.testing.assert_array_equal(
        sets.features["heart_rate_last_24h"], as_measured["heart_rate_last_24h"].to_numpy()[sets.rows]
    )
    np.testing.assert_array_equal(sets.features["lactate_last_72h"], as_measured["lactate_last_72h"].to_numpy()[sets.rows])
    np.testing.assert_array_equal(sets.features["news2"], as_measured["news2"].to_numpy()[sets.rows])


def test_augment_truncates_records_with_one_index_time_per_stay(stays):
    observations, index = stays
    ends = index[index["index_time"] == index["end"]].assign(label=1.0)
    *_, late, sets = augment(observations, ends.assign(row=np.arange(len(ends))), FEATURES)
    np.testing.assert_array_equal(late.rows, np.arange(len(ends)))
    np.testing.assert_array_equal(sets.rows, np.arange(len(ends)))
    whole = build_features(observations, ends, group_by_view(FEATURES))["heart_rate_count_24h"]
    assert 0 < late.features["heart_rate_count_24h"].sum() < 0.9 * whole.sum()


def test_augment_gives_for_the_parts_of_a_cohort_what_the_whole_gives(stays):
    observations, index = stays
    whole, parts = augment(observations, index, FEATURES, ways=get_args(Way)), []
    for number in range(3):
        subjects = [f"p{patient:03}" for patient in range(number, 120, 3)]
        some = observations[observations["subject_id"].isin(subjects)].sample(frac=1, random_state=number)
        theirs = index[index["subject_id"].isin(subjects)].sample(frac=1, random_state=number)
        parts.append(
            augment(some.astype({"subject_id": "category", "signal": "category"}), theirs, FEATURES, ways=get_args(Way))
        )
    for expected, result in zip(whole, join_parts(parts), strict=True):
        order = np.argsort(result.rows)
        np.testing.assert_array_equal(result.rows[order], expected.rows)
        pd.testing.assert_frame_equal(result.features.iloc[order].reset_index(drop=True), expected.features)


def test_augment_of_a_part_without_patients_or_without_labels_is_empty(stays):
    observations, index = stays
    unlabelled = augment(observations, index.assign(label=np.nan), FEATURES)
    assert [len(way.rows) for way in unlabelled] == [0] * 4
    empty = augment(observations[:0], index[:0], FEATURES)
    result = join_parts([empty, augment(observations, index, FEATURES)])
    assert [len(way.features) for way in result] == [len(way.rows) for way in result]
    assert all(len(way.rows) for way in result)


def test_among_keeps_the_rows_of_a_part_of_the_frame():
    way = Augmented(np.array([3, 0, 2, 3]), pd.DataFrame({"age": [30.0, 0.0, 20.0, 31.0]}), np.arange(4.0), "late_start")
    result = way.select(np.array([False, True, True, True]))
    assert result.rows.tolist() == [2, 1, 2]
    assert result.features["age"].tolist() == [30, 20, 31]
    assert result.hours.tolist() == [0, 2, 3]
    assert result.way == "late_start"
