"""The kernel's own promises: exact sums, and a refusal where they could not be."""

import numpy as np
import pytest

from features.catalogue import WINDOWS
from features.kernel import HOUR_US, KernelOverflowError, most_readings, window_statistics
from features.signals import SIGNALS
from features.windows import STATISTICS, WindowFeature


def one_patient(times, steps, at, hours, steps_per_unit=100):
    times = np.array(times, dtype=np.int64)
    out = window_statistics(
        readings=(times, times, np.array(steps, dtype=np.int64)),
        reading_bounds=np.array([0, len(times)]),
        index_times=np.array([at], dtype=np.int64),
        index_bounds=np.array([0, 1]),
        hours=hours,
        steps_per_unit=steps_per_unit,
    )
    return dict(zip(STATISTICS, out[0], strict=True))


def test_a_constant_series_has_exactly_no_spread_and_no_slope():
    minutes = np.arange(1, 1441) * HOUR_US // 60
    found = one_patient(minutes, np.full(1440, 3661), 24 * HOUR_US, 24)
    assert (found["std"], found["slope"], found["change"]) == (0.0, 0.0, 0.0)
    assert found["mean"] == 36.61


def test_a_line_has_its_exact_slope_wherever_it_lies_in_time():
    minutes = np.arange(1, 361) * HOUR_US // 60
    for origin in (0, 1_700_000_000_000_000, 4_000_000_000_000_000):
        found = one_patient(origin + minutes, 5000 + np.arange(360) * 10, origin + 6 * HOUR_US, 6)
        assert found["slope"] == 6.0  # 0.1 a minute


def test_two_readings_in_the_same_second_have_no_slope():
    found = one_patient([HOUR_US, HOUR_US + 5], [7000, 8000], HOUR_US + 10, 1)
    assert np.isnan(found["slope"])
    assert found["change"] == 10


def test_more_readings_than_exact_sums_hold_are_refused():
    times = np.arange(200_000, dtype=np.int64) * 1000
    with pytest.raises(
        KernelOverflowError, match="200000 readings of one subject within 24 h: exact sums hold 35150 of this size"
    ):
        one_patient(times, np.full(200_000, 30_000), 24 * HOUR_US, 24)


def test_a_minute_by_minute_day_of_any_signal_is_within_the_exact_range():
    for view in WINDOWS.values():
        for feature in view:
            signal = SIGNALS[feature.signal]
            largest = int(max(abs(signal.low), abs(signal.high)) * signal.steps_per_unit)
            assert most_readings(feature.hours, largest) >= 60 * feature.hours, feature.name


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("pulse", "mean", 1), "unknown signal 'pulse'; expected one of heart_rate"),
        (("heart_rate", "average", 1), "unknown statistic 'average'; expected one of count, mean"),
        (("heart_rate", "mean", 0), "window of 0 h; expected at least 1"),
    ],
)
def test_a_wrong_declaration_says_what_is_expected(arguments, message):
    with pytest.raises(ValueError, match=message):
        WindowFeature(*arguments)


def test_a_declaration_names_itself():
    feature = WindowFeature("heart_rate", "slope", 6)
    assert (feature.name, feature.unit) == ("heart_rate_slope_6h", "/min/h")
    assert feature.description == "heart rate: least-squares slope per hour in the last 6 h"
