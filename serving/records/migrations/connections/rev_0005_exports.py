"""create the exports, and find the Observations of FHIR clients by the time of observation."""

from typing import Final

import sqlalchemy as sa
from alembic import op

revision: Final = "0005"
down_revision: Final = "0004"

_STEP: Final = 1_000


def upgrade() -> None:
    op.add_column("fhir_observations", sa.Column("observed_at", sa.BigInteger))
    op.create_index("fhir_observations_observed_at", "fhir_observations", ["subject_id", "observed_at"])
    _fill()
    op.create_table(
        "exports",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("client", sa.String, nullable=False, index=True),
        sa.Column("request", sa.String, nullable=False),
        sa.Column("wards", sa.JSON),
        sa.Column("types", sa.JSON, nullable=False),
        sa.Column("filters", sa.JSON, nullable=False),
        sa.Column("since", sa.BigInteger),
        sa.Column("ignored", sa.JSON, nullable=False),
        sa.Column("status", sa.String, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("expires_at", sa.BigInteger, nullable=False),
        sa.Column("progress", sa.String, nullable=False),
        sa.Column("problem", sa.String),
        sa.Column("as_of", sa.BigInteger),
        sa.Column("files", sa.JSON, nullable=False),
    )


def _fill() -> None:
    """Fill the column from the readings, all of which have one time."""
    connection = op.get_bind()
    table = sa.table(
        "fhir_observations", sa.column("id", sa.String), sa.column("readings", sa.JSON), sa.column("observed_at", sa.BigInteger)
    )
    own = table.update().where(table.c.id == sa.bindparam("own")).values(observed_at=sa.bindparam("time"))
    after = ""
    while True:
        query = sa.select(table.c.id, table.c.readings).where(table.c.id > after).order_by(table.c.id).limit(_STEP)
        rows = connection.execute(query).all()
        times = [{"own": row.id, "time": row.readings[0][2]} for row in rows if row.readings]
        if times:
            connection.execute(own, times)
        if len(rows) < _STEP:
            return
        after = rows[-1].id
