"""Alarm timeline, by hand: when an alarm sounds, when it is right, and how many a ward gets."""

import numpy as np
import pandas as pd
import pytest

from tests.support.synthetic_risks import HOUR, T0
from vigil.models.alarms.timeline import (
    AlarmTimeline,
    rows_before_onset,
    threshold_at_budget,
    threshold_at_recall,
    threshold_without_labels,
)
from vigil.models.statistics.proportions import clopper_pearson


def watched(risks, onset=None, subject_id="a", known=True):
    frame = pd.DataFrame({"subject_id": subject_id, "probability": risks})
    frame["index_time"] = pd.Series([T0 + n * HOUR for n in range(len(risks))], dtype="datetime64[us, UTC]")
    frame["onset"] = pd.Series([pd.NaT if onset is None else T0 + onset * HOUR] * len(risks), dtype="datetime64[us, UTC]")
    frame["onset_known"] = known
    return frame


def alarms_at(*risks, threshold=0.5):
    return np.flatnonzero(AlarmTimeline.from_frame(watched(list(risks))).alarms_at(threshold)).tolist()


def test_alarm_sounds_at_the_start_of_a_run_and_again_after_the_refractory_period():
    assert alarms_at(0, 0, *[0.9] * 20) == [2, 10, 18]


def test_alarm_sounds_at_the_threshold_itself():
    assert alarms_at(0.4999, 0.5) == [1]


def test_alarm_of_a_run_that_starts_in_the_refractory_period_sounds_only_if_it_lasts_longer():
    assert alarms_at(0.9, 0, 0.9, 0.9, 0, 0, 0, 0, 0, 0) == [0]
    assert alarms_at(0.9, 0, 0, 0, 0, 0, 0, 0.9, 0.9, 0.9) == [0, 8]


def test_refractory_period_is_per_patient():
    both = pd.concat([watched([0.9] * 3), watched([0.9] * 3, subject_id="b")])
    assert np.flatnonzero(AlarmTimeline.from_frame(both).alarms_at(0.5)).tolist() == [0, 3]


def test_alarm_metrics_by_hand():
    # Onset at 30 h. Alarms at 10 h (20 h before: too early), 18 h (12 h before: just right) and 26 h (right).
    septic = watched([0] * 10 + [0.9] * 25, onset=30)
    # One onset has no alarm, and one patient without an event has one alarm.
    missed, well = watched([0] * 20, onset=15, subject_id="b"), watched([0.9] + [0] * 46, subject_id="c")
    result = AlarmTimeline.from_frame(pd.concat([septic, missed, well])).count(0.5).figures()
    assert result["event_recall"] == 1 / 2
    assert result["alarm_precision"] == 2 / 4
    assert result["alarms_per_patient_day"] == pytest.approx(4 / ((30 + 15 + 47) / 24))
    assert result["lead_time_hours"] == 12


def some_patients():
    # Onset at 30 h with alarms at 10 h (too early), 18 h and 26 h; a missed onset; a patient without an onset and one alarm.
    septic = watched([0] * 10 + [0.9] * 25, onset=30)
    return pd.concat([septic, watched([0] * 20, onset=15, subject_id="b"), watched([0.9] + [0] * 46, subject_id="c")])


def test_alarm_counts_by_patient():
    count = AlarmTimeline.from_frame(some_patients()).count(0.5)
    np.testing.assert_allclose(count.days * 24, [30, 15, 47])
    assert count.alarms.tolist() == [3, 0, 1]
    assert count.right.tolist() == [2, 0, 0]
    assert count.event.tolist() == [True, True, False]
    np.testing.assert_array_equal(count.lead_hours, [12, np.nan, np.nan])


def test_alarm_counts_of_some_hours_use_the_whole_timeline():
    frame = rows_before_onset(some_patients().reset_index(drop=True))
    first_day = (frame["index_time"] < T0 + 24 * HOUR).to_numpy()
    early, late = (AlarmTimeline.from_frame(frame).count(0.5, rows) for rows in (first_day, ~first_day))
    assert early.alarms.tolist() == [2, 0, 1]  # at 10 h and 18 h; the refractory period reaches into the second day
    assert late.alarms.tolist() == [1, 0, 0]  # at 26 h
    assert (early.event.tolist(), late.event.tolist()) == ([False, True, False], [True, False, False])
    assert late.figures()["event_recall"] == 1  # the first alarm sounded on the day before
    np.testing.assert_allclose((early.days + late.days) * 24, [30, 15, 47])


