"""Received observations, used or not, in order of arrival."""

import pandas as pd

from vigil.models.monitoring.received import COLUMNS, check_received
from vigil.models.monitoring.signal_profile import profile_signals
from vigil.pipelines.drift.received_observations import received_by_server

TIME = pd.Timestamp("2026-03-01T00:00Z").as_unit("us")


def test_checked_keeps_unusable_readings_with_their_reason():
    rows = pd.DataFrame(
        {
            "subject_id": "p", "signal": ["heart_rate", "heart_rate", "spo2"], "value": [80.0, 0.0, 97.0],
            "observed_at": TIME, "recorded_at": [TIME + pd.Timedelta(minutes=n) for n in (3, 1, 2)],
            "device_id": "d", "source": "g", "message_id": ["a", "b", "c"],
        }
    )  # fmt: skip
    rows_received = check_received(rows)
    assert tuple(rows_received.columns) == COLUMNS
    assert rows_received["recorded_at"].is_monotonic_increasing
    assert rows_received["value"].tolist() == [0.0, 97.0, 80.0]
    assert (rows_received["reason"] != "").tolist() == [True, False, False]


def test_bounds_arrive_as_readings_of_their_signal_without_a_value():
    values = ["<40", "<40", 5.5, 97.0, "<40"]
    times = [TIME + pd.Timedelta(minutes=n) for n in range(5)]
    rows = pd.DataFrame({"subject_id": "p", "signal": "glucose", "value": values, "observed_at": times, "recorded_at": times})
    rows = rows.assign(
        device_id="d", source="g", message_id=list("abcde"), unit="mg/dL", comparator=[None, None, "~", None, None]
    )
    received = check_received(rows)
    assert received["signal"].unique().tolist() == ["glucose"]
    assert received["reason"].tolist() == ["", "", "not_exact", "", ""]
    (profile,) = profile_signals(received.assign(window=0)).to_dict("records")
    assert (profile["came"], profile["accepted"], profile["converted"], profile["level"], profile["run"]) == (5, 4, 0, 97, 1)


def test_received_observations_of_a_home_without_a_server_are_empty(tmp_path):
    rows_received = received_by_server(tmp_path, TIME - pd.Timedelta(days=1), TIME)
    assert tuple(rows_received.columns) == COLUMNS
    assert rows_received.empty
