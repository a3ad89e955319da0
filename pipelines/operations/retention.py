"""Retention: what is older than a number of days is taken from a home, while its server may be running.

Rows are deleted some at a time, so that nobody who writes waits for long; what was begun and cut off the next run finishes.
The batch cohort and what was made of it stay: whoever wants them gone ingests another one.
"""

import sqlite3
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

import pandas as pd
import sqlalchemy as sa

from features.errors import VigilError
from pipelines.cohort_store import CohortStore
from pipelines.progress import working
from serving.identity import identities
from serving.identity.identities import IDENTITIES
from serving.records import journal, prediction_log, ward_state
from serving.records.database import DatabaseError, microsecond, open_database, reading, writing
from serving.records.journal import PATIENTS, QUARANTINE, READINGS, REPEATED, Journal
from serving.records.prediction_log import PREDICTIONS
from serving.records.timestamps import present
from serving.records.ward_state import ALARMS, EVENTS, RISKS

FEWEST_DAYS: Final = 4

_CHUNK: Final = 2_000  # rows deleted in one transaction
_NAMES: Final = 500  # values in a query
_PAGES: Final = 500  # given back to the disk in one transaction
_CHECKPOINT_MILLISECONDS: Final = 100
_PAUSE_SECONDS: Final = 0.01  # for others who wait to write: SQLite does not queue them
_WAIT_SECONDS: Final = 60  # for others who write
_INCREMENTAL: Final = 2  # of PRAGMA auto_vacuum

T = TypeVar("T")


class RetentionError(VigilError):
    """Nothing can be dropped like that."""


@dataclass(frozen=True)
class Dropped:
    """What was taken away.

    Attributes:
        before: the time before which it was recorded, made, or had ended.
        rows: by file and table.
        bytes_freed: of the disk.
    """

    before: pd.Timestamp
    rows: dict[str, int]
    bytes_freed: int


def retention(home: Path, days: int, *, labels: bool = False) -> Dropped:
    """Drop readings, quarantined readings, predictions, events and ended alarms of more than so many days ago.

    And the identities of patients of whom nothing is left anywhere.

    Args:
        home: whose.
        days: at least :data:`FEWEST_DAYS`.
        labels: also drop alarms that somebody overrode with a reason, which say whether an alarm was right.

    Raises:
        RetentionError: fewer days, or nothing was kept in this home.
        NoCohortError: an ingest is under way or was cut off, so that nobody knows who is in the cohort.
        DatabaseError: a file cannot be written; what was deleted until then is gone.
    """
    if days < FEWEST_DAYS:
        raise RetentionError(
            f"--days {days}: expected {FEWEST_DAYS} or more: most features look back up to 3 days, and those of the whole stay "
            "change under patients who are being watched"
        )
    files = (journal.FILE, prediction_log.FILE, ward_state.FILE, identities.FILE)
    if missing := [name for name in files if not (home / name).exists()]:
        raise RetentionError(f"{home / missing[0]}: not there; expected a home that has a server, or had one")
    cohort = _cohort(home)
    before = present() - pd.Timedelta(days=days)
    size = sum((home / name).stat().st_size for name in files)
    with working("delete"):
        rows = _delete_all(home, before, labels=labels)
        rows[f"{identities.FILE} {IDENTITIES.name}"] = _forget(home, cohort)
    with working("give room back"):
        for name in files:
            _shrink(home / name)
    return Dropped(before, rows, size - sum((home / name).stat().st_size for name in files))


def _delete_all(home: Path, before: pd.Timestamp, *, labels: bool) -> dict[str, int]:
    """By file and table, how many rows went."""
    at = microsecond(before)
    kept = Journal(home)
    _, patients = _patiently(partial(kept.drop, before))
    log = open_database(home / prediction_log.FILE, prediction_log.METADATA)
    wall = open_database(home / ward_state.FILE, ward_state.METADATA)
    is_label = (ALARMS.c.status == "overridden") & ALARMS.c.reason.is_not(None)
    ended = (ALARMS.c.ended_at < at) if labels else (ALARMS.c.ended_at < at) & ~is_label
    return {
        f"{journal.FILE} {READINGS.name}": _delete(kept.engine, READINGS, READINGS.c.recorded_at < at),
        f"{journal.FILE} {PATIENTS.name}": patients,
        f"{journal.FILE} {QUARANTINE.name}": _delete(kept.engine, QUARANTINE, QUARANTINE.c.recorded_at < at),
        f"{journal.FILE} {REPEATED.name}": _delete(kept.engine, REPEATED, REPEATED.c.recorded_at < at),
        f"{prediction_log.FILE} {PREDICTIONS.name}": _delete(log, PREDICTIONS, PREDICTIONS.c.made_at < before.isoformat()),
        f"{ward_state.FILE} {EVENTS.name}": _delete(wall, EVENTS, EVENTS.c.at < at),
        f"{ward_state.FILE} {ALARMS.name}": _delete(wall, ALARMS, ended),
    }


