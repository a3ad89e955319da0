"""remember the names of people who log in."""

from typing import Final

import sqlalchemy as sa
from alembic import op

revision: Final = "0007"
down_revision: Final = "0006"


def upgrade() -> None:
    op.create_table(
        "people",
        sa.Column("sub", sa.String, primary_key=True),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("seen_at", sa.BigInteger, nullable=False, index=True),
    )
    op.execute("INSERT INTO people (sub, name, seen_at) SELECT sub, MAX(name), MAX(created_at) FROM sessions GROUP BY sub")
