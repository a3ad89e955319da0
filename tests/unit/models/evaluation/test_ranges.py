"""Risk ranges, against the frequency of events among rows of similar risk."""

import numpy as np
import pytest

from vigil.models.evaluation.ranges import measure_coverage


def rows(n=4000, seed=0):
    generator = np.random.default_rng(seed)
    probability = generator.uniform(0.01, 0.6, n)
    return (generator.random(n) < probability).astype(float), probability, np.arange(n) // 4


def test_coverage_of_ranges_around_true_probabilities():
    label, probability, patient = rows()
    table = measure_coverage(label, probability, probability - 0.05, probability + 0.05, patient)
    assert len(table) == 10
    assert table["n"].sum() == 4000
    assert table["covered"].all()
    assert table["predicted"].is_monotonic_increasing
    assert (table["high"] - table["low"]).tolist() == pytest.approx([0.1] * 10)


def test_coverage_of_wrong_ranges():
    label, probability, patient = rows()
    table = measure_coverage(label, probability, probability + 0.15, probability + 0.2, patient)
    assert not table["covered"].any()
    assert not table["compatible"].any()


def test_coverage_of_narrow_ranges_is_compatible_within_chance():
    label, probability, patient = rows(400)
    table = measure_coverage(label, probability, probability, probability, patient)
    assert not table["covered"].any()
    assert table["compatible"].sum() >= 8
    assert (table["observed_low"] <= table["observed"]).all()
    assert (table["observed"] <= table["observed_high"]).all()
