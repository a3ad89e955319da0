"""store what predictions have in common once, ids as bytes and features compressed: a fourth of the space."""

import json
import uuid
import zlib
from typing import Final

import numpy as np
import sqlalchemy as sa
from alembic import op

revision: Final = "0004"
down_revision: Final = "0003"

_CONTEXT: Final = ("origin", "basis", "band", "decided_by", "model_name", "model_version", "feature_service", "terms")


def _feature_names(text: str | None) -> str | None:
    return None if text is None else json.dumps(list(json.loads(text)))


def _features(text: str | None) -> bytes | None:
    if text is None:
        return None
    return zlib.compress(np.array(list(json.loads(text).values()), dtype="<f4").tobytes())


def upgrade() -> None:
    # Only SQLite ever held the former table, and its functions may be of Python.
    driver = op.get_bind().connection.driver_connection
    assert driver is not None
    driver.create_function("uuid_bytes", 1, lambda text: uuid.UUID(text).bytes, deterministic=True)
    driver.create_function("feature_names", 1, _feature_names, deterministic=True)
    driver.create_function("pack_features", 1, _features, deterministic=True)
    op.drop_index("predictions_of_a_subject", "predictions")
    op.drop_index("ix_predictions_made_at", "predictions")
    op.rename_table("predictions", "former_predictions")
    op.create_table(
        "subjects",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("subject_id", sa.String, nullable=False, unique=True),
    )
    op.create_table(
        "contexts",
        sa.Column("id", sa.Integer, primary_key=True),
        *(sa.Column(name, sa.String, nullable=False) for name in _CONTEXT),
        sa.UniqueConstraint(*_CONTEXT, name="one_context"),
    )
    op.create_table(
        "feature_names",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("names", sa.String, nullable=False, unique=True),
    )
    op.create_table(
        "predictions",
        sa.Column("seq", sa.Integer, primary_key=True),
        sa.Column("prediction_id", sa.LargeBinary, nullable=False, unique=True),
        sa.Column("made_at", sa.BigInteger, nullable=False),
        sa.Column("subject", sa.Integer, nullable=False),
        sa.Column("context", sa.Integer, nullable=False),
        sa.Column("index_time", sa.BigInteger, nullable=False),
        sa.Column("as_of", sa.BigInteger),
        sa.Column("probability", sa.Float),
        sa.Column("news2", sa.Integer, nullable=False),
        sa.Column("news2_highest", sa.Integer, nullable=False),
        sa.Column("net_score", sa.Integer),
        sa.Column("net_spot", sa.Integer),
        sa.Column("feature_names", sa.Integer),
        sa.Column("features", sa.LargeBinary),
    )
    texts = ", ".join(f"COALESCE({name}, '')" for name in _CONTEXT)
    same = " AND ".join(f"c.{name} = COALESCE(f.{name}, '')" for name in _CONTEXT)
    for statement in (
        "INSERT INTO subjects (subject_id) SELECT DISTINCT subject_id FROM former_predictions",
        f"INSERT INTO contexts ({', '.join(_CONTEXT)}) SELECT DISTINCT {texts} FROM former_predictions",  # noqa: S608 - no value
        (
            "INSERT INTO feature_names (names) "
            "SELECT DISTINCT feature_names(features) FROM former_predictions WHERE features IS NOT NULL"
        ),
        (
            "INSERT INTO predictions (seq, prediction_id, made_at, subject, context, index_time, as_of, probability, news2, "  # noqa: S608
            "news2_highest, net_score, net_spot, feature_names, features) "
            "SELECT f.seq, uuid_bytes(f.prediction_id), f.made_at, s.id, c.id, f.index_time, NULLIF(f.as_of, f.index_time), "
            "f.probability, f.news2, f.news2_highest, f.net_score, f.net_spot, n.id, pack_features(f.features) "
            f"FROM former_predictions f JOIN subjects s ON s.subject_id = f.subject_id JOIN contexts c ON {same} "
            "LEFT JOIN feature_names n ON n.names = feature_names(f.features) ORDER BY f.seq"
        ),
    ):
        op.execute(statement)
    op.drop_table("former_predictions")
    op.create_index("ix_predictions_made_at", "predictions", ["made_at"])
    op.create_index("predictions_of_a_subject", "predictions", ["subject", "index_time"])
