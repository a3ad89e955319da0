"""The journal: every accepted observation in the order it became durable, who the subjects are, and what was quarantined.

An observation is on the disk before it is acknowledged. What becomes durable together is a group, and every group has a time,
``recorded_at``. That time never goes back and no two groups share it. So a reader who has read up to a time knows that nothing
will appear before it later: features as of a time are those of the groups up to it, today and in a year. An observation that
arrives again is recognised by its message and by its content. It counts once, and the repetition is counted.

Subjects appear by their key; only :mod:`vigil.serving.identity.identities` knows their identifiers.
"""

import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

import pandas as pd
import sqlalchemy as sa

from vigil.features.declarations import UNDECLARED, Declarations
from vigil.features.kernel.plan import UNBOUNDED
from vigil.models.alarms.patient_terms import PatientTerms
from vigil.serving.records.clock import SteadyClock
from vigil.serving.records.database import (
    Schema,
    in_chunks,
    open_database,
    reading,
    upsert,
    with_retries,
    writing,
)
from vigil.serving.records.journal_append import append_group
from vigil.serving.records.journal_intervals import recorded_before, recorded_between, recorded_since
from vigil.serving.records.journal_lookups import IS_NEWS
from vigil.serving.records.journal_merges import read_merges, record_merge, record_unmerge
from vigil.serving.records.journal_retention import delete_recorded_before, drop_recorded_before
from vigil.serving.records.journal_rows import Receipt
from vigil.serving.records.journal_snapshot import JournalSnapshot
from vigil.serving.records.journal_tables import (
    GROUP_TIME,
    LATEST,
    MERGES,
    METADATA,
    OBSERVATION_ROWS,
    OTHERS_RECORDED,
    QUARANTINE,
    READMISSIONS,
    REGISTRATIONS,
    REPETITIONS,
    REVISIONS,
    SENDERS,
    SERIES,
    TERMS,
)
from vigil.serving.records.journal_terms import record_terms
from vigil.serving.records.lookups import ChangeWatch, Lookup
from vigil.serving.records.registration import Registration
from vigil.serving.records.timestamps import instant, microsecond

logger = logging.getLogger("vigil.serving")

SCHEMA: Final = Schema("journal", METADATA, revision="0006")
UNASSIGNED: Final = ""  # the ward of subjects that are not registered

_CLOCK_SLACK_US: Final = 60_000_000
_LAST_GROUP: Final = sa.select(GROUP_TIME.c.recorded_at)
_LATEST_OF: Final = sa.select(LATEST.c.recorded_at).where(LATEST.c.subject_id == sa.bindparam("subject"))


class Quarantined(NamedTuple):
    """A quarantined observation: its row, subject, reason, and the fields as they were sent."""

    seq: int
    subject_id: str
    reason: str
    sent: dict[str, Any]


