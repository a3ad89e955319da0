"""Adding a signal and a feature: both are computed, and stored services do not change."""

import json
import shutil
import subprocess
import sys

import pytest

from tests.support import ROOT
from vigil.features import services
from vigil.features.catalogue import SERVICES, VIEWS
from vigil.features.services import ServiceError, load_services, store_service

# The additions that DEVELOPMENT.md describes: a line in the signal table, and a declaration in a standard view.
SIGNALS = """    Signal("crp", "laboratory", "1988-5", "mg/L", 0.1, 700, 3, steps_per_unit=10),
    Signal("skin_temperature", "vital", "39106-0", "Cel", 10, 45, 32, steps_per_unit=10),
    Signal("troponin_t","""
FEATURE = """        WindowFeature("spo2", "hours_below", 24, 90, "a test"),
        WindowFeature("glucose", "hours_below", 24, 70,"""

SCRIPT = """
import json, sys
import pandas as pd
from vigil.features.batch import build_features
from vigil.features.catalogue import SERVICES, VIEWS
from vigil.features.declarations import OWN_UNITS
from vigil.features.observations import check
at = pd.Timestamp("2026-01-31T08:00:00Z")
values = [("crp", 12.5), ("skin_temperature", 31.5), ("spo2", 88.0)]
frame = pd.DataFrame([{"subject_id": "a", "observed_at": at, "signal": s, "value": v} for s, v in values])
index = pd.DataFrame({"subject_id": ["a"], "index_time": [at + pd.Timedelta(hours=2)], "age": [70.0], "sex": [1.0]})
index["unit_admitted_at"] = index["hospital_admitted_at"] = at
rows = build_features(check(frame, declared=OWN_UNITS).accepted, index, tuple(VIEWS))
names = ["crp_last_72h", "skin_temperature_last_24h", "skin_temperature_mean_6h", "spo2_hours_below_90_24h"]
print(json.dumps({
    "services": {name: list(features) for name, features in SERVICES.items()},
    "views": {view: [feature.name for feature in features] for view, features in VIEWS.items()},
    "values": {name: float(rows[name].iloc[0]) for name in names if name in rows},
    "missing": sorted(name for name in names if name not in rows),
}))
# Import all modules that iterate over the tables.
import vigil.models.domain, vigil.models.training.candidate_models, vigil.models.training.measurement_augmentation
import vigil.serving.scoring.history, vigil.serving.scoring.risk_service
"""


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    """Output of the script in a copy of the code with the additions."""
    folder = tmp_path_factory.mktemp("grown")
    for package in ("features", "models", "serving", "pipelines", "vigil"):
        # The compiled kernel is copied too: Numba uses it as long as the kernel's files are the same, which they are.
        shutil.copytree(ROOT / package, folder / package, symlinks=True, ignore=shutil.ignore_patterns("*.pyc"))
    for file, before, after in (
        ("signals.py", '    Signal("troponin_t",', SIGNALS),
        ("catalogue.py", '        WindowFeature("glucose", "hours_below", 24, 70,', FEATURE),
    ):
        path = folder / "features" / file
        text = path.read_text()
        assert text.count(before) == 1
        path.write_text(text.replace(before, after))
    process = subprocess.run(
        [sys.executable, "-c", SCRIPT], cwd=folder, capture_output=True, text=True, check=False, timeout=280
    )
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout.splitlines()[-1])


def test_stored_services_do_not_change_when_features_are_added(result):
    stored = {name: list(features) for name, features in load_services().items()}
    assert len(stored) >= 11
    assert {name: result["services"][name] for name in stored} == stored


def test_added_signals_and_features_are_computed(result):
    assert result["values"]["crp_last_72h"] == 12.5
    assert result["values"]["skin_temperature_last_24h"] == 31.5
    assert result["values"]["skin_temperature_mean_6h"] == 31.5
    assert result["missing"] == []
    assert result["values"]["spo2_hours_below_90_24h"] > 0
    names = {name for features in result["views"].values() for name in features}
    assert names > {feature.name for features in VIEWS.values() for feature in features}
    assert set(result["services"]["everything"]) > set(SERVICES["everything"])


def test_store_service_refuses_to_replace_a_service_and_load_services_detects_changes(tmp_path, monkeypatch):
    path = store_service("new_v1", ["spo2_last_24h", "age"], tmp_path)
    with pytest.raises(ServiceError, match="a stored service never changes; give the new list a new version"):
        store_service("new_v1", ["age"], tmp_path)
    monkeypatch.setattr(services.resources, "files", lambda _: tmp_path)
    assert load_services() == {"new_v1": ("spo2_last_24h", "age")}
    path.write_text(path.read_text().replace("age", "sex"))
    with pytest.raises(ServiceError, match=r"new_v1\.txt: changed since it was stored"):
        load_services()
