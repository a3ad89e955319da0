"""number predictions, name subjects by that word, and store times as microseconds."""

from typing import Final

import sqlalchemy as sa
from alembic import op

revision: Final = "0002"
down_revision: Final = "0001"

_KEPT: Final = (
    "prediction_id, origin, basis, probability, band, news2, news2_highest, model_name, model_version, feature_service, "
    "decided_by, net_score, net_spot, features"
)


def _microseconds(column: str) -> str:
    """Convert ISO 8601 in UTC, with six digits after the second or none. Only SQLite ever held such a table."""
    fraction = f"CASE WHEN substr({column}, 20, 1) = '.' THEN CAST(substr({column}, 21, 6) AS INTEGER) ELSE 0 END"
    return f"CAST(strftime('%s', substr({column}, 1, 19)) AS INTEGER) * 1000000 + {fraction}"


def upgrade() -> None:
    op.drop_index("predictions_of_a_patient", "predictions")
    op.drop_index("ix_predictions_made_at", "predictions")
    op.rename_table("predictions", "former_predictions")
    op.create_table(
        "predictions",
        sa.Column("seq", sa.Integer, primary_key=True),
        sa.Column("prediction_id", sa.String, nullable=False, unique=True),
        sa.Column("made_at", sa.BigInteger, nullable=False),
        sa.Column("origin", sa.String, nullable=False),
        sa.Column("subject_id", sa.String, nullable=False),
        sa.Column("as_of", sa.BigInteger, nullable=False),
        sa.Column("index_time", sa.BigInteger, nullable=False),
        sa.Column("basis", sa.String, nullable=False),
        sa.Column("probability", sa.Float),
        sa.Column("band", sa.String, nullable=False),
        sa.Column("news2", sa.Integer, nullable=False),
        sa.Column("news2_highest", sa.Integer, nullable=False),
        sa.Column("model_name", sa.String),
        sa.Column("model_version", sa.String),
        sa.Column("feature_service", sa.String, nullable=False),
        sa.Column("decided_by", sa.String),
        sa.Column("net_score", sa.Integer),
        sa.Column("net_spot", sa.Integer),
        sa.Column("features", sa.String),
    )
    times = ", ".join(_microseconds(column) for column in ("made_at", "as_of", "index_time"))
    op.execute(
        f"INSERT INTO predictions (subject_id, made_at, as_of, index_time, {_KEPT}) "  # noqa: S608 - no value in it
        f"SELECT patient_id, {times}, {_KEPT} FROM former_predictions ORDER BY rowid"
    )
    op.drop_table("former_predictions")
    op.create_index("ix_predictions_made_at", "predictions", ["made_at"])
    op.create_index("predictions_of_a_subject", "predictions", ["subject_id", "index_time"])
