"""Index times, labels and splits: by hand, at every edge of the horizon."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from vigil.models.cohort import (
    HELD_OUT_SHARE,
    assign_folds,
    assign_splits,
    index_times,
    label_index_times,
    patient_of,
    split_of,
)
from vigil.models.tasks import TASKS

T0 = pd.Timestamp("2026-03-01T00:30:00Z").as_unit("us")
HOUR = pd.Timedelta(hours=1)
TASK = replace(TASKS["deterioration"], horizon=pd.Timedelta(hours=6).to_pytimedelta())


def stays(**hours):
    frame = pd.DataFrame([{"subject_id": name, "start": T0, "end": T0 + h * HOUR} for name, h in hours.items()])
    return frame.astype({"start": "datetime64[us, UTC]", "end": "datetime64[us, UTC]"})


def outcomes(*rows):
    frame = pd.DataFrame(
        [(name, T0 + h * HOUR, "sepsis", known) for name, h, known in rows],
        columns=["subject_id", "onset", "kind", "onset_known"],
    )
    return frame.astype({"onset": "datetime64[us, UTC]", "onset_known": bool, "subject_id": object})


def labels(task, stay_hours, *events):
    result = label_index_times(index_times(stays(a=stay_hours)), outcomes(*events), task)
    return ["-" if np.isnan(value) else int(value) for value in result["label"]]


def test_index_times_are_every_hour_from_start_to_end():
    grid = index_times(stays(b=2.9, a=3.0))
    hours = ((grid["index_time"] - T0) / HOUR).tolist()
    assert list(zip(grid["subject_id"], hours, strict=True)) == [
        *[("a", h) for h in (0.0, 1.0, 2.0, 3.0)],
        *[("b", h) for h in (0.0, 1.0, 2.0)],
    ]
    assert str(grid["index_time"].dtype) == "datetime64[us, UTC]"


def test_label_has_a_horizon_open_at_t_and_closed_at_its_end():
    # Onset at 8 h, horizon 6 h: positive from 2 h (8 <= 2 + 6) to 7 h; at and after the onset left out.
    assert labels(TASK, 9, ("a", 8, True)) == [0, 0, 1, 1, 1, 1, 1, 1, "-", "-"]


def test_label_after_the_onset_is_positive_if_the_task_states_it():
    assert labels(replace(TASK, after_onset="positive"), 9, ("a", 8, True)) == [0, 0, 1, 1, 1, 1, 1, 1, 1, 1]


def test_label_of_a_horizon_cut_off_by_the_end_is_missing_or_negative():
    assert labels(TASK, 9) == [0, 0, 0, 0, "-", "-", "-", "-", "-", "-"]
    assert labels(replace(TASK, cut_off="negative"), 9) == [0] * 10


def test_label_of_a_cut_off_horizon_with_a_known_onset_is_positive():
    assert labels(TASK, 9, ("a", 9, True))[3:] == [1, 1, 1, 1, 1, 1, "-"]


def test_label_of_an_event_that_began_before_the_record_has_no_hours_before_it():
    assert labels(replace(TASK, after_onset="positive"), 4, ("a", 6, False)) == [1] * 5
    assert labels(TASK, 4, ("a", 6, False)) == ["-"] * 5


def test_label_reproduces_the_official_sepsis_label():
    """SepsisLabel is 1 from six hours before the onset to the end of the record, whatever comes later."""
    first_positive = 5
    assert labels(TASKS["sepsis"], 9, ("a", first_positive + 6, True)) == [0] * 5 + [1] * 5


def test_label_refuses_two_outcomes_of_a_subject():
    with pytest.raises(pd.errors.MergeError):
        labels(TASK, 9, ("a", 3, True), ("a", 8, True))


def test_splits_put_no_patient_in_two_and_keep_the_share():
    ids = pd.Series([f"patient-{n}" for n in range(20_000) for _ in range(2)])
    result = assign_splits(ids)
    assert result.groupby(ids).nunique().max() == 1
    assert (result == "held_out").mean() == pytest.approx(HELD_OUT_SHARE, abs=0.01)


def test_split_of_a_patient_never_changes():
    held_out = [f"p{n:06}" for n in range(1, 60) if split_of(f"p{n:06}") == "held_out"]
    assert held_out == [f"p{n:06}" for n in (9, 11, 19, 21, 32, 33, 38, 46)]


def test_folds_put_a_patient_in_one_whatever_the_order_of_rows():
    ids = pd.Series([f"patient-{n}" for n in range(1000) for _ in range(3)])
    event = np.zeros(3000, dtype=bool)
    event[30:90:3] = True  # one row of each of twenty patients
    result = pd.Series(assign_folds(ids, event, 5, seed=1))
    assert result.groupby(ids).nunique().max() == 1
    assert result[event].value_counts().to_dict() == dict.fromkeys(range(5), 4)  # patients with an event are spread evenly
    assert result[~event].groupby(ids).first().value_counts().max() <= 200
    shuffled = np.random.default_rng(0).permutation(3000)
    again = assign_folds(ids.iloc[shuffled].reset_index(drop=True), event[shuffled], 5, seed=1)
    assert again.tolist() == result.iloc[shuffled].tolist()
    assert assign_folds(ids, event, 5, seed=2).tolist() != result.tolist()


def test_splits_and_folds_keep_the_stays_of_a_patient_together():
    ids = pd.Series([f"patient-{n}~{stay}" for n in range(500) for stay in range(3)])
    patients = ids.map(patient_of)
    assert patients.nunique() == 500
    assert assign_splits(ids).groupby(patients).nunique().max() == 1
    assert assign_splits(ids).tolist() == assign_splits(patients).tolist()
    event = np.arange(1500) % 30 == 1  # one stay of some patients
    fold = pd.Series(assign_folds(ids, event, 5, seed=1))
    assert fold.groupby(patients).nunique().max() == 1
    assert fold[event].value_counts().to_dict() == dict.fromkeys(range(5), 10)


def test_index_times_at_the_end_are_one_per_stay():
    result = index_times(stays(a=48, b=2.9), "end")
    assert result["index_time"].tolist() == result["end"].tolist()
    assert result["subject_id"].tolist() == ["a", "b"]
