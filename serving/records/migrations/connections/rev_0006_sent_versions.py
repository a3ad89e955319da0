"""remember whose the Observations of FHIR clients are, what they said, and under which number."""

from typing import Final

import sqlalchemy as sa
from alembic import op

revision: Final = "0006"
down_revision: Final = "0005"


def upgrade() -> None:
    for name in ("source", "content", "status"):
        op.add_column("fhir_observations", sa.Column(name, sa.String))
    op.add_column("fhir_observations", sa.Column("number", sa.BigInteger))
