"""The registry: runs, versions and aliases of a home, and models that keep their domain of use."""

import copy
import os
import re
from datetime import UTC, datetime

import mlflow
import numpy as np
import pandas as pd
import pytest

from tests.support.small_model import NAME, feature_rows, fit_small_model, store
from vigil.models.assessment import assess
from vigil.models.promotion.recalibration import recalibrate
from vigil.models.provenance import current_commit
from vigil.models.registry import CHALLENGER, CHAMPION, NoModelError, Registry
from vigil.models.training.risk_model import RiskModel
from vigil.models.version_history import EVALUATION, list_variants, list_versions


@pytest.fixture(scope="module")
def rows():
    return feature_rows()


@pytest.fixture(scope="module")
def model(rows):
    return fit_small_model(rows)


def test_registries_of_two_homes_work_side_by_side_and_leave_the_process_wide_uri_alone(tmp_path, model, rows, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "file:///not/ours")
    other_model = copy.copy(model)
    other_model.thresholds_ = {"medium": 0.1, "high": 0.2}
    first, second = Registry(tmp_path / "first"), Registry(tmp_path / "second")
    with first.run(NAME) as first_run, second.run(NAME) as second_run:
        for registry, stored in ((first, model), (second, other_model)):
            registry.log(metrics={"auroc": 0.8}, dictionaries={"thresholds.json": stored.thresholds_})
            registry.log_models({"all_signals": stored}, rows.head(5))
    for registry, run_id, stored in ((first, first_run, model), (second, second_run, other_model)):
        assert registry.register(run_id, "all_signals", NAME, {}) == ("1", CHAMPION)
        assert registry.load(NAME).model.thresholds_ == stored.thresholds_
        assert registry.load_run_models(run_id)["all_signals"].thresholds_ == stored.thresholds_
        assert registry.load_dictionary(run_id, "thresholds.json") == stored.thresholds_
    assert os.environ["MLFLOW_TRACKING_URI"] == mlflow.get_tracking_uri() == "file:///not/ours"


def test_registry_logs_within_a_run_only(tmp_path):
    with pytest.raises(RuntimeError, match="no run is active; expected to log within a block of Registry.run"):
        Registry(tmp_path).log(metrics={"auroc": 0.8})


def test_run_that_raises_is_marked_as_failed_and_can_be_resumed(tmp_path):
    registry = Registry(tmp_path)
    with pytest.raises(ValueError, match="stop"), registry.run(NAME) as run_id:
        raise ValueError("stop")
    assert registry.client.get_run(run_id).info.status == "FAILED"
    with registry.run(NAME, run_id):
        assert registry.client.get_run(run_id).info.status == "RUNNING"
        registry.log(metrics={"auroc": 0.7, "unknown": float("nan")})
    assert registry.client.get_run(run_id).info.status == "FINISHED"
    assert registry.load_metrics(run_id) == {"auroc": 0.7}


def test_versions_lists_a_version_with_alias_tags_and_metrics(tmp_path, model, rows):
    registry = Registry(tmp_path)
    with registry.run(NAME, dataset=("ward", "ab" * 20), what="all_signals") as run_id:
        registry.log_models({"all_signals": model}, rows.head(5))
        registry.log(metrics={"all_signals.auroc": 0.8, "all_signals.auroc_low": 0.7, "clock.auroc": 0.6})
    registry.register(run_id, "all_signals", NAME, {"ungated": "the first"})
    registry.withdraw(NAME, "1", "a test", datetime.now(UTC))
    (listed,) = list_versions(registry, NAME)
    assert (listed["version"], listed["alias"], listed["withdrawn"], listed["ungated"]) == (1, CHAMPION, "a test", "the first")
    assert listed["metrics"] == {"auroc": 0.8, "auroc_low": 0.7}
    assert re.fullmatch(NAME + r", ward, \d{4}-\d\d-\d\d \d\d:\d\d, all_signals", listed["run"])
    tags = registry.client.get_run(run_id).data.tags
    assert tags["commit"] == tags["mlflow.source.git.commit"] == current_commit()
    (dataset,) = registry.client.get_run(run_id).inputs.dataset_inputs
    assert (dataset.dataset.name, dataset.dataset.digest) == ("ward", ("ab" * 20)[:36])
    with pytest.raises(NoModelError, match="no model 'other'"):
        list_versions(registry, "other")


def evaluation(held_out, auprc):
    """Return what an evaluation stores, with so much AUPRC of each variant; the first is the default."""
    models = {variant: {"auprc": value, "patients": 40.0} for variant, value in auprc.items()}
    return {"default": next(iter(auprc)), "made": {"held_out_digest": held_out}, "models": models}


