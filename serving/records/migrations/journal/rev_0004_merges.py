"""let patients be merged and unmerged."""

from typing import Final

import sqlalchemy as sa
from alembic import op

revision: Final = "0004"
down_revision: Final = "0003"


def upgrade() -> None:
    op.create_table(
        "merges",
        sa.Column("seq", sa.Integer, primary_key=True),
        sa.Column("recorded_at", sa.BigInteger, nullable=False),
        sa.Column("subject_id", sa.String, nullable=False),
        sa.Column("into", sa.String),
    )
    for column in ("recorded_at", "subject_id", "into"):
        op.create_index(f"ix_merges_{column}", "merges", [column])
