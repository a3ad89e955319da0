"""store the terms under which NEWS2 was made: how long values count, and the SpO2 scale."""

from typing import Final

import sqlalchemy as sa
from alembic import op

revision: Final = "0003"
down_revision: Final = "0002"


def upgrade() -> None:
    op.add_column("predictions", sa.Column("terms", sa.String))
