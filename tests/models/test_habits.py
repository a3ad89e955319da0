"""Other habits of measuring: readings are left out, never made up, and whose they are decides, not who else is there."""

import numpy as np
import pandas as pd
import pytest

from features.observations import TIME, check
from models.habits import LEAST_SHARE, remeasured

START = pd.Timestamp("2026-01-01T00:00:00Z")


@pytest.fixture(scope="module")
def observations():
    """300 patients, measured hourly for two days; blood drawn every eight hours."""
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
    return check(rows.assign(observed_at=(START + pd.to_timedelta(rows["hour"], unit="h")).astype(TIME))).accepted


def shares(rows, observations):
    """Share of the readings that are left, by patient and signal."""
    keys = ["subject_id", "signal"]
    share = (rows.groupby(keys).size() / observations.groupby(keys).size()).fillna(0)
    return share.rename("share").reset_index().pivot_table(index="subject_id", columns="signal", values="share")


def test_readings_are_left_out_and_none_is_made_up(observations):
    left = remeasured(observations)
    pd.testing.assert_frame_equal(left, observations.loc[left.index])
    assert left.index.is_monotonic_increasing
    assert 0.4 < len(left) / len(observations) < 0.8


def test_each_patient_is_measured_by_habits_of_his_own(observations):
    share = shares(remeasured(observations), observations)
    # Uniform between the least share and all, but for the chance of 48 readings.
    assert share["heart_rate"].mean() == pytest.approx((1 + LEAST_SHARE["vital"]) / 2, abs=0.04)
    assert share["heart_rate"].quantile(0.05) < 0.5
    assert share["heart_rate"].quantile(0.95) > 0.93
    assert share["fio2"].mean() == pytest.approx(0.5, abs=0.06)
    assert share["fio2"].min() < 0.05
    assert abs(share["heart_rate"].corr(share["spo2"])) < 0.2  # each vital sign has its own


def test_an_amount_that_is_summed_up_stays_whole(observations):
    share = shares(remeasured(observations), observations)
    assert (share["urine_output"] == 1).all()
    assert share["glasgow_coma_scale"].mean() < 0.8


def test_what_is_measured_together_is_left_out_together(observations):
    left = remeasured(observations)
    times = {signal: set(zip(rows["subject_id"], rows["observed_at"], strict=True)) for signal, rows in left.groupby("signal")}
    assert times["lactate"] == times["creatinine"]
    assert times["fio2"] == times["on_oxygen"]
    assert times["heart_rate"] != times["spo2"]


def test_a_part_of_the_cohort_gives_what_the_whole_does(observations):
    some = observations["subject_id"].isin([f"p{number}" for number in range(0, 300, 7)])
    whole = remeasured(observations)
    alone = remeasured(observations[some].astype({"subject_id": "category", "signal": object}))
    np.testing.assert_array_equal(alone.index, whole.index[whole["subject_id"].isin(observations.loc[some, "subject_id"])])
