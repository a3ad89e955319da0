"""The champion follows the registry's alias, and stays in use when the registry is gone."""

import logging
import os
import shutil
from datetime import UTC, datetime
from threading import get_ident

import lightgbm
import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient

from vigil.models.registry import Registry
from vigil.models.training.risk_model import RiskModel
from vigil.serving.scoring.champion import Champion

COLUMNS = ["heart_rate_mean_6h", "spo2_min_24h"]
NAME = "deterioration"


@pytest.fixture(scope="module")
def fitted():
    generator = np.random.default_rng(1)
    frame = pd.DataFrame(generator.normal(size=(600, 2)), columns=COLUMNS).astype("float32")
    label = (generator.random(600) < 1 / (1 + np.exp(-2 * frame["heart_rate_mean_6h"]))).to_numpy(float)
    trees = lightgbm.LGBMClassifier(n_estimators=5, num_leaves=4, verbosity=-1, n_jobs=1)
    model = RiskModel(trees, COLUMNS, folds=2).fit(frame, label, pd.Series([f"p{row}" for row in range(600)]))
    model.thresholds_ = {"medium": 0.2, "high": 0.5}
    model.metadata_ = {"feature_service": "vital_signs_v2", "simulated": True}
    return model, frame


@pytest.fixture
def home(tmp_path):
    return tmp_path / "home"


def register(home, fitted):
    """Register the next version; the first is champion."""
    home.mkdir(exist_ok=True)
    model, frame = fitted
    registry = Registry(home)
    with registry.run(NAME) as run_id:
        registry.log_models({"all_signals": model}, frame)
    return registry.register(run_id, "all_signals", NAME, {})


def test_champion_follows_the_alias_and_reports_each_change(home, fitted):
    register(home, fitted)
    changes = []
    champion = Champion(home, NAME, changes.append)
    assert champion.model is None
    champion.look()
    first = champion.model
    assert (first.version, first.feature_service) == ("1", "vital_signs_v2")
    np.testing.assert_array_equal(first.model.risk(fitted[1]), fitted[0].risk(fitted[1]))
    assert register(home, fitted) == ("2", "challenger")
    champion.look()
    assert champion.model is first  # what has not changed is not loaded again
    Registry(home).promote(NAME, "2", {})
    champion.look()
    assert champion.model.version == "2"
    Registry(home).roll_back(NAME, {})
    champion.look()
    assert champion.model.version == "1"
    assert [model.version for model in changes] == ["1", "2", "1"]


def test_champion_notices_withdrawal_and_reinstatement_at_the_next_look(home, fitted, monkeypatch):
    register(home, fitted)
    register(home, fitted)
    changes, lookups = [], []
    champion = Champion(home, NAME, changes.append)
    champion.look()
    first, registry = champion.model, Registry(home)
    registry.withdraw(NAME, "1", "its certificate does not hold", datetime(2026, 2, 1, tzinfo=UTC))
    by_alias = MlflowClient.get_model_version_by_alias
    monkeypatch.setattr(
        MlflowClient, "get_model_version_by_alias", lambda *arguments: lookups.append(arguments[1:]) or by_alias(*arguments)
    )
    monkeypatch.setattr(Registry, "load", None)  # the model that is there is not loaded again
    champion.look()
    assert (champion.model.version, champion.model.withdrawn, champion.model.model) == ("1", True, first.model)
    noticed = champion.model
    champion.look()
    assert champion.model is noticed
    assert lookups == [(NAME, "champion")] * 2  # one lookup a look
    registry.reinstate(NAME, "1")
    champion.look()
    assert champion.model == first
    monkeypatch.undo()
    registry.withdraw(NAME, "1", "its certificate does not hold", datetime(2026, 2, 1, tzinfo=UTC))
    assert Champion.loaded(home, NAME).model.withdrawn  # also after a start
    registry.promote(NAME, "2", {})
    champion.look()
    assert [(model.version, model.withdrawn) for model in changes] == [("1", False), ("1", True), ("1", False), ("2", False)]


def test_champion_stays_in_use_when_the_registry_is_missing_or_damaged(home, fitted):
    register(home, fitted)
    champion = Champion.loaded(home, NAME)
    model = champion.model
    database, away = home / "mlflow.db", home / "away.db"
    shutil.copy(database, away)
    database.write_bytes(b"no database" * 100)
    champion.look()
    assert champion.model is model
    database.unlink()
    champion.look()
    assert champion.model is model
    assert not database.exists()
    os.rename(away, database)  # noqa: PTH104 - as a restore does it
    champion.look()
    assert champion.model is model


def test_champion_stays_in_use_when_the_next_version_cannot_be_loaded(home, fitted):
    register(home, fitted)
    champion = Champion.loaded(home, NAME)
    register(home, fitted)
    before = set(home.rglob("*.skops"))
    assert len(before) == 2
    Registry(home).promote(NAME, "2", {})
    newest = max(before, key=lambda path: path.stat().st_mtime_ns)
    newest.unlink()
    champion.look()
    assert champion.model.version == "1"


def test_champion_without_a_registry_is_none_and_no_registry_is_created(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("vigil"), "propagate", True)
    champion = Champion.loaded(tmp_path, NAME)
    champion.look()
    champion.look()
    assert champion.model is None
    assert list(tmp_path.iterdir()) == []
    # A server of another test may still follow its champion in a thread, and may have left a second way to caplog.
    ours = {id(record) for record in caplog.records if record.name == "vigil.serving" and record.thread == get_ident()}
    assert len(ours) == 1


def test_champion_registered_later_is_used_without_a_restart(home, fitted, monkeypatch):
    monkeypatch.setattr("vigil.serving.scoring.champion._LOOK_SECONDS", 0.05)
    home.mkdir()
    champion = Champion.loaded(home, NAME)
    register(home, fitted)
    champion.follow()
    for _ in range(400):
        if champion.model:
            break
        champion._stop.wait(0.05)
    champion.stop()
    assert champion.model.version == "1"
