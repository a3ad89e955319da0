"""Fairness: metrics of groups by hand, by fairlearn and by slow resampling; attributes, small groups, what pages may show."""

import numpy as np
import pandas as pd
import pytest
from fairlearn.metrics import MetricFrame, false_positive_rate, selection_rate, true_positive_rate
from sklearn.metrics import precision_score, roc_auc_score

from tests.support.synthetic_risks import held_out, ward
from vigil.models.evaluation.fairness import (
    METRICS,
    SHARES,
    AttributeNameError,
    assign_attributes,
    hide_small_cells,
    list_attributes,
    measure_fairness,
    measure_group_calibration,
)
from vigil.models.statistics.bootstrap import Resamples

# Group: (events flagged, events not flagged, flagged in vain, others), one row a patient.
COUNTS = {"large": (10, 10, 4, 36), "small": (15, 5, 5, 15), "few": (0, 2, 0, 3)}


@pytest.fixture(scope="module")
def counted():
    rows = [
        (group, label, risk)
        for group, numbers in COUNTS.items()
        for number, (label, risk) in zip(numbers, ((1.0, 0.9), (1.0, 0.1), (0.0, 0.9), (0.0, 0.1)), strict=True)
        for _ in range(number)
    ]
    frame = pd.DataFrame(rows, columns=["group", "label", "probability"])
    frame["subject_id"] = [f"p{row}" for row in range(len(frame))]
    membership = pd.DataFrame({"kind": pd.Categorical(frame["group"], list(COUNTS))})
    return measure_fairness(frame, membership, 0.5, seed=1)


@pytest.fixture(scope="module")
def evaluated():
    own = held_out(patients=200, hours=8)
    frame = own.frame(own.default)
    return own, frame, own.groups[["sex", "age, years"]], own.candidates[own.default].threshold


def test_metrics_of_groups_are_those_counted_by_hand(counted):
    rows = counted.set_index("group")
    assert rows.loc["large", list(METRICS)].tolist() == pytest.approx([14 / 60, 0.5, 0.1, 10 / 14, 0.7])
    assert rows.loc["small", list(METRICS)].tolist() == pytest.approx([0.5, 0.75, 0.25, 0.75, 0.75])
    assert rows["patients"].to_dict() == {"large": 60, "small": 40, "few": 5}
    assert rows["events"].to_dict() == {"large": 20, "small": 20, "few": 2}


def test_the_group_that_is_missed_most_comes_first_and_the_largest_is_the_reference(counted):
    assert counted["group"].tolist() == ["large", "small", "few"]
    assert counted["reference"].tolist() == [True, False, False]
    small = counted.set_index("group").loc["small"]
    assert small["true_positive_rate_difference"] == pytest.approx(0.25)
    assert small["true_positive_rate_ratio"] == pytest.approx(1.5)
    assert small["false_positive_rate_ratio"] == pytest.approx(2.5)
    assert small["auroc_difference"] == pytest.approx(0.05)
    assert small["true_positive_rate_difference_low"] < 0.25 < small["true_positive_rate_difference_high"]


def test_a_group_of_few_patients_has_exact_limits_and_is_not_compared(counted):
    few = counted.set_index("group").loc["few"]
    assert not few["enough"]
    assert (few["true_positive_rate"], few["true_positive_rate_low"]) == (0, 0)
    assert few["true_positive_rate_high"] == pytest.approx(1 - 0.025**0.5)  # exact, of none of two
    assert few[["precision", "auroc", "true_positive_rate_difference", "auroc_ratio"]].isna().all()


def test_shares_and_their_gaps_are_those_of_fairlearn(evaluated):
    _, frame, membership, threshold = evaluated
    ours = measure_fairness(frame, membership, threshold, seed=2)
    known = frame["label"].notna()
    theirs = {"selection_rate": selection_rate, "true_positive_rate": true_positive_rate}
    theirs |= {"false_positive_rate": false_positive_rate, "precision": precision_score}
    for by in membership:
        judge = MetricFrame(
            metrics=theirs,
            y_true=frame.loc[known, "label"].astype(int),
            y_pred=frame.loc[known, "probability"] >= threshold,
            sensitive_features=membership.loc[known, by].astype(str),
        )
        rows = ours[ours["by"] == by].set_index("group")
        for name in SHARES:
            assert rows[name].to_dict() == pytest.approx(judge.by_group[name].to_dict())
    sex = ours[(ours["by"] == "sex") & ~ours["reference"]].iloc[0]
    only = MetricFrame(
        metrics=true_positive_rate,
        y_true=frame.loc[known, "label"].astype(int),
        y_pred=frame.loc[known, "probability"] >= threshold,
        sensitive_features=membership.loc[known, "sex"].astype(str),
    )
    assert abs(sex["true_positive_rate_difference"]) == pytest.approx(only.difference())
    assert min(sex["true_positive_rate_ratio"], 1 / sex["true_positive_rate_ratio"]) == pytest.approx(only.ratio())


