"""The state of the wards: each subject's latest risk, the alarms, and what changed, in order.

Everything one step of the rescorer decides is committed in one transaction, with the position in the journal it was made from.
So whenever the process is killed, the state is consistent: no alarm is decided twice, and none is lost.
"""

import json
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import pandas as pd
import sqlalchemy as sa

from vigil.features.errors import VigilError
from vigil.features.signals import bound_name
from vigil.models.alarms.policy import AlarmState, Episode, Hold, limit_name
from vigil.serving.records.alarm_search import AlarmPlace, WantedAlarms, alarm_query
from vigil.serving.records.database import (
    Schema,
    as_row,
    delete_in_steps,
    in_chunks,
    open_database,
    reading,
    upsert,
    with_retries,
    writing,
)
from vigil.serving.records.event_log import add_events
from vigil.serving.records.lookups import ChangeWatch, Lookup
from vigil.serving.records.silences import Silences
from vigil.serving.records.timestamps import instant, microsecond
from vigil.serving.records.ward_rows import Action, Alarm, AlarmAction, AlarmCounts, Event, NumberedEvent, WardRisk, WardUpdate
from vigil.serving.records.ward_tables import ACTIONS, ALARMS, EVENT_NUMBERS, EVENTS, METADATA, PROGRESS, RISKS, SILENCES

SCHEMA: Final = Schema("ward_state", METADATA, revision="0007", former_file="board.db")

_ALARM_IDS: Final = uuid.UUID("6f0c9a52-6a3b-4f0e-9f0e-2d1b7c8e5a41")
_JOURNAL: Final = "journal"  # progress: time of the last group that is in the risks
_HEARTBEAT: Final = "heartbeat"
_EVENTS: Final = sa.select(*(EVENTS.c[name] for name in ("ward", "subject_id", "kind", "at", "body", "number")))
_ALARM_COLUMNS: Final = tuple(column.name for column in ALARMS.columns)


_OF_SUBJECT: Final = sa.bindparam("subject", type_=sa.String)
_STANDING: Final = sa.select(
    sa.select(PROGRESS.c.at).where(PROGRESS.c.name == sa.literal(_JOURNAL)).scalar_subquery(),
    sa.select(sa.func.max(sa.func.coalesce(SILENCES.c.resolved_at, SILENCES.c.raised_at)))
    .where(SILENCES.c.subject_id == _OF_SUBJECT)
    .scalar_subquery(),
    *RISKS.columns,
).where(RISKS.c.subject_id == _OF_SUBJECT)
_RISK_COLUMNS: Final = {column.name: isinstance(column.type, sa.JSON) for column in RISKS.columns}  # whether it is JSON


@dataclass(frozen=True, slots=True)
class Standing:
    """The latest risk of a subject, as it is stored, and how far it reaches.

    Attributes:
        read_until: time up to which the journal is in the risks, microseconds.
        silence_changed_at: when a signal of the subject last stopped or returned; None: never.
        stored: the columns of the risk, by name; JSON is text.
    """

    read_until: int
    silence_changed_at: int | None
    stored: Mapping[str, Any]

    def risk(self) -> WardRisk:
        """Return the risk."""
        return WardRisk(
            **{
                name: json.loads(value) if _RISK_COLUMNS[name] and value is not None else value
                for name, value in self.stored.items()
            }
        )


class OvertakenError(VigilError):
    """An update does not follow the state that is there."""


class AlreadyDoneError(VigilError):
    """Another action about the alarm stands. ``status``: the alarm's."""

    def __init__(self, status: str) -> None:
        super().__init__(f"alarm: {status} already")
        self.status = status


