"""A home's own tasks: what they may say, where they are found, and whom they are asked about."""

import json
from datetime import timedelta

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from vigil.models.cohort import index_times, label_index_times
from vigil.models.own_tasks import FILE, TaskError, TaskSettings, find_task, store_task
from vigil.models.tasks import TASKS, is_asked_once

OWN = TaskSettings(name="icu_transfer", outcome="transfer to intensive care", horizon_hours=24)


def test_a_task_is_found_by_its_name_in_its_home(tmp_path):
    store_task(OWN, tmp_path)
    store_task(OWN.model_copy(update={"name": "fall", "horizon_hours": 6}), tmp_path)
    assert find_task("icu_transfer", tmp_path) == OWN.task()
    assert find_task("fall", tmp_path).horizon == timedelta(hours=6)
    assert find_task("sepsis", tmp_path) is TASKS["sepsis"]
    with pytest.raises(TaskError, match="other: no such task .* expected one of deterioration, .*icu_transfer, fall"):
        find_task("other", tmp_path)


def test_a_damaged_file_is_named_and_not_its_content(tmp_path):
    (tmp_path / FILE).write_text(json.dumps({"icu_transfer": {"secret": 1}}))
    with pytest.raises(TaskError, match=r"tasks.json: cannot be used \(ValidationError\)"):
        find_task("icu_transfer", tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "sepsis"}, "sepsis is built in"),
        ({"name": "ICU transfer"}, "pattern"),
        ({"feature_service": "mine"}, "mine is no feature service; expected one of"),
        ({"horizon_hours": 0}, "greater than or equal to 0.5"),
        ({"horizon": 3}, "Extra inputs"),
    ],
)
def test_a_task_that_cannot_be_used_is_refused(change, message):
    with pytest.raises(ValidationError, match=message):
        TaskSettings.model_validate(OWN.model_dump() | change)


def test_the_population_is_asked_alone():
    start = pd.Timestamp("2026-01-01T00:00Z").as_unit("us")
    stays = pd.DataFrame(
        {"subject_id": ["a", "b", "c"], "start": start, "end": start + pd.Timedelta(hours=5), "age": [17, 80, np.nan]}
    )
    onset = pd.Series([start + pd.Timedelta(hours=4)] * 3).astype("datetime64[us, UTC]")
    outcomes = pd.DataFrame({"subject_id": ["a", "b", "c"], "onset": onset, "onset_known": True})
    task = OWN.model_copy(update={"horizon_hours": 2, "first_hours": 2, "age_from": 18}).task()
    labelled = label_index_times(index_times(stays), outcomes, task).set_index("subject_id")["label"]
    assert labelled.loc["a"].isna().all()
    for adult in ("b", "c"):  # who is of unknown age is asked about
        np.testing.assert_array_equal(labelled.loc[adult], [np.nan, np.nan, 1, 1, np.nan, np.nan])


def test_whether_a_task_is_asked_once_is_known_of_models_of_earlier_versions():
    assert is_asked_once({"task": "mortality"})
    assert is_asked_once({"task": "own", "index": "end"})
    assert not is_asked_once({"task": "sepsis"})
    assert not is_asked_once({"task": "own", "index": "hourly"})
