"""keep the terms of a patient with their risk, and those under which an alarm sounded."""

from typing import Final

import sqlalchemy as sa
from alembic import op

revision: Final = "0005"
down_revision: Final = "0004"


def upgrade() -> None:
    op.add_column("risks", sa.Column("terms", sa.JSON))
    for column in ("terms", "limits"):
        op.add_column("alarms", sa.Column(column, sa.JSON))
