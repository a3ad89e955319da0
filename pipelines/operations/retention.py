"""Retention: records older than a number of days are deleted from a home, while its server may be running.

Rows are deleted in steps, so that no writer waits for long; a run that was cut off is finished by the next one. The batch
cohort and what was made of it stay: to delete those, ingest another cohort.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pandas as pd

from vigil.features.errors import VigilError
from vigil.pipelines.cohort_store import CohortStore
from vigil.pipelines.progress import timed_step
from vigil.serving.fhir.exports.files import ExportFiles
from vigil.serving.fhir.exports.service import remove_expired
from vigil.serving.identity import identities
from vigil.serving.identity.identities import Identities
from vigil.serving.records import connection_tables, journal, prediction_log, ward_state
from vigil.serving.records.database import free_space, open_database
from vigil.serving.records.exports import Exports
from vigil.serving.records.fhir_names import FhirNames
from vigil.serving.records.fhir_observations import FhirObservations
from vigil.serving.records.journal import Journal
from vigil.serving.records.people import People
from vigil.serving.records.prediction_log import PredictionLog
from vigil.serving.records.sessions import Sessions
from vigil.serving.records.subscriptions import Subscriptions
from vigil.serving.records.timestamps import microsecond, present
from vigil.serving.records.ward_state import WardState

FEWEST_DAYS: Final = 4

_SCHEMAS: Final = (journal.SCHEMA, prediction_log.SCHEMA, ward_state.SCHEMA, identities.SCHEMA)
_SUBJECTS: Final = 500  # looked up in one transaction


class RetentionError(VigilError):
    """The records of a home cannot be deleted like that."""


@dataclass(frozen=True)
class Deleted:
    """What retention deleted.

    Attributes:
        before: the time before which it was recorded, predicted, or had ended.
        rows: by file and table.
        bytes_freed: of the disk.
    """

    before: pd.Timestamp
    rows: dict[str, int]
    bytes_freed: int


def retention(home: Path, days: int, *, labels: bool = False) -> Deleted:
    """Delete observations, quarantined observations, predictions, events and ended alarms older than a number of days.

    And the identities of patients without any other record.

    Args:
        home: the home.
        days: at least :data:`FEWEST_DAYS`.
        labels: also delete alarms that were overridden with a reason, which tell whether an alarm was right.

    Raises:
        RetentionError: fewer days, or the home never had a server.
        NoCohortError: an ingest is in progress or was cut off, so that the patients of the cohort are unknown.
        DatabaseError: a file cannot be written; what was deleted until then is gone.
    """
    if days < FEWEST_DAYS:
        raise RetentionError(
            f"--days {days}: expected {FEWEST_DAYS} or more: most features look back up to 3 days, and those of the whole stay "
            "would change for patients who are being monitored"
        )
    if missing := [schema.file for schema in _SCHEMAS if not (home / schema.file).exists()]:
        raise RetentionError(f"{home / missing[0]}: missing; expected a home that has a server, or had one")
    cohort = _cohort_subjects(home)
    before = present() - pd.Timedelta(days=days)
    size = _size(home)
    with timed_step("delete"):
        rows = _delete(home, before, labels=labels)
        rows[f"{identities.SCHEMA.file} identities"] = _forget(home, cohort)
        rows |= _delete_connections(home, before)
    with timed_step("return space to the disk"):
        for schema in _SCHEMAS:
            free_space(home, schema)
    return Deleted(before, rows, size - _size(home))


def _delete(home: Path, before: pd.Timestamp, *, labels: bool) -> dict[str, int]:
    """Delete the records of before a time; return how many rows, by file and table."""
    observations = Journal(home)
    deleted = {
        journal.SCHEMA.file: {
            "registrations": observations.drop_before(before),
            **observations.delete_before(before),
        },
        prediction_log.SCHEMA.file: {"predictions": PredictionLog(home).delete_before(before)},
        ward_state.SCHEMA.file: WardState(home).delete_before(before, labels=labels),
    }
    return {f"{file} {table}": rows for file, tables in deleted.items() for table, rows in tables.items()}


def _forget(home: Path, cohort: set[str]) -> int:
    """Delete the identities of subjects without any other record; return how many."""
    known = Identities(home)
    needed = cohort | PredictionLog(home).subjects() | WardState(home).subjects()
    candidates = sorted(known.subjects() - needed)
    observations = Journal(home)
    return sum(observations.forget(part, known.delete) for part in _parts(candidates))


def _delete_connections(home: Path, before: pd.Timestamp) -> dict[str, int]:
    """Delete what FHIR clients sent, and were told, before a time, names without an identity, expired sessions and exports.

    And forget the people who logged in last before it.

    Returns:
        How many rows, by file and table.
    """
    file = connection_tables.SCHEMA.file
    if not (home / file).exists():
        return {}
    connections = open_database(home, connection_tables.SCHEMA)
    told = Subscriptions(connections).delete_before(microsecond(before))
    return {
        f"{file} fhir_observations": FhirObservations(connections).delete_before(microsecond(before)),
        f"{file} fhir_names": FhirNames(connections).forget_others(Identities(home).subjects()),
        f"{file} sessions": Sessions(connections).delete_expired(microsecond(present())),
        f"{file} people": People(connections).forget_before(microsecond(before)),
        **{f"{file} {table}": rows for table, rows in told.items()},
        f"{file} exports": remove_expired(Exports(connections), ExportFiles(home)),
    }


def _parts(subjects: Sequence[str]) -> list[Sequence[str]]:
    return [subjects[first : first + _SUBJECTS] for first in range(0, len(subjects), _SUBJECTS)]


def _cohort_subjects(home: Path) -> set[str]:
    """Return the subjects of the batch cohort, if there is one."""
    cohort = CohortStore(home)
    return set(cohort.read("stays")["subject_id"]) if cohort.folder.exists() else set()


def _size(home: Path) -> int:
    return sum((home / schema.file).stat().st_size for schema in _SCHEMAS)
