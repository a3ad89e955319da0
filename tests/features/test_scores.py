"""NEWS2 at every edge of its chart (Royal College of Physicians, 2017), typed here from the chart, not from the code."""

import numpy as np
import pytest

from features.scores import NEWS2_MAX, news2, news2_points, shock_index

# (lowest, highest) as printed -> points; None is open. Steps between printed values: 1, temperature 0.1.
CHART = {
    "respiratory_rate": [(None, 8, 3), (9, 11, 1), (12, 20, 0), (21, 24, 2), (25, None, 3)],
    "spo2": [(None, 91, 3), (92, 93, 2), (94, 95, 1), (96, None, 0)],
    "on_oxygen": [(None, 0, 0), (1, None, 2)],
    "systolic_bp": [(None, 90, 3), (91, 100, 2), (101, 110, 1), (111, 219, 0), (220, None, 3)],
    "heart_rate": [(None, 40, 3), (41, 50, 1), (51, 90, 0), (91, 110, 1), (111, 130, 2), (131, None, 3)],
    "consciousness": [(None, 0, 0), (1, None, 3)],
    "body_temperature": [(None, 35.0, 3), (35.1, 36.0, 1), (36.1, 38.0, 0), (38.1, 39.0, 1), (39.1, None, 2)],
}
EDGES = [
    (vital, edge, points)
    for vital, bands in CHART.items()
    for low, high, points in bands
    for edge in (low, high)
    if edge is not None
]
NORMAL = {
    "respiratory_rate": 16.0,
    "spo2": 97.0,
    "on_oxygen": 0.0,
    "systolic_bp": 120.0,
    "heart_rate": 70.0,
    "consciousness": 0.0,
    "body_temperature": 37.0,
}


def score(**vitals):
    return {name: value.item() for name, value in news2({k: np.array([v]) for k, v in {**NORMAL, **vitals}.items()}).items()}


@pytest.mark.parametrize(("vital", "value", "points"), EDGES)
def test_each_printed_edge(vital, value, points):
    assert news2_points(vital, np.array([value])).item() == points
    assert score(**{vital: value})["news2"] == points


@pytest.mark.parametrize(("value", "points"), [(20.49, 0), (20.5, 2), (24.49, 2), (24.5, 3)])
def test_between_printed_values_the_midpoint_rounds_up(value, points):
    assert news2_points("respiratory_rate", np.array([value])).item() == points


@pytest.mark.parametrize(("value", "points"), [(38.04, 0), (38.05, 1), (35.04, 3), (35.05, 1)])
def test_temperature_is_charted_in_tenths(value, points):
    assert news2_points("body_temperature", np.array([value])).item() == points


@pytest.mark.parametrize("code", [1.0, 2.0, 3.0, 4.0])
def test_anything_but_alert_scores_three(code):
    assert score(consciousness=code)["news2"] == 3


def test_a_healthy_patient_scores_nothing_and_the_sickest_twenty():
    assert score()["news2"] == score()["news2_highest"] == 0
    worst = score(
        respiratory_rate=30.0,
        spo2=85.0,
        on_oxygen=1.0,
        systolic_bp=80.0,
        heart_rate=140.0,
        consciousness=3.0,
        body_temperature=34.0,
    )
    assert worst["news2"] == NEWS2_MAX == 20


def test_a_missing_part_counts_nothing_and_widens_the_interval():
    known = score(heart_rate=120.0)
    missing = score(heart_rate=120.0, spo2=np.nan, on_oxygen=np.nan)
    assert (known["news2"], known["news2_highest"]) == (2, 2)
    assert (missing["news2"], missing["news2_highest"]) == (2, 2 + 3 + 2)
    assert np.isnan(missing["news2_spo2"])


def test_the_interval_holds_whatever_the_missing_part_turns_out_to_be():
    partial = score(systolic_bp=np.nan)
    for pressure in (60.0, 95.0, 105.0, 150.0, 230.0):
        assert partial["news2"] <= score(systolic_bp=pressure)["news2"] <= partial["news2_highest"]


def test_shock_index():
    assert shock_index(np.array([90.0, np.nan]), np.array([120.0, 100.0])).tolist()[0] == 0.75
    assert np.isnan(shock_index(np.array([np.nan]), np.array([100.0]))).all()
