"""keep the whole assessment with the risk of a subject, so that it can be read and need not be made again."""

from typing import Final

import sqlalchemy as sa
from alembic import op

revision: Final = "0007"
down_revision: Final = "0006"


def upgrade() -> None:
    op.add_column("risks", sa.Column("assessment", sa.JSON))
