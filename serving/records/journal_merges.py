"""Merges in the journal: reading those of some subjects, recording one, and what they mean for observations that arrive."""

from collections.abc import Callable, Iterable
from typing import Final

import pandas as pd
import sqlalchemy as sa

from vigil.features.kernel.plan import UNBOUNDED
from vigil.features.revisions import ORIGIN, is_revision
from vigil.serving.records.database import in_chunks, upsert
from vigil.serving.records.journal_intervals import recorded_since
from vigil.serving.records.journal_rows import digest_origin, shorten
from vigil.serving.records.journal_tables import LATEST, MERGES, OBSERVATIONS, REGISTRATIONS, REVISIONS, TERMS
from vigil.serving.records.merges import Merge, Merges
from vigil.serving.records.not_recorded import NotRecordedError

# Made once, since it is executed with every risk.
_OF_SOME: Final = sa.select(MERGES).where(
    MERGES.c.subject_id.in_(sa.bindparam("some", expanding=True)) | MERGES.c.into.in_(sa.bindparam("some", expanding=True)),
    MERGES.c.recorded_at <= sa.bindparam("until", type_=sa.BigInteger),
)


def read_merges(connection: sa.Connection, subjects: Iterable[str], until: int = UNBOUNDED) -> Merges:
    """Return the merges up to a time (microseconds) of some subjects, and of all subjects that these connect them with."""
    found: dict[int, Merge] = {}
    known: set[str] = set()
    new = set(subjects)
    while new:
        known |= new
        wanted = sorted(new)
        new = set()
        for some in in_chunks(wanted):
            for row in connection.execute(_OF_SOME, {"some": some, "until": until}):
                found[row.seq] = Merge(row.recorded_at, row.subject_id, row.into)
                new |= {row.subject_id, row.into or row.subject_id} - known
    return Merges([found[seq] for seq in sorted(found)])


def record_merge(connection: sa.Connection, subject: str, into: str, next_time: Callable[[], int]) -> bool:
    """Record that a subject counts for another from now on; return False if it does so already.

    Raises:
        NotRecordedError: one is not in the journal, they are the same, ``into`` counts for the subject already (a cycle), or
            the subject was merged into another person: which of both merges is right is for people to say.
    """
    require_recorded(connection, {"patient_id": subject, "into": into})
    if subject == into:
        raise NotRecordedError("merge_into_itself", "into")
    merges = read_merges(connection, [subject, into])
    if subject in merges.chain(into):
        raise NotRecordedError("merge_cycle", "into")
    if merges.survivor(subject) == merges.survivor(into):
        return False
    if merges.into(subject) is not None:
        raise NotRecordedError("merged_elsewhere", "patient_id")
    _record(connection, Merge(next_time(), subject, into), {subject, merges.survivor(into)})
    return True


def record_unmerge(connection: sa.Connection, subject: str, next_time: Callable[[], int]) -> bool:
    """Record that a subject counts for itself from now on; return False if it does so again already.

    Raises:
        NotRecordedError: it is not in the journal, or was never merged.
    """
    require_recorded(connection, {"patient_id": subject})
    merges = read_merges(connection, [subject])
    if not merges.since(subject):
        raise NotRecordedError("never_merged", "patient_id")
    if merges.into(subject) is None:
        return False
    _record(connection, Merge(next_time(), subject, None), {subject, merges.survivor(subject)})
    return True


def address_versions(connection: sa.Connection, frame: pd.DataFrame, merges: Merges) -> "pd.Series[str]":
    """Return the subject of each observation: of a version, the key of the person under which its message is stored.

    After a merge a source may correct under the surviving identifier what it sent under the other one, or send that again.
    """
    addressed = frame["subject_id"].copy()
    if not merges:
        return addressed
    keys = {own: merges.keys(merges.survivor(own)) for own in frame["subject_id"].unique()}
    several = frame[frame["subject_id"].map(lambda own: len(keys[own]) > 1)]
    has_status = "status" in frame
    revises = is_revision(several["status"], several["version"]).tolist() if has_status else [False] * len(several)
    for row, sent, revision in zip(several.index, several[ORIGIN].to_dict("records"), revises, strict=True):
        own = sent["subject_id"]
        # An original is another person's message if that was revised; else it counts once by its content.
        for key in [own, *(key for key in keys[own] if key != own)]:
            if _is_stored(connection, key, digest_origin({**sent, "subject_id": key}.values()), revised=not revision):
                addressed[row] = key
                break
    return addressed


def touch_survivors(connection: sa.Connection, subjects: Iterable[str], merges: Merges, at: int) -> None:
    """Store when something new was recorded of the survivors of some subjects."""
    survivors = {merges.survivor(subject) for subject in subjects} if merges else set()
    _touch(connection, survivors, at)


def delete_merges_before(connection: sa.Connection, time: int) -> None:
    """Delete the merges of persons without anything recorded since a time (microseconds). The others are still needed."""
    rows = connection.execute(sa.select(MERGES.c.subject_id, MERGES.c.into)).all()
    linked: dict[str, set[str]] = {}
    for subject, into in rows:
        linked.setdefault(subject, set()).add(into or subject)
        linked.setdefault(into or subject, set()).add(subject)
    while linked:
        person, waiting = set(), [next(iter(linked))]
        while waiting:
            if (key := waiting.pop()) in linked:
                person.add(key)
                waiting += linked.pop(key)
        since = [
            sa.select(table.c.subject_id).where(table.c.subject_id.in_(person), since_then).limit(1)
            for table, since_then in (
                (OBSERVATIONS, recorded_since(time)),
                *((table, table.c.recorded_at >= time) for table in (REVISIONS, REGISTRATIONS, MERGES, TERMS)),
            )
        ]
        if not any(connection.execute(query).first() for query in since):
            connection.execute(MERGES.delete().where(MERGES.c.subject_id.in_(person)))


def _record(connection: sa.Connection, row: Merge, concerned: Iterable[str]) -> None:
    connection.execute(MERGES.insert().values(row._asdict()))
    _touch(connection, concerned, row.recorded_at)


def _touch(connection: sa.Connection, subjects: Iterable[str], at: int) -> None:
    upsert(connection, LATEST, [{"subject_id": subject, "recorded_at": at} for subject in sorted(subjects)])


def require_recorded(connection: sa.Connection, subjects: dict[str, str]) -> None:
    """Refuse subjects of which neither an observation nor a registration is known. ``subjects``: by field of the request."""
    for field, subject in subjects.items():
        known = [sa.select(table.c.subject_id).where(table.c.subject_id == subject) for table in (LATEST, REGISTRATIONS)]
        if not any(connection.execute(query.limit(1)).first() for query in known):
            raise NotRecordedError("not_in_journal", field)


def _is_stored(connection: sa.Connection, subject: str, origin: bytes, *, revised: bool) -> bool:
    """Return whether a version of an observation is stored, or, if ``revised``, a correction or retraction of it.

    ``origin``: its digest.
    """
    own = (OBSERVATIONS.c.subject_id == subject) & (OBSERVATIONS.c.origin == shorten(origin))
    counts = OBSERVATIONS.c.superseded_at.is_(None)
    stored = [
        sa.select(REVISIONS.c.seq).where(REVISIONS.c.subject_id == subject, REVISIONS.c.origin == origin),
        *(() if revised else (sa.select(OBSERVATIONS.c.seq).where(own, which) for which in (counts, ~counts))),
    ]
    return any(connection.execute(query.limit(1)).first() for query in stored)
