"""Ranges of probabilities: the textbook's definition, and whether they keep what they promise."""

import numpy as np
import pandas as pd
import pytest
from sklearn.isotonic import IsotonicRegression

from vigil.models.evaluation.ranges import measure_coverage
from vigil.models.training.venn_abers import VennAbers


def world(n, seed):
    """Scores that are badly calibrated: the truth is their square."""
    generator = np.random.default_rng(seed)
    score = generator.random(n)
    return score, (generator.random(n) < score**2).astype(float), pd.Series(np.arange(n)).astype(str)


def test_range_at_a_knot_is_that_of_the_definition():
    score, label, subject = world(150, 1)
    ranges = VennAbers.fit(score, label, subject, seed=0)
    for at in ranges.knots[::3]:
        expected = [
            IsotonicRegression().fit(np.append(score, at), np.append(label, outcome)).predict([at])[0] for outcome in (0, 1)
        ]
        result = ranges.range(np.array([at]))
        assert (result[0][0], result[1][0]) == pytest.approx(expected)


def test_range_ends_ascend_and_between_knots_it_is_the_wider_one():
    score, label, subject = world(5000, 2)
    ranges = VennAbers.fit(score, label, subject, seed=0)
    assert (np.diff(ranges.low) >= -1e-12).all()
    assert (np.diff(ranges.high) >= -1e-12).all()
    middle = (ranges.knots[:-1] + ranges.knots[1:]) / 2
    low, high = ranges.range(middle)
    np.testing.assert_array_equal(low, ranges.low[:-1])
    np.testing.assert_array_equal(high, ranges.high[1:])
    outside = ranges.range(np.array([-1.0, 2.0]))
    assert (outside[0][0], outside[1][1]) == (ranges.low[0], ranges.high[-1])


def test_range_holds_the_true_probability_or_nearly():
    score, label, subject = world(20_000, 3)
    ranges = VennAbers.fit(score, label, subject, seed=0)
    at = np.linspace(0.1, 0.95, 50)
    low, high = ranges.range(at)
    beyond = np.maximum(low - at**2, at**2 - high)
    assert np.mean(beyond <= 0.05) > 0.95


def test_range_is_that_of_a_random_hour_however_long_patients_stay():
    """Septic records are short: with one random hour per patient they would count too often."""
    generator = np.random.default_rng(5)
    patients = 3000
    frail = generator.random(patients) < 0.3
    hours = np.where(frail, 8, 80)
    patient = np.repeat(np.arange(patients), hours)
    score = np.round(generator.random(len(patient)), 2)
    label = (generator.random(len(patient)) < np.where(frail[patient], 0.6, 0.1) * score).astype(float)
    ranges = VennAbers.fit(score, label, pd.Series(patient).astype(str), seed=0)
    low, high = ranges.range(score)
    table = measure_coverage(label, score, low, high, patient)
    beyond = np.maximum(table["low"] - table["observed"], table["observed"] - table["high"])
    assert beyond.max() < 0.02  # an unweighted hour per patient is off by 0.13
    assert (high - low).mean() < 0.1


def test_range_counts_a_patient_once_so_that_hours_do_not_narrow_it():
    score, label, subject = world(400, 4)
    many = VennAbers.fit(np.repeat(score, 50), np.repeat(label, 50), subject.repeat(50), seed=0)
    single = VennAbers.fit(score, label, subject, seed=0)
    assert np.mean(many.high - many.low) == pytest.approx(np.mean(single.high - single.low), rel=0.1)