class WardState:
    """The ward state of one home. The rescorer writes risks, alarms and events; the API what was done about an alarm."""

    def __init__(self, home: Path) -> None:
        self._engine = open_database(home, SCHEMA)
        self._standing = Lookup(self._engine, _STANDING)
        self._watch = ChangeWatch(self._engine)
        self.silences = Silences(self._engine)

    def reread_from(self, time: int) -> None:
        """Let the rescorer read the journal from a time (microseconds) again, where it has read further."""
        further = (PROGRESS.c.name == _JOURNAL) & (PROGRESS.c.at > time)
        with writing(self._engine) as connection:
            connection.execute(PROGRESS.update().where(further).values(at=time))

    def commit(self, update: WardUpdate, read_until: int, at: pd.Timestamp, *, follows: int) -> None:
        """Commit an update made from the journal up to a time, which ``follows`` the present state (both microseconds).

        Raises:
            OvertakenError: another rescorer committed meanwhile; nothing was changed.
        """
        with writing(self._engine) as connection:
            present = connection.execute(sa.select(PROGRESS.c.at).where(PROGRESS.c.name == _JOURNAL)).scalar() or 0
            if present != follows:
                raise OvertakenError("ward state: another rescorer writes it, too; end all servers of this home but one")
            upsert(connection, RISKS, [as_row(risk) for risk in update.risks])
            for subject in update.removed:
                connection.execute(RISKS.delete().where(RISKS.c.subject_id == subject))
            if update.opened:
                opened = [{name: getattr(alarm, name) for name in _ALARM_COLUMNS} for alarm in update.opened]
                connection.execute(ALARMS.insert(), opened)
            for change in update.changed:
                connection.execute(ALARMS.update().where(ALARMS.c.alarm_id == change.alarm_id).values(dict(change.values)))
            add_events(connection, update.events)
            upsert(
                connection,
                PROGRESS,
                [{"name": _JOURNAL, "at": read_until}, {"name": _HEARTBEAT, "at": microsecond(at)}],
            )

    def heartbeat(self, at: pd.Timestamp) -> None:
        """Record that the rescorer is alive."""
        with writing(self._engine) as connection:
            upsert(connection, PROGRESS, [{"name": _HEARTBEAT, "at": microsecond(at)}])

    def progress(self) -> tuple[int, pd.Timestamp | None]:
        """Return up to which time the journal is in the risks (microseconds), and when the rescorer was last alive."""
        with reading(self._engine) as connection:
            times = {row.name: row.at for row in connection.execute(sa.select(PROGRESS))}
        return times.get(_JOURNAL, 0), instant(times[_HEARTBEAT]) if _HEARTBEAT in times else None

    def alarm_states(self, since: pd.Timestamp) -> dict[str, AlarmState]:
        """Return what the alarm policy must remember: open episodes, and alarms that sounded since a time."""
        relevant = ALARMS.c.ended_at.is_(None) | (ALARMS.c.last_sounded_at >= microsecond(since))
        urgent = sa.select(RISKS.c.subject_id, RISKS.c.urgent_since, RISKS.c.dipped_at).where(RISKS.c.urgent_since.is_not(None))
        states: dict[str, AlarmState] = {}
        with reading(self._engine) as connection:
            for row in connection.execute(urgent):
                dipped_at = None if row.dipped_at is None else instant(row.dipped_at)
                states[row.subject_id] = AlarmState(hold=Hold(instant(row.urgent_since), dipped_at))
            for row in connection.execute(sa.select(ALARMS).where(relevant).order_by(ALARMS.c.opened_at)):
                before = states.get(row.subject_id, AlarmState())
                sounded = before.last_sounded_at if row.last_sounded_at is None else instant(row.last_sounded_at)
                is_open = row.ended_at is None
                bounds = tuple(_policy_name(bound) for bound in row.bounds or ())
                episode = Episode(instant(row.opened_at), row.sounded, bool(row.emergency), bounds) if is_open else None
                limits = {name: instant(at) for name, at in (row.limits or {}).items()}
                states[row.subject_id] = AlarmState(episode, sounded, before.hold, {**before.limits, **limits})
        return states

    def risks(self, ward: str | None = None) -> list[WardRisk]:
        """Return the latest risk of every subject, or of those in a ward."""
        query = sa.select(RISKS) if ward is None else sa.select(RISKS).where(RISKS.c.ward == ward)
        with reading(self._engine) as connection:
            return [WardRisk(**row) for row in connection.execute(query).mappings()]

    def has_changed(self) -> bool:
        """Return whether another connection wrote since the last call. For one thread."""
        return self._watch.has_changed()

    def standing(self, subject: str) -> Standing | None:
        """Return the latest risk of a subject; None: there is none."""
        for read_until, silence_changed_at, *columns in self._standing.rows(subject=subject):
            return Standing(read_until or 0, silence_changed_at, dict(zip(_RISK_COLUMNS, columns, strict=True)))
        return None

    def stale_subjects(self, since: pd.Timestamp) -> list[str]:
        """Return the subjects whose latest risk is as of an earlier time."""
        query = sa.select(RISKS.c.subject_id).where(RISKS.c.index_time < microsecond(since))
        with reading(self._engine) as connection:
            return list(connection.execute(query).scalars())

    def count_alarms(self, ward: str, since: pd.Timestamp) -> int:
        """Return how many alarms sounded in a ward since a time."""
        alarms = (EVENTS.c.ward == ward) & (EVENTS.c.kind == "alarm") & (EVENTS.c.at >= microsecond(since))
        with reading(self._engine) as connection:
            return int(connection.execute(sa.select(sa.func.count()).where(alarms)).scalar_one())

    def count_episodes(self, since: pd.Timestamp) -> dict[str, AlarmCounts]:
        """Return how many episodes began since a time, and what became of them, by ward."""
        sounded = ALARMS.c.sounded > 0
        conditions = (sounded, ~sounded, *(sounded & (ALARMS.c.status == status) for status in ("acknowledged", "overridden")))
        counts = [sa.func.sum(sa.case((condition, 1), else_=0)) for condition in conditions]
        query = sa.select(ALARMS.c.ward, *counts).where(ALARMS.c.opened_at >= microsecond(since)).group_by(ALARMS.c.ward)
        with reading(self._engine) as connection:
            return {row[0]: AlarmCounts(*row[1:]) for row in connection.execute(query)}

    def count_subjects(self, ward: str) -> int:
        """Return how many subjects of a ward have a risk."""
        with reading(self._engine) as connection:
            return int(connection.execute(sa.select(sa.func.count()).where(RISKS.c.ward == ward)).scalar_one())

    def alarms(
        self,
        *,
        wards: Iterable[str] | None = None,
        subject: str | None = None,
        status: str | None = None,
        before: pd.Timestamp | None = None,
        limit: int = 500,
    ) -> list[Alarm]:
        """Return alarms with their actions, newest first.

        Args:
            wards: None: all.
            subject: None: all.
            status: ``open``, or an :data:`Action`.
            before: only those opened before a time.
            limit: exceeded where more were opened at the very instant of the last, so that a caller who goes on ``before`` it
                misses none.
        """
        query = sa.select(ALARMS).order_by(ALARMS.c.opened_at.desc(), ALARMS.c.alarm_id)
        if before is not None:
            query = query.where(ALARMS.c.opened_at < microsecond(before))
        if wards is not None:
            query = query.where(ALARMS.c.ward.in_(list(wards)))
        if subject is not None:
            query = query.where(ALARMS.c.subject_id == subject)
        if status is not None:
            query = query.where(ALARMS.c.status == status)
        last = query.with_only_columns(ALARMS.c.opened_at).limit(1).offset(limit - 1).scalar_subquery()
        return self._with_actions(query.where(ALARMS.c.opened_at >= sa.func.coalesce(last, 0)))

    def alarm_page(self, wanted: WantedAlarms, after: AlarmPlace | None, most: int) -> list[Alarm]:
        """Return the next alarms with their actions, at most so many, after a place; None: the first ones."""
        return self._with_actions(alarm_query(wanted, after, most))

    def open_alarms(self, ward: str) -> dict[str, Alarm]:
        """Return the alarm of each subject of a ward whose episode has not ended, by subject; without actions."""
        query = sa.select(ALARMS).where(ALARMS.c.ward == ward, ALARMS.c.ended_at.is_(None))
        with reading(self._engine) as connection:
            return {row["subject_id"]: Alarm(**row) for row in connection.execute(query).mappings()}

    def alarm(self, alarm_id: str) -> Alarm | None:
        """Return one alarm with its actions."""
        alarms = self._with_actions(sa.select(ALARMS).where(ALARMS.c.alarm_id == alarm_id))
        return alarms[0] if alarms else None

    def record_action(self, alarm_id: str, action: Action, by: str, reason: str | None, at: pd.Timestamp) -> bool:
        """Record what was done about an alarm; return False if just that was recorded before, or there is no such alarm.

        One override may follow acknowledgements, never the other way round: an action with a reason stands.

        Raises:
            AlreadyDoneError: it was overridden in another way; nothing was changed.
        """
        given = {"action": action, "by": by, "reason": reason}
        with writing(self._engine) as connection:
            alarm = connection.execute(sa.select(ALARMS).where(ALARMS.c.alarm_id == alarm_id)).one_or_none()
            if alarm is None:
                return False
            if alarm.status == "overridden":
                if given == {"action": alarm.status, "by": alarm.acted_by, "reason": alarm.reason}:
                    return False
                raise AlreadyDoneError(alarm.status)
            same = [ACTIONS.c[name].is_not_distinct_from(value) for name, value in given.items()]
            if connection.execute(sa.select(ACTIONS.c.seq).where(ACTIONS.c.alarm_id == alarm_id, *same)).first():
                return False
            time = microsecond(at)
            latest = {"status": action, "acted_at": time, "acted_by": by, "reason": reason}
            connection.execute(ALARMS.update().where(ALARMS.c.alarm_id == alarm_id).values(latest))
            connection.execute(ACTIONS.insert().values(**given, alarm_id=alarm_id, at=time))
            add_events(connection, [Event(alarm.ward, alarm.subject_id, action, time, {"alarm_id": alarm_id})])
        return True

    def events(self, ward: str, after: int, limit: int) -> list[NumberedEvent]:
        """Return what changed in a ward after the event of a number, in order."""
        query = _EVENTS.where(EVENTS.c.ward == ward, EVENTS.c.number > after).order_by(EVENTS.c.number)
        return self._read_events(query.limit(limit))

    def last_events(self) -> dict[str, int]:
        """Return the number of the last event of each ward that had any."""
        with reading(self._engine) as connection:
            return {row.ward: row.last for row in connection.execute(sa.select(EVENT_NUMBERS))}

    def events_after(self, positions: Mapping[str, int], limit: int) -> list[NumberedEvent]:
        """Return the events of several wards, each after the event of a number, in the order in which they happened."""
        after = [(EVENTS.c.ward == ward) & (EVENTS.c.number > number) for ward, number in positions.items()]
        return self._read_events(_EVENTS.where(sa.or_(sa.false(), *after)).order_by(EVENTS.c.seq).limit(limit))

    def events_of(self, numbers: Iterable[tuple[str, int]]) -> dict[tuple[str, int], NumberedEvent]:
        """Return events by ward and number, of those that are still stored."""
        found: dict[tuple[str, int], NumberedEvent] = {}
        for chunk in in_chunks(list(numbers)):
            events = self._read_events(_EVENTS.where(sa.tuple_(EVENTS.c.ward, EVENTS.c.number).in_(chunk)))
            found |= {(event.ward, event.number): event for event in events}
        return found

    def _read_events(self, query: "sa.Select[Any]") -> list[NumberedEvent]:
        with reading(self._engine) as connection:
            return [NumberedEvent(**row) for row in connection.execute(query).mappings()]

    def event_range(self, ward: str) -> tuple[int, int]:
        """Return the number after which all events of a ward are stored, and the number of its last event."""
        with reading(self._engine) as connection:
            query = sa.select(EVENT_NUMBERS.c.last).where(EVENT_NUMBERS.c.ward == ward)
            last = connection.execute(query).scalar() or 0
            oldest = connection.execute(sa.select(sa.func.min(EVENTS.c.number)).where(EVENTS.c.ward == ward)).scalar()
        return last if oldest is None else oldest - 1, last

    def delete_before(self, time: pd.Timestamp, *, labels: bool) -> dict[str, int]:
        """Delete events before a time, and alarms and silences that ended before it; return how many of each table.

        ``labels``: also delete alarms that were overridden with a reason, which tell whether an alarm was right.
        """
        at = microsecond(time)
        is_label = (ALARMS.c.status == "overridden") & ALARMS.c.reason.is_not(None)
        ended = (ALARMS.c.ended_at < at) if labels else (ALARMS.c.ended_at < at) & ~is_label
        deleted = {
            EVENTS.name: delete_in_steps(self._engine, EVENTS, EVENTS.c.at < at),
            ALARMS.name: delete_in_steps(self._engine, ALARMS, ended),
            SILENCES.name: self.silences.delete_before(time),
        }

        def delete_actions() -> None:
            without_alarm = ~sa.exists().where(ALARMS.c.alarm_id == ACTIONS.c.alarm_id)
            with writing(self._engine) as connection:
                connection.execute(ACTIONS.delete().where(without_alarm))

        with_retries(delete_actions)
        return deleted

    def subjects(self) -> set[str]:
        """Return every subject of which a risk, an alarm, an event or a silence is stored."""
        columns = (RISKS.c.subject_id, ALARMS.c.subject_id, EVENTS.c.subject_id, SILENCES.c.subject_id)
        with reading(self._engine) as connection:
            found = connection.execute(sa.union(*(sa.select(column) for column in columns))).scalars()
            return {subject for subject in found if subject is not None}

    def _with_actions(self, query: "sa.Select[Any]") -> list[Alarm]:
        with reading(self._engine) as connection:
            rows = [dict(row) for row in connection.execute(query).mappings()]
            ids = ACTIONS.c.alarm_id.in_([row["alarm_id"] for row in rows])
            actions: dict[str, list[AlarmAction]] = {}
            for action in connection.execute(sa.select(ACTIONS).where(ids).order_by(ACTIONS.c.seq)):
                stored = AlarmAction(action.action, action.by, action.reason, action.at)
                actions.setdefault(action.alarm_id, []).append(stored)
        return [Alarm(**row, actions=tuple(actions.get(row["alarm_id"], ()))) for row in rows]


def _policy_name(bound: Mapping[str, Any]) -> str:
    """Return what the alarm policy calls a stored bound, or limit of a patient."""
    signal, side = bound["signal"], bound["side"]
    return limit_name(signal, side, bound["limit"]) if bound.get("set_by") == "staff" else bound_name(signal, side)


def alarm_id(subject: str, task: str, opened_at: datetime) -> str:
    """Return the id of an episode's alarm: deciding it again gives the same one."""
    return str(uuid.uuid5(_ALARM_IDS, f"{task}/{subject}/{opened_at.isoformat()}"))
