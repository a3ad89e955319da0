"""Recalibration: probabilities follow the events, ranking and alarms stay, and a change without a gain is not valid."""

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression

from vigil.models.promotion.recalibration import RecalibrationError, recalibrate
from vigil.models.training.risk_model import RiskModel, from_log_odds, log_odds


def cohort(patients, shift=0.0, slope=1.0, seed=0):
    """Build hours of patients with the risks of a model, except for a shift and a slope of the log-odds."""
    rng = np.random.default_rng(seed)
    x = rng.normal(-2.5, 1.2, patients)[np.repeat(np.arange(patients), 6)] + rng.normal(0, 0.3, 6 * patients)
    label = (rng.random(len(x)) < from_log_odds(shift + slope * x)).astype(float)
    subjects = np.repeat([f"p{number}" for number in range(patients)], 6)
    return pd.DataFrame({"subject_id": subjects, "age": x, "label": label})


@pytest.fixture(scope="module")
def model():
    rows = cohort(600, seed=1)
    fitted = RiskModel(LogisticRegression(), ["age"], folds=3)
    fitted.fit(rows, rows["label"], rows["subject_id"])
    fitted.thresholds_ = {"medium": 0.1, "high": 0.2}
    return fitted


def with_probability(model, rows):
    return rows.assign(probability=model.risk(rows))


def test_recalibration_follows_another_frequency_and_keeps_the_high_hours(model):
    rows = with_probability(model, cohort(800, shift=1.2, seed=2))
    recalibrated = recalibrate(model, rows, seed=0)
    assert recalibrated.valid
    assert recalibrated.gain_low > 0
    assert abs(recalibrated.before["calibration_intercept"]) > 0.8
    assert abs(recalibrated.after["calibration_intercept"]) < 0.2
    assert recalibrated.shift == pytest.approx(1.2, abs=0.2)
    risk = recalibrated.model.risk(rows)
    np.testing.assert_allclose(risk, recalibrated.risk(rows["probability"].to_numpy()), rtol=1e-9)
    high = risk >= recalibrated.model.thresholds_["high"]
    assert (high == (rows["probability"] >= model.thresholds_["high"])).all()
    assert recalibrated.model.certificate_ is None
    assert model.thresholds_ == {"medium": 0.1, "high": 0.2}  # the champion is unchanged
    assert "model" not in recalibrated.as_dict()


def test_recalibration_fits_the_slope_only_if_the_data_reject_one(model):
    assert recalibrate(model, with_probability(model, cohort(600, shift=0.8, seed=3)), seed=0).slope == 1.0
    assert recalibrate(model, with_probability(model, cohort(900, slope=0.5, seed=4)), seed=0).slope == pytest.approx(
        0.5, abs=0.15
    )


def test_recalibration_of_a_calibrated_model_is_not_valid(model):
    assert not recalibrate(model, with_probability(model, cohort(600, seed=5)), seed=0).valid


def test_recalibration_requires_events_in_both_halves(model):
    rows = with_probability(model, cohort(60, seed=6)).assign(label=0.0)
    rows.loc[0, "label"] = 1.0
    with pytest.raises(RecalibrationError, match="half of the patients hold no event"):
        recalibrate(model, rows, seed=0)


def test_recalibrated_log_odds_have_the_stated_shift_and_slope(model):
    rows = with_probability(model, cohort(500, shift=1.0, seed=7))
    recalibrated = recalibrate(model, rows, seed=0)
    expected = recalibrated.shift + recalibrated.slope * log_odds(model.risk(rows))
    np.testing.assert_allclose(recalibrated.model.margin(rows), expected, rtol=1e-6)
