"""Where a patient's risk is going."""

import pandas as pd
import pytest

from serving.scoring.history import trend_of

T = pd.Timestamp("2026-02-01T12:00:00Z")


def said(*points):
    """Of hour, probability and version of the model."""
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
def test_a_trend_is_of_one_model(points, direction, hours):
    trend = trend_of(said(*points))
    assert (trend.direction, trend.hours) == (direction, hours)
