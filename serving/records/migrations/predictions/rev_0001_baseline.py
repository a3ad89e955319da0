"""complete the tables of homes that had no revision."""

from typing import Final

import sqlalchemy as sa

from vigil.serving.records.migrations.baseline import complete

revision: Final = "0001"
down_revision: Final = None

_METADATA: Final = sa.MetaData()
_PREDICTIONS = sa.Table(
    "predictions",
    _METADATA,
    sa.Column("prediction_id", sa.String, primary_key=True),
    sa.Column("made_at", sa.String, nullable=False, index=True),
    sa.Column("origin", sa.String, nullable=False),
    sa.Column("patient_id", sa.String, nullable=False),
    sa.Column("as_of", sa.String, nullable=False),
    sa.Column("index_time", sa.String, nullable=False),
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
sa.Index("predictions_of_a_patient", _PREDICTIONS.c.patient_id, _PREDICTIONS.c.index_time)


def upgrade() -> None:
    complete(_METADATA)
