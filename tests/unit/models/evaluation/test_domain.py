"""Evaluation of the domain of use: shares by hand, and ranking inside and outside."""

import json

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from vigil.models.evaluation.domain import measure_domain_of_use


def test_judged_counts_rows_and_patients_outside():
    outside = np.array([True, True, False, False, False, True, False, False])
    subject = ["a", "a", "a", "a", "b", "c", "d", "d"]
    result = measure_domain_of_use(outside, np.zeros(8), np.zeros(8), subject)
    assert (result["rows"], result["patients"], result["rows_outside"]) == (8, 4, 3)
    assert result["share_of_rows"] == pytest.approx(3 / 8)
    assert result["share_of_patients"] == pytest.approx(2 / 4)
    # Exact limits of 2 of 4 (Clopper and Pearson).
    assert (result["share_of_patients_low"], result["share_of_patients_high"]) == pytest.approx((0.0676, 0.9324), abs=1e-4)


def test_judged_counts_stays_of_a_patient_as_one():
    assert measure_domain_of_use(np.array([True, False]), np.zeros(2), np.zeros(2), ["a~1", "a~2"])["share_of_patients"] == 1


def test_judged_ranks_rows_of_each_side_separately():
    outside = np.array([False] * 6 + [True] * 4)
    label = np.array([0, 0, 1, 1, 0, np.nan, 0, 1, 1, 0])
    risk = np.array([0.1, 0.2, 0.3, 0.9, 0.4, 0.95, 0.8, 0.1, 0.9, 0.5])
    result = measure_domain_of_use(outside, label, risk, list("abcdefghij"))
    assert result["auroc_inside"] == pytest.approx(5 / 6)  # of six pairs one is in the wrong order
    assert result["auroc_outside"] == pytest.approx(2 / 4)
    assert result["prevalence_inside"] == pytest.approx(2 / 5)
    assert result["prevalence_outside"] == pytest.approx(2 / 4)


def test_judged_leaves_out_rows_without_a_risk():
    result = measure_domain_of_use(np.zeros(4, dtype=bool), [0, 1, 1, 0], [0.1, 0.9, 0.2, np.nan], list("abcd"))
    assert result["auroc_inside"] == 1
    assert result["rows"] == 4


def test_judged_has_limits_that_hold_the_auroc_and_widen_with_few_patients():
    generator = np.random.default_rng(1)
    label = (generator.random(3000) < 0.3).astype(float)
    risk = label + generator.normal(size=3000)
    outside = np.arange(3000) % 10 == 0
    result = measure_domain_of_use(outside, label, risk, np.arange(3000) // 5)
    for side, rows in (("inside", ~outside), ("outside", outside)):
        assert result[f"auroc_{side}"] == pytest.approx(roc_auc_score(label[rows], risk[rows]))
        assert result[f"auroc_{side}_low"] < result[f"auroc_{side}"] < result[f"auroc_{side}_high"]
    width = {side: result[f"auroc_{side}_high"] - result[f"auroc_{side}_low"] for side in ("inside", "outside")}
    assert width["outside"] > 2 * width["inside"]


@pytest.mark.parametrize("label", [[0, 0, 0], [1, 1, 1], [np.nan, np.nan, np.nan]])
def test_judged_gives_none_for_rows_of_one_class(label):
    result = measure_domain_of_use(np.array([False, False, True]), label, [0.1, 0.2, 0.3], ["a", "b", "c"])
    for side in ("inside", "outside"):
        assert result[f"auroc_{side}"] is result[f"auroc_{side}_low"] is result[f"auroc_{side}_high"] is None
    assert "NaN" not in json.dumps(result)


def test_judged_of_no_rows_is_none():
    result = measure_domain_of_use(np.zeros(0, dtype=bool), [], [], [])
    assert result["rows"] == result["patients"] == 0
    assert result["share_of_rows"] is None
