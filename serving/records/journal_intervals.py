"""Intervals of recording, as conditions on observations.

Observations are numbered in the order of their groups, so ``seq`` ascends with ``recorded_at``. An index of one row in 64 is
enough to find where an interval begins and ends.
"""

from typing import Final

import sqlalchemy as sa

from vigil.serving.records.journal_tables import OBSERVATION_ROWS, OBSERVATIONS, RETENTIONS, is_milestone

Time = int | sa.BindParameter[int]

_MILESTONES: Final = OBSERVATION_ROWS.alias("milestones")
_LAST_SEQ: Final = 2**62


def recorded_between(since: Time, until: Time, rows: sa.FromClause = OBSERVATIONS) -> sa.ColumnElement[bool]:
    """Return the condition that an observation was recorded in an interval (microseconds) that holds both its ends."""
    return recorded_since(since, rows) & _recorded_until(until, rows)


def recorded_since(time: Time, rows: sa.FromClause = OBSERVATIONS) -> sa.ColumnElement[bool]:
    """Return the condition that an observation was recorded at or after a time (microseconds)."""
    before = _milestone(_MILESTONES.c.recorded_at < time, _MILESTONES.c.recorded_at.desc(), _MILESTONES.c.seq.desc())
    return (rows.c.recorded_at >= time) & (rows.c.seq >= sa.func.coalesce(before, 0))


def recorded_before(time: int, rows: sa.FromClause = OBSERVATIONS) -> sa.ColumnElement[bool]:
    """Return the condition that an observation was recorded before a time (microseconds)."""
    return _recorded_until(time - 1, rows)


def dropped_before() -> "sa.ScalarSelect[int]":
    """Return the time before which nothing counts any more, even while retention is still deleting it."""
    return sa.select(sa.func.coalesce(sa.func.max(RETENTIONS.c.before), 0)).scalar_subquery()


def _recorded_until(time: Time, rows: sa.FromClause) -> sa.ColumnElement[bool]:
    after = _milestone(_MILESTONES.c.recorded_at > time, _MILESTONES.c.recorded_at, _MILESTONES.c.seq)
    return (rows.c.recorded_at <= time) & (rows.c.seq <= sa.func.coalesce(after, _LAST_SEQ))


def _milestone(condition: sa.ColumnElement[bool], *order: "sa.ColumnElement[int]") -> "sa.ScalarSelect[int]":
    query = sa.select(_MILESTONES.c.seq).where(condition, is_milestone(_MILESTONES)).order_by(*order)
    return query.limit(1).scalar_subquery()
