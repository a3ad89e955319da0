"""Groups: who belongs where, who is too few, and that a group's figures are those of its patients alone."""

import numpy as np
import pandas as pd
import pytest

from models.evaluation import judge
from models.evaluation.subgroups import MIN_PATIENTS, groups, subgroups
from tests.models.evaluation.made_up import HOUR, T0, held_out


def stay(**known):
    row = {"subject_id": "a", "start": T0, "end": T0 + 60 * HOUR, "index_time": T0, "age": 50.0, "sex": 0.0, "unit": "medicine"}
    return row | known


def test_bands_are_closed_on_the_left_and_what_is_missing_is_unknown():
    rows = pd.DataFrame([stay(age=age) for age in (44.99, 45, 64.9, 65, 79.99, 80, np.nan)])
    assert groups(rows)["age, years"].tolist() == ["under 45", *["45-64"] * 2, *["65-79"] * 2, "80 and over", "unknown"]
    assert groups(pd.DataFrame([stay(sex=1.0), stay(sex=np.nan)]))["sex"].tolist() == ["male", "unknown"]
    assert groups(pd.DataFrame([stay(unit=None), stay()]))["unit"].tolist() == ["unknown", "medicine"]


def test_hours_so_far_are_known_at_the_index_time_and_the_length_of_stay_is_called_retrospective():
    rows = pd.DataFrame([stay(index_time=T0 + hours * HOUR) for hours in (0, 11, 12, 24, 47, 48)])
    assert groups(rows)["hours so far"].tolist() == ["0-12", "0-12", "12-24", "24-48", "24-48", "48 and over"]
    short = rows.assign(end=rows["index_time"] + HOUR)  # what comes later changes nothing
    assert groups(short)["hours so far"].tolist() == groups(rows)["hours so far"].tolist()
    many = pd.DataFrame([stay(subject_id=str(n), end=T0 + n * HOUR) for n in range(1, 31)])
    assert groups(many)["final length of stay, in retrospect"].cat.categories.tolist()[:1] == ["under 11 h"]


def test_stays_of_one_length_are_not_divided_by_it():
    assert "final length of stay, in retrospect" not in groups(pd.DataFrame([stay(), stay(subject_id="b")]))


@pytest.fixture(scope="module")
def found():
    ward = held_out(patients=300)
    frame = ward.frame(ward.default)
    table = subgroups(frame, ward.groups, ward.candidates[ward.default].threshold, seed=ward.seed)
    return ward, frame, table


def test_everybody_comes_first_with_the_figures_of_the_model(found):
    ward, frame, table = found
    metrics = judge(frame, ward.candidates[ward.default].threshold, seed=ward.seed).metrics
    first = table.iloc[0]
    assert (first["by"], first["group"]) == ("all", "everybody")
    for metric in ("auroc", "calibration_slope", "event_recall", "alarm_precision", "alarms_per_patient_day"):
        for end in ("", "_low", "_high"):
            assert first[metric + end] == pytest.approx(metrics[metric + end]), metric + end


def test_a_group_of_patients_is_judged_as_if_it_were_alone(found):
    ward, frame, table = found
    women = (ward.groups["sex"] == "female").to_numpy()
    alone = judge(frame[women].reset_index(drop=True), ward.candidates[ward.default].threshold, seed=ward.seed).metrics
    row = table[table["group"] == "female"].iloc[0]
    for metric in ("auroc", "calibration_slope", "event_recall", "alarm_precision", "alarms_per_patient_day", "auroc_low"):
        assert row[metric] == pytest.approx(alone[metric]), metric
    assert row["patients"] == alone["patients"]
    assert row["observed_expected"] == pytest.approx(
        frame.loc[women, "label"].sum() / frame.loc[women & frame["label"].notna(), "probability"].sum()
    )


def test_alarms_of_the_hours_of_stay_add_up(found):
    _, frame, table = found
    hours = table[table["by"] == "hours so far"]
    assert hours["index_times"].sum() == frame["label"].notna().sum()
    assert hours["group"].tolist() == ["0-12", "12-24", "24-48"]  # nobody stayed longer, and no empty group is shown


def test_a_group_too_small_to_judge_is_listed_with_its_counts_only():
    ward = held_out(patients=90)
    frame = ward.frame(ward.default)
    few = frame["subject_id"].drop_duplicates()[:25]
    membership = pd.DataFrame({"by": pd.Categorical(np.where(frame["subject_id"].isin(few), "few", "many"))}, index=frame.index)
    table = subgroups(frame, membership, 0.2, seed=1).set_index("group")
    assert not table.loc["few", "enough"]
    assert table.loc["few", "patients"] == 25
    assert 0 < table.loc["few", "events"] < MIN_PATIENTS
    assert table.loc["few", ["auroc", "observed_expected", "event_recall", "alarms_per_patient_day"]].isna().all()
    assert table.loc["many", "enough"]


def test_without_a_threshold_no_alarms_are_counted():
    ward = held_out(patients=300, once=True)
    table = subgroups(ward.frame(ward.default), ward.groups, None, seed=1)
    assert "event_recall" not in table
    assert table["auroc"].notna().any()