def _delete(engine: sa.Engine, table: sa.Table, condition: "sa.ColumnElement[bool]") -> int:
    """Delete the rows that meet a condition, some at a time; returns how many."""
    (key,) = table.primary_key.columns
    some = sa.select(key).where(condition).limit(_CHUNK)
    deleted, last = 0, _CHUNK

    def delete_some() -> int:
        with writing(engine) as connection:
            return connection.execute(table.delete().where(key.in_(some))).rowcount

    while last == _CHUNK:
        last = _patiently(delete_some)
        deleted += last
        time.sleep(_PAUSE_SECONDS)
    return deleted


def _patiently(write: Callable[[], T]) -> T:
    """Where others write without a pause, a job tries for longer than they would."""
    deadline = time.monotonic() + _WAIT_SECONDS
    while True:
        try:
            return write()
        except DatabaseError:
            if time.monotonic() > deadline:
                raise


def _forget(home: Path, cohort: set[str]) -> int:
    """Forget whose pseudonyms those are of whom nothing is left; returns how many."""
    known = open_database(home / identities.FILE, identities.METADATA)
    log = open_database(home / prediction_log.FILE, prediction_log.METADATA)
    wall = open_database(home / ward_state.FILE, ward_state.METADATA)
    left = cohort | _patients(log, PREDICTIONS.c.patient_id) | _patients(wall, *(t.c.patient for t in (RISKS, ALARMS, EVENTS)))
    candidates = sorted(_patients(known, IDENTITIES.c.pseudonym) - left)
    live = Journal(home).engine
    forgotten = 0
    for first in range(0, len(candidates), _NAMES):
        some = candidates[first : first + _NAMES]
        forgotten += _patiently(partial(_forget_some, live, known, some))
    return forgotten


def _forget_some(live: sa.Engine, known: sa.Engine, candidates: Sequence[str]) -> int:
    """Those whom the journal does not know. It is locked when whose a reading is is kept, so nobody comes back in between."""
    with writing(live) as connection:
        there = _patients(
            connection, *(table.c.patient for table in (READINGS, PATIENTS, QUARANTINE, REPEATED)), among=candidates
        )
        gone = [name for name in candidates if name not in there]
        with writing(known) as other:
            return other.execute(IDENTITIES.delete().where(IDENTITIES.c.pseudonym.in_(gone))).rowcount


def _patients(where: sa.Engine | sa.Connection, *columns: "sa.Column[Any]", among: Iterable[str] | None = None) -> set[str]:
    """Pseudonyms in columns, all or those among some."""
    if isinstance(where, sa.Engine):
        with reading(where) as connection:
            return _patients(connection, *columns, among=among)
    found: set[str] = set()
    for column in columns:
        query = sa.select(column).distinct()
        found |= set(where.execute(query if among is None else query.where(column.in_(list(among)))).scalars())
    return found


def _cohort(home: Path) -> set[str]:
    """The patients of the batch cohort, if there is one."""
    cohort = CohortStore(home)
    return set(cohort.read("stays")["subject_id"]) if cohort.folder.exists() else set()


def _shrink(path: Path) -> None:
    """Give what is empty in a file back to the disk."""
    try:
        with closing(sqlite3.connect(path, isolation_level=None, timeout=_WAIT_SECONDS)) as connection:
            if connection.execute("PRAGMA auto_vacuum").fetchone() != (_INCREMENTAL,):
                connection.execute("PRAGMA auto_vacuum=INCREMENTAL")  # an older file: once as a whole, then bit by bit
                connection.execute("VACUUM")
            empty = connection.execute("PRAGMA freelist_count").fetchone()[0]
            for _ in range(0, empty, _PAGES):
                connection.executescript(f"PRAGMA incremental_vacuum({_PAGES})")  # execute would stop at the first page
                time.sleep(_PAUSE_SECONDS)
            # Writers wait while this one waits for readers, so it waits hardly, and what it cannot do now SQLite does later.
            connection.execute(f"PRAGMA busy_timeout = {_CHECKPOINT_MILLISECONDS}")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    except sqlite3.Error as error:
        raise DatabaseError(
            f"{path.name}: rows are gone, but their room was not given back ({type(error).__name__}); run vigil retention again"
        ) from None
