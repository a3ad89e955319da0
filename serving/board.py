"""What a ward sees: each patient's latest risk, the alarms, and what changed, in order.

All of it is written in one transaction with how far the journal was read. So whenever the process is killed, what is here belongs
together: no alarm is decided twice, and none is lost.
"""

import json
import uuid
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite

from models.alarm_policy import Episode, Event, State
from serving.journal import METADATA, instant, microsecond

_ALARM_IDS: Final = uuid.UUID("6f0c9a52-6a3b-4f0e-9f0e-2d1b7c8e5a41")
_DAY: Final = timedelta(days=1)

RISKS: Final = sa.Table(  # the latest of each patient
    "risks",
    METADATA,
    sa.Column("patient", sa.String, primary_key=True),
    sa.Column("ward", sa.String, nullable=False, index=True),
    sa.Column("index_time", sa.BigInteger, nullable=False),
    sa.Column("answer", sa.String, nullable=False),  # JSON: what the API says of it
)
ALARMS: Final = sa.Table(
    "alarms",
    METADATA,
    sa.Column("alarm_id", sa.String, primary_key=True),
    sa.Column("patient", sa.String, nullable=False),
    sa.Column("ward", sa.String, nullable=False, index=True),
    sa.Column("opened_at", sa.BigInteger, nullable=False),
    sa.Column("sounded", sa.Integer, nullable=False),  # 0: withheld by the ward's budget
    sa.Column("last_sounded_at", sa.BigInteger),
    sa.Column("ended_at", sa.BigInteger),
    sa.Column("peak", sa.Float, nullable=False),
    sa.Column("prediction_id", sa.String, nullable=False),  # of the risk that opened it
    sa.Column("status", sa.String, nullable=False, default="open"),  # open, acknowledged or overridden
    sa.Column("acted_at", sa.BigInteger),
    sa.Column("acted_by", sa.String),
    sa.Column("reason", sa.String),
)
sa.Index("one_episode_a_patient", ALARMS.c.patient, unique=True, sqlite_where=ALARMS.c.ended_at.is_(None))
EVENTS: Final = sa.Table(
    "events",
    METADATA,
    sa.Column("event_id", sa.Integer, primary_key=True),
    sa.Column("at", sa.BigInteger, nullable=False, index=True),
    sa.Column("ward", sa.String, nullable=False, index=True),
    sa.Column("patient", sa.String, nullable=False),
    sa.Column("kind", sa.String, nullable=False),
    sa.Column("body", sa.String, nullable=False),  # JSON
    sqlite_autoincrement=True,
)
PROGRESS: Final = sa.Table(
    "progress",
    METADATA,
    sa.Column("name", sa.String, primary_key=True),
    sa.Column("seq", sa.Integer, nullable=False),
)


def alarm_id(patient: str, task: str, opened_at: datetime) -> str:
    """The name of an episode's record: whoever decides it again gives it the same."""
    return str(uuid.uuid5(_ALARM_IDS, f"{task}/{patient}/{opened_at.isoformat()}"))


def state_of(connection: sa.Connection, patient: str) -> State:
    """What the alarm policy must remember of a patient."""
    rows = connection.execute(
        sa.select(ALARMS).where(ALARMS.c.patient == patient).order_by(ALARMS.c.opened_at.desc()).limit(2)
    ).all()
    sounded = [row.last_sounded_at for row in rows if row.last_sounded_at is not None]
    last = instant(max(sounded)) if sounded else None
    if not rows or rows[0].ended_at is not None:
        return State(None, last)
    return State(Episode(instant(rows[0].opened_at), rows[0].sounded, rows[0].peak), last)
