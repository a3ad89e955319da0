"""The inputs of an assessment: recent observations, the predictions made from them, and outcomes as far as they are known."""

import json
from pathlib import Path
from typing import Final

import pandas as pd
from pyarrow import ArrowException

from vigil.features.errors import VigilError
from vigil.features.observations import TIME
from vigil.features.pseudonyms import open_pseudonyms
from vigil.models.cohort import label_index_times
from vigil.models.monitoring.assessment import DAY, LOG_COLUMNS, ObservedDay
from vigil.models.monitoring.report_schema import OutcomesRecord
from vigil.models.registry import RegisteredModel, Registry
from vigil.models.tasks import RiskTask
from vigil.pipelines.cohort_store import CohortStore
from vigil.pipelines.drift.received_observations import received_by_server
from vigil.pipelines.table_files import read_table
from vigil.serving.identity.identities import Identities
from vigil.serving.records.prediction_log import SCHEMA, PredictionLog
from vigil.serving.records.timestamps import present

JUDGED: Final = 90 * DAY  # of predictions with a known outcome
OUTCOME_COLUMNS: Final = ("patient_id", "end", "onset")
_SWITCH: Final = pd.Timedelta(minutes=1)  # in which every process has followed a new champion
_PARTS: Final = ("deliveries", "predictions", "outcomes")
_ABOUT: Final = "about.json"
_ZONE: Final = r"(?:[Zz]|[+-]\d{2}:?\d{2})$"


class DriftInputError(VigilError):
    """There is nothing to assess, or it cannot be read."""


def read_home(
    home: Path,
    champion: RegisteredModel,
    hours: float | None = None,
    outcomes: pd.DataFrame | None = None,
    settled: pd.Timestamp | None = None,
) -> ObservedDay:
    """Read the last day of a home (or the last hours, of predictions).

    Args:
        home: the home.
        champion: its model.
        hours: how far to look back for predictions; default: a day, or all of them where no ward was ever monitored.
        outcomes: of :func:`read_outcomes`, beside what the ingested cohort knows.
        settled: when a person reinstated the model; nothing of before is held against it again.

    Raises:
        DriftInputError: nothing was predicted and nothing was received.
    """
    until, path = present(), home / SCHEMA.file
    if not path.exists():
        raise DriftInputError(f"prediction log {path}: missing; score patients first: vigil predict, or the API")
    predictions, task = PredictionLog(home), CohortStore(home).task
    earliest = until - JUDGED if settled is None else max(until - JUDGED, settled)
    begin = max(until - (DAY if hours is None else pd.Timedelta(hours=hours)), earliest)
    is_live = predictions.has_live_predictions()
    logged = predictions.with_features(
        model_name=champion.name,
        features=champion.model.features,
        since=begin if is_live or hours is not None else settled,
    )
    logged = logged[(logged["origin"] == ("rescorer" if is_live else "online_store")).to_numpy()]
    if (since := Registry(home).champion_since(champion.name)) is not None:
        # Predictions of another version, made while that was champion, are no mismatch, and not of this version.
        late = (logged["made_at"] > pd.Timestamp(since) + _SWITCH).to_numpy()
        logged = logged[late | (logged["model_version"] == champion.version).to_numpy()]
    # One row an hour, and each patient by their last day only, however far back: training patients are one day each, too.
    log = logged.assign(clock=logged["index_time"].dt.floor("h")).drop_duplicates(["subject_id", "clock"], keep="last")
    log = log[(log["index_time"] > log.groupby("subject_id")["index_time"].transform("max") - DAY).to_numpy()]
    log = log[[*LOG_COLUMNS, *champion.model.features]].reset_index(drop=True)
    rows = received_by_server(home, max(until - 2 * DAY, earliest), until)
    young = since is not None and pd.Timestamp(since) > until - DAY
    if log.empty and not (champion.withdrawn or young) and not (rows["recorded_at"] > until - DAY).any():
        raise DriftInputError(
            f"prediction log {path}: nothing since {begin:%Y-%m-%d %H:%M} UTC that can be compared, and no observation "
            "arrived; expected a monitored ward (is the server up?), or vigil predict"
        )
    # Last hours alone tell nothing about an hourly task.
    past = log if task.index == "end" else log.iloc[:0]
    if is_live and task.index == "hourly":
        past = predictions.hourly(champion.name, champion.version, earliest, with_features=True)
    return ObservedDay(until, rows, log, not is_live, _judged(home, past, outcomes), {}, young)


def label_predictions(log: pd.DataFrame, stays: pd.DataFrame, outcomes: pd.DataFrame, task: RiskTask) -> pd.DataFrame:
    """Return predictions with a known outcome: ``subject_id, index_time, probability, label``.

    Args:
        log: ``subject_id, index_time, probability``.
        stays: ``subject_id, end``: until when an event would have been noticed.
        outcomes: ``subject_id, onset, onset_known``.
        task: what the labels mean.
    """
    index = log[["subject_id", "index_time", "probability"]].merge(
        stays[["subject_id", "end"]], on="subject_id", validate="m:1"
    )
    index = index[(index["index_time"] <= index["end"]).to_numpy()]
    labelled = label_index_times(index, outcomes, task)
    return labelled.loc[labelled["label"].notna(), ["subject_id", "index_time", "probability", "label"]].reset_index(drop=True)


