"""name subjects by that word, and number events within each ward."""

from typing import Final

import sqlalchemy as sa
from alembic import op

revision: Final = "0002"
down_revision: Final = "0001"


def upgrade() -> None:
    op.execute("DROP TRIGGER IF EXISTS actions_go_with_their_alarm")
    op.drop_index("one_open_episode_a_patient", "alarms")
    op.drop_index("ix_alarms_patient", "alarms")
    for table in ("risks", "alarms", "events"):
        op.execute(f"ALTER TABLE {table} RENAME COLUMN patient TO subject_id")
    op.create_index("ix_alarms_subject_id", "alarms", ["subject_id"])
    op.create_index(
        "one_open_episode_a_subject", "alarms", ["subject_id"], unique=True, sqlite_where=sa.text("ended_at IS NULL")
    )
    op.create_table(
        "event_numbers",
        sa.Column("ward", sa.String, primary_key=True),
        sa.Column("last", sa.Integer, nullable=False),
    )
    # A follower goes on from the number it knows, which was counted through all wards: every ward continues from the last one.
    last = "SELECT COALESCE((SELECT seq FROM sqlite_sequence WHERE name = 'events'), 0)"
    wards = "SELECT ward FROM events UNION SELECT ward FROM risks UNION SELECT ward FROM alarms"
    op.execute(f"INSERT INTO event_numbers (ward, last) SELECT ward, ({last}) FROM ({wards})")  # noqa: S608 - no value in it
    op.drop_index("events_of_a_ward", "events")
    op.drop_index("ix_events_at", "events")
    op.rename_table("events", "former_events")
    op.create_table(
        "events",
        sa.Column("seq", sa.Integer, primary_key=True),
        sa.Column("ward", sa.String, nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("subject_id", sa.String, nullable=False),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("body", sa.JSON, nullable=False),
        sa.UniqueConstraint("ward", "number"),
    )
    op.execute(
        "INSERT INTO events (seq, ward, number, at, subject_id, kind, body) "
        "SELECT event_id, ward, event_id, at, subject_id, kind, body FROM former_events"
    )
    op.drop_table("former_events")
    op.create_index("ix_events_at", "events", ["at"])
