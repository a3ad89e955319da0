"""Net benefit: a decision curve by hand, and properties of every one."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vigil.models.evaluation.net_benefit import (
    choose_thresholds,
    compare_net_benefit,
    compute_decision_curve,
    net_benefit,
    resample_net_benefit,
)
from vigil.models.statistics.bootstrap import Resamples

LABEL = np.array([1.0, 0, 1, 0, 0])
RISK = np.array([0.8, 0.6, 0.4, 0.2, 0.1])
NEWS2 = np.array([7, 5, 6, 3, 0])


def test_decision_curve_of_five_rows_by_hand():
    curve = compute_decision_curve(LABEL, {"model": RISK}, {"NEWS2 >= 5": NEWS2 >= 5}, np.array([0.2, 0.5])).to_dict("list")
    # At 0.2 a false alarm costs 1/4: the model acts on four rows, two of them rightly; at 0.5 it costs 1, and it acts on two.
    assert curve["model"] == pytest.approx([2 / 5 - 2 / 5 / 4, 1 / 5 - 1 / 5])
    assert curve["treat_all"] == pytest.approx([2 / 5 - 3 / 5 / 4, 2 / 5 - 3 / 5])
    assert curve["treat_none"] == [0, 0]
    # The rule acts on three rows, two of them rightly, at any threshold.
    assert curve["NEWS2 >= 5"] == pytest.approx([2 / 5 - 1 / 5 / 4, 2 / 5 - 1 / 5])


def test_net_benefit_of_acting_on_all_events_is_the_prevalence():
    assert net_benefit(LABEL, LABEL == 1, 0.3) == pytest.approx(2 / 5)


def test_net_benefit_of_treating_all_is_zero_at_the_prevalence():
    assert net_benefit(LABEL, np.ones(5, dtype=bool), 0.4) == pytest.approx(0)


@given(st.integers(0, 1000))
def test_net_benefit_is_highest_with_foresight(seed):
    generator = np.random.default_rng(seed)
    label = (generator.random(50) < 0.3).astype(float)
    at = np.array([0.05, 0.2, 0.6])
    curve = compute_decision_curve(label, {"model": generator.random(50)}, {}, at)
    assert (curve[["model", "treat_all"]] <= label.mean() + 1e-12).all(axis=None)


def test_net_benefit_draws_equal_those_of_copied_patients():
    generator = np.random.default_rng(0)
    patient = np.arange(20).repeat(10)
    label, risk = (generator.random(200) < 0.2).astype(float), generator.choice([0.05, 0.1, 0.3, 0.6], 200)
    at = np.array([0.05, 0.1, 0.2, 0.6])  # some of them equal to risks
    resamples = Resamples.draw(patient, 1)
    draws = resample_net_benefit(label, risk, at, resamples)
    for number in (0, 50, 199):
        rows = np.repeat(np.arange(200), resamples.times[number][patient])
        expected = [net_benefit(label[rows], risk[rows] >= p, p) for p in at]
        np.testing.assert_allclose(draws[number], expected, atol=1e-12)


def test_compare_net_benefit_is_zero_against_itself_and_positive_against_a_guess():
    generator = np.random.default_rng(1)
    label = (generator.random(2000) < 0.2).astype(float)
    good, guess = 0.1 + 0.5 * label, np.full(2000, 0.2)
    resamples, at = Resamples.draw(np.arange(2000), 1), np.array([0.15, 0.3])
    assert (compare_net_benefit(label, good, good, at, resamples)[["gain", "gain_low", "gain_high"]] == 0).all(axis=None)
    more = compare_net_benefit(label, good, guess, at, resamples)
    assert (more["gain_low"] > 0).all()
    assert (more["ours_low"] < more["ours"]).all()
    assert more["theirs"].tolist() == pytest.approx([label.mean() - (1 - label.mean()) * 0.15 / 0.85, 0])


@pytest.mark.parametrize("prevalence", [0.001, 0.02, 0.3, 0.7])
def test_choose_thresholds_surround_the_prevalence_and_stay_probabilities(prevalence):
    at = choose_thresholds(prevalence)
    assert 0 < at[0] < prevalence <= at[-1] * 1.000001 < 1
    assert (np.diff(at) > 0).all()
