"""Terms of patients in the journal: recording them, and reading those that hold at a time.

What is recorded of a merged key counts for its survivor, as everywhere. Of the terms of several keys the newest hold.
"""

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any, Final

import sqlalchemy as sa

from features.kernel.plan import UNBOUNDED
from models.alarms.patient_terms import PatientTerms, SignalLimits, describe_terms
from serving.records.database import upsert
from serving.records.journal_merges import read_merges, require_recorded
from serving.records.journal_tables import LATEST, TERMS

_CHUNK: Final = 500  # values in a query
_COLUMNS: Final = [TERMS.c[field.name] for field in fields(PatientTerms)]
# Made once, since it is executed with every risk.
_OF_KEYS: Final = (
    sa.select(TERMS.c.subject_id, *_COLUMNS)
    .where(
        TERMS.c.subject_id.in_(sa.bindparam("keys", expanding=True)),
        TERMS.c.recorded_at <= sa.bindparam("until", type_=sa.BigInteger),
    )
    .order_by(TERMS.c.recorded_at, TERMS.c.seq)
)


def record_terms(connection: sa.Connection, subject: str, terms: PatientTerms, next_time: Callable[[], int]) -> int:
    """Record terms of a subject from now on; return when that is. ``recorded_at`` of ``terms`` is not read.

    Raises:
        NotRecordedError: the journal does not know the subject.
    """
    require_recorded(connection, {"patient_id": subject})
    survivor = read_merges(connection, [subject]).survivor(subject)
    at = next_time()
    row = (describe_terms(terms) or {}) | {"subject_id": survivor, "recorded_at": at}
    connection.execute(TERMS.insert().values(row))
    upsert(connection, LATEST, [{"subject_id": survivor, "recorded_at": at}])
    return at


def read_terms(connection: sa.Connection, times: Mapping[str, int]) -> dict[str, PatientTerms]:
    """Return the terms that hold for subjects, each at a time of its own (microseconds); only of subjects that have any."""
    subjects = list(times)
    if not subjects or connection.execute(sa.select(TERMS.c.seq).limit(1)).first() is None:
        return {}
    found: dict[str, PatientTerms] = {}
    for first in range(0, len(subjects), _CHUNK):
        some = subjects[first : first + _CHUNK]
        merges = read_merges(connection, some, max(times[subject] for subject in some))
        keys = [key for subject in some for key in merges.keys(subject)]
        for row in connection.execute(_OF_KEYS, {"keys": keys, "until": max(times[subject] for subject in some)}):
            subject = merges.survivor(row.subject_id)
            if row.recorded_at <= times[subject]:
                found[subject] = _terms(row)
    return {subject: terms for subject, terms in found.items() if terms.hold_at(times[subject])}


def read_termed(connection: sa.Connection, after: int, until: int) -> dict[str, int]:
    """Return the subjects of which terms were recorded in an interval, and when the last ones were."""
    query = sa.select(TERMS.c.subject_id, TERMS.c.recorded_at).where(TERMS.c.recorded_at.between(after + 1, until))
    rows = connection.execute(query.order_by(TERMS.c.recorded_at)).all()
    merges = read_merges(connection, {row.subject_id for row in rows}, until)
    return {merges.survivor(row.subject_id): row.recorded_at for row in rows}


def read_ended_terms(connection: sa.Connection, after: int, until: int) -> set[str]:
    """Return the subjects of which terms ended in an interval, whether others had replaced them or not."""
    query = sa.select(TERMS.c.subject_id).where(TERMS.c.until.between(after + 1, until)).distinct()
    keys = list(connection.execute(query).scalars())
    merges = read_merges(connection, keys, UNBOUNDED)
    return {merges.survivor(key) for key in keys}


def delete_terms_before(connection: sa.Connection, time: int) -> int:
    """Delete terms recorded before a time (microseconds) that hold no more since; return how many."""
    newer = TERMS.alias("newer")
    is_replaced = sa.exists().where(
        newer.c.subject_id == TERMS.c.subject_id, newer.c.seq > TERMS.c.seq, newer.c.recorded_at < time
    )
    known = sa.exists().where(LATEST.c.subject_id == TERMS.c.subject_id, LATEST.c.recorded_at >= time)
    superfluous = is_replaced | (TERMS.c.until < time) | ~known
    return connection.execute(TERMS.delete().where(TERMS.c.recorded_at < time, superfluous)).rowcount


def _terms(row: "sa.Row[Any]") -> PatientTerms:
    values = {column.name: getattr(row, column.name) for column in _COLUMNS}
    return PatientTerms(**values | {"limits": {signal: SignalLimits(**limits) for signal, limits in row.limits.items()}})
