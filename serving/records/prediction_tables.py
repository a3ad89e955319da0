"""The tables of the prediction log. Only :mod:`vigil.serving.records.prediction_log` reads or writes them.

Vigil stores more predictions than anything else but observations, so a row holds numbers only. What many predictions have in
common is stored once and referred to by number: the subject, what was predicted by which model under which terms, and the names
of features.
"""

import uuid
from typing import Any, Final

import sqlalchemy as sa

from vigil.serving.records.database import Digest

METADATA: Final = sa.MetaData()


class PredictionId(sa.TypeDecorator[str]):
    """A UUID, as text in code and as its 16 bytes in the table."""

    impl = Digest
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: sa.Dialect) -> bytes | None:  # noqa: ARG002
        """Return the bytes of an id."""
        return None if value is None else uuid.UUID(value).bytes

    def process_result_value(self, value: Any, dialect: sa.Dialect) -> str | None:  # noqa: ARG002
        """Return the id of stored bytes."""
        return None if value is None else str(uuid.UUID(bytes=value))


SUBJECTS: Final = sa.Table(
    "subjects",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("subject_id", sa.String, nullable=False, unique=True),
)
CONTEXTS: Final = sa.Table(  # what many predictions have in common; a text that is missing is empty; rows are never deleted
    "contexts",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("origin", sa.String, nullable=False),
    sa.Column("basis", sa.String, nullable=False),
    sa.Column("band", sa.String, nullable=False),
    sa.Column(
        "decided_by", sa.String, nullable=False
    ),  # empty: an earlier version, in which the model decided where it was asked
    sa.Column("model_name", sa.String, nullable=False),
    sa.Column("model_version", sa.String, nullable=False),
    sa.Column("feature_service", sa.String, nullable=False),
    sa.Column("terms", sa.String, nullable=False),  # JSON of models.bedside.ScoreTerms; empty: an earlier version
    sa.Column("code", sa.String, nullable=False),  # models.provenance.describe_code; empty: an earlier version
    sa.UniqueConstraint(
        "origin",
        "basis",
        "band",
        "decided_by",
        "model_name",
        "model_version",
        "feature_service",
        "terms",
        "code",
        name="one_context",
    ),
)
FEATURE_NAMES: Final = sa.Table(  # rows are never deleted
    "feature_names",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("names", sa.String, nullable=False, unique=True),  # JSON list
)
ROWS: Final = sa.Table(
    "predictions",
    METADATA,
    sa.Column("seq", sa.Integer, primary_key=True),
    sa.Column("prediction_id", PredictionId, nullable=False, unique=True),
    sa.Column("made_at", sa.BigInteger, nullable=False, index=True),  # microseconds UTC, as the next two times
    sa.Column("subject", sa.Integer, nullable=False),
    sa.Column("context", sa.Integer, nullable=False),
    sa.Column("index_time", sa.BigInteger, nullable=False),
    sa.Column("as_of", sa.BigInteger),  # null: the index time
    sa.Column("probability", sa.Float),  # null where NEWS2 alone answered
    sa.Column("news2", sa.Integer, nullable=False),
    sa.Column("news2_highest", sa.Integer, nullable=False),
    # NEWS2 of sustained values, and its points of spot checks; null where the safety net does not apply.
    sa.Column("net_score", sa.Integer),
    sa.Column("net_spot", sa.Integer),
    sa.Column("feature_names", sa.Integer),
    sa.Column("features", Digest),  # null: not stored, since the journal holds what they are made of
)
sa.Index("predictions_of_a_subject", ROWS.c.subject, ROWS.c.index_time)


def _text(name: str) -> "sa.Label[str | None]":
    return sa.func.nullif(CONTEXTS.c[name], "").label(name)


# Each prediction as a whole: what is stored once for many of them is in its row again.
PREDICTIONS: Final = (
    sa.select(
        ROWS.c.seq,
        ROWS.c.prediction_id,
        ROWS.c.made_at,
        CONTEXTS.c.origin,
        SUBJECTS.c.subject_id,
        sa.func.coalesce(ROWS.c.as_of, ROWS.c.index_time).label("as_of"),
        ROWS.c.index_time,
        CONTEXTS.c.basis,
        ROWS.c.probability,
        CONTEXTS.c.band,
        ROWS.c.news2,
        ROWS.c.news2_highest,
        _text("model_name"),
        _text("model_version"),
        CONTEXTS.c.feature_service,
        _text("decided_by"),
        ROWS.c.net_score,
        ROWS.c.net_spot,
        _text("terms"),
        _text("code"),
        FEATURE_NAMES.c.names.label("feature_names"),
        ROWS.c.features,
    )
    .join(SUBJECTS, SUBJECTS.c.id == ROWS.c.subject)
    .join(CONTEXTS, CONTEXTS.c.id == ROWS.c.context)
    .outerjoin(FEATURE_NAMES, FEATURE_NAMES.c.id == ROWS.c.feature_names)
    .subquery("whole_predictions")
)
