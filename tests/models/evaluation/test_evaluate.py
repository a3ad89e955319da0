"""Metrics that must say what is known to be true of made-up predictions."""

import numpy as np
import pandas as pd
import pytest

from models.evaluation import evaluate
from models.evaluation.calibration import calibration, reliability
from models.evaluation.discrimination import discrimination, intervals
from models.risk_model import TooFewEventsError


def predictions(n=20_000, seed=0):
    generator = np.random.default_rng(seed)
    margin = generator.normal(-2, 1, n)
    probability = 1 / (1 + np.exp(-margin))
    return (generator.random(n) < probability).astype(float), probability


def stretched(probability, factor, shift=0.0):
    odds = np.log(probability / (1 - probability)) * factor + shift
    return 1 / (1 + np.exp(-odds))


def test_true_probabilities_are_calibrated():
    found = calibration(*predictions())
    assert found["calibration_slope"] == pytest.approx(1, abs=0.05)
    assert found["calibration_intercept"] == pytest.approx(0, abs=0.05)
    assert found["ece"] < 0.015


def test_too_extreme_predictions_have_a_slope_below_one():
    label, probability = predictions()
    assert calibration(label, stretched(probability, 2))["calibration_slope"] == pytest.approx(0.5, abs=0.03)


def test_too_low_predictions_have_the_shift_as_intercept():
    label, probability = predictions()
    assert calibration(label, stretched(probability, 1, -0.7))["calibration_intercept"] == pytest.approx(0.7, abs=0.05)


def test_ece_of_a_constant_error():
    label, probability = np.repeat([0.0, 1.0], [800, 200]), np.full(1000, 0.5)
    assert calibration(label, probability)["brier"] == pytest.approx(0.25)
    groups = reliability(label, probability)
    assert groups["n"].sum() == 1000
    assert (groups["predicted"] == 0.5).all()


def test_discrimination_of_a_perfect_and_a_blind_ranking():
    label = np.array([0.0, 0, 0, 1])
    assert discrimination(label, np.array([0.1, 0.2, 0.3, 0.4])) == {"auroc": 1, "auprc": 1, "prevalence": 0.25}
    assert discrimination(label, np.full(4, 0.2)) == {"auroc": 0.5, "auprc": 0.25, "prevalence": 0.25}


def test_intervals_hold_the_estimate_and_widen_when_hours_come_from_few_patients():
    label, probability = predictions(6000)
    auroc = discrimination(label, probability)["auroc"]
    many = intervals(label, probability, pd.Series(np.arange(6000)), seed=1)["auroc"]
    assert many[0] < auroc < many[1]
    order = np.argsort(label, kind="stable")  # each of thirty patients is all event or all none, nearly
    few = intervals(label[order], probability[order], pd.Series(np.repeat(np.arange(30), 200)), seed=1)["auroc"]
    assert few[1] - few[0] > many[1] - many[0]


def test_patients_without_an_event_cannot_judge_a_model():
    frame = pd.DataFrame({"subject_id": ["a", "b"], "label": [0.0, 0.0], "probability": [0.1, 0.2]})
    with pytest.raises(TooFewEventsError, match="2 patients to judge on hold 1 of the 2 classes"):
        evaluate(frame, 0.5, seed=1)


def test_evaluate_leaves_out_unlabelled_times_but_watches_them_for_alarms():
    label, probability = predictions(480)
    frame = pd.DataFrame(
        {"subject_id": np.repeat([f"s{n}" for n in range(20)], 24), "label": label, "probability": probability}
    )
    start = pd.Timestamp("2026-03-01T00:00:00Z")
    frame["index_time"] = (start + pd.to_timedelta(np.tile(np.arange(24), 20), unit="h")).astype("datetime64[us, UTC]")
    frame["onset"] = pd.Series(pd.NaT, index=frame.index, dtype="datetime64[us, UTC]")
    frame["onset_known"] = True
    frame.loc[frame.index % 24 > 20, "label"] = np.nan
    found = evaluate(frame, 0.0, seed=1)
    assert found["index_times"] == 20 * 21
    assert found["alarms_per_patient_day"] == 3  # all hours are above; every eight hours an alarm
    assert found["auroc_low"] < found["auroc"] < found["auroc_high"]
