"""What a ward sees: each patient's latest risk, the alarms, and what changed, in order.

All that a rescoring says is written in one transaction with how far it read the journal. So whenever the process is killed,
what is here belongs together: no alarm is decided twice, and none is lost.
"""

import json
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Literal

import pandas as pd
import sqlalchemy as sa
from sqlalchemy.dialects import sqlite

from features.errors import VigilError
from models.alarms.policy import Episode, Hold, State
from serving.records.database import instant, microsecond, open_database, reading, writing

FILE: Final = "board.db"
METADATA: Final = sa.MetaData()
RISKS: Final = sa.Table(  # the latest of each patient
    "risks",
    METADATA,
    sa.Column("patient", sa.String, primary_key=True),
    sa.Column("ward", sa.String, nullable=False, index=True),
    sa.Column("index_time", sa.BigInteger, nullable=False),  # microseconds UTC, as all times here
    sa.Column("prediction_id", sa.String, nullable=False),
    sa.Column("basis", sa.String, nullable=False),
    sa.Column("probability", sa.Float),
    sa.Column("band", sa.String, nullable=False),
    sa.Column("news2", sa.Integer, nullable=False),
    sa.Column("news2_highest", sa.Integer, nullable=False),
    sa.Column("latest_reading_at", sa.BigInteger),  # null: none within a day
    sa.Column("model_name", sa.String),
    sa.Column("model_version", sa.String),
    sa.Column("feature_service", sa.String, nullable=False),
    sa.Column("threshold", sa.Float),  # probability from which it is an alarm here
    # Null in rows of an earlier version, which the rescorer replaces as it begins.
    sa.Column("decided_by", sa.String),
    sa.Column("reasons", sa.JSON),
    sa.Column("findings", sa.JSON),
    sa.Column("unusual", sa.JSON),
    sa.Column("net_score", sa.Integer),  # NEWS2 as the safety net sees it; null where it has no say
    # From when on it has been at the limit of the safety net or above, and since when it has dipped.
    sa.Column("urgent_since", sa.BigInteger),
    sa.Column("dipped_at", sa.BigInteger),
)
ALARMS: Final = sa.Table(  # one row an episode
    "alarms",
    METADATA,
    sa.Column("alarm_id", sa.String, primary_key=True),
    sa.Column("patient", sa.String, nullable=False, index=True),
    sa.Column("ward", sa.String, nullable=False, index=True),
    sa.Column("opened_at", sa.BigInteger, nullable=False, index=True),
    sa.Column("sounded", sa.Integer, nullable=False),  # 0: withheld by the ward's budget
    sa.Column("last_sounded_at", sa.BigInteger),
    sa.Column("ended_at", sa.BigInteger),
    sa.Column("basis", sa.String, nullable=False),
    sa.Column("probability", sa.Float),  # of the risk that opened it
    sa.Column("news2", sa.Integer, nullable=False),
    sa.Column("prediction_id", sa.String, nullable=False),
    sa.Column("model_name", sa.String),
    sa.Column("model_version", sa.String),
    sa.Column("feature_service", sa.String, nullable=False),
    sa.Column("status", sa.String, nullable=False, default="open"),
    sa.Column("acted_at", sa.BigInteger),  # of the latest action, as what follows
    sa.Column("acted_by", sa.String),
    sa.Column("reason", sa.String),
    # Null in alarms of an earlier version.
    sa.Column("cause", sa.String),  # model or news2: what sounded last
    sa.Column("emergency", sa.Boolean),  # whether NEWS2 has stayed high since the safety net sounded
    sa.Column("reasons", sa.JSON),  # rules of NEWS2 that held then
)
sa.Index("one_open_episode_a_patient", ALARMS.c.patient, unique=True, sqlite_where=ALARMS.c.ended_at.is_(None))
ACTIONS: Final = sa.Table(  # everything that was done about alarms; rows are added, and go with their alarm
    "actions",
    METADATA,
    sa.Column("seq", sa.Integer, primary_key=True),
    sa.Column("alarm_id", sa.String, nullable=False, index=True),
    sa.Column("action", sa.String, nullable=False),
    sa.Column("by", sa.String, nullable=False),
    sa.Column("reason", sa.String),
    sa.Column("at", sa.BigInteger, nullable=False),
)
_WITH_THEIR_ALARM: Final = sa.DDL(  # type: ignore[no-untyped-call]
    "CREATE TRIGGER actions_go_with_their_alarm AFTER DELETE ON alarms "
    "BEGIN DELETE FROM actions WHERE alarm_id = OLD.alarm_id; END"
)
sa.event.listen(ACTIONS, "after_create", _WITH_THEIR_ALARM)
EVENTS: Final = sa.Table(
    "events",
    METADATA,
    sa.Column("event_id", sa.Integer, primary_key=True),
    sa.Column("at", sa.BigInteger, nullable=False, index=True),
    sa.Column("ward", sa.String, nullable=False),
    sa.Column("patient", sa.String, nullable=False),
    sa.Column("kind", sa.String, nullable=False),
    sa.Column("body", sa.String, nullable=False),  # JSON
    sqlite_autoincrement=True,  # a number is never given twice, even when the last row was dropped
)
sa.Index("events_of_a_ward", EVENTS.c.ward, EVENTS.c.event_id)
PROGRESS: Final = sa.Table(
    "progress",
    METADATA,
    sa.Column("name", sa.String, primary_key=True),
    sa.Column("at", sa.BigInteger, nullable=False),
)
Action = Literal["acknowledged", "overridden"]
Status = Literal["open", "acknowledged", "overridden"]