def test_intervals_are_those_of_a_slow_bootstrap_of_patients(evaluated):
    _, frame, membership, threshold = evaluated
    ours = measure_fairness(frame, membership[["sex"]], threshold, seed=2)
    known = frame[frame["label"].notna()]
    sex = membership.loc[known.index, "sex"]
    resamples = Resamples.draw(known["subject_id"], 2)
    draws = {group: [] for group in ours["group"]}
    for times in resamples.times:
        weight = times[resamples.patient]
        for group, drawn in draws.items():
            rows = (sex == group).to_numpy()
            event = rows & (known["label"] == 1).to_numpy()
            flagged = (known["probability"] >= threshold).to_numpy()
            auroc = roc_auc_score(known.loc[rows, "label"], known.loc[rows, "probability"], sample_weight=weight[rows])
            drawn.append(((weight * (event & flagged)).sum() / (weight * event).sum(), auroc))
    other, reference = ours[~ours["reference"]].iloc[0], ours[ours["reference"]].iloc[0]
    gap = np.array(draws[other["group"]]) - np.array(draws[reference["group"]])
    for column, name in enumerate(("true_positive_rate", "auroc")):
        expected = np.percentile(gap[:, column], [2.5, 97.5])
        assert [other[f"{name}_difference_{end}"] for end in ("low", "high")] == pytest.approx(expected)
    low, high = np.percentile(np.array(draws[other["group"]])[:, 1], [2.5, 97.5])
    assert (other["auroc_low"], other["auroc_high"]) == pytest.approx((low, high))


def test_the_columns_are_the_same_where_no_group_is_large_enough(counted):
    few = held_out(patients=12)
    table = measure_fairness(few.frame(few.default), few.groups[["sex"]], 0.2, seed=1)
    assert set(table) == set(counted)
    assert table.filter(like="_difference").isna().all(axis=None)
    assert not table["reference"].any()


def test_calibration_of_a_group_is_that_of_fifths_of_its_rows(evaluated):
    _, frame, membership, _ = evaluated
    points = measure_group_calibration(frame, membership)
    women = frame[(membership["sex"] == "female") & frame["label"].notna()].sort_values("probability", kind="stable")
    ours = points[points["group"] == "female"]
    fifths = np.array_split(np.arange(len(women)), 5)
    assert ours["n"].tolist() == pytest.approx([len(one) for one in fifths], abs=1)
    assert ours["predicted"].iloc[0] == pytest.approx(women["probability"].iloc[fifths[0]].mean(), rel=0.01)
    assert (ours["observed_low"] <= ours["observed"]).all()
    few = held_out(patients=30)
    assert measure_group_calibration(few.frame(few.default), few.groups[["sex"]]).empty


def test_any_column_of_stays_is_an_attribute_and_a_missing_value_is_unknown():
    _, stays, _ = ward(patients=40, hours=6)
    stays["insurance"] = np.where(stays["sex"] == 1, "public", None)
    stays["income"] = stays["age"] * 100
    stays["decile"] = ["1", "10"] * 120
    assert list_attributes(stays)[:3] == ["sex", "age_band", "ward"]
    assert {"insurance", "income"} <= set(list_attributes(stays))
    assigned = assign_attributes(stays, ["sex", "age_band", "ward", "insurance", "income", "decile"])
    assert assigned["sex"].cat.categories.tolist() == ["female", "male", "unknown"]
    assert assigned["insurance"].value_counts().to_dict() == {
        "public": int((stays["sex"] == 1).sum()),
        "unknown": int((stays["sex"] == 0).sum()),
    }
    assert assigned["income"].value_counts().drop("unknown").tolist() == pytest.approx([60] * 4, abs=8)
    assert assigned["decile"].unique().tolist() == ["1", "10"]
    with pytest.raises(AttributeNameError, match="--by mood: no such attribute; expected some of sex, age_band, ward"):
        assign_attributes(stays, ["sex", "mood"])


def test_pages_show_no_small_count_and_no_figure_of_so_few(counted):
    rows = {row["group"]: row for row in hide_small_cells(counted.to_dict("records"))}
    assert (rows["few"]["patients"], rows["few"]["events"], rows["few"]["true_positive_rate_high"]) == (None, None, None)
    assert rows["few"]["enough"] is False
    assert rows["large"]["true_positive_rate"] == 0.5
