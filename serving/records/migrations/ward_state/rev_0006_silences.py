"""remember signals that stopped and sources that fell silent, which have events without a subject."""

from typing import Final

import sqlalchemy as sa
from alembic import op

revision: Final = "0006"
down_revision: Final = "0005"


def upgrade() -> None:
    op.create_table(
        "silences",
        sa.Column("silence_id", sa.String, primary_key=True),
        sa.Column("ward", sa.String, nullable=False),
        sa.Column("subject_id", sa.String, index=True),
        sa.Column("signal", sa.String),
        sa.Column("source", sa.String),
        sa.Column("device_id", sa.String),
        sa.Column("since", sa.BigInteger, nullable=False),
        sa.Column("overdue_after", sa.BigInteger, nullable=False),
        sa.Column("cause", sa.String, nullable=False),
        sa.Column("raised_at", sa.BigInteger, nullable=False),
        sa.Column("resolved_at", sa.BigInteger, index=True),
    )
    op.create_table(
        "device_reports",
        sa.Column("source", sa.String, primary_key=True),
        sa.Column("device_id", sa.String, primary_key=True),
        sa.Column("wards", sa.String, primary_key=True),
        sa.Column("status", sa.String, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("by", sa.String, nullable=False),
    )
    # SQLite cannot take back that a column must have a value, so a new table takes its place.
    op.drop_index("ix_events_at", "events")
    op.rename_table("events", "former_events")
    op.create_table(
        "events",
        sa.Column("seq", sa.Integer, primary_key=True),
        sa.Column("ward", sa.String, nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("subject_id", sa.String),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("body", sa.JSON, nullable=False),
        sa.UniqueConstraint("ward", "number"),
    )
    op.execute(
        "INSERT INTO events (seq, ward, number, at, subject_id, kind, body) "
        "SELECT seq, ward, number, at, subject_id, kind, body FROM former_events"
    )
    op.drop_table("former_events")
    op.create_index("ix_events_at", "events", ["at"])