def test_variants_are_those_of_the_last_evaluation_of_every_version_the_best_first(tmp_path, model, rows):
    registry = Registry(tmp_path)
    evaluations = (
        [evaluation("a", {"all_signals": 0.9, "clock": 0.1})],
        [],  # not evaluated
        [evaluation("b", {"all_signals": 0.2}), evaluation("b", {"all_signals": 0.3, "clock": 0.4})],
        [evaluation("b", {"logistic": 0.35})],
    )
    for stored in evaluations:
        with registry.run(NAME, dataset=("ward", "ab")) as run_id:
            registry.log_models({"all_signals": model}, rows.head(5))
        registry.register(run_id, "all_signals", NAME, {})
        for one in stored:
            with registry.run(NAME, run_id, ("ward", one["made"]["held_out_digest"]), context="evaluation"):
                registry.log(dictionaries={EVALUATION: one})
    listed = list_variants(registry, NAME)
    assert [(one["version"], one["variant"], one["is_registered"], one["metrics"]["auprc"]) for one in listed] == [
        (3, "clock", False, 0.4),
        (4, "logistic", True, 0.35),
        (3, "all_signals", True, 0.3),
        (1, "all_signals", True, 0.9),
        (1, "clock", False, 0.1),
    ]
    assert [one["held_out"] for one in listed] == ["b", "b", "b", "a", "a"]  # other held-out rows do not compare
    inputs = registry.client.get_run(run_id).inputs.dataset_inputs
    assert {(own.dataset.digest, own.tags[0].value) for own in inputs} == {("ab", "training"), ("b", "evaluation")}


@pytest.mark.parametrize("name", ["ward 3", "ward%203", "a?b", "a#b", "ü", "a'b", "a&b=c"])
def test_registry_lies_in_its_home_whatever_the_name_of_the_home(tmp_path, model, rows, name):
    home = tmp_path / name
    home.mkdir()
    assert store(home, model, rows).features == model.features
    assert (home / "mlflow.db").is_file()
    others = [path for path in tmp_path.iterdir() if path != home]  # of MLflow, named after a URI
    assert all("%25" in path.name or "%3F" in path.name for path in others)
    assert not any(path.is_file() for other in others for path in other.rglob("*"))


def with_unusual_patients(rows):
    """Return the rows with an age of 119 and a heart rate of 300."""
    return rows.assign(age=np.float32(119.0), heart_rate_last_24h=np.float32(300.0))


def test_registry_stores_the_domain_of_use(tmp_path, model, rows):
    loaded = store(tmp_path, model, rows)
    assert loaded.domain_.summary == model.domain_.summary
    for some in (rows, with_unusual_patients(rows)):
        assert loaded.domain_.unusual(some) == model.domain_.unusual(some)
    risk = assess(loaded, with_unusual_patients(rows))[-1]
    assert ("outside_training" in risk.findings, risk.basis, risk.unusual) == (True, "news2", ("age", "combination of values"))


def test_registry_loads_a_former_model_without_a_domain_of_use(tmp_path, model, rows):
    old = RiskModel(**model.get_params(deep=False))
    vars(old).update({name: value for name, value in vars(model).items() if name != "domain_"})
    loaded = store(tmp_path, old, rows)
    assert not hasattr(loaded, "domain_")
    answers = assess(loaded, with_unusual_patients(rows.tail(3)))
    assert {risk.basis for risk in answers} == {"model"}
    assert [risk.probability for risk in answers] == model.risk(with_unusual_patients(rows.tail(3))).tolist()


def test_recalibration_keeps_the_domain(model, rows):
    risk = model.risk(rows)
    label = (np.random.default_rng(1).random(len(rows)) < risk).astype(float)
    judged = pd.DataFrame({"subject_id": rows["subject_id"].astype(str), "probability": risk, "label": label})
    assert recalibrate(model, judged, seed=0).model.domain_ is model.domain_


def test_register_makes_a_refused_first_version_no_champion(tmp_path, model, rows):
    registry = Registry(tmp_path)
    with registry.run(NAME) as run_id:
        registry.log_models({"all_signals": model}, rows.head(5))
    assert not registry.has_champion(NAME)
    assert registry.register(run_id, "all_signals", NAME, {}, may_be_champion=False) == ("1", CHALLENGER)
    assert not registry.has_champion(NAME)
    with pytest.raises(
        NoModelError, match="no champion of model 'deterioration'; train one first: vigil train \\(where a first"
    ):
        registry.version_with_alias(NAME, CHAMPION)
    registry.promote(NAME, "1", {"promoted_at": "now"})
    assert registry.has_champion(NAME)
    assert registry.version_with_alias(NAME, CHAMPION) == "1"
    assert dict(registry.client.get_model_version(NAME, "1").tags) == {"promoted_at": "now"}  # took no champion's place
    with pytest.raises(NoModelError, match="took no champion's place"):
        registry.previous_champion(NAME)
    assert registry.register(run_id, "all_signals", NAME, {}) == ("2", CHALLENGER)
