"""Score the readings of a file with the champion: one risk for each patient, as of their last reading. Nothing is stored."""

from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from pyarrow import ArrowException

from features.batch import build_features
from features.catalogue import views_to_assess
from features.errors import VigilError
from features.observations import REQUIRED, check
from models.assessment import assess_registered
from models.bedside import USUAL_TERMS
from models.own_tasks import find_task
from models.registry import NoModelError, RegisteredModel
from pipelines.home import Home
from pipelines.table_files import read_table
from serving.records.source_settings import SourceSettingsFile
from serving.scoring.champion import service_in_use

OPTIONAL_COLUMNS: Final = ("age", "sex", "pregnant", "unit_admitted_at", "hospital_admitted_at")  # facts about the patient

_SEX: Final = {"female": 0.0, "male": 1.0}


class ScoreFileError(VigilError):
    """A file that cannot be read as readings."""


def score_file(home: Home, path: Path, task: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Score the patients of a CSV or Parquet file.

    Args:
        home: whose champion answers; without a champion the answers are NEWS2.
        path: a file with one row for each reading: ``subject_id, observed_at, signal, value``, optionally ``unit,
            recorded_at``, and optionally facts about the patient, the same in all their rows: :data:`OPTIONAL_COLUMNS` (age
            in years, sex ``female`` or ``male``).
        task: name of the registered model.

    Returns:
        For each patient ``subject_id, as_of, basis, probability, band, decided_by, news2, news2_highest, findings``; and the
        readings that cannot be used, with the ``reason``.

    Raises:
        ScoreFileError: the file cannot be read, lacks a column, or holds no reading that can be used.
    """
    table = _read(path)
    checked = check(table, declared=SourceSettingsFile(home.path).declarations())
    if checked.accepted.empty:
        reasons = checked.quarantined["reason"].value_counts().to_dict()
        raise ScoreFileError(f"{path}: no reading can be used: {reasons}; expected names and units as in docs/features.md")
    registered = _load_champion(home, task)
    service = service_in_use(registered, find_task(task, home.path))
    index = _index(table, checked.accepted, path)
    rows = build_features(checked.accepted, index, views_to_assess(service))
    risks = assess_registered(registered, rows, terms=[USUAL_TERMS] * len(rows))
    answers = pd.DataFrame(
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
    return answers, checked.quarantined


def _read(path: Path) -> pd.DataFrame:
    if not path.is_file():
        raise ScoreFileError(f"{path}: no such file; expected a CSV or Parquet file of readings")
    try:
        text = {"subject_id": str, "signal": str, "unit": str, "observed_at": str, "recorded_at": str}
        table = read_table(path, dtype=text)
    except (OSError, ValueError, ArrowException) as error:
        raise ScoreFileError(f"{path}: cannot be read ({type(error).__name__}); expected CSV (.csv) or Parquet") from None
    if missing := [column for column in REQUIRED if column not in table]:
        raise ScoreFileError(f"{path}: lacks {', '.join(missing)}; expected a row a reading with {', '.join(REQUIRED)}")
    return table


def _index(table: pd.DataFrame, accepted: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Return one row for each patient: the time of their last reading, and the facts about them."""
    index = accepted.groupby("subject_id", sort=True)["recorded_at"].max().rename("index_time").reset_index()
    columns = [name for name in OPTIONAL_COLUMNS if name in table]
    facts = table[["subject_id", *columns]].drop_duplicates()
    if facts["subject_id"].duplicated().any():
        raise ScoreFileError(f"{path}: {', '.join(columns)}: differ within a patient; expected the same in all of their rows")
    index = index.merge(facts, on="subject_id", how="left")
    for name in OPTIONAL_COLUMNS:
        value = index[name] if name in index else pd.Series(np.nan, index=index.index)
        if name.endswith("_at"):
            index[name] = pd.to_datetime(value, utc=True, format="ISO8601").astype("datetime64[us, UTC]")
        else:
            index[name] = value.replace(_SEX).astype(float) if name == "sex" else value.astype(float)
    return index


def _load_champion(home: Home, task: str) -> RegisteredModel | None:
    try:
        return home.existing_registry().load(task)
    except NoModelError:
        return None
