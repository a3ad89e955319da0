"""complete the tables of homes that had no revision."""

from typing import Final

import sqlalchemy as sa

from vigil.serving.records.migrations.baseline import complete

revision: Final = "0001"
down_revision: Final = None

_METADATA: Final = sa.MetaData()
sa.Table(
    "risks",
    _METADATA,
    sa.Column("patient", sa.String, primary_key=True),
    sa.Column("ward", sa.String, nullable=False, index=True),
    sa.Column("index_time", sa.BigInteger, nullable=False),
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
    sa.Column("decided_by", sa.String),
    sa.Column("reasons", sa.JSON),
    sa.Column("findings", sa.JSON),
    sa.Column("unusual", sa.JSON),
    sa.Column("net_score", sa.Integer),
    sa.Column("urgent_since", sa.BigInteger),
    sa.Column("dipped_at", sa.BigInteger),
)
_ALARMS = sa.Table(
    "alarms",
    _METADATA,
    sa.Column("alarm_id", sa.String, primary_key=True),
    sa.Column("patient", sa.String, nullable=False, index=True),
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
    sa.Column("cause", sa.String),
    sa.Column("emergency", sa.Boolean),
    sa.Column("reasons", sa.JSON),
)
sa.Table(
    "actions",
    _METADATA,
    sa.Column("seq", sa.Integer, primary_key=True),
    sa.Column("alarm_id", sa.String, nullable=False, index=True),
    sa.Column("action", sa.String, nullable=False),
    sa.Column("by", sa.String, nullable=False),
    sa.Column("reason", sa.String),
    sa.Column("at", sa.BigInteger, nullable=False),
)
_EVENTS = sa.Table(
    "events",
    _METADATA,
    sa.Column("event_id", sa.Integer, primary_key=True),
    sa.Column("at", sa.BigInteger, nullable=False, index=True),
    sa.Column("ward", sa.String, nullable=False),
    sa.Column("patient", sa.String, nullable=False),
    sa.Column("kind", sa.String, nullable=False),
    sa.Column("body", sa.String, nullable=False),
    sqlite_autoincrement=True,
)
sa.Table(
    "progress",
    _METADATA,
    sa.Column("name", sa.String, primary_key=True),
    sa.Column("at", sa.BigInteger, nullable=False),
)
sa.Index("one_open_episode_a_patient", _ALARMS.c.patient, unique=True, sqlite_where=_ALARMS.c.ended_at.is_(None))
sa.Index("events_of_a_ward", _EVENTS.c.ward, _EVENTS.c.event_id)


def upgrade() -> None:
    complete(_METADATA)
