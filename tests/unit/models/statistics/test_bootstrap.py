"""Bootstrap by weights: the same metrics as with copied rows of the drawn patients."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score

from tests.support.synthetic_risks import logistic
from vigil.models.evaluation.calibration import measure_calibration, resample_calibration, resample_slope
from vigil.models.evaluation.discrimination import resample_discrimination
from vigil.models.statistics.bootstrap import (
    RESAMPLES,
    Resamples,
    basic_interval,
    percentile_bounds,
    percentile_interval,
    ratio,
)


def patients(n=60, hours=12, seed=0, levels=None):
    """Return labels, probabilities and patients of hours; labels follow the probabilities, of few levels if requested."""
    generator = np.random.default_rng(seed)
    margin = generator.normal(-1.5, 1, n).repeat(hours) + generator.normal(0, 0.5, n * hours)
    if levels:
        margin = np.round(margin * levels) / levels
    return (generator.random(n * hours) < logistic(margin)).astype(float), logistic(margin), np.arange(n).repeat(hours)


def copied(resamples, number, *columns):
    """Return rows as often as their patient was drawn."""
    rows = np.repeat(np.arange(len(resamples.patient)), resamples.times[number][resamples.patient])
    return [column[rows] for column in columns]


def test_resamples_draw_as_many_patients_as_there_are_and_repeat_with_the_seed():
    resamples = Resamples.draw(["a", "a", "b", "c"], seed=1)
    assert resamples.times.shape == (RESAMPLES, 3)
    assert (resamples.times.sum(axis=1) == 3).all()
    np.testing.assert_array_equal(resamples.times, Resamples.draw(pd.Series(["x", "y", "y", "z"]), seed=1).times)
    assert (resamples.times != Resamples.draw(["a", "a", "b", "c"], seed=2).times).any()


def test_resamples_draw_the_stays_of_a_patient_together():
    stays = Resamples.draw(["a~1", "a~1", "b~1", "a~2"], seed=1)
    np.testing.assert_array_equal(stays.patient, [0, 0, 1, 0])
    np.testing.assert_array_equal(stays.times, Resamples.draw(["a", "b"], seed=1).times)


def test_resamples_sum_over_the_drawn_patients():
    resamples = Resamples.draw(["a", "a", "b"], seed=1)
    np.testing.assert_array_equal(resamples.by_patient([1, 2, 4]), [3, 4])
    np.testing.assert_array_equal(resamples.sums([1, 2, 4]), resamples.times[:, 0] * 3 + resamples.times[:, 1] * 4)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), levels=st.sampled_from([None, 1, 2, 10]))
def test_discrimination_draws_equal_scikit_learn_with_ties(seed, levels):
    label, probability, patient = patients(n=12, hours=5, seed=seed, levels=levels)
    resamples = Resamples.draw(patient, seed)
    draws = resample_discrimination(label, probability, resamples)
    for number in range(0, RESAMPLES, 20):
        weight = resamples.times[number][patient]
        drawn = weight > 0
        if len(np.unique(label[drawn])) < 2:
            assert np.isnan(draws["auroc"][number])
            continue
        of_drawn = {"y_true": label[drawn], "y_score": probability[drawn], "sample_weight": weight[drawn]}
        assert draws["auroc"][number] == pytest.approx(roc_auc_score(**of_drawn), abs=1e-12)
        assert draws["auprc"][number] == pytest.approx(average_precision_score(**of_drawn), abs=1e-12)
        assert draws["prevalence"][number] == pytest.approx(np.average(label, weights=weight), abs=1e-12)


@pytest.mark.parametrize("levels", [None, 2])
def test_calibration_draws_of_brier_and_ece_equal_those_of_copied_rows(levels):
    label, probability, patient = patients(levels=levels)
    order = np.argsort(probability, kind="stable")  # so that copies of a row are adjacent
    label, probability, patient = label[order], probability[order], patient[order]
    resamples = Resamples.draw(patient, 5)
    draws = resample_calibration(label, probability, resamples)
    for number in range(0, RESAMPLES, 25):
        drawn_label, drawn_probability = copied(resamples, number, label, probability)
        assert draws["brier"][number] == pytest.approx(brier_score_loss(drawn_label, drawn_probability), abs=1e-12)
        assert draws["ece"][number] == pytest.approx(measure_calibration(drawn_label, drawn_probability)["ece"], abs=1e-12)


def test_calibration_draws_by_one_newton_step_are_close_to_a_new_fit():
    label, probability, patient = patients(n=400)
    resamples = Resamples.draw(patient, 7)
    draws = resample_calibration(label, probability, resamples)
    refits = [measure_calibration(*copied(resamples, number, label, probability)) for number in range(40)]
    for name in ("calibration_slope", "calibration_intercept"):
        refitted = np.array([figures[name] for figures in refits])
        assert np.std(refitted) > 0.02
        np.testing.assert_allclose(draws[name][:40], refitted, atol=0.15 * np.std(refitted))


def test_resample_slope_of_a_constant_probability_is_nan():
    label, _, patient = patients()
    assert np.isnan(resample_slope(label, np.full(len(label), 0.2), Resamples.draw(patient, 1))).all()


def test_resample_slope_with_every_patient_once_is_the_slope():
    label, probability, patient = patients(n=100)
    every_patient_once = Resamples(patient, np.ones((1, 100), dtype=np.int32))
    margin = np.log(probability / (1 - probability))
    fitted = LogisticRegression(C=np.inf, tol=1e-9).fit(margin[:, None], label)
    assert resample_slope(label, probability, every_patient_once)[0] == pytest.approx(fitted.coef_[0, 0], abs=1e-4)


def test_percentile_interval_ignores_nan():
    assert percentile_interval(np.array([np.nan, *range(101)])) == pytest.approx((2.5, 97.5))
    assert np.isnan(percentile_interval(np.full(3, np.nan))).all()
    assert percentile_bounds({"auroc": np.full(4, 0.5)}) == {"auroc_low": 0.5, "auroc_high": 0.5}


def test_basic_interval_corrects_bias_and_holds_the_estimate():
    draws = np.linspace(0.3, 0.5, 201)
    assert basic_interval(0.2, draws) == pytest.approx((0.0, 0.2))  # all draws lie above, so the estimate is the upper limit
    assert basic_interval(0.4, draws) == pytest.approx((0.305, 0.495))


def test_ratio_of_zero_by_zero_is_nan():
    np.testing.assert_array_equal(ratio([1, 0, 3], [2, 0, 1]), [0.5, np.nan, 3])


def test_percentile_interval_widens_with_few_patients():
    label, probability, _ = patients(n=500)
    order = np.argsort(label, kind="stable")  # nearly every one of thirty patients has events only, or none
    label, probability = label[order], probability[order]

    def width(patient):
        low, high = percentile_interval(resample_discrimination(label, probability, Resamples.draw(patient, 1))["auroc"])
        assert low < roc_auc_score(label, probability) < high
        return high - low

    assert width(np.arange(6000) // 200) > 1.5 * width(np.arange(6000))
