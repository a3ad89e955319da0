"""keep the bounds that stand with a risk, and the critical ones with an alarm."""

from typing import Final

import sqlalchemy as sa
from alembic import op

revision: Final = "0004"
down_revision: Final = "0003"


def upgrade() -> None:
    op.add_column("risks", sa.Column("bounds", sa.JSON))
    op.add_column("alarms", sa.Column("bounds", sa.JSON))
