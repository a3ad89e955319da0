"""let a patient have terms of their own, and keep of which signal or bound a revision is."""

from typing import Final

import sqlalchemy as sa
from alembic import op

revision: Final = "0005"
down_revision: Final = "0004"


def upgrade() -> None:
    op.create_table(
        "terms",
        sa.Column("seq", sa.Integer, primary_key=True),
        sa.Column("recorded_at", sa.BigInteger, nullable=False),
        sa.Column("subject_id", sa.String, nullable=False),
        sa.Column("by", sa.String, nullable=False),
        sa.Column("because", sa.String, nullable=False),
        sa.Column("until", sa.BigInteger),
        sa.Column("spo2_scale", sa.Integer, nullable=False),
        sa.Column("alarm_threshold", sa.Float),
        sa.Column("news2_alarm_from", sa.Integer),
        sa.Column("limits", sa.JSON, nullable=False),
    )
    op.add_column("revisions", sa.Column("signal", sa.String))
    for column in ("recorded_at", "subject_id", "until"):
        op.create_index(f"ix_terms_{column}", "terms", [column])
