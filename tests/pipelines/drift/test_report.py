"""Drift: silent on more of the same, loud on a shift, and clear when it cannot tell."""

import json

import numpy as np
import pandas as pd
import pytest

from pipelines.drift.report import MIN_ROWS, NotEnoughPredictionsError, Status, drift_report


def patients(n, seed, shift=0.0, columns=8):
    generator = np.random.default_rng(seed)
    frame = pd.DataFrame(generator.normal(size=(n, columns)), columns=[f"f{i}" for i in range(columns)])
    frame["f0"] += shift
    frame["probability"] = 1 / (1 + np.exp(-frame["f0"]))
    return frame


@pytest.mark.parametrize("n", [400, 1500])  # judged by a p-value, and by a distance
def test_more_of_the_same_is_fine(tmp_path, n):
    found = drift_report(patients(n, 1), patients(n, 2), tmp_path, note="Test.")
    assert found.status == Status.FINE
    assert not found.prediction_drifted


@pytest.mark.parametrize("n", [400, 1500])
def test_shifted_predictions_are_drift_whatever_the_share(tmp_path, n):
    found = drift_report(patients(n, 1), patients(n, 2, shift=1.5), tmp_path, note="Test.")
    assert found.status == Status.DRIFT
    assert found.prediction_drifted
    assert set(found.drifted) == {"f0", "probability"}


def test_few_predictions_against_a_large_reference_cry_no_wolf(tmp_path):
    verdicts = [drift_report(patients(3000, 1), patients(60, seed), tmp_path, note="Test.").status for seed in range(2, 7)]
    assert verdicts == [Status.FINE] * 5


def test_a_sensor_that_vanished_counts_and_is_named(tmp_path):
    silent = patients(300, 2).assign(f3=np.nan)
    found = drift_report(patients(400, 1), silent, tmp_path, note="Test.")
    assert found.vanished == ["f3"]
    assert "f3" in found.drifted
    assert drift_report(silent, patients(300, 3), tmp_path, note="Test.").appeared == ["f3"]


def test_columns_empty_on_both_sides_are_no_drift(tmp_path):
    found = drift_report(patients(400, 1).assign(x=np.nan), patients(300, 2).assign(x=np.nan), tmp_path, note="Test.")
    assert "x" not in found.drifted


def test_the_reports_say_what_they_are(tmp_path):
    found = drift_report(patients(400, 1), patients(300, 2), tmp_path, note="Simulated ward: not clinical evidence.")
    assert "Simulated ward: not clinical evidence. Status: fine" in (tmp_path / "drift.html").read_text()
    report = json.loads((tmp_path / "drift.json").read_text())
    assert report["vigil"] == found.as_dict()
    assert {"metrics", "tests"} <= set(report["evidently"])


@pytest.mark.parametrize("n", [0, 1, MIN_ROWS - 1])
def test_too_few_predictions_are_no_verdict(tmp_path, n):
    with pytest.raises(NotEnoughPredictionsError, match=f"{n} predictions of this model version, expected at least {MIN_ROWS}"):
        drift_report(patients(400, 1), patients(n, 2), tmp_path, note="Test.")
