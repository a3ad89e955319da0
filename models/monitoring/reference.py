"""What drift is measured against: days and outcomes of training patients, kept with the champion's run, without identifiers."""

from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

REFERENCE: Final = "reference.parquet"
AUROC: Final = "out_of_fold.auroc"  # metric of the run
JUDGED_REFERENCE: Final = "judged_reference.parquet"
MOST_DAYS: Final = 1000  # patient-days: more would make a test no sharper, since a ward's day has some tens


def patient_days(frame: pd.DataFrame, features: list[str], risk: NDArray[np.float64], seed: int) -> pd.DataFrame:
    """Days of training patients, drawn from all their days, and the last hours of training patients.

    Who stays long has more days to be drawn, as he is on a ward at more moments. Risks are out-of-fold, since a model is surer
    of patients it learned from than it will be of anybody else.

    Args:
        frame: ``subject_id, index_time`` and the features, by subject and time.
        features: of the model.
        risk: out-of-fold, shape (n_rows,).
        seed: of the draw.

    Returns:
        ``subject_id`` (a number), ``day`` (of the stay, by the calendar), ``hour`` (of the day, UTC), ``in_day`` (of a drawn
        day), ``last`` (the stay's last index time), ``probability`` and the features.
    """
    subject = pd.factorize(frame["subject_id"])[0]
    date = frame["index_time"].dt.floor("D")
    day = ((date - date.groupby(subject).transform("min")) // pd.Timedelta(days=1)).to_numpy()
    last = np.append(np.diff(subject) != 0, True) if len(subject) else np.empty(0, dtype=bool)
    of_day = pd.MultiIndex.from_arrays([subject, day]).factorize()[0]
    rng = np.random.default_rng(seed)
    drawn = np.isin(of_day, _drawn(rng, of_day)) if len(of_day) else np.empty(0, dtype=bool)
    last &= np.isin(subject, _drawn(rng, subject)) if len(subject) else last
    table = frame[features].assign(probability=risk)
    place = pd.DataFrame(
        {"subject_id": subject, "day": day, "hour": frame["index_time"].dt.hour.to_numpy(), "in_day": drawn, "last": last},
        index=frame.index,
    )
    together: pd.DataFrame = pd.concat([place, table], axis=1)[drawn | last]
    return together.reset_index(drop=True)


def highest_risks(rows: pd.DataFrame) -> pd.DataFrame:
    """Patients whose outcome is known: one row each, with the highest risk that was predicted before it.

    Args:
        rows: ``subject_id, probability, label`` (0 or 1) and, where it is known, ``index_time``.

    Returns:
        ``subject_id, risk, event`` and ``index_time`` (the last judged).
    """
    known = rows if "index_time" in rows else rows.assign(index_time=pd.Timestamp(0, tz="UTC"))
    of_patient = known.groupby("subject_id", observed=True, sort=False)
    return (
        of_patient.agg(index_time=("index_time", "max"), risk=("probability", "max"), event=("label", "max"))
        .assign(event=lambda found: found["event"] == 1)
        .reset_index()
    )


def judged_hours(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows whose outcome is known, without identifier and time: ``subject_id`` (a number), ``probability``, ``label``."""
    known = rows[rows["label"].notna() & rows["probability"].notna()]
    return known[["probability", "label"]].assign(subject_id=pd.factorize(known["subject_id"])[0]).reset_index(drop=True)


def _drawn(rng: np.random.Generator, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    every = np.unique(numbers)
    return every if len(every) <= MOST_DAYS else rng.choice(every, MOST_DAYS, replace=False)
