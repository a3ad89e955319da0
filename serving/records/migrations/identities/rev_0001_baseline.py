"""complete the tables of homes that had no revision."""

from typing import Final

import sqlalchemy as sa

from vigil.serving.records.migrations.baseline import complete

revision: Final = "0001"
down_revision: Final = None

_METADATA: Final = sa.MetaData()
sa.Table(
    "identities",
    _METADATA,
    sa.Column("pseudonym", sa.String, primary_key=True),
    sa.Column("identifier", sa.String, nullable=False),
)


def upgrade() -> None:
    complete(_METADATA)
