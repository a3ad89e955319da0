"""Alarms by hand: when one fires, what counts as right, and what a ward pays for it."""

import numpy as np
import pandas as pd
import pytest

from models.evaluation.alarms import Watch, alarms, threshold_at_budget

T0 = pd.Timestamp("2026-03-01T00:00:00Z").as_unit("us")
HOUR = pd.Timedelta(hours=1)


def watched(risks, onset=None, subject_id="a", known=True):
    frame = pd.DataFrame({"subject_id": subject_id, "probability": risks})
    frame["index_time"] = pd.Series([T0 + n * HOUR for n in range(len(risks))], dtype="datetime64[us, UTC]")
    frame["onset"] = pd.Series([pd.NaT if onset is None else T0 + onset * HOUR] * len(risks), dtype="datetime64[us, UTC]")
    frame["onset_known"] = known
    return frame


def fired(*risks, threshold=0.5):
    return np.flatnonzero(Watch.of(watched(list(risks))).fired(threshold)).tolist()


def test_a_run_fires_at_its_start_and_again_after_the_silence():
    assert fired(0, 0, *[0.9] * 20) == [2, 10, 18]


def test_the_threshold_itself_is_above():
    assert fired(0.4999, 0.5) == [1]


def test_a_run_that_begins_in_the_silence_fires_only_if_it_outlives_it():
    assert fired(0.9, 0, 0.9, 0.9, 0, 0, 0, 0, 0, 0) == [0]
    assert fired(0.9, 0, 0, 0, 0, 0, 0, 0.9, 0.9, 0.9) == [0, 8]


def test_each_patient_has_a_silence_of_its_own():
    both = pd.concat([watched([0.9] * 3), watched([0.9] * 3, subject_id="b")])
    assert np.flatnonzero(Watch.of(both).fired(0.5)).tolist() == [0, 3]


def test_figures_by_hand():
    # Onset at 30 h. Alarms at 10 h (20 h before: too early), 18 h (12 h before: just right) and 26 h (right).
    septic = watched([0] * 10 + [0.9] * 25, onset=30)
    # Another is caught by none, and one without an event rings once.
    missed, well = watched([0] * 20, onset=15, subject_id="b"), watched([0.9] + [0] * 46, subject_id="c")
    found = alarms(Watch.of(pd.concat([septic, missed, well])), 0.5)
    assert found["event_recall"] == 1 / 2
    assert found["alarm_precision"] == 2 / 4
    assert found["alarms_per_patient_day"] == pytest.approx(4 / ((30 + 15 + 47) / 24))
    assert found["lead_time_hours"] == 12


def test_hours_at_and_after_the_onset_count_for_nothing():
    assert len(Watch.of(watched([0.9] * 10, onset=4)).time) == 4


def test_an_unknown_onset_is_left_out():
    assert len(Watch.of(watched([0.9] * 10, onset=6, known=False)).time) == 0


def test_without_alarms_precision_is_unknown_and_recall_nothing():
    found = alarms(Watch.of(watched([0.1] * 10, onset=9)), 0.5)
    assert found["event_recall"] == 0
    assert np.isnan(found["alarm_precision"])


def test_the_threshold_at_a_budget_is_the_lowest_within_it():
    generator = np.random.default_rng(0)
    watch = Watch.of(pd.concat([watched(generator.random(96), subject_id=str(n)) for n in range(50)]))
    threshold = threshold_at_budget(watch, 0.5)
    rate = alarms(watch, threshold)["alarms_per_patient_day"]
    assert 0.45 < rate <= 0.5
    assert alarms(watch, threshold - 0.002)["alarms_per_patient_day"] > 0.5
