"""Alarms by hand: when one fires, what counts as right, and what a ward pays for it."""

import numpy as np
import pandas as pd
import pytest

from models.alarms.timeline import (
    Watch,
    before_onset,
    threshold_at_budget,
    threshold_at_recall,
    threshold_without_labels,
)
from models.statistics.proportions import exact
from tests.models.evaluation.made_up import HOUR, T0


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
    found = Watch.of(pd.concat([septic, missed, well])).count(0.5).figures()
    assert found["event_recall"] == 1 / 2
    assert found["alarm_precision"] == 2 / 4
    assert found["alarms_per_patient_day"] == pytest.approx(4 / ((30 + 15 + 47) / 24))
    assert found["lead_time_hours"] == 12


def some_patients():
    # Onset at 30 h, with alarms at 10 h (too early), 18 h and 26 h; a missed onset; one without an onset who rings once.
    septic = watched([0] * 10 + [0.9] * 25, onset=30)
    return pd.concat([septic, watched([0] * 20, onset=15, subject_id="b"), watched([0.9] + [0] * 46, subject_id="c")])


def test_counts_by_patient():
    count = Watch.of(some_patients()).count(0.5)
    np.testing.assert_allclose(count.days * 24, [30, 15, 47])
    assert count.alarms.tolist() == [3, 0, 1]
    assert count.right.tolist() == [2, 0, 0]
    assert count.event.tolist() == [True, True, False]
    np.testing.assert_array_equal(count.lead_hours, [12, np.nan, np.nan])


def test_some_hours_are_counted_while_all_are_replayed():
    frame = before_onset(some_patients().reset_index(drop=True))
    first_day = (frame["index_time"] < T0 + 24 * HOUR).to_numpy()
    early, late = (Watch.of(frame).count(0.5, rows) for rows in (first_day, ~first_day))
    assert early.alarms.tolist() == [2, 0, 1]  # at 10 h and 18 h; silence goes on into the second day
    assert late.alarms.tolist() == [1, 0, 0]  # at 26 h
    assert (early.event.tolist(), late.event.tolist()) == ([False, True, False], [True, False, False])
    assert late.figures()["event_recall"] == 1  # the first alarm came on the day before
    np.testing.assert_allclose((early.days + late.days) * 24, [30, 15, 47])


def test_draws_are_the_figures_of_copied_patients():
    generator = np.random.default_rng(2)
    frames = [
        watched(generator.random(30), onset=25 if n % 2 else None, subject_id=f"{n:02}").assign(
            index_time=lambda f: f.index_time
        )
        for n in range(20)
    ]
    count = Watch.of(pd.concat(frames)).count(0.93)
    resamples = count.resamples(seed=4)
    draws = count.draws(resamples)
    for number in (0, 77, 199):
        copies = [n for n, times in enumerate(resamples.times[number]) for _ in range(times)]
        again = pd.concat([frames[n].assign(subject_id=f"{place:02}") for place, n in enumerate(copies)])
        figures = Watch.of(again).count(0.93).figures()
        assert {name: values[number] for name, values in draws.items()} == pytest.approx(figures, nan_ok=True)


def test_recall_of_all_onsets_is_not_certain():
    frames = [watched([0] * 20 + [0.9], onset=21, subject_id=str(n)) for n in range(5)]
    count = Watch.of(pd.concat(frames)).count(0.5)
    found = count.bounds(count.draws(count.resamples(seed=1)))
    assert (found["event_recall_low"], found["event_recall_high"]) == exact(5, 5)
    assert found["alarm_precision_low"] < 0.6


def test_hours_at_and_after_the_onset_count_for_nothing():
    assert len(Watch.of(watched([0.9] * 10, onset=4)).time) == 4


def test_an_unknown_onset_is_left_out():
    assert len(Watch.of(watched([0.9] * 10, onset=6, known=False)).time) == 0


def test_without_alarms_precision_is_unknown_and_recall_nothing():
    found = Watch.of(watched([0.1] * 10, onset=9)).count(0.5).figures()
    assert found["event_recall"] == 0
    assert np.isnan(found["alarm_precision"])


def test_the_threshold_at_a_budget_is_the_lowest_within_it():
    generator = np.random.default_rng(0)
    watch = Watch.of(pd.concat([watched(generator.random(96), subject_id=str(n)) for n in range(50)]))
    threshold = threshold_at_budget(watch, 0.5)
    rate = watch.count(threshold).figures()["alarms_per_patient_day"]
    assert 0.45 < rate <= 0.5
    assert watch.count(threshold - 0.002).figures()["alarms_per_patient_day"] > 0.5


def test_a_budget_that_no_risk_keeps_to_is_kept_by_silence():
    constant = Watch.of(watched([0.3] * 48))
    threshold = threshold_at_budget(constant, 0.5)
    assert 0.3 < threshold < 0.3001
    assert constant.count(threshold).figures()["alarms_per_patient_day"] == 0


def test_a_threshold_without_labels_is_the_budgets_where_nobody_has_an_event_and_does_not_ask_who_had_one():
    generator = np.random.default_rng(5)
    risks = [generator.random(96) for _ in range(50)]
    nobody = pd.concat([watched(risk, subject_id=str(n)) for n, risk in enumerate(risks)])
    somebody = pd.concat([watched(risk, onset=40 + n, subject_id=str(n)) for n, risk in enumerate(risks)])
    expected = threshold_at_budget(Watch.of(nobody), 0.5)
    assert threshold_without_labels(somebody, 0.5) == expected == threshold_without_labels(nobody, 0.5)
    assert threshold_at_budget(Watch.of(somebody), 0.5) != expected
    assert threshold_without_labels(somebody[["subject_id", "index_time", "probability"]], 0.5) == expected


def test_the_threshold_at_a_recall_is_the_highest_that_reaches_it():
    risks = {"a": 0.9, "b": 0.7, "c": 0.5, "d": 0.3}
    watch = Watch.of(pd.concat([watched([0] * 20 + [risk], onset=21, subject_id=who) for who, risk in risks.items()]))
    assert [threshold_at_recall(watch, recall) for recall in (0.2, 0.25, 0.5, 0.51, 1.0)] == [0.9, 0.9, 0.7, 0.5, 0.3]


def test_a_score_is_watched_over_the_same_hours():
    watch = Watch.of(watched([0.1, 0.2, 0.3]))
    assert watch.scored(np.array([4.0, 5.0, 6.0])).fired(5).tolist() == [False, True, False]
