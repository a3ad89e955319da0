"""store which code predicted: version and digest."""

from typing import Final

import sqlalchemy as sa
from alembic import op

revision: Final = "0005"
down_revision: Final = "0004"

_FORMER: Final = ("origin", "basis", "band", "decided_by", "model_name", "model_version", "feature_service", "terms")
_CONTEXT: Final = (*_FORMER, "code")


def upgrade() -> None:
    op.rename_table("contexts", "former_contexts")
    op.create_table(
        "contexts",
        sa.Column("id", sa.Integer, primary_key=True),
        *(sa.Column(name, sa.String, nullable=False) for name in _CONTEXT),
        sa.UniqueConstraint(*_CONTEXT, name="one_context"),
    )
    columns = ", ".join(("id", *_FORMER))
    op.execute(f"INSERT INTO contexts ({columns}, code) SELECT {columns}, '' FROM former_contexts")  # noqa: S608 - no value
    op.drop_table("former_contexts")
