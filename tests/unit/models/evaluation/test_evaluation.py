"""Metrics of synthetic predictions with known properties."""

import numpy as np
import pandas as pd
import pytest

from tests.support.synthetic_risks import held_out
from vigil.models.evaluation import evaluate_predictions
from vigil.models.evaluation.calibration import count_risks, fit_slope, measure_calibration, measure_reliability
from vigil.models.evaluation.discrimination import measure_discrimination, roc_and_pr_curves
from vigil.models.training.members import TooFewEventsError


def predictions(n=20_000, seed=0):
    generator = np.random.default_rng(seed)
    margin = generator.normal(-2, 1, n)
    probability = 1 / (1 + np.exp(-margin))
    return (generator.random(n) < probability).astype(float), probability


def stretched(probability, factor, shift=0.0):
    odds = np.log(probability / (1 - probability)) * factor + shift
    return 1 / (1 + np.exp(-odds))


def test_calibration_of_true_probabilities():
    result = measure_calibration(*predictions())
    assert result["calibration_slope"] == pytest.approx(1, abs=0.05)
    assert result["calibration_intercept"] == pytest.approx(0, abs=0.05)
    assert result["ece"] < 0.015


def test_calibration_slope_of_too_extreme_risks_is_below_one():
    label, probability = predictions()
    assert measure_calibration(label, stretched(probability, 2))["calibration_slope"] == pytest.approx(0.5, abs=0.03)


def test_calibration_intercept_of_too_low_risks_is_their_shift():
    label, probability = predictions()
    assert measure_calibration(label, stretched(probability, 1, -0.7))["calibration_intercept"] == pytest.approx(0.7, abs=0.05)


def test_calibration_of_a_constant_risk():
    label, probability = np.repeat([0.0, 1.0], [800, 200]), np.full(1000, 0.5)
    assert measure_calibration(label, probability)["brier"] == pytest.approx(0.25)
    groups = measure_reliability(label, probability)
    assert groups["n"].sum() == 1000
    assert (groups["predicted"] == 0.5).all()


def test_discrimination_of_a_perfect_and_a_blind_ranking():
    label = np.array([0.0, 0, 0, 1])
    assert measure_discrimination(label, np.array([0.1, 0.2, 0.3, 0.4])) == {"auroc": 1, "auprc": 1, "prevalence": 0.25}
    assert measure_discrimination(label, np.full(4, 0.2)) == {"auroc": 0.5, "auprc": 0.25, "prevalence": 0.25}


def test_judge_refuses_labels_of_one_class():
    frame = pd.DataFrame({"subject_id": ["a", "b"], "label": [0.0, 0.0], "probability": [0.1, 0.2]})
    with pytest.raises(TooFewEventsError, match="2 patients to judge on hold 1 of the 2 classes"):
        evaluate_predictions(frame, 0.5, seed=1)


def test_judge_leaves_out_unlabelled_times_but_counts_their_alarms():
    label, probability = predictions(480)
    frame = pd.DataFrame(
        {"subject_id": np.repeat([f"s{n}" for n in range(20)], 24), "label": label, "probability": probability}
    )
    start = pd.Timestamp("2026-03-01T00:00:00Z")
    frame["index_time"] = (start + pd.to_timedelta(np.tile(np.arange(24), 20), unit="h")).astype("datetime64[us, UTC]")
    frame["onset"] = pd.Series(pd.NaT, index=frame.index, dtype="datetime64[us, UTC]")
    frame["onset_known"] = True
    frame.loc[frame.index % 24 > 20, "label"] = np.nan
    result = evaluate_predictions(frame, 0.0, seed=1).metrics
    assert result["index_times"] == 20 * 21
    assert result["alarms_per_patient_day"] == 3  # all hours are above; every eight hours an alarm
    assert result["auroc_low"] < result["auroc"] < result["auroc_high"]


def test_judge_gives_every_metric_an_interval_that_holds_it():
    ward = held_out()
    result = evaluate_predictions(ward.frame(ward.default), 0.3, seed=1)
    ranks, calibrates = ("auroc", "auprc", "prevalence"), ("brier", "calibration_slope", "calibration_intercept", "ece")
    sounds = ("event_recall", "alarm_precision", "alarms_per_patient_day", "lead_time_hours")
    for metric in (*ranks, *calibrates, "net_benefit", *sounds):
        low, value, high = (result.metrics[f"{metric}{end}"] for end in ("_low", "", "_high"))
        assert low <= value <= high, metric
        assert low < high, metric
        assert result.draws[metric].shape == (200,)


def test_judge_pairs_models_on_the_same_resamples():
    ward = held_out(models=("one", "two"))
    one, two = (evaluate_predictions(ward.frame(name), 0.3, seed=1).draws["auroc"] for name in ("one", "two"))
    assert np.std(one - two) < 0.7 * np.std(one)


def test_judge_counts_no_alarms_with_one_prediction_per_stay():
    ward = held_out(once=True)
    result = evaluate_predictions(ward.frame(ward.default), 0.3, seed=1).metrics
    assert result["auroc"] > 0.5
    assert np.isnan([result[name] for name in ("event_recall", "alarms_per_patient_day", "alarm_precision_high")]).all()
    assert result["patient_days"] == 0


def test_judge_net_benefit_at_the_prevalence_is_that_of_youden():
    label, probability = predictions(2000)
    frame = pd.DataFrame({"subject_id": np.arange(2000), "label": label, "probability": probability})
    frame["index_time"] = pd.Timestamp("2026-03-01T00:00:00Z")
    frame["onset"] = pd.Series(pd.NaT, index=frame.index, dtype="datetime64[us, UTC]")
    above, rate = probability >= label.mean(), label.mean()
    youden = above[label == 1].mean() - above[label == 0].mean()
    assert evaluate_predictions(frame.assign(onset_known=True), 0.5, seed=1).metrics["net_benefit"] == pytest.approx(
        rate * youden
    )


def test_curves_run_from_nothing_to_everything_and_enclose_the_area():
    label, probability = predictions()
    result = roc_and_pr_curves(label, probability)
    assert len(result["recall"]) <= 101
    assert (result["recall"][0], result["recall"][-1]) == (0, 1)
    assert np.isnan(result["precision"][0])
    assert result["precision"][-1] == pytest.approx(label.mean())
    area = np.trapezoid(result["recall"], result["false_positive_rate"])
    assert area == pytest.approx(measure_discrimination(label, probability)["auroc"], abs=0.002)


def test_count_risks_counts_every_row_once():
    label, probability = predictions()
    bars = count_risks(label, probability)
    assert bars["with_event"].sum() == label.sum()
    assert bars["without"].sum() == len(label) - label.sum()
    assert (bars["low"] < bars["high"]).all()


def test_reliability_has_intervals_by_patient():
    label, probability = predictions(4000)
    alone = measure_reliability(label, probability, pd.Series(np.arange(4000)))
    assert ((alone["observed_low"] < alone["observed"]) & (alone["observed"] < alone["observed_high"])).all()


def test_fit_slope_is_nan_without_variation():
    assert np.isnan(fit_slope(np.array([0.0, 1]), np.array([0.2, 0.2])))
    assert np.isnan(fit_slope(np.array([0.0, 0]), np.array([0.1, 0.2])))
