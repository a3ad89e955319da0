"""The course of a subject's risk, and its trend."""

import uuid

import pandas as pd
import pytest

from vigil.serving.records.clock import WallClock
from vigil.serving.records.prediction_log import PredictionLog
from vigil.serving.records.prediction_rows import Prediction
from vigil.serving.records.timestamps import microsecond, present
from vigil.serving.scoring.history import MAX_POINTS, risk_history, trend_of

T = pd.Timestamp("2026-02-01T12:00:00Z")


def logged_risks(*points):
    """Return logged risks, given as hour, probability and model version."""
    rows = [(T + pd.Timedelta(hours=hour), probability, version) for hour, probability, version in points]
    table = pd.DataFrame(rows, columns=["index_time", "probability", "model_version"])
    return table.astype({"index_time": "datetime64[us, UTC]", "probability": float})


@pytest.mark.parametrize(
    ("points", "direction", "hours"),
    [
        ([(0, 0.1, "1"), (1, 0.2, "1"), (2, 0.4, "1")], "rising", 2),
        ([(0, 0.1, "1"), (1, 0.1, "1"), (2, 0.6, "2"), (4, 0.6, "2")], "steady", 2),  # the model moved, not the patient
        ([(0, 0.1, "1"), (1, 0.6, "2"), (2, 0.3, "2"), (3, 0.1, "2"), (4, None, None)], "falling", 2),
        ([(0, 0.1, "1"), (1, 0.9, "2")], "unknown", 0),
        ([(0, None, None)], "unknown", 0),
        ([], "unknown", 0),
    ],
)
def test_trend_is_of_one_model_version(points, direction, hours):
    trend = trend_of(logged_risks(*points))
    assert (trend.direction, trend.hours) == (direction, hours)


def test_trend_slope_is_in_log_odds_per_hour():
    even, e_to_one = 0.5, 1 / (1 + 2.718281828459045**-1)
    trend = trend_of(logged_risks((0, even, "1"), (2, e_to_one, "1")))
    assert trend.log_odds_per_hour == pytest.approx(0.5)
    assert trend_of(logged_risks((0, even, "1"))).log_odds_per_hour is None


def prediction(number, index_time, probability=0.5, origin="rescorer"):
    outputs = {"basis": "model", "probability": probability, "band": "high", "news2": 3, "news2_highest": 5}
    outputs |= {"decided_by": "model", "net_score": 3, "net_spot": 3}
    model = {"model_name": "m", "model_version": "1", "feature_service": "s"}
    at = microsecond(index_time)
    return Prediction(str(uuid.UUID(int=number)), at, origin, "p1", at, at, **outputs, **model, terms=None, features=None)


def test_risk_history_is_thinned_to_the_last_of_each_interval(tmp_path):
    log, now = PredictionLog(tmp_path), present()
    times = [now - pd.Timedelta(seconds=round(86.4 * (1_000 - number))) for number in range(1, 1_000)]
    log.append(prediction(number, time) for number, time in enumerate(times))
    points, trend = risk_history(log, WallClock(), "p1", 24)
    assert MAX_POINTS - 1 <= len(points) <= MAX_POINTS + 1
    index_times = [point.index_time for point in points]
    assert index_times == sorted(index_times)
    assert index_times[-1] == times[-1]
    assert set(index_times) <= set(times)
    assert (trend.direction, trend.log_odds_per_hour) == ("steady", pytest.approx(0))
    few, _ = risk_history(log, WallClock(), "p1", 1)
    assert [point.index_time for point in few] == [time for time in times if time > now - pd.Timedelta(hours=1)]


def test_risk_history_leaves_out_risks_of_observations_in_a_request(tmp_path):
    log, now = PredictionLog(tmp_path), present()
    log.append([prediction(1, now - pd.Timedelta(hours=2), None), prediction(2, now - pd.Timedelta(hours=1), 0.9, "request")])
    ((point,), trend) = risk_history(log, WallClock(), "p1", 24)
    assert (point.index_time, point.probability) == (now - pd.Timedelta(hours=2), None)
    assert trend.direction == "unknown"
