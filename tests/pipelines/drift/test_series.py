"""A patient's day in numbers."""

import pandas as pd
import pytest

from models.monitoring.received import checked
from models.monitoring.signal_profile import series

START = pd.Timestamp("2026-03-01T00:00Z")


def of(values, signal="heart_rate", minutes=10, delay=1, again=0):
    times = START + pd.to_timedelta([minutes * place for place in range(len(values))], unit="min")
    rows = pd.DataFrame({"subject_id": "p", "signal": signal, "value": values, "observed_at": times}).assign(
        recorded_at=times + pd.Timedelta(minutes=delay), device_id="d", source="g",
        message_id=[str(place) for place in range(len(values))],
    )  # fmt: skip
    times = {"observed_at": "datetime64[us, UTC]", "recorded_at": "datetime64[us, UTC]"}
    repeats = rows.tail(again).assign(recorded_at=rows["recorded_at"].tail(again) + pd.Timedelta(seconds=9))
    rows = pd.concat([rows, repeats], ignore_index=True)
    (found,) = series(checked(rows.astype(times)).assign(window=0)).to_dict("records")
    return found


def test_level_rate_and_delay():
    found = of([80.0, 82.0, 81.0, 85.0, 84.0])
    assert (found["came"], found["accepted"], found["level"], found["interval"], found["delay"]) == (5, 5, 82.0, 10.0, 1.0)


def test_the_longest_run_of_one_value():
    found = of([80.0, 81.0, 81.0, 81.0, 80.0, 80.0])
    assert (found["run"], found["run_minutes"]) == (3, 20)


def test_the_share_on_a_step():
    found = of([80.0, 85.0, 90.0, 91.0])
    assert (found["on_5"], found["on_10"], found["on_1"]) == (0.75, 0.5, 1.0)


def test_zeros_are_counted_though_they_are_quarantined():
    assert of([80.0, 0.0, 0.0, 81.0])["zero"] == 0.5


def test_another_unit():
    assert of([98.6, 99.5, 37.1, 100.4], signal="body_temperature")["converted"] == 0.75
    assert of([98.0, 99.0, 97.0], signal="spo2")["converted"] == 0


def test_what_is_delivered_again_does_not_count_as_come():
    found = of([80.0, 81.0, 82.0], again=1)
    assert (found["came"], found["repeated"]) == (3, pytest.approx(0.25))


def test_clocks_that_run_ahead():
    assert of([80.0, 81.0, 82.0], delay=-30)["delay"] == -30
