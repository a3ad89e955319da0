"""How readings usually look: signal profiles of training patients, day by day. Training stores them with the model."""

from collections.abc import Iterable
from typing import Final

import numpy as np
import pandas as pd

from vigil.models.monitoring.signal_profile import profile_signals

READING_REFERENCE: Final = "reading_reference.parquet"
MOST_PATIENTS: Final = 500
LEAST_HOURS: Final = 12.0  # a day on which a patient's data cover less does not count as a day
_DAY: Final = pd.Timedelta(days=1)
_TIMES: Final = ["first", "last"]  # would tell dates


def build_reading_reference(received: Iterable[pd.DataFrame], patients: "pd.Index[str]") -> pd.DataFrame:
    """Profile the days of at most about twice :data:`MOST_PATIENTS` training patients.

    Args:
        received: the parts of a cohort, each with the columns of :data:`vigil.models.monitoring.received.COLUMNS`.
        patients: those to choose from.

    Returns:
        The columns of :func:`vigil.models.monitoring.signal_profile.profile_signals`. Patients, devices and gateways are
        numbers, and there are no dates.
    """
    chosen = set(patients[:: max(1, len(patients) // MOST_PATIENTS)])
    parts = [profile_days(rows[rows["subject_id"].isin(chosen)]) for rows in received]
    filled = [part for part in parts if len(part)] or parts[:1]
    profiles = pd.concat(filled, ignore_index=True)
    numbers = {name: pd.factorize(profiles[name])[0] for name in ("subject_id", "device_id", "source")}
    return profiles.drop(columns=_TIMES, errors="ignore").assign(**numbers, signal=profiles["signal"].astype(str))


def profile_days(rows: pd.DataFrame) -> pd.DataFrame:
    """Profile each patient's days, counted from the patient's first reading; days with too few hours are left out."""
    first = rows.groupby("subject_id", observed=True)["recorded_at"].transform("min")
    profiles = profile_signals(rows.assign(window=(rows["recorded_at"] - first).to_numpy() // _DAY.to_timedelta64()))
    return profiles[covered_hours(profiles) >= LEAST_HOURS].reset_index(drop=True)


def covered_hours(profiles: pd.DataFrame) -> "pd.Series[float]":
    """Return the hours from the first to the last reading of each row's patient in its window."""
    by_patient = profiles.groupby(["window", "subject_id"], observed=True)
    return (by_patient["last"].transform("max") - by_patient["first"].transform("min")) / np.float64(3600e6)
