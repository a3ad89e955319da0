"""create the subscriptions of FHIR clients, and which events each of them is about."""

from typing import Final

import sqlalchemy as sa
from alembic import op

revision: Final = "0004"
down_revision: Final = "0003"


def upgrade() -> None:
    op.create_table(
        "subscriptions",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("client", sa.String, nullable=False, index=True),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("updated_at", sa.BigInteger, nullable=False),
        sa.Column("topic", sa.String, nullable=False),
        sa.Column("filters", sa.JSON, nullable=False),
        sa.Column("wards", sa.JSON),
        sa.Column("reason", sa.String, nullable=False),
        sa.Column("ends_at", sa.BigInteger),
        sa.Column("endpoint", sa.String, nullable=False),
        sa.Column("sealed_header", sa.LargeBinary),
        sa.Column("content", sa.String, nullable=False),
        sa.Column("heartbeat", sa.Integer),
        sa.Column("timeout", sa.Integer),
        sa.Column("max_count", sa.Integer),
        sa.Column("status", sa.String, nullable=False),
        sa.Column("error", sa.String),
        sa.Column("confirmed", sa.Boolean, nullable=False),
        sa.Column("positions", sa.JSON, nullable=False),
        sa.Column("numbered", sa.Integer, nullable=False),
        sa.Column("delivered", sa.Integer, nullable=False),
        sa.Column("lost", sa.Integer, nullable=False),
    )
    op.create_table(
        "subscription_events",
        sa.Column("seq", sa.Integer, primary_key=True),
        sa.Column("subscription_id", sa.String, nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("ward", sa.String),
        sa.Column("ward_number", sa.Integer),
        sa.Column("at", sa.BigInteger, nullable=False, index=True),
        sa.UniqueConstraint("subscription_id", "number"),
    )
