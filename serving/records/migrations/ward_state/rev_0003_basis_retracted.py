"""mark alarms that rested on an observation that was corrected or retracted."""

from typing import Final

import sqlalchemy as sa
from alembic import op

revision: Final = "0003"
down_revision: Final = "0002"


def upgrade() -> None:
    op.add_column("alarms", sa.Column("basis_retracted_at", sa.BigInteger))
