"""Subgroups: assignment, minimum size, and metrics that are those of the patients of a group alone."""

import numpy as np
import pandas as pd
import pytest

from tests.support.synthetic_risks import HOUR, T0, held_out
from vigil.models.evaluation import evaluate_predictions
from vigil.models.evaluation.subgroups import MIN_PATIENTS, assign_groups, measure_subgroups


def stay(**known):
    row = {"subject_id": "a", "start": T0, "end": T0 + 60 * HOUR, "index_time": T0, "age": 50.0, "sex": 0.0, "unit": "medicine"}
    return row | known


def test_groups_have_bands_closed_on_the_left_and_missing_values_are_unknown():
    rows = pd.DataFrame([stay(age=age) for age in (44.99, 45, 64.9, 65, 79.99, 80, np.nan)])
    assert assign_groups(rows)["age, years"].tolist() == ["under 45", *["45-64"] * 2, *["65-79"] * 2, "80 and over", "unknown"]
    assert assign_groups(pd.DataFrame([stay(sex=1.0), stay(sex=np.nan)]))["sex"].tolist() == ["male", "unknown"]
    assert assign_groups(pd.DataFrame([stay(unit=None), stay()]))["unit"].tolist() == ["unknown", "medicine"]


def test_groups_mark_the_length_of_stay_as_retrospective_and_hours_so_far_as_known():
    rows = pd.DataFrame([stay(index_time=T0 + hours * HOUR) for hours in (0, 11, 12, 24, 47, 48)])
    assert assign_groups(rows)["hours so far"].tolist() == ["0-12", "0-12", "12-24", "24-48", "24-48", "48 and over"]
    short = rows.assign(end=rows["index_time"] + HOUR)  # later hours change nothing
    assert assign_groups(short)["hours so far"].tolist() == assign_groups(rows)["hours so far"].tolist()
    many = pd.DataFrame([stay(subject_id=str(n), end=T0 + n * HOUR) for n in range(1, 31)])
    assert assign_groups(many)["final length of stay, in retrospect"].cat.categories.tolist()[:1] == ["under 11 h"]


def test_groups_leave_out_a_length_of_stay_that_does_not_vary():
    assert "final length of stay, in retrospect" not in assign_groups(pd.DataFrame([stay(), stay(subject_id="b")]))


@pytest.fixture(scope="module")
def evaluated():
    ward = held_out(patients=300)
    frame = ward.frame(ward.default)
    table = measure_subgroups(frame, ward.groups, ward.candidates[ward.default].threshold, seed=ward.seed)
    return ward, frame, table


def test_subgroups_start_with_all_patients_and_the_metrics_of_the_model(evaluated):
    ward, frame, table = evaluated
    metrics = evaluate_predictions(frame, ward.candidates[ward.default].threshold, seed=ward.seed).metrics
    first = table.iloc[0]
    assert (first["by"], first["group"]) == ("all", "everybody")
    for metric in ("auroc", "calibration_slope", "event_recall", "alarm_precision", "alarms_per_patient_day"):
        for end in ("", "_low", "_high"):
            assert first[metric + end] == pytest.approx(metrics[metric + end]), metric + end


def test_subgroup_metrics_are_those_of_its_patients_alone(evaluated):
    ward, frame, table = evaluated
    women = (ward.groups["sex"] == "female").to_numpy()
    alone = evaluate_predictions(
        frame[women].reset_index(drop=True), ward.candidates[ward.default].threshold, seed=ward.seed
    ).metrics
    row = table[table["group"] == "female"].iloc[0]
    for metric in ("auroc", "calibration_slope", "event_recall", "alarm_precision", "alarms_per_patient_day", "auroc_low"):
        assert row[metric] == pytest.approx(alone[metric]), metric
    assert row["patients"] == alone["patients"]
    assert row["observed_expected"] == pytest.approx(
        frame.loc[women, "label"].sum() / frame.loc[women & frame["label"].notna(), "probability"].sum()
    )


def test_subgroups_by_hours_so_far_add_up(evaluated):
    _, frame, table = evaluated
    hours = table[table["by"] == "hours so far"]
    assert hours["index_times"].sum() == frame["label"].notna().sum()
    assert hours["group"].tolist() == ["0-12", "12-24", "24-48"]  # no stay is longer, and empty groups are not listed


def test_subgroup_too_small_to_judge_has_counts_only():
    ward = held_out(patients=90)
    frame = ward.frame(ward.default)
    few = frame["subject_id"].drop_duplicates()[:25]
    membership = pd.DataFrame({"by": pd.Categorical(np.where(frame["subject_id"].isin(few), "few", "many"))}, index=frame.index)
    table = measure_subgroups(frame, membership, 0.2, seed=1).set_index("group")
    assert not table.loc["few", "enough"]
    assert table.loc["few", "patients"] == 25
    assert 0 < table.loc["few", "events"] < MIN_PATIENTS
    assert table.loc["few", ["auroc", "observed_expected", "event_recall", "alarms_per_patient_day"]].isna().all()
    assert table.loc["many", "enough"]


def test_subgroups_without_a_threshold_have_no_alarms():
    ward = held_out(patients=300, once=True)
    table = measure_subgroups(ward.frame(ward.default), ward.groups, None, seed=1)
    assert "event_recall" not in table
    assert table["auroc"].notna().any()
