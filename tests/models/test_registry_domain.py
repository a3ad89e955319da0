"""The domain of use goes with the artefact: through the registry, through a recalibration, and old versions do without."""

import numpy as np
import pandas as pd
import pytest
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from features.build import build_features
from models.assessment import assess
from models.domain import DomainOfUse
from models.recalibration import recalibrate
from models.registry import CHALLENGER, CHAMPION, NoModelError, Registry
from models.risk_model import RiskModel
from tests.models.behaviour.made_up import VIEWS, ward

NAME = "deterioration"
FEATURES = ["age", "hours_in_unit", "heart_rate_last_24h", "heart_rate_count_24h", "spo2_last_24h", "spo2_count_24h"]


@pytest.fixture(scope="module")
def rows():
    return build_features(*ward(patients=30), VIEWS)


@pytest.fixture(scope="module")
def model(rows):
    label = (rows["heart_rate_last_24h"] + np.random.default_rng(0).normal(0, 20, len(rows)) > 95).astype(float)
    fitted = RiskModel(make_pipeline(SimpleImputer(), LogisticRegression()), FEATURES, folds=3)
    fitted.fit(rows, label, rows["subject_id"])
    assert fitted.domain_ is None
    fitted.thresholds_ = {"medium": 0.3, "high": 0.6}
    fitted.domain_ = DomainOfUse.fit(rows[FEATURES], rows["subject_id"], seed=0)
    return fitted


def through(home, model, rows):
    """The model as a server loads it."""
    registry = Registry(home)
    with registry.run(NAME) as run_id:
        registry.log_models({"all_signals": model}, rows.head(5))
    version, _ = registry.register(run_id, "all_signals", NAME, {})
    return registry.load(NAME, version).model


def strange(rows):
    """The same rows of centenarians with a pulse of 300."""
    return rows.assign(age=np.float32(119.0), heart_rate_last_24h=np.float32(300.0))


def test_domain_comes_back_from_the_registry_as_it_was(tmp_path, model, rows):
    loaded = through(tmp_path, model, rows)
    assert loaded.domain_.summary == model.domain_.summary
    for some in (rows, strange(rows)):
        assert loaded.domain_.unusual(some) == model.domain_.unusual(some)
    risk = assess(loaded, strange(rows))[-1]
    assert ("outside_training" in risk.findings, risk.basis, risk.unusual) == (True, "news2", ("age", "combination of values"))


def test_version_of_before_there_were_domains_loads_and_speaks_for_all(tmp_path, model, rows):
    old = RiskModel(**model.get_params(deep=False))
    vars(old).update({name: value for name, value in vars(model).items() if name != "domain_"})
    loaded = through(tmp_path, old, rows)
    assert not hasattr(loaded, "domain_")
    answers = assess(loaded, strange(rows.tail(3)))
    assert {risk.basis for risk in answers} == {"model"}
    assert [risk.probability for risk in answers] == model.risk(strange(rows.tail(3))).tolist()


def test_recalibration_keeps_the_domain(model, rows):
    risk = model.risk(rows)
    label = (np.random.default_rng(1).random(len(rows)) < risk).astype(float)
    judged = pd.DataFrame({"subject_id": rows["subject_id"].astype(str), "probability": risk, "label": label})
    assert recalibrate(model, judged, seed=0).model.domain_ is model.domain_


def test_register_leaves_a_refused_first_version_without_crown(tmp_path, model, rows):
    registry = Registry(tmp_path)
    with registry.run(NAME) as run_id:
        registry.log_models({"all_signals": model}, rows.head(5))
    assert not registry.has_champion(NAME)
    assert registry.register(run_id, "all_signals", NAME, {}, may_be_champion=False) == ("1", CHALLENGER)
    assert not registry.has_champion(NAME)
    with pytest.raises(
        NoModelError, match="no champion of model 'deterioration'; train one first: vigil train \\(where a first"
    ):
        registry.version_of(NAME, CHAMPION)
    registry.promote(NAME, "1", {"promoted_at": "now"})
    assert registry.has_champion(NAME)
    assert registry.version_of(NAME, CHAMPION) == "1"
    assert dict(registry.client.get_model_version(NAME, "1").tags) == {"promoted_at": "now"}  # took no champion's place
    with pytest.raises(NoModelError, match="took no champion's place"):
        registry.previous_champion(NAME)
    assert registry.register(run_id, "all_signals", NAME, {}) == ("2", CHALLENGER)
