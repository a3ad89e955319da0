"""Received observations, used or not, in order of arrival."""

import pandas as pd

from models.monitoring.received import COLUMNS, check_received
from pipelines.drift.received_observations import received_by_server

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


def test_received_observations_of_a_home_without_a_server_are_empty(tmp_path):
    rows_received = received_by_server(tmp_path, TIME - pd.Timedelta(days=1), TIME)
    assert tuple(rows_received.columns) == COLUMNS
    assert rows_received.empty
