"""Score readings of a file by the champion: one risk a patient, as of the patient's last reading. Nothing is kept of it."""

from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from pyarrow import ArrowException

from features.batch import build_features
from features.catalogue import computed_for
from features.errors import VigilError
from features.observations import REQUIRED, check
from models.assessment import assess_registered
from models.registry import NoModelError, RegisteredModel, Registry
from models.tasks import TASKS

FACTS: Final = ("age", "sex", "pregnant", "unit_admitted_at", "hospital_admitted_at")  # of the patient; may be left out

_SEX: Final = {"female": 0.0, "male": 1.0}


class ScoreFileError(VigilError):
    """The file cannot be read as readings."""


def score_file(home: Path, path: Path, task: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Score the patients of a CSV or Parquet file.

    Args:
        home: whose champion is asked; where it has none, NEWS2 is given.
        path: a row a reading, with ``subject_id, observed_at, signal, value``, and optionally ``unit, recorded_at`` and
            what is known of the patient, the same in all of their rows: :data:`FACTS` (age in years; sex female or male).
        task: name of the registered model.

    Returns:
        Of each patient ``subject_id, as_of, basis, probability, band, decided_by, news2, news2_highest, findings``; and the
        readings that cannot be used, with the ``reason``.

    Raises:
        ScoreFileError: the file cannot be read, lacks a column, or no reading of it can be used.
    """
    table = _read(path)
    checked = check(table)
    if checked.accepted.empty:
        reasons = checked.quarantined["reason"].value_counts().to_dict()
        raise ScoreFileError(f"{path}: no reading can be used: {reasons}; expected names and units as in docs/features.md")
    registered = _champion(home, task)
    service = registered.feature_service if registered else _service(task)
    index = _index(table, checked.accepted, path)
    rows = build_features(checked.accepted, index, computed_for(service))
    risks = assess_registered(registered, rows)
    found = pd.DataFrame(
        {
            "subject_id": [risk.patient for risk in risks],
            "as_of": [risk.index_time for risk in risks],
            **{
                name: [getattr(risk, name) for risk in risks]
                for name in ("basis", "probability", "band", "decided_by", "news2", "news2_highest")
            },
            "findings": [" ".join(risk.findings) for risk in risks],
        }
    )
    return found, checked.quarantined


def _read(path: Path) -> pd.DataFrame:
    if not path.is_file():
        raise ScoreFileError(f"{path}: no such file; expected a CSV or Parquet file of readings")
    try:
        text = {"subject_id": str, "signal": str, "unit": str, "observed_at": str, "recorded_at": str}
        table = pd.read_csv(path, dtype=text) if path.suffix == ".csv" else pd.read_parquet(path)
    except (OSError, ValueError, ArrowException) as error:
        raise ScoreFileError(f"{path}: cannot be read ({type(error).__name__}); expected CSV (.csv) or Parquet") from None
    if missing := [column for column in REQUIRED if column not in table]:
        raise ScoreFileError(f"{path}: lacks {', '.join(missing)}; expected a row a reading with {', '.join(REQUIRED)}")
    return table


def _index(table: pd.DataFrame, accepted: pd.DataFrame, path: Path) -> pd.DataFrame:
    """One time a patient, their last reading's, and what is said of them."""
    index = accepted.groupby("subject_id", sort=True)["recorded_at"].max().rename("index_time").reset_index()
    facts = [name for name in FACTS if name in table]
    said = table[["subject_id", *facts]].drop_duplicates()
    if said["subject_id"].duplicated().any():
        raise ScoreFileError(f"{path}: {', '.join(facts)}: differ within a patient; expected the same in all of their rows")
    index = index.merge(said, on="subject_id", how="left")
    for name in FACTS:
        value = index[name] if name in index else pd.Series(np.nan, index=index.index)
        if name.endswith("_at"):
            index[name] = pd.to_datetime(value, utc=True, format="ISO8601").astype("datetime64[us, UTC]")
        else:
            index[name] = value.replace(_SEX).astype(float) if name == "sex" else value.astype(float)
    return index


def _champion(home: Path, task: str) -> RegisteredModel | None:
    try:
        return Registry.existing(home).load(task)
    except NoModelError:
        return None


def _service(task: str) -> str:
    return TASKS[task].feature_service
