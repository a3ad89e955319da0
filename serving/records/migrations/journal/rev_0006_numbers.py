"""let observations refer to series and senders by number, and store of digests what is needed: a third of the space."""

from typing import Final

import sqlalchemy as sa
from alembic import op

revision: Final = "0006"
down_revision: Final = "0005"

_FORMER_INDEXES: Final = (
    "ix_observations_recorded_at",
    "observations_message",
    "observations_content",
    "observations_superseded",
    "observations_superseded_at",
)


def upgrade() -> None:
    for index in _FORMER_INDEXES:
        op.drop_index(index, "observations")
    op.rename_table("observations", "former_observations")
    op.create_table(
        "series",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("subject_id", sa.String, nullable=False),
        sa.Column("signal", sa.String, nullable=False),
        sa.UniqueConstraint("subject_id", "signal", name="one_series"),
    )
    op.create_table(
        "senders",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("source", sa.String, nullable=False),
        sa.Column("device_id", sa.String, nullable=False),
        sa.UniqueConstraint("source", "device_id", name="one_sender"),
    )
    op.create_table(
        "observations",
        sa.Column("seq", sa.Integer, primary_key=True),
        sa.Column("series", sa.Integer, nullable=False),
        sa.Column("observed_at", sa.BigInteger, nullable=False),
        sa.Column("value", sa.Float, nullable=False),
        sa.Column("recorded_at", sa.BigInteger, nullable=False),
        sa.Column("sender", sa.Integer, nullable=False),
        sa.Column("origin", sa.LargeBinary),
        sa.Column("message", sa.LargeBinary),
        sa.Column("version", sa.Integer),
        sa.Column("superseded_at", sa.BigInteger),
    )
    for statement in (
        "INSERT INTO series (subject_id, signal) SELECT DISTINCT subject_id, signal FROM former_observations",
        (
            "INSERT INTO senders (source, device_id) "
            "SELECT DISTINCT COALESCE(source, ''), COALESCE(device_id, '') FROM former_observations"
        ),
        # Of the origin the beginning and the suffix stay; of the message what series, time and origin do not tell.
        (
            "INSERT INTO observations "
            "SELECT f.seq, s.id, f.observed_at, f.value, f.recorded_at, e.id, "
            "CAST(substr(f.origin, 1, 8) || substr(f.origin, 17) AS BLOB), "
            "CASE WHEN f.origin IS NULL OR f.observed_at = f.recorded_at THEN f.message END, f.version, f.superseded_at "
            "FROM former_observations f JOIN series s ON s.subject_id = f.subject_id AND s.signal = f.signal "
            "JOIN senders e ON e.source = COALESCE(f.source, '') AND e.device_id = COALESCE(f.device_id, '') ORDER BY f.seq"
        ),
    ):
        op.execute(statement)
    op.drop_table("former_observations")
    counts, superseded = "superseded_at IS NULL", "superseded_at IS NOT NULL"
    for name, columns, unique, where in (
        ("observations_message", ["message"], True, f"message IS NOT NULL AND {counts}"),
        ("observations_content", ["series", "observed_at", "value"], True, counts),
        ("observations_superseded_at", ["superseded_at"], False, superseded),
        ("observations_superseded", ["series"], False, superseded),
        ("observations_milestones", ["recorded_at"], False, "(seq & 63) = 0"),
    ):
        condition = sa.text(where)
        op.create_index(name, "observations", columns, unique=unique, sqlite_where=condition, postgresql_where=condition)
