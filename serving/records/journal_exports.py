"""The journal as it counted at one moment, for exports: who the patients of some wards were, and their readings in a stream.

Nothing that is recorded later appears, however long an export takes: a reading that was superseded since still counts. An
export tells all that counts, or what changed since an earlier one: both together are as much as one of everything.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Final

import sqlalchemy as sa

from vigil.serving.records.database import in_chunks
from vigil.serving.records.journal_intervals import recorded_between
from vigil.serving.records.journal_lookups import counting
from vigil.serving.records.journal_merges import read_merges
from vigil.serving.records.journal_readings import READING_COLUMNS, StoredReading
from vigil.serving.records.journal_tables import OBSERVATION_ROWS, OBSERVATIONS, REGISTRATIONS, SERIES
from vigil.serving.records.merges import Merges
from vigil.serving.records.registration import RecordedRegistration

_FETCHED: Final = 1_000  # rows at a time
_REGISTRATION: Final = [REGISTRATIONS.c[field.name] for field in fields(RecordedRegistration)]

Registrations = Mapping[str, RecordedRegistration]


@dataclass(frozen=True, slots=True)
class Member:
    """A patient of an export.

    Attributes:
        subject: the subject key.
        registration: the present one; None: they have readings, and were never registered.
        whole: keys of which everything is told: all, or those that did not count for this patient before.
        later: keys of which what was recorded since is told.
        lost: keys that counted for this patient before and count for no patient of the export any more.
        merged: registrations of the other keys, of those that have one.
    """

    subject: str
    registration: RecordedRegistration | None
    whole: frozenset[str]
    later: frozenset[str] = frozenset()
    lost: frozenset[str] = frozenset()
    merged: Registrations = field(default_factory=dict)

    @property
    def keys(self) -> list[str]:
        """Every key that counts for the patient."""
        return sorted(self.whole | self.later)


class JournalExport:
    """What an export tells: all that counted at a time, or what changed since an earlier one. Times are microseconds."""

    def __init__(self, connection: sa.Connection, wards: Collection[str] | None, since: int | None, until: int) -> None:
        """Read within one transaction.

        Args:
            connection: of the transaction.
            wards: of the patients; None: all.
            since: the time of the export before; None: there was none.
            until: the time of this one.
        """
        self._connection, self._wards, self._since, self._until = connection, wards, since, until

    def members(self, after: str, most: int) -> tuple[list[Member], str | None]:
        """Return the next patients after a subject key, and after which key the next ones are; None: there are none."""
        # Each has an index of its own.
        tables = (REGISTRATIONS, SERIES) if self._wards is None else (REGISTRATIONS,)
        each = [
            sa.select(table.c.subject_id).distinct().where(table.c.subject_id > after).order_by(table.c.subject_id).limit(most)
            for table in tables
        ]
        subjects = sorted({subject for query in each for subject in self._connection.execute(query).scalars()})[:most]
        present = self._registrations(subjects, self._until)
        merges = read_merges(self._connection, subjects, self._until)
        own = [subject for subject in subjects if self._is_member(subject, present, merges)]
        known = present.keys() | self._observed(set(own) - present.keys())
        own = [subject for subject in own if subject in known]
        return self._with_changes(own, present, merges), subjects[-1] if len(subjects) == most else None

    def _with_changes(self, subjects: Sequence[str], present: Registrations, merges: Merges) -> list[Member]:
        others = {subject: [key for key in merges.keys(subject) if key != subject] for subject in subjects}
        named = self._registrations([key for keys in others.values() for key in keys], self._until)
        before = {} if self._since is None else self._registrations(subjects, self._since)
        earlier = Merges([]) if self._since is None else read_merges(self._connection, subjects, self._since)
        members = []
        for subject in subjects:
            keys = frozenset((subject, *others[subject]))
            known: frozenset[str] = frozenset()
            if self._since is not None and self._is_member(subject, before, earlier):
                known = frozenset(earlier.keys(subject))
            members.append(
                Member(
                    subject,
                    present.get(subject),
                    whole=keys - known,
                    later=keys & known,
                    lost=self._without_members(known - keys),
                    merged={key: named[key] for key in others[subject] if key in named},
                )
            )
        return members

    def _is_member(self, subject: str, registrations: Registrations, merges: Merges) -> bool:
        """Return whether a subject is a patient of the export; of one of all wards also without any ward."""
        if merges.into(subject) is not None:
            return False
        registration = registrations.get(subject)
        return self._wards is None or (registration is not None and registration.ward in self._wards)

    def _without_members(self, keys: frozenset[str]) -> frozenset[str]:
        """Return those of some keys that count for no patient of the export."""
        if not keys:
            return keys
        merges = read_merges(self._connection, keys, self._until)
        survivors = {key: merges.survivor(key) for key in keys}
        present = self._registrations(list(survivors.values()), self._until)
        return frozenset(key for key, survivor in survivors.items() if not self._is_member(survivor, present, merges))

    def _observed(self, subjects: Collection[str]) -> set[str]:
        """Return those of some subjects of which a reading was recorded by the time of the export."""
        rows = OBSERVATION_ROWS.c
        of_series = (rows.series == SERIES.c.id) & (rows.recorded_at <= self._until)
        found: set[str] = set()
        for some in in_chunks(sorted(subjects)):
            for which in (rows.superseded_at.is_(None), rows.superseded_at.is_not(None)):  # each has an index of its own
                wanted = SERIES.c.subject_id.in_(some) & sa.exists().where(of_series, which)
                found |= set(self._connection.execute(sa.select(SERIES.c.subject_id).where(wanted)).scalars())
        return found

    def _registrations(self, subjects: Sequence[str], until: int) -> dict[str, RecordedRegistration]:
        found: dict[str, RecordedRegistration] = {}
        for some in in_chunks(subjects):
            wanted = REGISTRATIONS.c.subject_id.in_(some) & (REGISTRATIONS.c.recorded_at <= until)
            for row in self._connection.execute(
                sa.select(*_REGISTRATION).where(wanted).order_by(REGISTRATIONS.c.seq)
            ):  # the last one stays
                found[row.subject_id] = RecordedRegistration(*row)
        return found

    def readings(self, member: Member) -> Iterator[StoredReading]:
        """Yield the readings of a patient that count and are told, in the order in which they were observed.

        They are read while they are used, in one pass, so that their number does not matter.
        """
        parts = []
        if member.whole:
            parts.append(self._counting(OBSERVATIONS.c.subject_id.in_(member.whole)))
        if member.later and self._since is not None:
            recorded = recorded_between(self._since + 1, self._until)
            parts.append(self._counting(OBSERVATIONS.c.subject_id.in_(member.later) & recorded))
        if parts:
            query: sa.CompoundSelect[Any] = sa.union_all(*(select for part in parts for select in part.selects))
            yield from self._stream(query.order_by("observed_at", "seq"))

    def readings_at(self, keys: Iterable[str], times: Iterable[int]) -> list[StoredReading]:
        """Return all readings of some keys that were observed at some times, and count."""
        found: list[StoredReading] = []
        for some in in_chunks(sorted(set(times))):
            wanted = OBSERVATIONS.c.subject_id.in_(sorted(keys)) & OBSERVATIONS.c.observed_at.in_(some)
            found += self._stream(self._counting(wanted).order_by("seq"))
        return found

    def superseded(self, member: Member) -> Iterator[StoredReading]:
        """Yield the readings of a patient that do not count (any more), and may be known from an export before."""
        rows = OBSERVATIONS.c
        wanted = []
        if member.whole and self._since is not None:
            wanted.append(rows.subject_id.in_(member.whole) & (rows.superseded_at <= self._until))
        if member.later and self._since is not None:
            ended = rows.superseded_at.between(self._since + 1, self._until) & (rows.recorded_at <= self._since)
            wanted.append(rows.subject_id.in_(member.later) & ended)
        for which in wanted:
            yield from self._stream(sa.select(*READING_COLUMNS).where(which, rows.superseded_at.is_not(None)))

    def lost(self, member: Member) -> Iterator[StoredReading]:
        """Yield the readings that counted for a patient before, under keys that now count for others."""
        if member.lost and self._since is not None:
            yield from self._stream(counting(READING_COLUMNS, OBSERVATIONS.c.subject_id.in_(member.lost), self._since))

    def _counting(self, wanted: "sa.ColumnElement[bool]") -> "sa.CompoundSelect[Any]":
        return counting(READING_COLUMNS, wanted, self._until)

    def _stream(self, query: "sa.Select[Any] | sa.CompoundSelect[Any]") -> Iterator[StoredReading]:
        for rows in self._connection.execute(query).partitions(_FETCHED):
            for row in rows:
                reading = StoredReading(*row)
                is_later = reading.superseded_at is not None and reading.superseded_at > self._until
                yield reading._replace(superseded_at=None) if is_later else reading
