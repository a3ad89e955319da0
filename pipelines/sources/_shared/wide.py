"""Turning a wide table, with one column for each signal, into the long table of observations."""

from collections.abc import Mapping

import numpy as np
import pandas as pd


def to_observations(rows: pd.DataFrame, columns: Mapping[str, "pd.Series[float]"], source: str) -> pd.DataFrame:
    """Return one observation for each value that is present.

    Args:
        rows: ``subject_id`` and ``time`` of each row of the wide table.
        columns: the values of each signal on those rows, in the signal's unit. NaN means not measured.
        source: name of the file the values come from.

    Example:
        >>> time = pd.to_datetime(["2019-01-01T00:00Z", "2019-01-01T01:00Z"])
        >>> rows = pd.DataFrame({"subject_id": ["p1", "p1"], "time": time})
        >>> columns = {"heart_rate": pd.Series([80.0, 84.0]), "spo2": pd.Series([float("nan"), 96.0])}
        >>> to_observations(rows, columns, "p1.psv")[["subject_id", "signal", "value"]]
          subject_id      signal  value
        0         p1  heart_rate   80.0
        1         p1  heart_rate   84.0
        2         p1        spo2   96.0
    """
    measured = {signal: np.flatnonzero(column.notna()) for signal, column in columns.items()}
    row = np.concatenate(list(measured.values()))
    observed_at = rows["time"].array[row]
    return pd.DataFrame(
        {
            "subject_id": rows["subject_id"].array[row],
            "observed_at": observed_at,
            "signal": pd.Categorical.from_codes(
                np.repeat(np.arange(len(measured)), [len(positions) for positions in measured.values()]),
                categories=pd.Index(list(measured)),
            ),
            "value": np.concatenate([columns[signal].to_numpy()[positions] for signal, positions in measured.items()]),
            "recorded_at": observed_at,  # retrospective data: each value counts as known when it was measured
            "source": pd.Categorical.from_codes(np.zeros(len(row), dtype=np.int8), categories=pd.Index([source])),
        }
    )
