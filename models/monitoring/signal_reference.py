"""How readings usually look: the series of training patients, day by day, kept with the model that learned from them."""

from collections.abc import Iterable
from typing import Final

import numpy as np
import pandas as pd

from models.monitoring.signal_profile import series

READING_REFERENCE: Final = "reading_reference.parquet"
MOST_PATIENTS: Final = 500
_DAY: Final = pd.Timedelta(days=1)
_HIDDEN: Final = ["first", "last"]
LEAST_HOURS: Final = 12.0  # of a day in which something of the patient came: less is no day


def reading_reference(received: Iterable[pd.DataFrame], patients: "pd.Index[str]") -> pd.DataFrame:
    """Series of the patients' days: the columns of :func:`models.monitoring.signal_profile.series`, patients by number.

    No identifier, device, gateway or date is in it.

    Args:
        received: the parts of a cohort, each with the columns of :data:`models.monitoring.received.COLUMNS`.
        patients: those to choose from.
    """
    chosen = set(patients[:: max(1, len(patients) // MOST_PATIENTS)])
    parts = [days(rows[rows["subject_id"].isin(chosen)]) for rows in received]
    some = [part for part in parts if len(part)] or parts[:1]
    found = pd.concat(some, ignore_index=True)
    numbers = {name: pd.factorize(found[name])[0] for name in ("subject_id", "device_id", "source")}
    return found.drop(columns=_HIDDEN, errors="ignore").assign(**numbers, signal=found["signal"].astype(str))


def days(rows: pd.DataFrame) -> pd.DataFrame:
    """Series of each patient's days, counted from the first thing that came of him, that something came of for long enough."""
    first = rows.groupby("subject_id", observed=True)["recorded_at"].transform("min")
    found = series(rows.assign(window=(rows["recorded_at"] - first).to_numpy() // _DAY.to_timedelta64()))
    return found[present_hours(found) >= LEAST_HOURS].reset_index(drop=True)


def present_hours(found: pd.DataFrame) -> "pd.Series[float]":
    """For how long something came of each row's patient in its window, hours."""
    of_patient = found.groupby(["window", "subject_id"], observed=True)
    return (of_patient["last"].transform("max") - of_patient["first"].transform("min")) / np.float64(3600e6)
