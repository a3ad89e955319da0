"""A subject against their personal baseline: unusual vital signs, and vital signs that are no longer measured."""

from datetime import timedelta

import pandas as pd
import pytest

from tests.support.fake_ward import FakeWard
from vigil.features.derived import MEASUREMENT_ERROR
from vigil.serving.scoring.anomalies import GAP_HOURS, UNUSUAL, anomalies, baseline_row, gaps


@pytest.fixture
def ward(tmp_path):
    """A patient with steady vital signs for two days; the heart rate rises in the end, and the temperature stops."""
    ward = FakeWard(tmp_path)
    for hour in range(48):
        ward.wait(hours=1)
        others = {"spo2": 97.0 + hour % 2, "respiratory_rate": 14.0 + hour % 2}
        if hour < 48 - 6:
            others["body_temperature"] = 36.8
        ward.send("p1", 140 if hour >= 45 else 70 + hour % 3, **others)
    return ward


def row_of(ward, subject="p1"):
    return baseline_row(ward.journal, subject, pd.Timestamp(ward.time))


def test_anomalies_are_every_vital_sign_the_most_unusual_first(ward):
    every = anomalies(row_of(ward))
    assert {anomaly.signal for anomaly in every} == set(MEASUREMENT_ERROR)
    deviations = [abs(anomaly.deviation or 0) for anomaly in every]
    assert deviations == sorted(deviations, reverse=True)
    first = every[0]
    assert (first.signal, first.unit, first.unusual) == ("heart_rate", "/min", True)
    assert first.deviation >= UNUSUAL
    assert first.usual == pytest.approx(71 + 69 * 3 / 48, abs=1)
    assert first.level > first.usual + 20
    assert [anomaly.signal for anomaly in every if anomaly.unusual] == ["heart_rate"]


def test_anomaly_of_a_vital_sign_never_measured_has_no_value(ward):
    (blood_pressure,) = [anomaly for anomaly in anomalies(row_of(ward)) if anomaly.signal == "systolic_bp"]
    assert (blood_pressure.level, blood_pressure.usual, blood_pressure.deviation) == (None, None, None)
    assert not blood_pressure.unusual


def test_gaps_are_vital_signs_that_were_measured_and_are_no_longer(ward):
    (gap,) = gaps(row_of(ward))
    assert (gap.signal, gap.hours_since_reading) == ("body_temperature", pytest.approx(6))
    ward.time += timedelta(hours=GAP_HOURS)
    assert {gap.signal for gap in gaps(row_of(ward))} == {"heart_rate", "spo2", "respiratory_rate", "body_temperature"}


def test_baseline_row_of_an_unknown_subject_is_none(ward):
    assert row_of(ward, "unknown") is None
