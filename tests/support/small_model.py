"""A small risk model with a domain of use, and how it is stored."""

import numpy as np
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from tests.support.synthetic_behaviour import VIEWS, ward
from vigil.features.batch import build_features
from vigil.models.domain import DomainOfUse
from vigil.models.registry import Registry
from vigil.models.training.risk_model import RiskModel

NAME = "deterioration"
FEATURES = ["age", "hours_in_unit", "heart_rate_last_24h", "heart_rate_count_24h", "spo2_last_24h", "spo2_count_24h"]


def feature_rows():
    return build_features(*ward(patients=30), VIEWS)


def fit_small_model(rows):
    label = (rows["heart_rate_last_24h"] + np.random.default_rng(0).normal(0, 20, len(rows)) > 95).astype(float)
    model = RiskModel(make_pipeline(SimpleImputer(), LogisticRegression()), FEATURES, folds=3)
    model.fit(rows, label, rows["subject_id"])
    assert model.domain_ is None
    model.thresholds_ = {"medium": 0.3, "high": 0.6}
    model.domain_ = DomainOfUse.fit(rows[FEATURES], rows["subject_id"], seed=0)
    return model


def store(home, model, rows):
    """Register a model, and return it as a server loads it."""
    registry = Registry(home)
    with registry.run(NAME) as run_id:
        registry.log_models({"all_signals": model}, rows.head(5))
    version, _ = registry.register(run_id, "all_signals", NAME, {})
    return registry.load(NAME, version).model
