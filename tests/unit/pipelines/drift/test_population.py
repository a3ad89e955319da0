"""Detectors of faults that no reading shows: case mix, versions, prevalence and concept, and what separates them."""

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit

from tests.support.drifting_ward import UNTIL, reference, ward
from vigil.models.monitoring.detectors import Evidence, detect_faults
from vigil.models.statistics.ranks import auroc


@pytest.fixture(scope="module")
def usual():
    return reference()


def log(rng, patients=50, age=64.0, news2=2.0):
    frame = pd.DataFrame({"subject_id": np.repeat(np.arange(patients), 24), "index_time": UNTIL, "probability": 0.1})
    frame["age"] = np.repeat(rng.normal(age, 16, patients), 24)
    frame["news2"] = np.repeat(rng.normal(news2, 2, patients), 24)
    return frame.assign(model_version="1", feature_service="s", day=0, hour=3)


def judged(rng, patients=400, shift=0.0, score=-1.5, slope=1.0):
    odds = rng.normal(score, 2, patients)
    event = rng.random(patients) < expit(slope * odds + shift)
    return pd.DataFrame({"subject_id": np.arange(patients), "index_time": UNTIL, "risk": expit(odds), "event": event})


def detected(usual, **more):
    nothing = Evidence(rows(), UNTIL, usual, champion=("1", "s"), **more)
    return [finding.fault for finding in detect_faults(nothing)]


def rows():
    from vigil.models.monitoring.received import check_received

    return check_received(ward(patients=1).readings.iloc[:0])


@pytest.mark.parametrize(
    ("patients", "faults"),
    [({}, []), ({"age": 82.0}, ["case_mix"]), ({"news2": 5.0}, ["case_mix"]), ({"age": 50.0}, ["case_mix"])],
)
def test_case_mix_detector_finds_another_age_or_severity(usual, patients, faults):
    rng = np.random.default_rng(1)
    assert detected(usual, log=log(rng, **patients), population=log(rng, 400)) == faults


def test_case_mix_detector_ignores_few_patients(usual):
    rng = np.random.default_rng(1)
    assert detected(usual, log=log(rng, 6, age=90.0), population=log(rng, 400)) == []


@pytest.mark.parametrize("column", ["model_version", "feature_service"])
def test_version_detector_finds_one_prediction_of_another_version(usual, column):
    predictions = log(np.random.default_rng(1))
    predictions.loc[3, column] = "another"
    assert detected(usual, log=predictions) == ["version_mismatch"]


@pytest.mark.parametrize(
    ("patients", "faults"),
    [
        ({}, []),
        ({"score": 0.5}, []),  # sicker patients have more events, as many as their risks say
        ({"shift": 1.5}, ["prevalence"]),
        ({"shift": -1.5}, ["prevalence"]),
        ({"slope": 0.0, "shift": -1.0}, ["concept"]),
    ],
)
def test_outcome_detector_separates_case_mix_prevalence_and_concept(usual, patients, faults):
    rng = np.random.default_rng(2)
    assert detected(usual, judged=judged(rng, **patients), judged_reference=judged(rng, 600)) == faults


def test_outcome_detector_ignores_too_few_events(usual):
    rng = np.random.default_rng(3)
    none = judged(rng).assign(event=False)
    assert detected(usual, judged=none, judged_reference=judged(rng)) == []


def test_auroc_counts_pairs():
    assert auroc([False, False, True, True], [0.1, 0.4, 0.4, 0.9]) == pytest.approx(3.5 / 4)
