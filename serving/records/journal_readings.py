"""Readings of the journal one by one, with their number, in pages: for those who show them to others.

A page continues after the last row of the page before. So pages neither repeat nor leave out a row, whatever is recorded
between two of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Final, NamedTuple

import sqlalchemy as sa

from vigil.features.oxygen import SUFFIX
from vigil.features.signals import measured_signal
from vigil.serving.records.journal_intervals import dropped_before, recorded_between
from vigil.serving.records.journal_rows import digest_origin, shorten
from vigil.serving.records.journal_tables import MERGES, OBSERVATIONS, REGISTRATIONS, REVISIONS
from vigil.serving.records.registration import RecordedRegistration

LAST: Final = 2**62  # later than any time, in microseconds
READING_COLUMNS: Final = [column for column in OBSERVATIONS.c if column.name != "message"]
_DERIVED: Final = SUFFIX.encode()
_REGISTRATION: Final = [REGISTRATIONS.c[field.name] for field in fields(RecordedRegistration)]


class Interval(NamedTuple):
    """An interval of time that holds both its ends, microseconds."""

    since: int = -LAST
    until: int = LAST


ALWAYS: Final = Interval()


class StoredReading(NamedTuple):
    """A reading as it is in the journal.

    Attributes:
        row: its number, the same for ever.
        subject_id: the key that it was recorded under.
        signal: a key of :data:`vigil.features.signals.STORED`: of a bound, the signal that holds bounds.
        observed_at, recorded_at: microseconds.
        value: in the signal's unit.
        device_id, source: who sent it; None: not said.
        origin: digest of what its versions have in common, shortened; None: an early version of Vigil stored none.
        version: None: the original.
        superseded_at: from when on it does not count, microseconds; None: it counts.
    """

    row: int
    subject_id: str
    signal: str
    observed_at: int
    value: float
    recorded_at: int
    device_id: str | None
    source: str | None
    origin: bytes | None
    version: int | None
    superseded_at: int | None

    @property
    def is_derived(self) -> bool:
        """Whether it follows from another reading: supplemental oxygen from its fraction."""
        return self.origin is not None and self.origin.endswith(_DERIVED)

    def is_of_message(self, message: str) -> bool:
        """Return whether a message of this reading's source holds it."""
        key = (self.source or "", message, self.subject_id, measured_signal(self.signal))
        return self.origin == shorten(digest_origin(key))


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which readings are asked for.

    Attributes:
        keys: of subjects.
        signals: keys of :data:`vigil.features.signals.STORED`; None: all.
        observed, recorded: when.
        by_time: ordered by the time of observation rather than that of recording.
        newest_first: in the other direction.
        with_superseded: also those that count no more.
    """

    keys: Sequence[str]
    signals: Sequence[str] | None = None
    observed: Interval = ALWAYS
    recorded: Interval = ALWAYS
    by_time: bool = False
    newest_first: bool = False
    with_superseded: bool = False


def read_page(connection: sa.Connection, wanted: Wanted, after: int | None, most: int) -> list[StoredReading]:
    """Return the next readings, at most so many, after a row; None: the first ones.

    After a row that the journal does not hold (any more) there is none.
    """
    rows = OBSERVATIONS.c
    condition = rows.subject_id.in_(wanted.keys) & (rows.recorded_at >= dropped_before())
    if not wanted.with_superseded:
        condition &= rows.superseded_at.is_(None)
    condition &= rows.observed_at.between(*wanted.observed)
    if wanted.recorded != ALWAYS:
        condition &= recorded_between(*wanted.recorded)
    if wanted.signals is not None:
        condition &= rows.signal.in_(wanted.signals)
    order = (rows.observed_at, rows.seq) if wanted.by_time else (rows.seq,)
    if after is not None:
        last = find_rows(connection, [after])
        if not last:
            return []
        place = sa.tuple_(*order)
        end = sa.tuple_(*((last[0].observed_at, after) if wanted.by_time else (after,)))
        condition &= place < end if wanted.newest_first else place > end
    query = sa.select(*READING_COLUMNS).where(condition)
    query = query.order_by(*(column.desc() if wanted.newest_first else column for column in order)).limit(most)
    return [StoredReading(*row) for row in connection.execute(query)]


def find_rows(connection: sa.Connection, numbers: Sequence[int]) -> list[StoredReading]:
    """Return readings by their numbers, those that count no more, too. What retention dropped is left out."""
    query = sa.select(*READING_COLUMNS).where(OBSERVATIONS.c.seq.in_(numbers), OBSERVATIONS.c.recorded_at >= dropped_before())
    return [StoredReading(*row) for row in connection.execute(query.order_by(OBSERVATIONS.c.seq))]


def find_at(connection: sa.Connection, keys: Sequence[str], times: Sequence[int]) -> list[StoredReading]:
    """Return the readings of subjects that were observed at some times, and count."""
    query = sa.select(*READING_COLUMNS).where(
        OBSERVATIONS.c.subject_id.in_(keys),
        OBSERVATIONS.c.observed_at.in_(times),
        OBSERVATIONS.c.superseded_at.is_(None),
        OBSERVATIONS.c.recorded_at >= dropped_before(),
    )
    return [StoredReading(*row) for row in connection.execute(query.order_by(OBSERVATIONS.c.seq))]


def is_retracted(connection: sa.Connection, reading: StoredReading) -> bool:
    """Return whether what superseded a reading was a retraction, and not a correction."""
    if reading.superseded_at is None:
        return False
    query = sa.select(REVISIONS.c.is_retracted, REVISIONS.c.origin).where(
        REVISIONS.c.subject_id == reading.subject_id, REVISIONS.c.recorded_at == reading.superseded_at
    )
    return any(row.is_retracted for row in connection.execute(query) if shorten(row.origin) == reading.origin)


def read_registrations(
    connection: sa.Connection, wards: Sequence[str] | None, recorded: Interval, after: int, most: int
) -> list[tuple[int, RecordedRegistration]]:
    """Return the present registrations of subjects in wards (None: in all), after a number, each with its number.

    Subjects that are merged into others are left out.
    """
    condition = _is_present() & (REGISTRATIONS.c.seq > after) & REGISTRATIONS.c.recorded_at.between(*recorded)
    if wards is not None:
        condition &= REGISTRATIONS.c.ward.in_(wards)
    query = sa.select(REGISTRATIONS.c.seq, *_REGISTRATION).where(condition).order_by(REGISTRATIONS.c.seq).limit(most)
    return [(row[0], RecordedRegistration(*row[1:])) for row in connection.execute(query)]


def count_patients(connection: sa.Connection) -> dict[str, int]:
    """Return how many patients are in each ward: registered, not discharged and not merged. Wards that are empty now have 0."""
    is_there = _is_present() & ~REGISTRATIONS.c.discharged
    counts = connection.execute(sa.select(REGISTRATIONS.c.ward, sa.func.count()).where(is_there).group_by(REGISTRATIONS.c.ward))
    wards = connection.execute(sa.select(REGISTRATIONS.c.ward).distinct().order_by(REGISTRATIONS.c.ward)).scalars()
    return dict.fromkeys(wards, 0) | {row[0]: row[1] for row in counts}


def _is_present() -> "sa.ColumnElement[bool]":
    """Return the condition that a registration is the present one of a subject that is not merged into another."""
    latest = sa.select(sa.func.max(REGISTRATIONS.c.seq)).group_by(REGISTRATIONS.c.subject_id)
    last_merge = sa.select(sa.func.max(MERGES.c.seq)).group_by(MERGES.c.subject_id)
    merged = sa.select(MERGES.c.subject_id).where(MERGES.c.seq.in_(last_merge), MERGES.c.into.is_not(None))
    return REGISTRATIONS.c.seq.in_(latest) & REGISTRATIONS.c.subject_id.not_in(merged)
