"""Exact limits, checked against scipy and against what is known of their coverage."""

import numpy as np
import pytest
from scipy.stats import binomtest

from models.statistics.proportions import exact, limits, proportions


@pytest.mark.parametrize(("positive", "n"), [(0, 20), (3, 20), (20, 20), (1, 7)])
def test_exact_limits_are_those_of_clopper_and_pearson(positive, n):
    known = binomtest(positive, n).proportion_ci(0.95, method="exact")
    assert exact(positive, n) == pytest.approx((known.low, known.high))


def test_nothing_observed_is_nothing_known():
    assert np.isnan(exact(0, 0)).all()
    assert np.isnan(limits([0, 0], [0, 0])[0])


def test_one_row_a_patient_is_nearly_the_binomial_case():
    positive = np.repeat([1, 0], [30, 170])
    share, low, high = limits(positive, np.ones(200))
    assert share == 0.15
    assert (low, high) == pytest.approx(exact(30, 200), abs=0.001)


def test_patients_whose_hours_are_all_alike_count_once_each():
    """Fifty patients of a hundred hours, each all or nothing: as much is known as from fifty rows."""
    positive = np.repeat([100, 0], [10, 40])
    share, low, high = limits(positive, np.full(50, 100))
    assert share == 0.2
    assert (low, high) == pytest.approx(exact(10, 50), abs=0.01)


def test_what_was_never_seen_may_still_happen_and_patients_not_hours_say_how_often():
    assert limits(np.zeros(50), np.full(50, 100)) == (0, 0, pytest.approx(1 - 0.025 ** (1 / 50)))
    assert limits(np.full(50, 100), np.full(50, 100))[1] == pytest.approx(0.025 ** (1 / 50))


def test_a_smaller_tail_is_a_wider_interval():
    _, low, high = limits([3, 1, 0, 2], [10, 10, 10, 10])
    _, lower, higher = limits([3, 1, 0, 2], [10, 10, 10, 10], tail=0.001)
    assert lower < low < high < higher


def test_limits_hold_the_truth_as_often_as_they_say():
    generator = np.random.default_rng(0)
    held = 0
    for _ in range(300):
        risk = generator.beta(0.3, 2.7, 80)  # of each patient; 0.1 in the mean
        _, low, high = limits(generator.binomial(20, risk), np.full(80, 20))
        held += low <= 0.1 <= high
    assert held / 300 > 0.92


def test_groups_are_judged_each_by_itself():
    table = proportions(np.array([0.0, 1, 1, 0, 0]), ["low", "high", "high", "low", "low"], ["a", "a", "b", "b", "b"])
    assert list(table.index) == ["high", "low"]
    assert table["n"].tolist() == [2, 3]
    assert table["patients"].tolist() == [2, 2]
    assert table["observed"].tolist() == [1, 0]
