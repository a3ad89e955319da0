"""Signal profiles: a patient's day in numbers."""

import pandas as pd
import pytest

from vigil.models.monitoring.received import check_received
from vigil.models.monitoring.signal_profile import profile_signals

START = pd.Timestamp("2026-03-01T00:00Z")


def profile(values, signal="heart_rate", minutes=10, delay=1, again=0):
    times = START + pd.to_timedelta([minutes * number for number in range(len(values))], unit="min")
    rows = pd.DataFrame({"subject_id": "p", "signal": signal, "value": values, "observed_at": times}).assign(
        recorded_at=times + pd.Timedelta(minutes=delay), device_id="d", source="g",
        message_id=[str(number) for number in range(len(values))],
    )  # fmt: skip
    times = {"observed_at": "datetime64[us, UTC]", "recorded_at": "datetime64[us, UTC]"}
    repeats = rows.tail(again).assign(recorded_at=rows["recorded_at"].tail(again) + pd.Timedelta(seconds=9))
    rows = pd.concat([rows, repeats], ignore_index=True)
    (numbers,) = profile_signals(check_received(rows.astype(times)).assign(window=0)).to_dict("records")
    return numbers


def test_profile_has_level_interval_and_delay():
    numbers = profile([80.0, 82.0, 81.0, 85.0, 84.0])
    assert (numbers["came"], numbers["accepted"], numbers["level"], numbers["interval"], numbers["delay"]) == (
        5,
        5,
        82.0,
        10.0,
        1.0,
    )


def test_profile_has_the_longest_run_of_one_value():
    numbers = profile([80.0, 81.0, 81.0, 81.0, 80.0, 80.0])
    assert (numbers["run"], numbers["run_minutes"]) == (3, 20)


def test_profile_has_the_share_of_values_on_a_step():
    numbers = profile([80.0, 85.0, 90.0, 91.0])
    assert (numbers["on_5"], numbers["on_10"], numbers["on_1"]) == (0.75, 0.5, 1.0)


def test_profile_counts_quarantined_zeros():
    assert profile([80.0, 0.0, 0.0, 81.0])["zero"] == 0.5


def test_profile_counts_values_in_another_unit():
    assert profile([98.6, 99.5, 37.1, 100.4], signal="body_temperature")["converted"] == 0.75
    assert profile([98.0, 99.0, 97.0], signal="spo2")["converted"] == 0


def test_profile_counts_repeated_deliveries_apart():
    numbers = profile([80.0, 81.0, 82.0], again=1)
    assert (numbers["came"], numbers["repeated"]) == (3, pytest.approx(0.25))


def test_profile_has_a_negative_delay_for_a_clock_that_is_ahead():
    assert profile([80.0, 81.0, 82.0], delay=-30)["delay"] == -30
