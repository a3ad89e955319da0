"""Score readings with the champion: one risk for each patient, as of their last reading. Nothing is stored."""

from pathlib import Path

import pandas as pd
from pyarrow import ArrowException

from vigil.features.batch import build_features
from vigil.features.catalogue import views_to_assess
from vigil.features.errors import VigilError
from vigil.features.last_readings import index_of_last
from vigil.features.observations import REQUIRED, check
from vigil.models.assessment import Assessment, assess_registered
from vigil.models.bedside import USUAL_TERMS
from vigil.models.own_tasks import find_task
from vigil.models.registry import NoModelError, RegisteredModel
from vigil.pipelines.home import Home
from vigil.pipelines.table_files import read_table
from vigil.serving.records.source_settings import SourceSettingsFile
from vigil.serving.scoring.champion import service_in_use
from vigil.serving.scoring.risk_report import contributions_of


class ScoreFileError(VigilError):
    """Readings that cannot be scored."""


def score_file(home: Home, path: Path, task: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Score the patients of a CSV or Parquet file; see :func:`score_readings`.

    Raises:
        ScoreFileError: the file cannot be read, lacks a column, or holds no reading that can be used.
    """
    return score_readings(home, _read(path), task, title=str(path))


def score_readings(
    home: Home, readings: pd.DataFrame, task: str, version: str | None = None, *, title: str = "readings"
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Score the patients of some readings.

    Args:
        home: whose model answers; without a champion the answers are NEWS2.
        readings: one row a reading: ``subject_id, observed_at, signal, value``, optionally ``unit, recorded_at``, and facts
            about the patient, the same in all their rows (:data:`vigil.features.last_readings.FACTS`).
        task: name of the registered model.
        version: of the model; default: the champion.
        title: what messages call them.

    Returns:
        For each patient ``subject_id, as_of, basis, probability, band, decided_by, news2, news2_highest, findings``; and the
        readings that cannot be used, with the ``reason``.

    Raises:
        ScoreFileError: a column is missing, or no reading can be used.
        ObservationError: rows of a patient state several facts.
        NoModelError: there is no such version.
    """
    rows, registered, unused = features_of_readings(home, readings, task, version, title)
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
    return answers, unused


def explain_readings(home: Home, readings: pd.DataFrame, task: str, version: str | None = None) -> pd.DataFrame:
    """Return which signals move the risk of each patient most from that of an average one.

    Args:
        home, readings, task, version: as :func:`score_readings` takes them.

    Returns:
        ``subject_id, signal, log_odds, measured``, the strongest signal of each patient first. Patients without a probability,
        and models that cannot say, have no rows.

    Raises:
        ScoreFileError: as :func:`score_readings`.
    """
    rows, registered, _ = features_of_readings(home, readings, task, version, "readings")
    risks: list[Assessment] = assess_registered(registered, rows, terms=[USUAL_TERMS] * len(rows))
    found = [
        (risk.patient, one.signal, one.log_odds, one.measured)
        for risk, own in zip(risks, contributions_of(registered, rows, risks), strict=True)
        for one in own or ()
    ]
    return pd.DataFrame(found, columns=["subject_id", "signal", "log_odds", "measured"])


def features_of_readings(
    home: Home, readings: pd.DataFrame, task: str, version: str | None, title: str
) -> tuple[pd.DataFrame, RegisteredModel | None, pd.DataFrame]:
    """Return the features of each patient as of their last reading, the model, and the readings that cannot be used.

    Raises:
        ScoreFileError, NoModelError: as :func:`score_readings`.
    """
    if missing := [column for column in REQUIRED if column not in readings]:
        raise ScoreFileError(f"{title}: lacks {', '.join(missing)}; expected a row a reading with {', '.join(REQUIRED)}")
    checked = check(readings, declared=SourceSettingsFile(home.path).declarations())
    if checked.accepted.empty:
        reasons = checked.quarantined["reason"].value_counts().to_dict()
        raise ScoreFileError(f"{title}: no reading can be used: {reasons}; expected names and units as in docs/features.md")
    registered = _load_champion(home, task) if version is None else home.existing_registry().load(task, version)
    service = service_in_use(registered, find_task(task, home.path))
    rows = build_features(checked.accepted, index_of_last(readings, checked.accepted, title), views_to_assess(service))
    return rows, registered, checked.quarantined


def _read(path: Path) -> pd.DataFrame:
    if not path.is_file():
        raise ScoreFileError(f"{path}: no such file; expected a CSV or Parquet file of readings")
    try:
        text = {"subject_id": str, "signal": str, "unit": str, "observed_at": str, "recorded_at": str}
        return read_table(path, dtype=text)
    except (OSError, ValueError, ArrowException) as error:
        raise ScoreFileError(f"{path}: cannot be read ({type(error).__name__}); expected CSV (.csv) or Parquet") from None


def _load_champion(home: Home, task: str) -> RegisteredModel | None:
    try:
        return home.existing_registry().load(task)
    except NoModelError:
        return None
