"""let observations have versions, of which one counts, and quarantined ones be taken after all."""

from typing import Final

import sqlalchemy as sa
from alembic import op

revision: Final = "0003"
down_revision: Final = "0002"

_KEPT: Final = "seq, subject_id, signal, observed_at, value, recorded_at, device_id, source, message"


def upgrade() -> None:
    # Uniqueness was a constraint of the table, which SQLite cannot drop.
    op.drop_index("ix_observations_recorded_at", "observations")
    op.rename_table("observations", "former_observations")
    op.create_table(
        "observations",
        sa.Column("seq", sa.Integer, primary_key=True),
        sa.Column("subject_id", sa.String, nullable=False),
        sa.Column("signal", sa.String, nullable=False),
        sa.Column("observed_at", sa.BigInteger, nullable=False),
        sa.Column("value", sa.Float, nullable=False),
        sa.Column("recorded_at", sa.BigInteger, nullable=False),
        sa.Column("device_id", sa.String),
        sa.Column("source", sa.String),
        sa.Column("message", sa.LargeBinary, nullable=False),
        sa.Column("origin", sa.LargeBinary),
        sa.Column("version", sa.Integer),
        sa.Column("superseded_at", sa.BigInteger),
    )
    op.execute(f"INSERT INTO observations ({_KEPT}) SELECT {_KEPT} FROM former_observations")  # noqa: S608 - no value in it
    op.drop_table("former_observations")
    op.create_index("ix_observations_recorded_at", "observations", ["recorded_at"])
    counts = sa.text("superseded_at IS NULL")
    for name, columns in (
        ("observations_message", ["message"]),
        ("observations_content", ["subject_id", "signal", "observed_at", "value"]),
    ):
        op.create_index(name, "observations", columns, unique=True, sqlite_where=counts, postgresql_where=counts)
    superseded = sa.text("superseded_at IS NOT NULL")
    for name, columns in (
        ("observations_superseded", ["subject_id", "signal"]),
        ("observations_superseded_at", ["superseded_at"]),
    ):
        op.create_index(name, "observations", columns, sqlite_where=superseded, postgresql_where=superseded)
    op.create_table(
        "revisions",
        sa.Column("seq", sa.Integer, primary_key=True),
        sa.Column("recorded_at", sa.BigInteger, nullable=False),
        sa.Column("subject_id", sa.String, nullable=False),
        sa.Column("origin", sa.LargeBinary, nullable=False),
        sa.Column("identity_at", sa.BigInteger),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("is_retracted", sa.Boolean, nullable=False),
        sa.Column("observed_at", sa.BigInteger),
        sa.Column("value", sa.Float),
    )
    op.add_column("quarantine", sa.Column("readmitted_at", sa.BigInteger))
    op.create_table(
        "readmissions",
        sa.Column("seq", sa.Integer, primary_key=True),
        sa.Column("recorded_at", sa.BigInteger, nullable=False),
        sa.Column("by", sa.String, nullable=False),
        sa.Column("reason", sa.String, nullable=False),
        sa.Column("declarations", sa.String, nullable=False),
        sa.Column("observations", sa.Integer, nullable=False),
    )
    for column in ("recorded_at", "subject_id", "origin"):
        op.create_index(f"ix_revisions_{column}", "revisions", [column])
