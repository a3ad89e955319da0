"""name subjects by that word."""

from typing import Final

from alembic import op

revision: Final = "0002"
down_revision: Final = "0001"


def upgrade() -> None:
    op.execute("ALTER TABLE identities RENAME COLUMN pseudonym TO subject_id")
