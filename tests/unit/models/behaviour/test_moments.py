"""Moments: they hold exactly the observations known at an index time, and have the features of the whole record."""

import numpy as np
import pandas as pd
import pytest

from tests.support.synthetic_behaviour import START, VIEWS, index_of, ward
from vigil.features.batch import build_features
from vigil.features.declarations import OWN_UNITS
from vigil.features.observations import check
from vigil.models.behaviour.moments import LENGTHS, choose_moments, classify_length, split_into_moments

HOUR = pd.Timedelta(hours=1)


def reading(hour, signal, value, late=0.0, subject="a"):
    observed = START + hour * HOUR
    return (subject, observed, observed + late * HOUR, signal, value)


def checked(*readings):
    return check(
        pd.DataFrame(readings, columns=["subject_id", "observed_at", "recorded_at", "signal", "value"]), declared=OWN_UNITS
    ).accepted


@pytest.fixture(scope="module")
def late_ward():
    """Return observations of a ward, a third of them recorded up to five hours late, in any order."""
    observations, index = ward(patients=12, hours=15, seed=4)
    generator = np.random.default_rng(4)
    late = np.where(generator.random(len(observations)) < 0.3, generator.integers(0, 300, len(observations)), 0)
    recorded = observations["observed_at"] + pd.to_timedelta(late, unit="min")
    return observations.assign(recorded_at=recorded).sample(frac=1, random_state=4), index


def test_split_into_moments_holds_the_observations_known_then(late_ward):
    observations, index = late_ward
    split = split_into_moments(observations, index)
    assert len(split) == len(index)
    original = index.sort_values(["subject_id", "index_time"], ignore_index=True)
    columns = ["observed_at", "recorded_at", "signal", "value"]
    by_moment = dict(list(split.observations.astype({"subject_id": object, "signal": object}).groupby("subject_id")))
    for name, row in zip(split.index["subject_id"], original.itertuples(), strict=True):
        theirs = observations[observations["subject_id"] == row.subject_id]
        known = theirs[(theirs["observed_at"] <= row.index_time) & (theirs["recorded_at"] <= row.index_time)]
        expected = known[columns].sort_values(["signal", "observed_at", "recorded_at", "value"], ignore_index=True)
        pd.testing.assert_frame_equal(by_moment[name][columns].reset_index(drop=True), expected)


def test_split_into_moments_have_the_features_of_the_whole_record(late_ward):
    observations, index = late_ward
    whole, ours = build_features(observations, index, VIEWS), split_into_moments(observations, index).features(VIEWS)
    assert (whole["index_time"] == ours["index_time"]).all()
    np.testing.assert_array_equal(whole.iloc[:, 2:].to_numpy(), ours.iloc[:, 2:].to_numpy())


def superseded(observations, seed=5):
    """Return observations of which a third is superseded, up to four hours after they were recorded."""
    generator = np.random.default_rng(seed)
    ends = observations["recorded_at"] + pd.to_timedelta(generator.integers(1, 240, len(observations)), unit="min")
    return observations.assign(superseded_at=ends.where(generator.random(len(observations)) < 1 / 3))


def test_split_into_moments_leaves_out_what_was_superseded_by_then(late_ward):
    observations, index = superseded(late_ward[0]), late_ward[1]
    whole, ours = build_features(observations, index, VIEWS), split_into_moments(observations, index).features(VIEWS)
    np.testing.assert_array_equal(whole.iloc[:, 2:].to_numpy(), ours.iloc[:, 2:].to_numpy())
    assert not whole.equals(build_features(*late_ward, VIEWS))


def test_length_is_counted_from_the_first_reading_that_became_known():
    observations = checked(reading(0, "spo2", 97, late=3), reading(1, "spo2", 96, late=0.5), reading(9, "spo2", 95))
    index = index_of(["a"], 12)  # at 0:30, 1:30, ..
    split = split_into_moments(observations, index).length
    np.testing.assert_array_equal(split, [np.nan, 0, *np.arange(1, 11)])
    assert [LENGTHS[place] for place in classify_length(np.array([0.0, 1.99, 2, 11.9, 12, 90]))] == [
        "under 2 h", "under 2 h", "2 to 12 h", "2 to 12 h", "over 12 h", "over 12 h",
    ]  # fmt: skip


def test_latest_values_are_the_last_known_of_a_day():
    observations = checked(
        reading(0, "body_temperature", 38.5),  # 25.5 h before
        reading(2, "heart_rate", 70),
        reading(20, "heart_rate", 88, late=8),  # not known yet
        reading(3, "heart_rate", 90),
        reading(3, "spo2", 94),
        reading(4, "spo2", 91, subject="b"),
    )
    index = index_of(["a", "b", "c"], 26).query("index_time == index_time.max()")
    split = split_into_moments(observations, index).latest_values()
    expected = pd.DataFrame({"heart_rate": [90, np.nan, np.nan], "spo2": [94, 91, np.nan]})
    pd.testing.assert_frame_equal(split, expected, check_names=False)


def test_select_keeps_moments_complete(late_ward):
    whole = split_into_moments(*late_ward)
    chosen = np.random.default_rng(1).random(len(whole)) < 0.4
    some = whole.select(chosen)
    pd.testing.assert_frame_equal(some.features(VIEWS), whole.features(VIEWS)[chosen].reset_index(drop=True))
    np.testing.assert_array_equal(some.length, whole.length[chosen])
    assert (some.index["subject_id"].to_numpy()[some.moment_numbers()] == some.observations["subject_id"].astype(object)).all()


def test_choose_moments_takes_every_length_of_history():
    split = choose_moments(*ward(patients=30, hours=20), at_most=90)
    assert np.bincount(classify_length(split.length)).tolist() == [30, 30, 30]


def test_choose_moments_leaves_out_moments_without_a_reading():
    observations = checked(reading(5, "spo2", 97))
    split = choose_moments(observations, index_of(["a", "nothing"], 8))
    assert ((split.index["index_time"] - START) / HOUR).tolist() == [5.5, 6.5, 7.5]


def test_choose_moments_depends_on_no_other_patient_and_no_order():
    observations, index = ward(patients=20, hours=20)
    index["age"] = index["subject_id"].str[1:].astype(float)  # identifies the subject of a moment
    part = index[index["age"] < 12]
    of_all, of_part, shuffled = (
        {*zip(chosen.index["age"], chosen.index["index_time"], strict=True)}
        for chosen in (
            choose_moments(observations, index, at_most=60),
            choose_moments(observations, part, at_most=60),
            choose_moments(observations[::-1], part[::-1], at_most=60),
        )
    )
    assert len(of_all) == len(of_part) == 60
    assert of_part == shuffled
    assert {moment for moment in of_all if moment[0] < 12} <= of_part  # each has its own place in the order
