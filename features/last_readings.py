"""The last reading of each patient: when features of readings are asked for without saying for which times."""

from typing import Final

import numpy as np
import pandas as pd

from vigil.features.observations import ObservationError

FACTS: Final = ("age", "sex", "pregnant", "unit_admitted_at", "hospital_admitted_at")  # about the patient, where known

_SEX: Final = {"female": 0.0, "male": 1.0}


def index_of_last(readings: pd.DataFrame, accepted: pd.DataFrame, title: str) -> pd.DataFrame:
    """Return one row for each patient: the time of their last reading, and the facts about them.

    Args:
        readings: as they came, with the columns of :data:`FACTS` that are known: age in years, sex ``female`` or ``male``.
        accepted: the readings that can be used.
        title: what messages call them.

    Raises:
        ObservationError: rows of a patient state several facts.
    """
    index = accepted.groupby("subject_id", sort=True)["recorded_at"].max().rename("index_time").reset_index()
    columns = [name for name in FACTS if name in readings]
    facts = readings[["subject_id", *columns]].drop_duplicates()
    if facts["subject_id"].duplicated().any():
        raise ObservationError(
            f"{title}: {', '.join(columns)}: differ within a patient; expected the same in all of their rows"
        )
    index = index.merge(facts, on="subject_id", how="left")
    for name in FACTS:
        value = index[name] if name in index else pd.Series(np.nan, index=index.index)
        if name.endswith("_at"):
            index[name] = pd.to_datetime(value, utc=True, format="ISO8601").astype("datetime64[us, UTC]")
        else:
            index[name] = value.replace(_SEX).astype(float) if name == "sex" else value.astype(float)
    return index