_ALARM_IDS: Final = uuid.UUID("6f0c9a52-6a3b-4f0e-9f0e-2d1b7c8e5a41")
_JOURNAL: Final = "journal"  # progress: time of the last group that is in the risks
_HEARTBEAT: Final = "heartbeat"


class OvertakenError(VigilError):
    """What would be put up does not follow what is."""


class AlreadyDoneError(VigilError):
    """Something else was done about the alarm, which stands. ``status``: the alarm's."""

    def __init__(self, status: str) -> None:
        super().__init__(f"alarm: {status} already")
        self.status = status


@dataclass
class Page:
    """What one rescoring says: rows of the tables above, without numbers.

    Attributes:
        risks: of the patients rescored.
        gone: patients who have none any more.
        opened: alarms.
        changed: alarms that sounded again or ended: ``alarm_id`` and the columns that are new.
        events: ``at, ward, patient, kind, body``, the body as a mapping.
    """

    risks: list[dict[str, Any]] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    opened: list[dict[str, Any]] = field(default_factory=list)
    changed: list[dict[str, Any]] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)


class Board:
    """The board of one home. The rescorer writes risks, alarms and events; the API what was done about an alarm."""

    def __init__(self, home: Path) -> None:
        self.engine = open_database(home / FILE, METADATA)

    def read_again_from(self, time: int) -> None:
        """Let the rescorer read the journal from a time on, microseconds, where it has read further."""
        with writing(self.engine) as connection:
            further = (PROGRESS.c.name == _JOURNAL) & (PROGRESS.c.at > time)
            connection.execute(PROGRESS.update().where(further).values(at=time))

    def publish(self, page: Page, read_until: int, at: pd.Timestamp, *, follows: int) -> None:
        """Put up what a rescoring of the journal up to a time says, which ``follows`` what is up (both microseconds).

        Raises:
            OvertakenError: another rescorer put up something meanwhile; nothing was changed.
        """
        with writing(self.engine) as connection:
            if (connection.execute(sa.select(PROGRESS.c.at).where(PROGRESS.c.name == _JOURNAL)).scalar() or 0) != follows:
                raise OvertakenError("board: another rescorer writes it, too; end all servers of this home but one")
            if page.risks:
                risk = sqlite.insert(RISKS)
                changes = {column.name: risk.excluded[column.name] for column in RISKS.columns if not column.primary_key}
                connection.execute(risk.on_conflict_do_update(index_elements=["patient"], set_=changes), page.risks)
            for patient in page.gone:
                connection.execute(RISKS.delete().where(RISKS.c.patient == patient))
            if page.opened:
                connection.execute(ALARMS.insert(), page.opened)
            for change in page.changed:
                connection.execute(ALARMS.update().where(ALARMS.c.alarm_id == change["alarm_id"]).values(change))
            _tell(connection, page.events)
            _progress(connection, {_JOURNAL: read_until, _HEARTBEAT: microsecond(at)})

    def beat(self, at: pd.Timestamp) -> None:
        """Say that the rescorer is alive."""
        with writing(self.engine) as connection:
            _progress(connection, {_HEARTBEAT: microsecond(at)})

    def progress(self) -> tuple[int, pd.Timestamp | None]:
        """How far the journal is in the risks, microseconds, and when the rescorer was last alive."""
        with reading(self.engine) as connection:
            found = {row.name: row.at for row in connection.execute(sa.select(PROGRESS))}
        return found.get(_JOURNAL, 0), instant(found[_HEARTBEAT]) if _HEARTBEAT in found else None

    def states(self, since: pd.Timestamp) -> dict[str, State]:
        """What the alarm policy must remember of patients: open episodes, and alarms that sounded since a time."""
        of_interest = ALARMS.c.ended_at.is_(None) | (ALARMS.c.last_sounded_at >= microsecond(since))
        urgent = sa.select(RISKS.c.patient, RISKS.c.urgent_since, RISKS.c.dipped_at).where(RISKS.c.urgent_since.is_not(None))
        states: dict[str, State] = {}
        with reading(self.engine) as connection:
            for row in connection.execute(urgent):
                dipped_at = None if row.dipped_at is None else instant(row.dipped_at)
                states[row.patient] = State(hold=Hold(instant(row.urgent_since), dipped_at))
            for row in connection.execute(sa.select(ALARMS).where(of_interest).order_by(ALARMS.c.opened_at)):
                before = states.get(row.patient, State())
                sounded = before.last_sounded_at if row.last_sounded_at is None else instant(row.last_sounded_at)
                is_open = row.ended_at is None
                episode = Episode(instant(row.opened_at), row.sounded, bool(row.emergency)) if is_open else None
                states[row.patient] = State(episode, sounded, before.hold)
        return states

    def risks(self, ward: str | None = None) -> list[dict[str, Any]]:
        """The latest risk of every patient, or of those in a ward."""
        query = sa.select(RISKS)
        if ward is not None:
            query = query.where(RISKS.c.ward == ward)
        return self._all(query)

    def silent(self, since: pd.Timestamp) -> list[str]:
        """Patients whose latest risk is as of an earlier time."""
        with reading(self.engine) as connection:
            rows = connection.execute(sa.select(RISKS.c.patient).where(RISKS.c.index_time < microsecond(since)))
            return [patient for (patient,) in rows]

    def sounded(self, ward: str, since: pd.Timestamp) -> int:
        """Alarms that sounded in a ward since a time."""
        alarm = (EVENTS.c.ward == ward) & (EVENTS.c.kind == "alarm") & (EVENTS.c.at >= microsecond(since))
        with reading(self.engine) as connection:
            return int(connection.execute(sa.select(sa.func.count()).where(alarm)).scalar_one())

    def size(self, ward: str) -> int:
        """Patients of a ward."""
        with reading(self.engine) as connection:
            return int(connection.execute(sa.select(sa.func.count()).where(RISKS.c.ward == ward)).scalar_one())

    def alarms(
        self,
        *,
        wards: Iterable[str] | None = None,
        patient: str | None = None,
        status: str | None = None,
        before: pd.Timestamp | None = None,
        most: int = 500,
    ) -> list[dict[str, Any]]:
        """Alarms with their ``actions``, newest first. ``wards``: None for all. ``status``: ``open``, or an :data:`Action`.

        ``most`` are exceeded where more were opened at the very instant of the last: who goes on ``before`` it misses none.
        """
        query = sa.select(ALARMS).order_by(ALARMS.c.opened_at.desc(), ALARMS.c.alarm_id)
        if before is not None:
            query = query.where(ALARMS.c.opened_at < microsecond(before))
        if wards is not None:
            query = query.where(ALARMS.c.ward.in_(list(wards)))
        if patient is not None:
            query = query.where(ALARMS.c.patient == patient)
        if status is not None:
            query = query.where(ALARMS.c.status == status)
        last = query.with_only_columns(ALARMS.c.opened_at).limit(1).offset(most - 1).scalar_subquery()
        return self._with_actions(query.where(ALARMS.c.opened_at >= sa.func.coalesce(last, 0)))

    def under_way(self, ward: str) -> dict[str, dict[str, Any]]:
        """The alarm of each patient of a ward whose episode has not ended."""
        query = sa.select(ALARMS).where(ALARMS.c.ward == ward, ALARMS.c.ended_at.is_(None))
        return {row["patient"]: row for row in self._all(query)}

    def alarm(self, alarm_id: str) -> dict[str, Any] | None:
        """One alarm with its ``actions``, oldest first."""
        found = self._with_actions(sa.select(ALARMS).where(ALARMS.c.alarm_id == alarm_id))
        return found[0] if found else None

    def act(self, alarm_id: str, action: Action, by: str, reason: str | None, at: pd.Timestamp) -> bool:
        """Keep what was done about an alarm; False where just that was kept before, or there is no such alarm.

        An override follows acknowledgements, never the other way round, and there is one: what was said with a reason stands.

        Raises:
            AlreadyDoneError: it was overridden otherwise; nothing was changed.
        """
        said = {"action": action, "by": by, "reason": reason}
        with writing(self.engine) as connection:
            alarm = connection.execute(sa.select(ALARMS).where(ALARMS.c.alarm_id == alarm_id)).one_or_none()
            if alarm is None:
                return False
            if alarm.status == "overridden":
                if said == {"action": alarm.status, "by": alarm.acted_by, "reason": alarm.reason}:
                    return False
                raise AlreadyDoneError(alarm.status)
            same = [ACTIONS.c[name].is_not_distinct_from(value) for name, value in said.items()]
            if connection.execute(sa.select(ACTIONS.c.seq).where(ACTIONS.c.alarm_id == alarm_id, *same)).first():
                return False
            latest = {"status": action, "acted_at": microsecond(at), "acted_by": by, "reason": reason}
            connection.execute(ALARMS.update().where(ALARMS.c.alarm_id == alarm_id).values(latest))
            connection.execute(ACTIONS.insert().values(**said, alarm_id=alarm_id, at=microsecond(at)))
            event = {"at": microsecond(at), "ward": alarm.ward, "patient": alarm.patient, "kind": action}
            _tell(connection, [{**event, "body": {"alarm_id": alarm_id}}])
        return True

    def events(self, ward: str, after: int, most: int) -> list[dict[str, Any]]:
        """What changed in a ward after an event, in order; ``body`` as a mapping."""
        query = sa.select(EVENTS).where(EVENTS.c.ward == ward, EVENTS.c.event_id > after).order_by(EVENTS.c.event_id)
        return [{**row, "body": json.loads(row["body"])} for row in self._all(query.limit(most))]

    def kept(self) -> tuple[int, int]:
        """The number after which events of all wards are kept, and that of the last event there was."""
        number = sa.text("SELECT seq FROM sqlite_sequence WHERE name = 'events'")
        with reading(self.engine) as connection:
            last = connection.execute(number).scalar() or 0
            oldest = connection.execute(sa.select(sa.func.min(EVENTS.c.event_id))).scalar()
        return last if oldest is None else oldest - 1, last

    def _with_actions(self, alarms: sa.Select[Any]) -> list[dict[str, Any]]:
        with reading(self.engine) as connection:
            rows = {row["alarm_id"]: {**row, "actions": []} for row in connection.execute(alarms).mappings()}
            about = ACTIONS.c.alarm_id.in_(rows)
            for action in connection.execute(sa.select(ACTIONS).where(about).order_by(ACTIONS.c.seq)).mappings():
                rows[action["alarm_id"]]["actions"].append(dict(action))
        return list(rows.values())

    def _all(self, query: sa.Select[Any]) -> list[dict[str, Any]]:
        with reading(self.engine) as connection:
            return [dict(row) for row in connection.execute(query).mappings()]


def alarm_id(patient: str, task: str, opened_at: datetime) -> str:
    """The name of an episode's record: whoever decides it again gives it the same."""
    return str(uuid.uuid5(_ALARM_IDS, f"{task}/{patient}/{opened_at.isoformat()}"))


def _tell(connection: sa.Connection, events: Iterable[Mapping[str, Any]]) -> None:
    rows = [{**event, "body": json.dumps(event["body"])} for event in events]
    if rows:
        connection.execute(EVENTS.insert(), rows)


def _progress(connection: sa.Connection, at: Mapping[str, int]) -> None:
    row = sqlite.insert(PROGRESS)
    later = {"at": row.excluded["at"]}
    rows = [{"name": name, "at": time} for name, time in at.items()]
    connection.execute(row.on_conflict_do_update(index_elements=["name"], set_=later), rows)
