"""References: days and outcomes of training patients. Training stores them with its run, drift compares with them.

They hold no identifier, device, gateway or date.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vigil.models.monitoring.signal_reference import READING_REFERENCE
from vigil.models.registry import NoModelError, RegisteredModel, Registry

REFERENCE: Final = "reference.parquet"
AUROC: Final = "out_of_fold.auroc"  # metric of the run
JUDGED_REFERENCE: Final = "judged_reference.parquet"
MOST_DAYS: Final = 1000  # patient-days: more would make no test sharper, since a day of a ward has some tens


@dataclass(frozen=True)
class References:
    """The references of one model version, as its run holds them.

    Attributes:
        days: :func:`sample_patient_days`.
        judged: :func:`select_judged_hours`.
        readings: :func:`vigil.models.monitoring.signal_reference.build_reading_reference`.
        auroc: AUROC of training patients, out of fold. A recalibrated version keeps that of the first.
    """

    days: pd.DataFrame
    judged: pd.DataFrame
    readings: pd.DataFrame
    auroc: float

    @classmethod
    def load(cls, registry: Registry, version: RegisteredModel) -> "References":
        """Load the references of a model version.

        Raises:
            NoModelError: its run has none.
        """
        days, judged, readings = (
            registry.load_table(version.run_id, name) for name in (REFERENCE, JUDGED_REFERENCE, READING_REFERENCE)
        )
        metrics = registry.load_metrics(version.run_id)
        if AUROC not in metrics:
            raise NoModelError(
                f"run {version.run_id}: made by another version of Vigil, without {AUROC}; train again: vigil train"
            )
        return cls(days, judged, readings, metrics[AUROC])

    def tables(self) -> dict[str, pd.DataFrame]:
        """Return the tables by their names in the run."""
        return {REFERENCE: self.days, READING_REFERENCE: self.readings, JUDGED_REFERENCE: self.judged}

    def metrics(self) -> dict[str, float]:
        """Return the metrics by their names in the run."""
        return {AUROC: self.auroc}


def sample_patient_days(frame: pd.DataFrame, features: list[str], risk: NDArray[np.float64], seed: int) -> pd.DataFrame:
    """Draw days of training patients from all their days, and add the last hour of each training patient.

    A patient who stays long has more days to be drawn, just as a ward sees that patient at more moments. Risks are
    out of fold, since a model is surer of the patients it learned from than of any others.

    Args:
        frame: ``subject_id, index_time`` and the features, by subject and time.
        features: of the model.
        risk: out of fold, shape (n_rows,).
        seed: of the draw.

    Returns:
        ``subject_id`` (a number), ``day`` (of the stay, by the calendar), ``hour`` (of the day, UTC), ``in_day`` (whether the
        day was drawn), ``last`` (whether it is the last index time of the stay), ``probability`` and the features.
    """
    subject = pd.factorize(frame["subject_id"])[0]
    date = frame["index_time"].dt.floor("D")
    day = ((date - date.groupby(subject).transform("min")) // pd.Timedelta(days=1)).to_numpy()
    last = np.append(np.diff(subject) != 0, True) if len(subject) else np.empty(0, dtype=bool)
    patient_day = pd.MultiIndex.from_arrays([subject, day]).factorize()[0]
    rng = np.random.default_rng(seed)
    drawn = np.isin(patient_day, _draw(rng, patient_day)) if len(patient_day) else np.empty(0, dtype=bool)
    last &= np.isin(subject, _draw(rng, subject)) if len(subject) else last
    columns = frame[features].assign(probability=risk)
    keys = pd.DataFrame(
        {"subject_id": subject, "day": day, "hour": frame["index_time"].dt.hour.to_numpy(), "in_day": drawn, "last": last},
        index=frame.index,
    )
    table: pd.DataFrame = pd.concat([keys, columns], axis=1)[drawn | last]
    return table.reset_index(drop=True)


def summarise_highest_risks(rows: pd.DataFrame) -> pd.DataFrame:
    """Return one row for each patient with a known outcome: the highest risk predicted before it.

    Args:
        rows: ``subject_id, probability, label`` (0 or 1) and, where it is known, ``index_time``.

    Returns:
        ``subject_id, risk, event`` and ``index_time`` (the last with a known outcome).
    """
    timed = rows if "index_time" in rows else rows.assign(index_time=pd.Timestamp(0, tz="UTC"))
    by_patient = timed.groupby("subject_id", observed=True, sort=False)
    return (
        by_patient.agg(index_time=("index_time", "max"), risk=("probability", "max"), event=("label", "max"))
        .assign(event=lambda table: table["event"] == 1)
        .reset_index()
    )


def select_judged_hours(rows: pd.DataFrame) -> pd.DataFrame:
    """Select the rows with a known outcome, and remove identifiers and times.

    Returns:
        ``probability``, ``label`` and ``subject_id`` (a number).
    """
    known = rows[rows["label"].notna() & rows["probability"].notna()]
    return known[["probability", "label"]].assign(subject_id=pd.factorize(known["subject_id"])[0]).reset_index(drop=True)


def _draw(rng: np.random.Generator, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """Draw at most :data:`MOST_DAYS` of the distinct numbers."""
    distinct = np.unique(numbers)
    return distinct if len(distinct) <= MOST_DAYS else rng.choice(distinct, MOST_DAYS, replace=False)
