"""Readings as they came, used or not, in order of arrival."""

import pandas as pd

from models.monitoring.received import COLUMNS, checked
from pipelines.drift.received_observations import of_journal

TIME = pd.Timestamp("2026-03-01T00:00Z").as_unit("us")


def test_what_cannot_be_used_stays_with_its_reason():
    rows = pd.DataFrame(
        {
            "subject_id": "p", "signal": ["heart_rate", "heart_rate", "spo2"], "value": [80.0, 0.0, 97.0],
            "observed_at": TIME, "recorded_at": [TIME + pd.Timedelta(minutes=n) for n in (3, 1, 2)],
            "device_id": "d", "source": "g", "message_id": ["a", "b", "c"],
        }
    )  # fmt: skip
    found = checked(rows)
    assert tuple(found.columns) == COLUMNS
    assert found["recorded_at"].is_monotonic_increasing
    assert found["value"].tolist() == [0.0, 97.0, 80.0]
    assert (found["reason"] != "").tolist() == [True, False, False]


def test_a_home_without_a_server_received_nothing(tmp_path):
    found = of_journal(tmp_path, TIME - pd.Timedelta(days=1), TIME)
    assert tuple(found.columns) == COLUMNS
    assert found.empty
