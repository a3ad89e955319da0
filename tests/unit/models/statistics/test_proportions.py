"""Exact limits of proportions, against scipy and against their known coverage."""

import numpy as np
import pytest
from scipy.stats import binomtest

from vigil.models.statistics.proportions import clopper_pearson, group_proportions, proportion_limits


@pytest.mark.parametrize(("positive", "n"), [(0, 20), (3, 20), (20, 20), (1, 7)])
def test_exact_limits_are_those_of_clopper_and_pearson(positive, n):
    expected = binomtest(positive, n).proportion_ci(0.95, method="exact")
    assert clopper_pearson(positive, n) == pytest.approx((expected.low, expected.high))


def test_exact_limits_of_no_rows_are_nan():
    assert np.isnan(clopper_pearson(0, 0)).all()
    assert np.isnan(proportion_limits([0, 0], [0, 0])[0])


def test_limits_of_one_row_per_patient_are_nearly_binomial():
    positive = np.repeat([1, 0], [30, 170])
    share, low, high = proportion_limits(positive, np.ones(200))
    assert share == 0.15
    assert (low, high) == pytest.approx(clopper_pearson(30, 200), abs=0.001)


def test_limits_count_patients_with_equal_hours_once():
    """Fifty patients of a hundred hours, each with all or none positive, count as fifty rows."""
    positive = np.repeat([100, 0], [10, 40])
    share, low, high = proportion_limits(positive, np.full(50, 100))
    assert share == 0.2
    assert (low, high) == pytest.approx(clopper_pearson(10, 50), abs=0.01)


def test_limits_of_no_event_depend_on_patients_and_not_on_hours():
    assert proportion_limits(np.zeros(50), np.full(50, 100)) == (0, 0, pytest.approx(1 - 0.025 ** (1 / 50)))
    assert proportion_limits(np.full(50, 100), np.full(50, 100))[1] == pytest.approx(0.025 ** (1 / 50))


def test_limits_of_a_smaller_tail_are_wider():
    _, low, high = proportion_limits([3, 1, 0, 2], [10, 10, 10, 10])
    _, lower, higher = proportion_limits([3, 1, 0, 2], [10, 10, 10, 10], tail=0.001)
    assert lower < low < high < higher


def test_limits_cover_the_truth_at_the_nominal_rate():
    generator = np.random.default_rng(0)
    held = 0
    for _ in range(300):
        risk = generator.beta(0.3, 2.7, 80)  # risk of each patient; the mean is 0.1
        _, low, high = proportion_limits(generator.binomial(20, risk), np.full(80, 20))
        held += low <= 0.1 <= high
    assert held / 300 > 0.92


def test_proportions_treat_each_group_separately():
    table = group_proportions(np.array([0.0, 1, 1, 0, 0]), ["low", "high", "high", "low", "low"], ["a", "a", "b", "b", "b"])
    assert list(table.index) == ["high", "low"]
    assert table["n"].tolist() == [2, 3]
    assert table["patients"].tolist() == [2, 2]
    assert table["observed"].tolist() == [1, 0]