class Journal:
    """The journal of one home. Writers wait for each other; readers wait for no one."""

    def __init__(self, home: Path, clock: Callable[[], datetime] | None = None) -> None:
        self._engine = open_database(home, SCHEMA)
        self._clock = clock or SteadyClock()
        self._is_ahead = False
        self._is_news = Lookup(self._engine, IS_NEWS)
        self._last_group, self._latest_of = Lookup(self._engine, _LAST_GROUP), Lookup(self._engine, _LATEST_OF)
        self._watch = ChangeWatch(self._engine)

    def append(self, group: Callable[[], Sequence[Mapping[str, Any]]], declared: Declarations = UNDECLARED) -> list[Receipt]:
        """Store a group of observations; they are on the disk when this returns.

        Args:
            group: returns the observations; called inside the transaction, before anything is written. Each has ``subject_id,
                signal, value, unit, observed_at`` (None where it could not be read), ``device_id, source, message_id``, perhaps
                ``status, version`` (:mod:`vigil.features.revisions`), and perhaps ``sent``: the fields as the sender wrote
                them, for the quarantine.
            declared: what sources declare of their units.

        Returns:
            What became of each, in order.

        Raises:
            DatabaseError: nothing was stored.
        """
        with writing(self._engine) as connection:
            observations = group()
            if not observations:
                return []
            return append_group(connection, pd.DataFrame.from_records(observations), self._next_time(connection), declared)

    def register(self, registrations: Sequence[Registration], first: Callable[[], object] = lambda: None) -> None:
        """Store what is known of subjects from now on. ``first`` is called inside the transaction, before anything is written.

        Raises:
            DatabaseError: nothing was stored.
        """
        with writing(self._engine) as connection:
            first()
            at = microsecond(self._next_time(connection))
            connection.execute(REGISTRATIONS.insert(), [{**asdict(row), "recorded_at": at} for row in registrations])

    def merge(self, subject: str, into: str, first: Callable[[], object] = lambda: None) -> bool:
        """Let a subject count for another from now on; return False if it does already, so that nothing was stored.

        ``first`` is called inside the transaction, before anything is written.

        Raises:
            NotRecordedError: they cannot be merged.
            DatabaseError: nothing was stored.
        """
        with writing(self._engine) as connection:
            first()
            return record_merge(connection, subject, into, lambda: microsecond(self._next_time(connection)))

    def unmerge(self, subject: str, first: Callable[[], object] = lambda: None) -> bool:
        """Let a subject count for itself again from now on; return False if it does already, so that nothing was stored.

        ``first`` as in :meth:`merge`.

        Raises:
            NotRecordedError: the subject was never merged.
            DatabaseError: nothing was stored.
        """
        with writing(self._engine) as connection:
            first()
            return record_unmerge(connection, subject, lambda: microsecond(self._next_time(connection)))

    def set_terms(self, subject: str, terms: PatientTerms, first: Callable[[], object] = lambda: None) -> PatientTerms:
        """Let terms of a patient hold from now on, and return them as they are recorded.

        ``first`` as in :meth:`merge`.

        Raises:
            NotRecordedError: the journal does not know the subject, or the terms are over already.
            DatabaseError: nothing was stored.
        """
        with writing(self._engine) as connection:
            first()
            return record_terms(connection, subject, terms, lambda: microsecond(self._next_time(connection)))

    def survivors_of(self, subjects: Iterable[str], until: int = UNBOUNDED) -> dict[str, str]:
        """Return the subject that each one counts for up to a time (microseconds): itself where it is not merged."""
        wanted = list(subjects)
        with reading(self._engine) as connection:
            merges = read_merges(connection, wanted, until)
        return {subject: merges.survivor(subject) for subject in wanted}

    def quarantined_for(self, reasons: Sequence[str]) -> list[Quarantined]:
        """Return what was quarantined for one of some reasons, and not taken since, in order of arrival."""
        columns = [QUARANTINE.c[name] for name in ("seq", "subject_id", "reason", "observation")]
        query = sa.select(*columns).where(QUARANTINE.c.reason.in_(reasons), QUARANTINE.c.readmitted_at.is_(None))
        with reading(self._engine) as connection:
            rows = connection.execute(query.order_by(QUARANTINE.c.seq)).all()
        return [Quarantined(row.seq, row.subject_id, row.reason, json.loads(row.observation)) for row in rows]

    def readmit(
        self, rows: Mapping[int, Mapping[str, Any]], declared: Declarations, *, by: str, because: str, declarations: str
    ) -> list[Receipt]:
        """Take quarantined observations as a group of the present, and record who decided. They count from now on, not before.

        Args:
            rows: observations as :meth:`append` takes them, by number of their row in the quarantine.
            declared: what sources declare.
            by, because: who decided, and why.
            declarations: what the decision rests on, as text.

        Returns:
            What became of each, in order. Those that still cannot be used stay in the quarantine.
        """
        with writing(self._engine) as connection:
            at = self._next_time(connection)
            receipts = append_group(connection, pd.DataFrame.from_records(list(rows.values())), at, declared) if rows else []
            taken = [seq for seq, receipt in zip(rows, receipts, strict=True) if receipt.status != "quarantined"]
            for some in in_chunks(taken):
                readmitted = QUARANTINE.update().where(QUARANTINE.c.seq.in_(some))
                connection.execute(readmitted.values(readmitted_at=microsecond(at)))
            decision = {"by": by, "reason": because, "declarations": declarations, "observations": len(taken)}
            connection.execute(READMISSIONS.insert().values(recorded_at=microsecond(at), **decision))
        return receipts

    def count_accepted(self) -> dict[tuple[str, str], int]:
        """Return how many observations count, by source (empty: none was named) and signal."""
        rows = OBSERVATION_ROWS
        by_number = sa.select(rows.c.series, rows.c.sender, sa.func.count().label("number")).group_by(
            rows.c.series, rows.c.sender
        )
        counts = by_number.subquery()
        query = (
            sa.select(SENDERS.c.source, SERIES.c.signal, sa.func.sum(counts.c.number))
            .join_from(counts, SERIES, SERIES.c.id == counts.c.series)
            .join(SENDERS, SENDERS.c.id == counts.c.sender)
            .group_by(SENDERS.c.source, SERIES.c.signal)
        )
        with reading(self._engine) as connection:
            return {(row[0], row[1]): row[2] for row in connection.execute(query)}

    def tick(self) -> pd.Timestamp:
        """Return the present, as a time after all groups so far and before all that will follow."""
        with writing(self._engine) as connection:
            return self._next_time(connection)

    def has_changed(self) -> bool:
        """Return whether another connection wrote since the last call. For one thread."""
        return self._watch.has_changed()

    @contextmanager
    def snapshot(self) -> Iterator[JournalSnapshot]:
        """Open the journal as it stands at one moment, for reading."""
        with reading(self._engine) as connection:
            yield JournalSnapshot(connection)

    def latest(self) -> int | None:
        """Return the time of the last group, microseconds."""
        rows = self._last_group.rows()
        return rows[0][0] if rows else None

    def latest_of(self, subjects: Sequence[str]) -> dict[str, int]:
        """Return when the last observation of each subject was recorded, microseconds; subjects without one are left out."""
        return {subject: rows[0][0] for subject in subjects if (rows := self._latest_of.rows(subject=subject))}

    def is_news(self, subject: str, index_time: int, read_until: int) -> bool:
        """Return whether anything was recorded that may matter for a risk of a subject and is not in it.

        Args:
            subject: of the risk.
            index_time: up to when observations of the subject are in it, microseconds.
            read_until: up to when the journal was read for it. Registrations, merges, terms and retentions are rare, so any
                recorded later counts.
        """
        return bool(self._is_news.rows(subject=subject, index_time=index_time, read_until=read_until)[0][0])

    def waiting_since(self, time: int) -> pd.Timestamp | None:
        """Return when the first group after a time (microseconds) was recorded; None: there is none."""
        first = [
            sa.select(sa.func.min(table.c.recorded_at)).where(table.c.recorded_at > time)
            for table in (REVISIONS, REGISTRATIONS, MERGES, TERMS)
        ]
        rows = OBSERVATION_ROWS
        first.append(sa.select(rows.c.recorded_at).where(recorded_since(time + 1, rows)).order_by(rows.c.seq).limit(1))
        with reading(self._engine) as connection:
            times = [at for query in first if (at := connection.execute(query).scalar()) is not None]
        return instant(min(times)) if times else None

    def wards_of(self, subjects: Iterable[str]) -> dict[str, str]:
        """Return the ward of each subject, of a merged one that of its survivor; :data:`UNASSIGNED`: not registered."""
        survivors = self.survivors_of(subjects)
        wards = self.registered_wards_of(survivors.values())
        return {subject: wards[survivor] for subject, survivor in survivors.items()}

    def registered_wards_of(self, subjects: Iterable[str]) -> dict[str, str]:
        """Return the ward that each subject was registered in under its own key; :data:`UNASSIGNED`: it was not."""
        wanted = list(dict.fromkeys(subjects))
        latest = (
            sa.select(sa.func.max(REGISTRATIONS.c.seq))
            .where(REGISTRATIONS.c.subject_id.in_(wanted))
            .group_by(REGISTRATIONS.c.subject_id)
        )
        query = sa.select(REGISTRATIONS.c.subject_id, REGISTRATIONS.c.ward).where(REGISTRATIONS.c.seq.in_(latest))
        with reading(self._engine) as connection:
            return dict.fromkeys(wanted, UNASSIGNED) | {row.subject_id: row.ward for row in connection.execute(query)}

    def has_ward(self, ward: str) -> bool:
        """Return whether a subject was ever registered in a ward, as far as the journal goes back."""
        query = sa.select(REGISTRATIONS.c.seq).where(REGISTRATIONS.c.ward == ward).limit(1)
        with reading(self._engine) as connection:
            return connection.execute(query).first() is not None

    def registered_since(self, subjects: Iterable[str], time: pd.Timestamp) -> set[str]:
        """Return those of some subjects that were registered at or after a time."""
        query = sa.select(REGISTRATIONS.c.subject_id).where(
            REGISTRATIONS.c.subject_id.in_(sorted(subjects)), REGISTRATIONS.c.recorded_at >= microsecond(time)
        )
        with reading(self._engine) as connection:
            return set(connection.execute(query).scalars())

    def settle_clock(self) -> int | None:
        """Record again, in the same order and just before the present, what was recorded while the clock was ahead.

        Returns:
            Time of the last group that was recorded correctly, microseconds, 0 if there is none; None: nothing was ahead.
        """
        with writing(self._engine) as connection:
            now = microsecond(pd.Timestamp(self._clock()))
            last = connection.execute(sa.select(GROUP_TIME.c.recorded_at)).scalar()
            if last is None or last <= now:
                return None
            in_order = OBSERVATION_ROWS.c.seq.desc()
            recorded = [sa.select(OBSERVATION_ROWS.c.recorded_at).where(recorded_since(now + 1, OBSERVATION_ROWS))]
            correct_ones = [
                sa.select(OBSERVATION_ROWS.c.recorded_at)
                .where(recorded_before(now + 1, OBSERVATION_ROWS))
                .order_by(in_order)
                .limit(1)
            ]
            for table in OTHERS_RECORDED:
                recorded.append(sa.select(table.c.recorded_at).where(table.c.recorded_at > now))
                correct_ones.append(sa.select(sa.func.max(table.c.recorded_at)).where(table.c.recorded_at <= now))
            ahead = sorted(connection.execute(sa.union(*recorded)).scalars())
            correct = max(connection.execute(query).scalar() or 0 for query in correct_ones)
            begin = max(now - len(ahead), correct)
            for position, at in enumerate(ahead, start=1):
                superseded = OBSERVATION_ROWS.c.superseded_at == at
                connection.execute(OBSERVATION_ROWS.update().where(superseded).values(superseded_at=begin + position))
                is_of_group = recorded_between(at, at, OBSERVATION_ROWS)
                connection.execute(OBSERVATION_ROWS.update().where(is_of_group).values(recorded_at=begin + position))
                for table in OTHERS_RECORDED:
                    connection.execute(table.update().where(table.c.recorded_at == at).values(recorded_at=begin + position))
            connection.execute(GROUP_TIME.update().values(recorded_at=begin + len(ahead)))
        return correct

    def drop_before(self, time: pd.Timestamp) -> int:
        """Let observations recorded before a time count no more, and delete the registrations of then.

        It is one transaction, so that features are made of all of it or of nothing. The observations are deleted afterwards
        (:meth:`delete_before`), which takes longer. The last registration before that time stays where the subject has
        observations since, which need it. So do merges, and the registrations of merged subjects, until nothing recorded since
        is of any of them.

        Returns:
            How many registrations were deleted.
        """
        return drop_recorded_before(
            self._engine, microsecond(time), lambda connection: microsecond(self._next_time(connection))
        )

    def delete_before(self, time: pd.Timestamp) -> dict[str, int]:
        """Delete observations, quarantined ones and repetitions recorded before a time; return how many of each table.

        Series without observations are deleted with them: they name subjects.
        """
        return delete_recorded_before(self._engine, microsecond(time))

    def forget(self, subjects: Sequence[str], delete: Callable[[list[str]], int]) -> int:
        """Call a function with those of some subjects of which the journal holds nothing; return what it returns.

        The journal is locked meanwhile. An identity is stored under the same lock before an observation, so no subject comes
        back in between.
        """

        def forget_unknown() -> int:
            with writing(self._engine) as connection:
                known: set[str] = set()
                for table in (SERIES, REVISIONS, REGISTRATIONS, TERMS, QUARANTINE, REPETITIONS):
                    query = sa.select(table.c.subject_id).distinct().where(table.c.subject_id.in_(subjects))
                    known |= set(connection.execute(query).scalars())
                known |= read_merges(connection, subjects).named
                return delete([subject for subject in subjects if subject not in known])

        return with_retries(forget_unknown)

    def _next_time(self, connection: sa.Connection) -> pd.Timestamp:
        """Return when the group that is written now is recorded: now, but never before nor with an earlier group.

        Where the clock was ahead, new groups are recorded right after those. Observations look older than they are, but none is
        lost, and :meth:`settle_clock` corrects the times.
        """
        last = connection.execute(sa.select(GROUP_TIME.c.recorded_at)).scalar()
        now = microsecond(pd.Timestamp(self._clock()))
        ahead = 0 if last is None else last - now
        is_ahead = ahead > _CLOCK_SLACK_US
        if is_ahead and not self._is_ahead:  # logged when it begins, not at every group
            logger.error(
                "%s: the last observation is recorded %.0f s ahead of the clock, so observations look older than they are; if "
                "the clock is right: vigil clock --settle",
                SCHEMA.file,
                ahead / 1e6,
            )
        self._is_ahead = is_ahead
        at = now if last is None else max(now, last + 1)
        upsert(connection, GROUP_TIME, [{"id": 1, "recorded_at": at}])
        return instant(at)
