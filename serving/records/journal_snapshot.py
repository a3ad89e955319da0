"""The journal as it stands at one moment, for those who make features or look for faults."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from typing import Any, Final, NamedTuple

import numpy as np
import pandas as pd
import sqlalchemy as sa

from features.signals import BOUNDS
from models.alarms.critical_bounds import STANDS_US, Bound, standing_bounds
from serving.records.journal_latest import Latest, read_latest
from serving.records.journal_tables import OBSERVATIONS, QUARANTINE, REGISTRATIONS, REPETITIONS, RETENTIONS, REVISIONS
from serving.records.registration import RecordedRegistration
from serving.records.timestamps import instants

_CHUNK: Final = 500  # values in a query
_SENT: Final = ["signal", "value", "comparator", "observed_at", "device_id", "source"]


def _counting(
    columns: "Sequence[sa.Column[Any]]", wanted: "sa.ColumnElement[bool]", until: "int | sa.BindParameter[int]"
) -> "sa.CompoundSelect[Any]":
    """Return the query of those observations that count at a time.

    Observations that retention dropped are left out, even while it is still deleting them.
    """
    dropped = sa.select(sa.func.coalesce(sa.func.max(RETENTIONS.c.before), 0)).scalar_subquery()
    wanted &= (OBSERVATIONS.c.recorded_at <= until) & (OBSERVATIONS.c.recorded_at >= dropped)
    counted = (OBSERVATIONS.c.superseded_at.is_(None), OBSERVATIONS.c.superseded_at > until)  # an index for each
    return sa.union_all(*(sa.select(*columns).where(wanted, which) for which in counted))


# Executed with every risk, so they are made once.
_SINCE: Final[sa.BindParameter[int]] = sa.bindparam("since", type_=sa.BigInteger)
_UNTIL: Final[sa.BindParameter[int]] = sa.bindparam("until", type_=sa.BigInteger)
_BOUND_COLUMNS: Final = [
    OBSERVATIONS.c[name] for name in ("subject_id", "signal", "value", "observed_at", "recorded_at", "seq")
]
_IS_BOUND: Final = OBSERVATIONS.c.signal.in_(BOUNDS)
_ARRIVED_BOUNDS: Final = _counting(_BOUND_COLUMNS, _IS_BOUND & OBSERVATIONS.c.recorded_at.between(_SINCE, _UNTIL), _UNTIL)
_OBSERVED: Final = OBSERVATIONS.c.observed_at.between(_SINCE, _UNTIL)
_BOUNDS_OF: Final = _counting(
    _BOUND_COLUMNS, OBSERVATIONS.c.subject_id.in_(sa.bindparam("subjects", expanding=True)) & _IS_BOUND & _OBSERVED, _UNTIL
)
_VALUES: Final = _counting(
    [OBSERVATIONS.c[name] for name in ("signal", "observed_at", "value")],
    (OBSERVATIONS.c.subject_id == sa.bindparam("subject"))
    & OBSERVATIONS.c.signal.in_(sa.bindparam("signals", expanding=True))
    & _OBSERVED,
    _UNTIL,
)


class Superseded(NamedTuple):
    """Times of an observation in whose place a newer version counts, or nothing; microseconds."""

    observed_at: int
    recorded_at: int


class JournalSnapshot:
    """One read transaction. All times are microseconds, and intervals hold their later end but not their earlier one."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def end_of_groups(self, after: int, until: int, most: int) -> int | None:
        """Return the time of the group that holds the last of the next ``most`` observations; a group is never divided.

        None: there is no group in the interval.
        """
        new = sa.select(OBSERVATIONS.c.recorded_at).where(OBSERVATIONS.c.recorded_at.between(after + 1, until))
        some = new.order_by(OBSERVATIONS.c.recorded_at).limit(most).subquery()
        last, number = self._connection.execute(sa.select(sa.func.max(some.c.recorded_at), sa.func.count())).one()
        if number == most:
            return int(last)
        others = [
            self._connection.execute(
                sa.select(sa.func.max(table.c.recorded_at)).where(table.c.recorded_at.between(after + 1, until))
            ).scalar()
            for table in (REGISTRATIONS, REVISIONS)
        ]
        ends = [end for end in (last, *others) if end is not None]
        return max(ends) if ends else None

    def observations(self, after: int, until: int, subject: str | None = None) -> pd.DataFrame:
        """Return accepted observations by time of recording, of all subjects or of one, as they counted at ``until``."""
        wanted: sa.ColumnElement[bool] = OBSERVATIONS.c.recorded_at.between(after + 1, until)
        if subject is not None:
            wanted = OBSERVATIONS.c.subject_id == subject
        columns = [column for column in OBSERVATIONS.c if column.name not in ("origin", "version", "superseded_at")]
        rows = self._frame(_counting(columns, wanted, until).order_by("recorded_at", "seq"))
        return rows.assign(observed_at=instants(rows["observed_at"]), recorded_at=instants(rows["recorded_at"]))

    def latest(self, subject: str, until: int) -> Mapping[str, Latest]:
        """Return the latest value of each NEWS2 component of a subject, as it counted at a time, with who sent it."""
        return read_latest(self._connection, [subject], until)

    def registered(self, after: int, until: int) -> dict[str, int]:
        """Return the subjects that were registered in an interval, and the time of the last registration of each."""
        query = sa.select(REGISTRATIONS.c.subject_id, REGISTRATIONS.c.recorded_at)
        rows = self._connection.execute(query.where(REGISTRATIONS.c.recorded_at.between(after + 1, until)))
        return {row.subject_id: row.recorded_at for row in rows}

    def registration(self, subject: str, until: int) -> RecordedRegistration | None:
        """Return the last registration of a subject up to a time."""
        columns = [REGISTRATIONS.c[field.name] for field in fields(RecordedRegistration)]
        query = sa.select(*columns).where(REGISTRATIONS.c.subject_id == subject, REGISTRATIONS.c.recorded_at <= until)
        row = self._connection.execute(query.order_by(REGISTRATIONS.c.seq.desc()).limit(1)).first()
        return None if row is None else RecordedRegistration(*row)

    def revised(self, after: int, until: int) -> dict[str, int]:
        """Return the subjects with a correction or retraction in an interval, and the time of the first of each."""
        first = sa.select(REVISIONS.c.subject_id, sa.func.min(REVISIONS.c.recorded_at))
        wanted = first.where(REVISIONS.c.recorded_at.between(after + 1, until)).group_by(REVISIONS.c.subject_id)
        return {row[0]: row[1] for row in self._connection.execute(wanted)}

    def superseded(self, after: int, until: int) -> dict[str, list[Superseded]]:
        """Return the observations that were corrected or retracted in an interval, by subject."""
        columns = [OBSERVATIONS.c[name] for name in ("subject_id", "observed_at", "recorded_at")]
        query = sa.select(*columns).where(OBSERVATIONS.c.superseded_at.between(after + 1, until))
        found: dict[str, list[Superseded]] = {}
        for row in self._connection.execute(query):
            found.setdefault(row.subject_id, []).append(Superseded(row.observed_at, row.recorded_at))
        return found

    def arrived_bounds(self, after: int, until: int) -> dict[str, list[Bound]]:
        """Return the bounds recorded in an interval that count at its end, by subject, in the order they were observed."""
        return _by_subject(self._connection.execute(_ARRIVED_BOUNDS, {"since": after + 1, "until": until}))

    def bounds(self, subject: str, after: int, until: int) -> list[Bound]:
        """Return the bounds of a subject observed in an interval, as of its end, in the order they were observed."""
        return _by_subject(self._bounds([subject], after, until)).get(subject, [])

    def standing_bounds(self, times: Mapping[str, int]) -> dict[str, tuple[Bound, ...]]:
        """Return the bounds that stand, each subject's at a time of its own (microseconds); only of subjects that have any."""
        subjects, rows = list(times), []
        for first in range(0, len(subjects), _CHUNK):
            some = subjects[first : first + _CHUNK]
            ends = [times[subject] for subject in some]
            rows += [
                row for row in self._bounds(some, min(ends) - STANDS_US, max(ends)) if row.recorded_at <= times[row.subject_id]
            ]
        standing = {}
        for subject, bounds in _by_subject(rows).items():
            interval = {"since": bounds[0].observed_at + 1, "until": times[subject]}
            signals = {"subject": subject, "signals": [bound.signal for bound in bounds]}
            values = self._connection.execute(_VALUES, interval | signals)
            taken = [(row.signal, row.observed_at, row.value) for row in values]
            standing[subject] = standing_bounds(bounds, taken, times[subject])
        return {subject: bounds for subject, bounds in standing.items() if bounds}

    def _bounds(self, subjects: Sequence[str], after: int, until: int) -> "Sequence[sa.Row[Any]]":
        interval = {"subjects": subjects, "since": after + 1, "until": until}
        return self._connection.execute(_BOUNDS_OF, interval).all()

    def last_revision(self, subject: str, until: int) -> int:
        """Return when the last correction or retraction of a subject up to a time was recorded; 0: there is none."""
        last = sa.select(sa.func.max(REVISIONS.c.recorded_at))
        wanted = last.where(REVISIONS.c.subject_id == subject, REVISIONS.c.recorded_at <= until)
        return self._connection.execute(wanted).scalar() or 0

    def recorded_times(self, subject: str, after: int, until: int) -> set[int]:
        """Return the times of the groups in an interval that hold something of a subject."""
        queries = [
            sa.select(table.c.recorded_at).where(table.c.subject_id == subject, table.c.recorded_at.between(after + 1, until))
            for table in (OBSERVATIONS, REVISIONS, REGISTRATIONS)
        ]
        return set(self._connection.execute(sa.union(*queries)).scalars())

    def last_retention(self) -> int | None:
        """Return when retention last dropped observations; None: never."""
        return self._connection.execute(sa.select(sa.func.max(RETENTIONS.c.recorded_at))).scalar()

    def quarantined(self, after: int, until: int) -> pd.DataFrame:
        """Return quarantined observations of an interval: ``subject_id, recorded_at, reason`` and the fields as sent."""
        columns = [QUARANTINE.c[name] for name in ("subject_id", "recorded_at", "reason", "observation")]
        rows = self._frame(sa.select(*columns).where(QUARANTINE.c.recorded_at.between(after + 1, until)))
        sent = pd.DataFrame([json.loads(text) for text in rows.pop("observation")], index=rows.index).reindex(columns=_SENT)
        sent["observed_at"] = pd.to_datetime(sent["observed_at"], format="ISO8601", utc=True, errors="coerce")
        return rows.assign(recorded_at=instants(rows["recorded_at"])).join(sent)

    def repetitions(self, after: int, until: int) -> pd.DataFrame:
        """Return repeated observations of an interval, one row each, without a value, as of the time they arrived."""
        rows = self._frame(sa.select(REPETITIONS).where(REPETITIONS.c.recorded_at.between(after + 1, until)))
        rows = rows.loc[rows.index.repeat(rows["times"])]
        recorded_at = instants(rows["recorded_at"])
        return rows.assign(recorded_at=recorded_at, observed_at=recorded_at, reason="duplicate_message", value=np.nan)

    def _frame(self, query: "sa.Select[Any] | sa.CompoundSelect[Any]") -> pd.DataFrame:
        result = self._connection.execute(query)
        return pd.DataFrame(result.all(), columns=list(result.keys()))


def _by_subject(rows: "Iterable[sa.Row[Any]]") -> dict[str, list[Bound]]:
    """Return rows of bounds by subject, in the order they were observed."""
    found: dict[str, list[Bound]] = {}
    for row in sorted(rows, key=lambda row: (row.observed_at, row.recorded_at, row.seq)):
        found.setdefault(row.subject_id, []).append(Bound(row.signal, row.value, row.observed_at))
    return found