def test_alarm_draws_equal_the_metrics_of_copied_patients():
    generator = np.random.default_rng(2)
    frames = [
        watched(generator.random(30), onset=25 if n % 2 else None, subject_id=f"{n:02}").assign(
            index_time=lambda f: f.index_time
        )
        for n in range(20)
    ]
    count = AlarmTimeline.from_frame(pd.concat(frames)).count(0.93)
    resamples = count.resamples(seed=4)
    draws = count.draws(resamples)
    for number in (0, 77, 199):
        copies = [n for n, times in enumerate(resamples.times[number]) for _ in range(times)]
        again = pd.concat([frames[n].assign(subject_id=f"{place:02}") for place, n in enumerate(copies)])
        figures = AlarmTimeline.from_frame(again).count(0.93).figures()
        assert {name: values[number] for name, values in draws.items()} == pytest.approx(figures, nan_ok=True)


def test_event_recall_of_all_onsets_has_an_exact_lower_limit():
    frames = [watched([0] * 20 + [0.9], onset=21, subject_id=str(n)) for n in range(5)]
    count = AlarmTimeline.from_frame(pd.concat(frames)).count(0.5)
    result = count.bounds(count.draws(count.resamples(seed=1)))
    assert (result["event_recall_low"], result["event_recall_high"]) == clopper_pearson(5, 5)
    assert result["alarm_precision_low"] < 0.6


def test_timeline_leaves_out_hours_at_and_after_the_onset():
    assert len(AlarmTimeline.from_frame(watched([0.9] * 10, onset=4)).time) == 4


def test_timeline_leaves_out_patients_with_an_unknown_onset():
    assert len(AlarmTimeline.from_frame(watched([0.9] * 10, onset=6, known=False)).time) == 0


def test_alarm_precision_is_nan_and_recall_zero_without_alarms():
    result = AlarmTimeline.from_frame(watched([0.1] * 10, onset=9)).count(0.5).figures()
    assert result["event_recall"] == 0
    assert np.isnan(result["alarm_precision"])


def test_threshold_at_budget_is_the_lowest_within_it():
    generator = np.random.default_rng(0)
    watch = AlarmTimeline.from_frame(pd.concat([watched(generator.random(96), subject_id=str(n)) for n in range(50)]))
    threshold = threshold_at_budget(watch, 0.5)
    rate = watch.count(threshold).figures()["alarms_per_patient_day"]
    assert 0.45 < rate <= 0.5
    assert watch.count(threshold - 0.002).figures()["alarms_per_patient_day"] > 0.5


def test_threshold_at_budget_above_every_risk_sounds_no_alarm():
    constant = AlarmTimeline.from_frame(watched([0.3] * 48))
    threshold = threshold_at_budget(constant, 0.5)
    assert 0.3 < threshold < 0.3001
    assert constant.count(threshold).figures()["alarms_per_patient_day"] == 0


def test_threshold_without_labels_equals_that_at_the_budget_without_events_and_ignores_onsets():
    generator = np.random.default_rng(5)
    risks = [generator.random(96) for _ in range(50)]
    no_events = pd.concat([watched(risk, subject_id=str(n)) for n, risk in enumerate(risks)])
    with_events = pd.concat([watched(risk, onset=40 + n, subject_id=str(n)) for n, risk in enumerate(risks)])
    expected = threshold_at_budget(AlarmTimeline.from_frame(no_events), 0.5)
    assert threshold_without_labels(with_events, 0.5) == expected == threshold_without_labels(no_events, 0.5)
    assert threshold_at_budget(AlarmTimeline.from_frame(with_events), 0.5) != expected
    assert threshold_without_labels(with_events[["subject_id", "index_time", "probability"]], 0.5) == expected


def test_threshold_at_recall_is_the_highest_that_reaches_it():
    risks = {"a": 0.9, "b": 0.7, "c": 0.5, "d": 0.3}
    watch = AlarmTimeline.from_frame(
        pd.concat([watched([0] * 20 + [risk], onset=21, subject_id=name) for name, risk in risks.items()])
    )
    assert [threshold_at_recall(watch, recall) for recall in (0.2, 0.25, 0.5, 0.51, 1.0)] == [0.9, 0.9, 0.7, 0.5, 0.3]


def test_timeline_scored_keeps_the_same_hours():
    watch = AlarmTimeline.from_frame(watched([0.1, 0.2, 0.3]))
    assert watch.with_score(np.array([4.0, 5.0, 6.0])).alarms_at(5).tolist() == [False, True, False]
