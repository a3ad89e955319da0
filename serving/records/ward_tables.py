"""The tables of the ward state. Only :mod:`vigil.serving.records.ward_state` reads or writes them."""

from typing import Final

import sqlalchemy as sa

METADATA: Final = sa.MetaData()
RISKS: Final = sa.Table(  # the latest of each subject
    "risks",
    METADATA,
    sa.Column("subject_id", sa.String, primary_key=True),
    sa.Column("ward", sa.String, nullable=False, index=True),
    sa.Column("index_time", sa.BigInteger, nullable=False),  # microseconds UTC, as all times here
    sa.Column("prediction_id", sa.String, nullable=False),
    sa.Column("basis", sa.String, nullable=False),
    sa.Column("probability", sa.Float),
    sa.Column("band", sa.String, nullable=False),
    sa.Column("news2", sa.Integer, nullable=False),
    sa.Column("news2_highest", sa.Integer, nullable=False),
    sa.Column("latest_reading_at", sa.BigInteger),
    sa.Column("model_name", sa.String),
    sa.Column("model_version", sa.String),
    sa.Column("feature_service", sa.String, nullable=False),
    sa.Column("threshold", sa.Float),
    # Null in rows of an earlier version, which the rescorer replaces when it begins.
    sa.Column("decided_by", sa.String),
    sa.Column("reasons", sa.JSON),
    sa.Column("findings", sa.JSON),
    sa.Column("unusual", sa.JSON),
    sa.Column("net_score", sa.Integer),
    sa.Column("urgent_since", sa.BigInteger),
    sa.Column("dipped_at", sa.BigInteger),
    sa.Column("bounds", sa.JSON),  # that stand; null: none is known
    sa.Column("terms", sa.JSON),  # of the patient; null: the ward's alone
    sa.Column("assessment", sa.JSON),  # the rest of it (serving.scoring.standing); null: an earlier version
)
ALARMS: Final = sa.Table(  # one row an episode
    "alarms",
    METADATA,
    sa.Column("alarm_id", sa.String, primary_key=True),
    sa.Column("subject_id", sa.String, nullable=False, index=True),
    sa.Column("ward", sa.String, nullable=False, index=True),
    sa.Column("opened_at", sa.BigInteger, nullable=False, index=True),
    sa.Column("sounded", sa.Integer, nullable=False),
    sa.Column("last_sounded_at", sa.BigInteger),
    sa.Column("ended_at", sa.BigInteger),
    sa.Column("basis", sa.String, nullable=False),
    sa.Column("probability", sa.Float),
    sa.Column("news2", sa.Integer, nullable=False),
    sa.Column("prediction_id", sa.String, nullable=False),
    sa.Column("model_name", sa.String),
    sa.Column("model_version", sa.String),
    sa.Column("feature_service", sa.String, nullable=False),
    sa.Column("status", sa.String, nullable=False, default="open"),
    sa.Column("acted_at", sa.BigInteger),
    sa.Column("acted_by", sa.String),
    sa.Column("reason", sa.String),
    # Null in alarms of an earlier version.
    sa.Column("cause", sa.String),
    sa.Column("emergency", sa.Boolean),
    sa.Column("reasons", sa.JSON),
    sa.Column("basis_retracted_at", sa.BigInteger),  # null: what it rests on still stands
    sa.Column("bounds", sa.JSON),  # the critical ones of the episode, and limits of the patient; null: none
    sa.Column("terms", sa.JSON),  # under which it sounded last; null: an earlier version
    sa.Column("limits", sa.JSON),  # when an alarm was last about each limit of the patient, by name; null: an earlier version
)
_IS_OPEN: Final = ALARMS.c.ended_at.is_(None)
sa.Index("one_open_episode_a_subject", ALARMS.c.subject_id, unique=True, sqlite_where=_IS_OPEN, postgresql_where=_IS_OPEN)
ACTIONS: Final = sa.Table(  # everything that was done about alarms; rows are added, and deleted with their alarm
    "actions",
    METADATA,
    sa.Column("seq", sa.Integer, primary_key=True),
    sa.Column("alarm_id", sa.String, nullable=False, index=True),
    sa.Column("action", sa.String, nullable=False),
    sa.Column("by", sa.String, nullable=False),
    sa.Column("reason", sa.String),
    sa.Column("at", sa.BigInteger, nullable=False),
)
EVENTS: Final = sa.Table(
    "events",
    METADATA,
    sa.Column("seq", sa.Integer, primary_key=True),
    sa.Column("ward", sa.String, nullable=False),
    sa.Column("number", sa.Integer, nullable=False),  # within the ward, so that it tells nothing of the others
    sa.Column("at", sa.BigInteger, nullable=False, index=True),
    sa.Column("subject_id", sa.String),  # null: the event is of a whole source
    sa.Column("kind", sa.String, nullable=False),
    sa.Column("body", sa.JSON, nullable=False),
    sa.UniqueConstraint("ward", "number"),
)
EVENT_NUMBERS: Final = sa.Table(  # the last number that was given in each ward: none is given twice, whatever retention deletes
    "event_numbers",
    METADATA,
    sa.Column("ward", sa.String, primary_key=True),
    sa.Column("last", sa.Integer, nullable=False),
)
SILENCES: Final = sa.Table(  # signals that stopped, and sources that fell silent, as told to a ward
    "silences",
    METADATA,
    sa.Column("silence_id", sa.String, primary_key=True),
    sa.Column("ward", sa.String, nullable=False),
    sa.Column("subject_id", sa.String, index=True),  # null, as the signal: of a whole source
    sa.Column("signal", sa.String),
    sa.Column("source", sa.String),
    sa.Column("device_id", sa.String),
    sa.Column("since", sa.BigInteger, nullable=False),
    sa.Column("overdue_after", sa.BigInteger, nullable=False),  # microseconds
    sa.Column("cause", sa.String, nullable=False),
    sa.Column("raised_at", sa.BigInteger, nullable=False),
    sa.Column("resolved_at", sa.BigInteger, index=True),  # null: it has not ended
)
DEVICE_REPORTS: Final = sa.Table(  # what gateways say of their devices, until an observation or the rescorer settles it
    "device_reports",
    METADATA,
    sa.Column("source", sa.String, primary_key=True),
    sa.Column("device_id", sa.String, primary_key=True),  # empty: the gateway itself
    sa.Column("wards", sa.String, primary_key=True),  # JSON of those it may speak for; empty: all
    sa.Column("status", sa.String, nullable=False),
    sa.Column("at", sa.BigInteger, nullable=False),
    sa.Column("by", sa.String, nullable=False),  # the caller's sub
)
PROGRESS: Final = sa.Table(
    "progress",
    METADATA,
    sa.Column("name", sa.String, primary_key=True),
    sa.Column("at", sa.BigInteger, nullable=False),
)
