"""complete the tables of homes that had no revision."""

from typing import Final

import sqlalchemy as sa

from vigil.serving.records.migrations.baseline import complete

revision: Final = "0001"
down_revision: Final = None

_METADATA: Final = sa.MetaData()
sa.Table(
    "patients",
    _METADATA,
    sa.Column("seq", sa.Integer, primary_key=True),
    sa.Column("patient", sa.String, nullable=False, index=True),
    sa.Column("recorded_at", sa.BigInteger, nullable=False, index=True),
    sa.Column("ward", sa.String, nullable=False),
    sa.Column("age", sa.Float),
    sa.Column("sex", sa.Float),
    sa.Column("unit_admitted_at", sa.BigInteger),
    sa.Column("hospital_admitted_at", sa.BigInteger),
    sa.Column("discharged", sa.Boolean, nullable=False),
    sa.Column("pregnant", sa.Boolean),
)
sa.Table(
    "readings",
    _METADATA,
    sa.Column("seq", sa.Integer, primary_key=True),
    sa.Column("patient", sa.String, nullable=False),
    sa.Column("signal", sa.String, nullable=False),
    sa.Column("observed_at", sa.BigInteger, nullable=False),
    sa.Column("value", sa.Float, nullable=False),
    sa.Column("recorded_at", sa.BigInteger, nullable=False, index=True),
    sa.Column("device_id", sa.String),
    sa.Column("source", sa.String),
    sa.Column("message", sa.LargeBinary, nullable=False, unique=True),
    sa.UniqueConstraint("patient", "signal", "observed_at", "value"),
)
sa.Table(
    "quarantine",
    _METADATA,
    sa.Column("seq", sa.Integer, primary_key=True),
    sa.Column("recorded_at", sa.BigInteger, nullable=False, index=True),
    sa.Column("patient", sa.String),
    sa.Column("reason", sa.String, nullable=False),
    sa.Column("reading", sa.String, nullable=False),
    sa.Column("digest", sa.LargeBinary, nullable=False, unique=True),
)
sa.Table(
    "repeated",
    _METADATA,
    sa.Column("seq", sa.Integer, primary_key=True),
    sa.Column("recorded_at", sa.BigInteger, nullable=False, index=True),
    sa.Column("patient", sa.String, nullable=False),
    sa.Column("signal", sa.String, nullable=False),
    sa.Column("device_id", sa.String),
    sa.Column("source", sa.String),
    sa.Column("times", sa.Integer, nullable=False),
)
sa.Table(
    "latest",
    _METADATA,
    sa.Column("patient", sa.String, primary_key=True),
    sa.Column("recorded_at", sa.BigInteger, nullable=False),
)
sa.Table(
    "time", _METADATA, sa.Column("id", sa.Integer, primary_key=True), sa.Column("recorded_at", sa.BigInteger, nullable=False)
)
sa.Table(
    "dropped",
    _METADATA,
    sa.Column("recorded_at", sa.BigInteger, primary_key=True),
    sa.Column("before", sa.BigInteger, nullable=False),
    sa.Column("readings", sa.Integer, nullable=False),
)


def upgrade() -> None:
    complete(_METADATA)
