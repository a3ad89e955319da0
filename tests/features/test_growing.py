"""A signal and a feature that join the tables are computed, and what models were trained on stays as it was."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from features import services
from features.catalogue import SERVICES, VIEWS
from features.services import ServiceError, keep, stored

ROOT = Path(__file__).parents[2]

# As DEVELOPMENT.md says: a line in the table of signals, and a declaration in a standard view.
SIGNALS = """    Signal("crp", "laboratory", "1988-5", "mg/L", 0.1, 700, steps_per_unit=10),
    Signal("skin_temperature", "vital", "39106-0", "Cel", 10, 45, steps_per_unit=10),
    Signal("troponin_t","""
FEATURE = """        WindowFeature("spo2", "hours_below", 24, 90, "a test"),
        WindowFeature("glucose", "hours_below", 24, 70,"""

COMPUTED = """
import json, sys
import pandas as pd
from features.batch import build_features
from features.catalogue import SERVICES, VIEWS
from features.observations import check
at = pd.Timestamp("2026-01-31T08:00:00Z")
readings = [("crp", 12.5), ("skin_temperature", 31.5), ("spo2", 88.0)]
frame = pd.DataFrame([{"subject_id": "a", "observed_at": at, "signal": s, "value": v} for s, v in readings])
index = pd.DataFrame({"subject_id": ["a"], "index_time": [at + pd.Timedelta(hours=2)], "age": [70.0], "sex": [1.0]})
index["unit_admitted_at"] = index["hospital_admitted_at"] = at
rows = build_features(check(frame).accepted, index, tuple(VIEWS))
names = ["crp_last_72h", "skin_temperature_last_24h", "skin_temperature_mean_6h", "spo2_hours_below_90_24h"]
print(json.dumps({
    "services": {name: list(features) for name, features in SERVICES.items()},
    "views": {view: [feature.name for feature in features] for view, features in VIEWS.items()},
    "values": {name: float(rows[name].iloc[0]) for name in names if name in rows},
    "kept_back": sorted(name for name in names if name not in rows),
}))
# all that goes through the tables
import models.domain, models.training.candidate_models, models.training.measurement_augmentation
import serving.scoring.history, serving.scoring.risk_service
serving.scoring.history  # all that goes through the tables
"""


@pytest.fixture(scope="module")
def grown(tmp_path_factory):
    """What a copy of the code says whose tables have grown."""
    folder = tmp_path_factory.mktemp("grown")
    for room in ("features", "models", "serving", "pipelines"):
        shutil.copytree(ROOT / room, folder / room, ignore=shutil.ignore_patterns("__pycache__"))
    for file, before, after in (
        ("signals.py", '    Signal("troponin_t",', SIGNALS),
        ("catalogue.py", '        WindowFeature("glucose", "hours_below", 24, 70,', FEATURE),
    ):
        path = folder / "features" / file
        text = path.read_text()
        assert text.count(before) == 1
        path.write_text(text.replace(before, after))
    done = subprocess.run(
        [sys.executable, "-c", COMPUTED], cwd=folder, capture_output=True, text=True, check=False, timeout=280
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_what_models_were_trained_on_stays_as_it_was(grown):
    frozen = {name: list(features) for name, features in stored().items()}
    assert len(frozen) >= 11
    assert {name: grown["services"][name] for name in frozen} == frozen


def test_what_joined_is_computed(grown):
    assert grown["values"]["crp_last_72h"] == 12.5
    assert grown["values"]["skin_temperature_last_24h"] == 31.5
    assert grown["values"]["skin_temperature_mean_6h"] == 31.5
    assert grown["kept_back"] == []
    assert grown["values"]["spo2_hours_below_90_24h"] > 0
    joined = {name for features in grown["views"].values() for name in features}
    assert joined > {feature.name for features in VIEWS.values() for feature in features}
    assert set(grown["services"]["everything"]) > set(SERVICES["everything"])


def test_a_service_is_kept_once_and_read_as_it_was_kept(tmp_path, monkeypatch):
    path = keep("new_v1", ["spo2_last_24h", "age"], tmp_path)
    with pytest.raises(ServiceError, match="a stored service never changes; give the new one a version of its own"):
        keep("new_v1", ["age"], tmp_path)
    monkeypatch.setattr(services.resources, "files", lambda _: tmp_path)
    assert stored() == {"new_v1": ("spo2_last_24h", "age")}
    path.write_text(path.read_text().replace("age", "sex"))
    with pytest.raises(ServiceError, match=r"new_v1\.txt: was changed since it was kept"):
        stored()
