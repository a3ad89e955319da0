"""Alarms in pages, for those who show them to others: in the order in which they opened, each once."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import sqlalchemy as sa

from vigil.serving.records.journal_readings import ALWAYS, Interval
from vigil.serving.records.ward_tables import ACTIONS, ALARMS

_CHANGED_AT = tuple(ALARMS.c[name] for name in ("opened_at", "last_sounded_at", "ended_at", "basis_retracted_at"))


class AlarmPlace(NamedTuple):
    """Where an alarm is in the order of alarms, whether it is still there or not."""

    opened_at: int
    alarm_id: str


@dataclass(frozen=True, slots=True)
class WantedAlarms:
    """Which alarms are asked for.

    Attributes:
        wards: None: all.
        subject: None: all.
        ids: of alarms; None: any.
        opened: when.
        changed: when they last changed.
        has_ended: None: whether or not.
        newest_first: in the other direction.
    """

    wards: Sequence[str] | None = None
    subject: str | None = None
    ids: Sequence[str] | None = None
    opened: Interval = ALWAYS
    changed: Interval = ALWAYS
    has_ended: bool | None = None
    newest_first: bool = False


def alarm_query(wanted: WantedAlarms, after: AlarmPlace | None, most: int) -> "sa.Select[Any]":
    """Return the query of the next alarms, at most so many, after a place; None: the first ones."""
    alarms = ALARMS.c
    condition: sa.ColumnElement[bool] = alarms.opened_at.between(*wanted.opened)
    for column, values in ((alarms.ward, wanted.wards), (alarms.alarm_id, wanted.ids)):
        if values is not None:
            condition &= column.in_(values)
    if wanted.subject is not None:
        condition &= alarms.subject_id == wanted.subject
    if wanted.has_ended is not None:
        condition &= alarms.ended_at.is_not(None) if wanted.has_ended else alarms.ended_at.is_(None)
    if wanted.changed != ALWAYS:
        condition &= _changed(wanted.changed.since) & ~_changed(wanted.changed.until + 1)
    order = (alarms.opened_at, alarms.alarm_id)
    if after is not None:
        place, last = sa.tuple_(*order), sa.tuple_(*after)
        condition &= place < last if wanted.newest_first else place > last
    query = sa.select(ALARMS).where(condition)
    return query.order_by(*(column.desc() if wanted.newest_first else column for column in order)).limit(most)


def _changed(since: int) -> sa.ColumnElement[bool]:
    """Return the condition that an alarm changed at or after a time."""
    acted = sa.exists().where(ACTIONS.c.alarm_id == ALARMS.c.alarm_id, ACTIONS.c.at >= since)
    return sa.or_(*(sa.func.coalesce(column, 0) >= since for column in _CHANGED_AT), acted)
