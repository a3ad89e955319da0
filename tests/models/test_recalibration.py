"""Recalibration: probabilities follow the events, ranks and alarms stay, and what does not help is not valid."""

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression

from models.promotion.recalibration import RecalibrationError, recalibrate
from models.training.risk_model import RiskModel, from_log_odds, log_odds


def cohort(patients, shift=0.0, slope=1.0, seed=0):
    """Hours of patients whose risks a model knows, but for a shift and a slope of the log-odds."""
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


def judged(model, rows):
    return rows.assign(probability=model.risk(rows))


def test_another_frequency_is_followed_and_the_same_hours_are_high(model):
    rows = judged(model, cohort(800, shift=1.2, seed=2))
    found = recalibrate(model, rows, seed=0)
    assert found.valid
    assert found.gain_low > 0
    assert abs(found.before["calibration_intercept"]) > 0.8
    assert abs(found.after["calibration_intercept"]) < 0.2
    assert found.shift == pytest.approx(1.2, abs=0.2)
    risk = found.model.risk(rows)
    np.testing.assert_allclose(risk, found.risk(rows["probability"].to_numpy()), rtol=1e-9)
    high = risk >= found.model.thresholds_["high"]
    assert (high == (rows["probability"] >= model.thresholds_["high"])).all()
    assert found.model.certificate_ is None
    assert model.thresholds_ == {"medium": 0.1, "high": 0.2}  # the champion is as it was
    assert "model" not in found.as_dict()


def test_the_slope_is_fitted_where_the_data_ask_for_it_only(model):
    assert recalibrate(model, judged(model, cohort(600, shift=0.8, seed=3)), seed=0).slope == 1.0
    assert recalibrate(model, judged(model, cohort(900, slope=0.5, seed=4)), seed=0).slope == pytest.approx(0.5, abs=0.15)


def test_what_is_right_already_is_not_replaced(model):
    assert not recalibrate(model, judged(model, cohort(600, seed=5)), seed=0).valid


def test_half_without_an_event_is_too_few(model):
    rows = judged(model, cohort(60, seed=6)).assign(label=0.0)
    rows.loc[0, "label"] = 1.0
    with pytest.raises(RecalibrationError, match="half of the patients hold no event"):
        recalibrate(model, rows, seed=0)


def test_log_odds_of_the_model_are_moved_as_said(model):
    rows = judged(model, cohort(500, shift=1.0, seed=7))
    found = recalibrate(model, rows, seed=0)
    expected = found.shift + found.slope * log_odds(model.risk(rows))
    np.testing.assert_allclose(found.model.margin(rows), expected, rtol=1e-6)
