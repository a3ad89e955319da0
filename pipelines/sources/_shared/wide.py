"""From a wide table, one column a signal, to the long one of observations."""

from collections.abc import Mapping

import numpy as np
import pandas as pd


def readings(rows: pd.DataFrame, columns: Mapping[str, "pd.Series[float]"], source: str) -> pd.DataFrame:
    """One observation for each value that is there.

    Args:
        rows: ``subject_id`` and ``time`` of each row of the wide table.
        columns: by signal, its values on those rows (in the signal's unit; NaN: not measured).
        source: name of the file they come from.
    """
    measured = {signal: np.flatnonzero(column.notna()) for signal, column in columns.items()}
    row = np.concatenate(list(measured.values()))
    observed_at = rows["time"].array[row]
    return pd.DataFrame(
        {
            "subject_id": rows["subject_id"].array[row],
            "observed_at": observed_at,
            "signal": pd.Categorical.from_codes(
                np.repeat(np.arange(len(measured)), [len(where) for where in measured.values()]),
                categories=pd.Index(list(measured)),
            ),
            "value": np.concatenate([columns[signal].to_numpy()[where] for signal, where in measured.items()]),
            "recorded_at": observed_at,  # retrospective: known when it was measured
            "source": pd.Categorical.from_codes(np.zeros(len(row), dtype=np.int8), categories=pd.Index([source])),
        }
    )