def read_outcomes(path: Path) -> pd.DataFrame:
    """Read outcomes of patients: a CSV or Parquet file, one row a patient.

    Returns:
        ``patient_id`` (as the platform knows them), ``end`` of the time in which an event would have been noticed, and
        ``onset``; no onset: no event. Times with a zone.

    Raises:
        DriftInputError: the file is missing, half-written, or lacks something.
    """
    if not path.exists():
        raise DriftInputError(f"--outcomes {path}: missing; expected a CSV or Parquet file of {', '.join(OUTCOME_COLUMNS)}")
    try:
        table = read_table(path, dtype=str)
    except (OSError, ValueError, ArrowException) as error:
        raise DriftInputError(f"--outcomes {path}: cannot be read ({type(error).__name__}); is it half-written?") from None
    if missing := [column for column in OUTCOME_COLUMNS if column not in table]:
        raise DriftInputError(f"--outcomes {path}: lacks {', '.join(missing)}; expected {', '.join(OUTCOME_COLUMNS)}")
    unknown = table["patient_id"].isna().to_numpy()
    if unknown.any():
        raise DriftInputError(
            f"--outcomes {path}: patient_id of row {int(unknown.argmax()) + 1} is missing; expected one in every row"
        )
    outcomes = pd.DataFrame({"patient_id": table["patient_id"].astype(str)})
    for column in ("end", "onset"):
        text = table[column].map(lambda time: time.isoformat() if isinstance(time, pd.Timestamp) else time)
        is_given = text.notna() & (text != "") & (text != "NaT")
        times = pd.to_datetime(text.where(is_given), errors="coerce", format="ISO8601", utc=True)
        # A time without a zone may be off by hours, and so would labels be.
        wrong = is_given & (times.isna() | ~text.astype(str).str.contains(_ZONE))
        if wrong.any() or (column == "end" and times.isna().any()):
            row = int((wrong if wrong.any() else times.isna()).to_numpy().argmax()) + 1
            raise DriftInputError(f"--outcomes {path}: {column} of row {row} is no time; expected ISO 8601 with a zone")
        outcomes[column] = times.astype(TIME)
    after = (outcomes["onset"] > outcomes["end"]).to_numpy()
    if after.any():
        raise DriftInputError(f"--outcomes {path}: onset of row {int(after.argmax()) + 1} is after its end; expected it before")
    if outcomes["patient_id"].duplicated().any():
        row = int(outcomes["patient_id"].duplicated().to_numpy().argmax()) + 1
        raise DriftInputError(f"--outcomes {path}: row {row} is of a patient of an earlier row; expected one row a patient")
    return outcomes


def write_replay(folder: Path, recent: ObservedDay) -> None:
    """Write a replay as files that :func:`read_replay` reads. The facts are written last, so that no unfinished one is read."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _ABOUT).unlink(missing_ok=True)
    for name, table in zip(_PARTS, (recent.rows, recent.log, recent.judged), strict=True):
        table.to_parquet(folder / f"{name}.parquet", index=False)
    facts = {**recent.facts, "until": recent.until.isoformat()}
    (folder / _ABOUT).write_text(json.dumps(facts, indent=2))


def read_replay(folder: Path) -> ObservedDay:
    """Read a replay that ``vigil simulate-fault`` wrote.

    Raises:
        DriftInputError: it is missing, or half-written.
    """
    if not (folder / _ABOUT).exists():
        raise DriftInputError(f"--replay {folder}: holds no finished replay; make one first: vigil simulate-fault NAME")
    try:
        facts = json.loads((folder / _ABOUT).read_text())
        until = pd.Timestamp(facts["until"])
    except (ValueError, KeyError, TypeError):
        raise DriftInputError(f"--replay {folder / _ABOUT}: half-written; make it again: vigil simulate-fault NAME") from None
    tables = []
    for name in _PARTS:
        path = folder / f"{name}.parquet"
        try:
            tables.append(pd.read_parquet(path))
        except (OSError, ArrowException) as error:
            raise DriftInputError(
                f"--replay {path}: cannot be read ({type(error).__name__}), as a file that is half-written; make it again: "
                "vigil simulate-fault NAME"
            ) from None
    return ObservedDay(until, tables[0], tables[1], ends=False, judged=tables[2], facts=facts)


def count_known(home: Path, outcomes: pd.DataFrame) -> OutcomesRecord:
    """Return how many patients of a file of outcomes (:func:`read_outcomes`) the home knows.

    Raises:
        DriftInputError: none of them is known, so that the file says nothing about this home.
    """
    subjects = open_pseudonyms(home).subject_keys(outcomes["patient_id"]).astype(str).tolist()
    known = Identities(home).find(subjects)
    if subjects and not known:
        raise DriftInputError(
            f"--outcomes: none of its {len(subjects)} patients is known here; expected the identifiers that the platform uses; "
            "is a blank, or a leading zero, lost or added?"
        )
    return OutcomesRecord(given=len(subjects), known=len(known))


def _judged(home: Path, past: pd.DataFrame, given: pd.DataFrame | None) -> pd.DataFrame:
    """Return predictions with labels, from the outcomes of the ingested cohort and from given ones."""
    cohort = CohortStore(home)
    task = cohort.task
    stays, outcomes = cohort.read("stays")[["subject_id", "end"]], cohort.read("outcomes")
    if given is not None:
        given = given.assign(subject_id=open_pseudonyms(home).subject_keys(given["patient_id"]).astype(str))
        stays = pd.concat([stays[~stays["subject_id"].isin(given["subject_id"])], given[["subject_id", "end"]]])
        events = given.loc[given["onset"].notna(), ["subject_id", "onset"]].assign(onset_known=True)
        outcomes = pd.concat([outcomes[~outcomes["subject_id"].isin(given["subject_id"])], events])
    return label_predictions(past.assign(subject_id=past["subject_id"].astype(str)), stays, outcomes, task)
