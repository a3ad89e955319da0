"""The artefact: calibrated, explainable to the last bit, and clear about what it needs."""

import lightgbm
import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression

from features.catalogue import FEATURES
from models.risk_model import FeatureMismatchError, RiskModel, TooFewEventsError, classifiers, log_odds

COLUMNS = ["heart_rate_mean_6h", "heart_rate_last_24h", "spo2_min_24h", "age"]
TREES = {"n_estimators": 80, "num_leaves": 7, "min_child_samples": 20, "verbosity": -1, "random_state": 0}


def patients(n, seed):
    generator = np.random.default_rng(seed)
    frame = pd.DataFrame(generator.normal(size=(n, len(COLUMNS))), columns=COLUMNS).astype("float32")
    margin = 2 * frame["heart_rate_mean_6h"] - 1.5 * frame["spo2_min_24h"] - 2
    label = (generator.random(n) < 1 / (1 + np.exp(-margin))).astype(int)
    frame.loc[generator.random(n) < 0.2, "spo2_min_24h"] = np.nan
    return frame, label


@pytest.fixture(scope="module")
def model():
    (X, y), (tune_X, tune_y) = patients(4000, 1), patients(2000, 2)
    fitted = RiskModel(lightgbm.LGBMClassifier(**TREES), COLUMNS).fit(X, y, tune_X=tune_X, tune_y=tune_y)
    fitted.thresholds_ = {"medium": 0.2, "high": 0.5}
    return fitted


def test_the_mean_risk_on_the_tuning_patients_is_their_event_rate(model):
    tune_X, tune_y = patients(2000, 2)
    assert model.risk(tune_X).mean() == pytest.approx(tune_y.mean(), abs=1e-4)


def test_calibration_mends_an_overconfident_estimator():
    (X, y), (tune_X, tune_y), (new_X, new_y) = patients(300, 1), patients(20_000, 2), patients(20_000, 3)
    overfitted = lightgbm.LGBMClassifier(**{**TREES, "min_child_samples": 1, "num_leaves": 60})
    fitted = RiskModel(overfitted, COLUMNS)
    fitted.fit(X, y, tune_X=tune_X, tune_y=tune_y)
    raw = log_odds(fitted.estimator.predict_proba(new_X[COLUMNS].to_numpy())[:, 1])[:, None]
    slope_before = LogisticRegression(C=np.inf).fit(raw, new_y).coef_[0, 0]
    slope_after = LogisticRegression(C=np.inf).fit(fitted.margin(new_X)[:, None], new_y).coef_[0, 0]
    assert abs(slope_after - 1) < abs(slope_before - 1)
    assert slope_after == pytest.approx(1, abs=0.12)


def test_contributions_add_up_to_the_margin_and_are_grouped_by_signal(model):
    X, _ = patients(50, 4)
    found = model.contributions(X)
    assert set(found.columns) == {FEATURES[name].signal for name in COLUMNS} | {"baseline"}
    np.testing.assert_allclose(found.sum(axis=1), model.margin(X), atol=1e-6)


def test_contributions_of_a_linear_model_are_refused():
    (X, y), (tune_X, tune_y) = patients(300, 1), patients(300, 2)
    linear = RiskModel(LogisticRegression(), ["age"]).fit(X, y, tune_X=tune_X, tune_y=tune_y)
    with pytest.raises(TypeError, match="expected a LightGBM model, this one is a LogisticRegression"):
        linear.contributions(X)


def test_columns_are_found_by_name_not_by_place(model):
    X, _ = patients(20, 5)
    np.testing.assert_array_equal(model.risk(X), model.risk(X[COLUMNS[::-1]].assign(more=1)))


def test_missing_columns_are_named(model):
    X, _ = patients(5, 6)
    with pytest.raises(FeatureMismatchError, match="2 of the model's 4 columns are missing: spo2_min_24h, age"):
        model.risk(X.drop(columns=["age", "spo2_min_24h"]))


def test_bands_begin_at_their_thresholds(model):
    assert [model.band(p) for p in (0.199, 0.2, 0.499, 0.5)] == ["low", "medium", "medium", "high"]
    X, _ = patients(200, 7)
    np.testing.assert_array_equal(model.predict(X), model.risk(X) >= 0.5)


def test_a_split_without_events_is_explained():
    X, y = patients(300, 1)
    with pytest.raises(TooFewEventsError, match="tuning patients hold 1 of the 2 classes of outcome"):
        RiskModel(LogisticRegression(), ["age"]).fit(X, y, tune_X=X, tune_y=np.zeros(300))


def test_same_data_and_seed_give_the_same_predictions():
    (X, y), (tune_X, tune_y) = patients(2000, 1), patients(1000, 2)
    first, second = (
        classifiers(COLUMNS, seed=5)["lightgbm"].fit(X, y, tune_X=tune_X, tune_y=tune_y).risk(tune_X) for _ in range(2)
    )
    np.testing.assert_array_equal(first, second)


def test_baselines_know_no_more_than_they_should():
    models = classifiers(COLUMNS, seed=1)
    assert next(iter(models)) == "lightgbm"
    assert models["clock"].features == ["hours_in_unit", "age", "sex"]
    assert models["news2"].features == ["news2"]
    assert models["logistic"].features == models["lightgbm"].features == COLUMNS
