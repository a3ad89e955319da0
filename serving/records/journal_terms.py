"""Terms of patients in the journal: recording them, and reading those that hold at a time.

What is recorded of a merged key counts for its survivor, as everywhere. Of the terms of several keys that hold, the newest do.
What is decided under a merged key is recorded for its survivor, and stays there after an unmerge.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields, replace
from typing import Any, Final

import sqlalchemy as sa

from vigil.features.kernel.plan import UNBOUNDED
from vigil.models.alarms.patient_terms import PatientTerms, SignalLimits, describe_terms
from vigil.serving.records.database import in_chunks, upsert
from vigil.serving.records.journal_merges import read_merges, require_recorded
from vigil.serving.records.journal_tables import LATEST, REGISTRATIONS, TERMS
from vigil.serving.records.merges import Merges
from vigil.serving.records.not_recorded import NotRecordedError

_COLUMNS: Final = [TERMS.c[field.name] for field in fields(PatientTerms)]
# Made once, since they are executed with every risk.
_ANY: Final = sa.select(TERMS.c.seq).limit(1)
_OF_KEYS: Final = (
    sa.select(TERMS.c.subject_id, *_COLUMNS)
    .where(
        TERMS.c.subject_id.in_(sa.bindparam("keys", expanding=True)),
        TERMS.c.recorded_at <= sa.bindparam("until", type_=sa.BigInteger),
    )
    .order_by(TERMS.c.recorded_at, TERMS.c.seq)
)


def record_terms(connection: sa.Connection, subject: str, terms: PatientTerms, next_time: Callable[[], int]) -> PatientTerms:
    """Record terms of a subject from now on, and return them as they are recorded.

    Raises:
        NotRecordedError: the journal does not know the subject, the terms are over already, or a low limit is not below the
            high one.
    """
    require_recorded(connection, {"patient_id": subject})
    survivor = read_merges(connection, [subject]).survivor(subject)
    if any(own.low is not None and own.high is not None and own.low >= own.high for own in terms.limits.values()):
        raise NotRecordedError("limits_cross", "limits")
    recorded = replace(terms, recorded_at=next_time())
    if not recorded.hold_at(recorded.recorded_at):
        raise NotRecordedError("already_over", "until")
    connection.execute(TERMS.insert().values(describe_terms(recorded) | {"subject_id": survivor}))
    upsert(connection, LATEST, [{"subject_id": survivor, "recorded_at": recorded.recorded_at}])
    return recorded


def read_terms(connection: sa.Connection, times: Mapping[str, int]) -> dict[str, PatientTerms]:
    """Return the terms that hold for subjects, each at a time of its own (microseconds); only of subjects that have any.

    Terms end with a discharge of the subject.
    """
    subjects = list(times)
    if not subjects or connection.execute(_ANY).first() is None:
        return {}
    found: dict[str, PatientTerms] = {}
    for some in in_chunks(subjects):
        until = max(times[subject] for subject in some)
        merges = read_merges(connection, some, until)
        keys = [key for subject in some for key in merges.keys(subject)]
        rows = connection.execute(_OF_KEYS, {"keys": keys, "until": until}).all()
        for subject, own in _by_survivor(rows, merges).items():
            terms = [_terms(row) for row in _newest(own, subject, merges, times[subject])]
            holding = [one for one in terms if one.hold_at(times[subject])]
            if holding:
                found[subject] = max(holding, key=lambda one: one.recorded_at)
    discharged = _discharged(connection, {subject: times[subject] for subject in found})
    return {subject: terms for subject, terms in found.items() if terms.recorded_at > discharged.get(subject, 0)}


def _by_survivor(rows: Iterable["sa.Row[Any]"], merges: Merges) -> dict[str, list["sa.Row[Any]"]]:
    found: dict[str, list[sa.Row[Any]]] = {}
    for row in rows:
        found.setdefault(merges.survivor(row.subject_id), []).append(row)
    return found


def _newest(rows: Iterable["sa.Row[Any]"], subject: str, merges: Merges, time: int) -> list["sa.Row[Any]"]:
    """Return the newest terms of each key of a subject. Those recorded after a merge replace those of the merged key, too."""
    newest = {row.subject_id: row for row in rows if row.recorded_at <= time}
    own = newest.get(subject)
    return [
        row
        for key, row in newest.items()
        if key == subject or own is None or own.recorded_at < max(merges.since(key), row.recorded_at)
    ]


def _discharged(connection: sa.Connection, times: Mapping[str, int]) -> dict[str, int]:
    """Return when each subject was last discharged up to a time; only of those who were."""
    found = {}
    last = sa.select(sa.func.max(REGISTRATIONS.c.recorded_at)).where(REGISTRATIONS.c.discharged)
    for subject, until in times.items():
        own = last.where(REGISTRATIONS.c.subject_id == subject, REGISTRATIONS.c.recorded_at <= until)
        if (at := connection.execute(own).scalar()) is not None:
            found[subject] = at
    return found


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
    """Delete terms recorded before a time (microseconds) that cannot hold any more; return how many.

    They are replaced or over, or nothing has been recorded of the person since.
    """
    columns = [TERMS.c[name] for name in ("seq", "subject_id", "until")]
    rows = connection.execute(sa.select(*columns).where(TERMS.c.recorded_at < time).order_by(TERMS.c.seq)).all()
    newest = {row.subject_id: row.seq for row in rows}
    merges = read_merges(connection, newest)
    persons = {key: merges.survivor(key) for key in newest}
    wanted = sorted({*persons, *persons.values()})
    known: set[str] = set()
    for some in in_chunks(wanted):
        recent = sa.select(LATEST.c.subject_id).where(LATEST.c.subject_id.in_(some), LATEST.c.recorded_at >= time)
        known |= set(connection.execute(recent).scalars())
    superfluous = [
        row.seq
        for row in rows
        if row.seq != newest[row.subject_id]
        or (row.until is not None and row.until < time)
        or not known & {row.subject_id, persons[row.subject_id]}
    ]
    for numbers in in_chunks(superfluous):
        connection.execute(TERMS.delete().where(TERMS.c.seq.in_(numbers)))
    return len(superfluous)


def _terms(row: "sa.Row[Any]") -> PatientTerms:
    values = {column.name: getattr(row, column.name) for column in _COLUMNS}
    return PatientTerms(**values | {"limits": {signal: SignalLimits(**limits) for signal, limits in row.limits.items()}})
