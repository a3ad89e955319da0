"""Rank statistics, compared with their definitions and with scipy."""

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from vigil.models.statistics.ranks import auroc, compare_clustered


def rounded_normal(size, seed, shift=0.0):
    return np.round(np.random.default_rng(seed).normal(shift, 1, size), 1)


def test_auroc_counts_pairs_and_ties_half():
    assert auroc([False, False, True, True], [0.1, 0.4, 0.4, 0.9]) == 3.5 / 4
    event, score = np.random.default_rng(0).random(300) < 0.3, rounded_normal(300, 1)
    assert auroc(event, score) == pytest.approx(roc_auc_score(event, score), abs=1e-12)


def test_compare_clustered_of_one_value_per_patient_is_the_mann_whitney_test():
    current, reference = rounded_normal(40, 2, shift=0.4), rounded_normal(60, 3)
    higher, p = compare_clustered(current, reference, 60)
    expected = stats.mannwhitneyu(current, reference, method="asymptotic", use_continuity=False)
    assert higher == expected.statistic / (40 * 60)
    assert p == pytest.approx(expected.pvalue, rel=1e-9)


def test_compare_clustered_counts_values_of_one_patient_as_one():
    current, reference = rounded_normal(40, 2, shift=0.4), rounded_normal(60, 3)
    days = np.repeat(reference, 20)
    assert compare_clustered(current, days, 60)[0] == pytest.approx(compare_clustered(current, reference, 60)[0])
    assert compare_clustered(current, days, 60)[1] == pytest.approx(compare_clustered(current, reference, 60)[1], rel=0.05)
    assert compare_clustered(current, days, 1200)[1] < compare_clustered(current, days, 60)[1]


def test_compare_clustered_without_correction_for_ties_is_more_cautious():
    current, reference = np.repeat([0.0, 1.0], [10, 30]), np.repeat([0.0, 1.0], [30, 30])
    higher, p = compare_clustered(current, reference, 60)
    assert compare_clustered(current, reference, 60, correct_ties=False) == (higher, pytest.approx(0.0343, abs=0.0005))
    assert p < 0.0343


def test_compare_clustered_finds_no_difference_where_all_values_are_equal():
    assert compare_clustered(np.ones(20), np.ones(30), 30) == (0.5, 1.0)
