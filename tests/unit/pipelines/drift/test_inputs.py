"""Inputs of drift: replays, outcomes and labels, and the errors where they cannot be read."""

import numpy as np
import pandas as pd
import pytest

from vigil.models.monitoring.assessment import ObservedDay
from vigil.models.tasks import TASKS
from vigil.pipelines.drift.inputs import DriftInputError, label_predictions, read_outcomes, read_replay, write_replay

T0 = pd.Timestamp("2026-03-01T00:00Z").as_unit("us")
HOUR = pd.Timedelta(hours=1)


def recent():
    log = pd.DataFrame({"subject_id": ["a"], "index_time": [T0], "probability": [0.1], "model_version": "1", "age": [60.0]})
    rows = pd.DataFrame({"subject_id": ["a"], "signal": "spo2", "value": [97.0], "recorded_at": [T0], "reason": [""]})
    judged = pd.DataFrame({"subject_id": ["a"], "index_time": [T0], "probability": [0.1], "label": [1.0]})
    return ObservedDay(T0 + HOUR, rows, log, ends=False, judged=judged, facts={"fault": "late"})


def test_read_replay_returns_what_was_written(tmp_path):
    write_replay(tmp_path / "replay", recent())
    result = read_replay(tmp_path / "replay")
    assert result.until == T0 + HOUR
    assert result.facts["fault"] == "late"
    pd.testing.assert_frame_equal(result.log, recent().log)
    pd.testing.assert_frame_equal(result.rows, recent().rows)


@pytest.mark.parametrize("name", ["deliveries.parquet", "predictions.parquet", "outcomes.parquet", "about.json"])
def test_read_replay_names_a_half_written_file(tmp_path, name):
    write_replay(tmp_path, recent())
    file = tmp_path / name
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(DriftInputError, match=rf"{name}.*half-written; make it again"):
        read_replay(tmp_path)


def test_read_replay_refuses_an_interrupted_replay(tmp_path):
    write_replay(tmp_path, recent())
    (tmp_path / "about.json").unlink()
    with pytest.raises(DriftInputError, match="holds no finished replay; make one first: vigil simulate-fault"):
        read_replay(tmp_path)


def test_read_outcomes_from_csv_and_parquet(tmp_path):
    path = tmp_path / "outcomes.csv"
    path.write_text("patient_id,end,onset\n007,2026-03-02T00:00:00Z,\n8,2026-03-02T02:00:00+02:00,2026-03-01T05:00:00Z\n")
    result = read_outcomes(path)
    assert result["patient_id"].tolist() == ["007", "8"]
    assert result["end"].tolist() == [T0 + 24 * HOUR] * 2
    assert result["onset"].isna().tolist() == [True, False]
    result.to_parquet(tmp_path / "outcomes.parquet")
    pd.testing.assert_frame_equal(read_outcomes(tmp_path / "outcomes.parquet"), result)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("patient_id,end\n1,2026-03-02T00:00Z\n", "lacks onset; expected patient_id, end, onset"),
        ("patient_id,end,onset\n1,tomorrow,\n", "end of row 1 is no time; expected ISO 8601"),
        ("patient_id,end,onset\n1,2026-03-02T00:00Z,\n2,2026-03-02T00:00Z,soon\n", "onset of row 2 is no time"),
        ("patient_id,end,onset\n1,2026-03-02T00:00Z,\n1,2026-03-02T00:00Z,\n", "row 2 is of a patient of an earlier row"),
        ("patient_id,end,onset\nMrs Smith,,\n", "end of row 1 is no time"),
        ("patient_id,end,onset\n1,2026-03-02 10:00,\n", "end of row 1 is no time; expected ISO 8601 with a zone"),
        ("patient_id,end,onset\n,2026-03-02T00:00Z,\n", "patient_id of row 1 is missing"),
        ("patient_id,end,onset\n1,2026-03-02T00:00Z,2026-03-02T01:00Z\n", "onset of row 1 is after its end"),
    ],
)
def test_read_outcomes_names_the_wrong_row_but_not_the_patient(tmp_path, text, message):
    path = tmp_path / "outcomes.csv"
    path.write_text(text)
    with pytest.raises(DriftInputError, match=message) as refused:
        read_outcomes(path)
    assert "Smith" not in str(refused.value)


def test_read_outcomes_refuses_a_half_written_file(tmp_path):
    path = tmp_path / "outcomes.parquet"
    pd.DataFrame({"patient_id": ["a"] * 100}).to_parquet(path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DriftInputError, match="half-written"):
        read_outcomes(path)
    with pytest.raises(DriftInputError, match="missing"):
        read_outcomes(tmp_path / "nowhere.csv")


def test_known_labels_follow_the_task_and_end_with_the_stay():
    task = TASKS["deterioration"]
    hours = np.arange(30)
    log = pd.DataFrame({"subject_id": "a", "index_time": T0 + hours * HOUR, "probability": 0.1})
    stays = pd.DataFrame({"subject_id": ["a"], "end": [T0 + 20 * HOUR]})
    outcomes = pd.DataFrame({"subject_id": ["a"], "onset": [T0 + 18 * HOUR], "onset_known": [True]})
    result = label_predictions(log, stays, outcomes, task)
    assert result["index_time"].max() < T0 + 18 * HOUR  # nothing after the onset has a label
    ahead = result["index_time"] >= T0 + 18 * HOUR - task.horizon
    assert (result["label"] == ahead).all()
    none = label_predictions(log, stays, outcomes.iloc[:0], task)
    assert none["index_time"].max() <= T0 + 20 * HOUR - task.horizon  # a horizon that is cut off gives no label
