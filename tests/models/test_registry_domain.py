"""The domain of use goes with the artefact: through the registry, through a recalibration, and old versions do without."""

import os
import pickle
import re
from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest
import skops.io
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from features.batch import build_features
from models.assessment import assess
from models.domain import DomainOfUse
from models.promotion.recalibration import recalibrate
from models.registry import CHALLENGER, CHAMPION, NoModelError, Registry
from models.stored_model import UntrustedModelError
from models.training.risk_model import RiskModel
from models.version_history import versions
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


def test_a_model_that_would_run_code_is_not_loaded(tmp_path, model, rows):
    """Whoever changes the files of a registry can say in them that the model is a pickle."""
    through(tmp_path, model, rows)
    (described,) = (path for path in tmp_path.rglob("MLmodel") if "model.skops" in path.read_text())
    ran = tmp_path / "ran"
    described.write_text(described.read_text().replace("model.skops", "model.pkl").replace("skops", "pickle"))
    described.with_name("model.pkl").write_bytes(pickle.dumps(Runs(str(ran))))
    assert Registry(tmp_path).load(NAME).model.features == model.features  # of our format, whatever the files say
    described.with_name("model.skops").unlink()
    with pytest.raises(UntrustedModelError, match="models of other formats are not loaded"):
        Registry(tmp_path).load(NAME)
    skops.io.dump({"a": Runs(str(ran))}, described.with_name("model.skops"))
    with pytest.raises(UntrustedModelError, match="holds types that are not Vigil's"):
        Registry(tmp_path).load(NAME)
    skops.io.dump(StandardScaler(), described.with_name("model.skops"))
    with pytest.raises(UntrustedModelError, match="is no risk model"):
        Registry(tmp_path).load(NAME)
    assert not ran.exists()


class Runs:
    """What runs a command when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def test_a_version_is_listed_with_what_is_said_of_it(tmp_path, model, rows):
    registry = Registry(tmp_path)
    with registry.run(NAME, dataset=("ward", "ab" * 20)) as run_id:
        registry.log_models({"all_signals": model}, rows.head(5))
        registry.log(metrics={"all_signals.auroc": 0.8, "all_signals.auroc_low": 0.7, "clock.auroc": 0.6})
    registry.register(run_id, "all_signals", NAME, {"ungated": "the first"})
    registry.withdraw(NAME, "1", "a test", datetime.now(UTC))
    (found,) = versions(registry, NAME)
    assert (found["version"], found["alias"], found["withdrawn"], found["ungated"]) == (1, CHAMPION, "a test", "the first")
    assert found["metrics"] == {"auroc": 0.8, "auroc_low": 0.7}
    assert re.fullmatch(NAME + r" \d{4}-\d\d-\d\d \d\d:\d\d [0-9a-z.+]+", found["run"])
    (dataset,) = registry.client.get_run(run_id).inputs.dataset_inputs
    assert (dataset.dataset.name, dataset.dataset.digest) == ("ward", ("ab" * 20)[:36])
    with pytest.raises(NoModelError, match="no model 'other'"):
        versions(registry, "other")


@pytest.mark.parametrize("name", ["ward 3", "ward%203", "a?b", "a#b", "ü", "a'b", "a&b=c"])
def test_a_registry_lies_where_its_home_is(tmp_path, model, rows, name):
    home = tmp_path / name
    home.mkdir()
    assert through(home, model, rows).features == model.features
    assert (home / "mlflow.db").is_file()
    others = [path for path in tmp_path.iterdir() if path != home]  # MLflow's, made of the text of a URL
    assert all("%25" in path.name or "%3F" in path.name for path in others)
    assert not any(path.is_file() for other in others for path in other.rglob("*"))


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
