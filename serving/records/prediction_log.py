"""Every prediction, with the features it was made from: what drift is measured on and what a question is answered from."""

import json
import math
from collections.abc import Container, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import sqlalchemy as sa
from sqlalchemy.dialects import sqlite

from features.catalogue import SAFETY_NET, of
from features.errors import VigilError
from features.observations import TIME
from models.assessment import Risk
from models.registry import RegisteredModel
from serving.records.database import DatabaseError, is_nearly_full, open_database, reading, writing

FILE: Final = "predictions.db"
_TIMES: Final = ("made_at", "as_of", "index_time")
_CHUNK: Final = 500  # values in a query

METADATA: Final = sa.MetaData()
PREDICTIONS: Final = sa.Table(
    "predictions",
    METADATA,
    sa.Column("prediction_id", sa.String, primary_key=True),
    sa.Column("made_at", sa.String, nullable=False, index=True),  # ISO 8601, UTC
    sa.Column("origin", sa.String, nullable=False),  # one of ORIGINS
    sa.Column("patient_id", sa.String, nullable=False),
    sa.Column("as_of", sa.String, nullable=False),
    sa.Column("index_time", sa.String, nullable=False),
    sa.Column("basis", sa.String, nullable=False),
    sa.Column("probability", sa.Float),  # null where NEWS2 was all that could be said
    sa.Column("band", sa.String, nullable=False),
    sa.Column("news2", sa.Integer, nullable=False),
    sa.Column("news2_highest", sa.Integer, nullable=False),
    sa.Column("model_name", sa.String),
    sa.Column("model_version", sa.String),
    sa.Column("feature_service", sa.String, nullable=False),
    sa.Column("decided_by", sa.String),  # null: an earlier version, for which the model decided wherever it was asked
    # NEWS2 as the safety net sees it, and its points of spot checks; null where it has no say.
    sa.Column("net_score", sa.Integer),
    sa.Column("net_spot", sa.Integer),
    sa.Column("features", sa.String),  # JSON object, null where unknown; null: the journal has what they are made of
)
sa.Index("predictions_of_a_patient", PREDICTIONS.c.patient_id, PREDICTIONS.c.index_time)
_INSERT: Final = sqlite.insert(PREDICTIONS).on_conflict_do_nothing()  # written before every answer, so put together once
# What a prediction says, beside when and of which patient.
SAID: Final = ("basis", "probability", "band", "decided_by", "news2", "news2_highest", "net_score", "net_spot")
# Where features came from: the online store, readings of the request, the journal when somebody asked, or when readings came.
ORIGINS: Final = ("online_store", "request", "journal", "rescorer")


class LogUnavailableError(VigilError):
    """A prediction could not be logged, so it must not be given."""


class PredictionLog:
    """An append-only table in ``home/predictions.db``."""

    def __init__(self, home: Path) -> None:
        self._folder = home
        self._engine = open_database(home / FILE, METADATA)

    def append(self, rows: Iterable[dict[str, Any]], *, keep_free: bool = False) -> None:
        """Write predictions; they are on disk when this returns. What is there by its id already is left as it is.

        Args:
            rows: the columns of the table; times are timestamps, ``features`` a mapping or None.
            keep_free: refuse where the disk is nearly full. What somebody asks for must not take the room of readings, nor of
                what the rescorer says of them.

        Raises:
            LogUnavailableError: they could not be written.
        """
        values = [
            {**row, **{time: row[time].isoformat() for time in _TIMES}, "features": _json(row["features"])} for row in rows
        ]
        if values:
            if keep_free and is_nearly_full(self._folder):
                raise LogUnavailableError(f"{FILE}: the disk is nearly full, and what is left is for readings; make room")
            try:
                with writing(self._engine) as connection:
                    connection.execute(_INSERT, values)
            except DatabaseError as error:
                raise LogUnavailableError(str(error)) from None

    def history(self, patient: str, since: pd.Timestamp, until: pd.Timestamp) -> pd.DataFrame:
        """A patient's risks by index time (after since, up to until), oldest first; all columns but the features.

        Not those of readings in a request: whoever asked may have made them up.
        """
        query = sa.select(*(column for column in PREDICTIONS.columns if column.name != "features")).where(
            PREDICTIONS.c.patient_id == patient,
            PREDICTIONS.c.origin != "request",
            PREDICTIONS.c.index_time > since.isoformat(),
            PREDICTIONS.c.index_time <= until.isoformat(),
        )
        return self._frame(query.order_by(PREDICTIONS.c.index_time, PREDICTIONS.c.made_at))

    def hourly(self, model_name: str, model_version: str, since: pd.Timestamp, *, with_features: bool = False) -> pd.DataFrame:
        """Risks of a model version that readings brought about: the last of each patient and hour.

        Args:
            model_name, model_version: whose.
            since: by index time.
            with_features: only those whose features were kept, which is about one an hour: sixty times fewer to read.

        Returns:
            ``subject_id, index_time, probability, net_score, net_spot``, by subject and time.
        """
        before = PREDICTIONS.c.decided_by.is_(None)  # an earlier version kept the chart's score only
        net = [
            sa.case((before, PREDICTIONS.c.news2), else_=PREDICTIONS.c[name]).label(name) for name in ("net_score", "net_spot")
        ]
        query = sa.select(
            PREDICTIONS.c.patient_id.label("subject_id"), PREDICTIONS.c.index_time, PREDICTIONS.c.probability, *net
        ).where(
            PREDICTIONS.c.model_name == model_name,
            PREDICTIONS.c.model_version == model_version,
            PREDICTIONS.c.origin == "rescorer",
            PREDICTIONS.c.basis == "model",
            PREDICTIONS.c.index_time >= since.isoformat(),
        )
        if with_features:
            query = query.where(PREDICTIONS.c.features.is_not(None))
        with reading(self._engine) as connection:
            found = connection.execute(query)
            rows = pd.DataFrame(found.all(), columns=list(found.keys()))
        rows = rows.astype({"net_score": "float64", "net_spot": "float64"})
        rows["index_time"] = pd.to_datetime(rows["index_time"], format="ISO8601", utc=True).astype(TIME)
        rows = rows.sort_values(["subject_id", "index_time"], ignore_index=True)
        return rows[~rows.assign(hour=rows["index_time"].dt.floor("h")).duplicated(["subject_id", "hour"], keep="last")]

    def watched(self) -> bool:
        """Whether a ward was ever watched: whether readings brought about any prediction."""
        with reading(self._engine) as connection:
            found = connection.execute(
                sa.select(PREDICTIONS.c.prediction_id).where(PREDICTIONS.c.origin == "rescorer").limit(1)
            )
            return found.first() is not None

    def read(self, *, model_name: str, features: Sequence[str], since: pd.Timestamp | None = None) -> pd.DataFrame:
        """Predictions of a model, made since a time, whose features were kept, oldest first.

        Versions may differ, and a feature that one of them did not have is missing.
        """
        query = sa.select(PREDICTIONS).where(
            PREDICTIONS.c.model_name == model_name,
            PREDICTIONS.c.basis == "model",
            PREDICTIONS.c.features.is_not(None),
        )
        if since is not None:
            query = query.where(PREDICTIONS.c.made_at >= since.isoformat())
        rows = self._frame(query.order_by(PREDICTIONS.c.made_at))
        values = self.features(rows.pop("features"), features)
        # What the log and the features both say, such as NEWS2, is there once: as the feature.
        return pd.concat([rows.drop(columns=[name for name in features if name in rows]), values], axis=1)

    def sample(self, number: int, seed: int) -> pd.DataFrame:
        """Some predictions taken at random, or all where there are no more; all columns, features as JSON."""
        row: sa.ColumnClause[int] = sa.literal_column("rowid")
        with reading(self._engine) as connection:
            rows = np.array(connection.execute(sa.select(row).select_from(PREDICTIONS)).scalars().all(), dtype=np.int64)
        if len(rows) > number:
            rows = np.random.default_rng(seed).choice(np.sort(rows), number, replace=False)
        chunks = [rows[first : first + _CHUNK].tolist() for first in range(0, len(rows), _CHUNK)] or [[]]
        frames = [self._frame(sa.select(PREDICTIONS).where(row.in_(chunk))) for chunk in chunks]
        return pd.concat(frames, ignore_index=True)

    @staticmethod
    def features(logged: Iterable[str], names: Sequence[str]) -> pd.DataFrame:
        """Features as they were, from the JSON of the log: one row a prediction, float32."""
        return pd.DataFrame([json.loads(text) for text in logged], columns=list(names), dtype="float32")

    def _frame(self, query: sa.Select[Any]) -> pd.DataFrame:
        with reading(self._engine) as connection:
            found = connection.execute(query)
            rows = pd.DataFrame(found.all(), columns=list(found.keys()))
        for time in _TIMES:
            rows[time] = pd.to_datetime(rows[time], format="ISO8601", utc=True).astype(TIME)
        return rows


def logged_features(registered: RegisteredModel, known: Container[str]) -> list[str]:
    """Name the features that are kept with a prediction: what the model read, and what the safety net went by, where known."""
    return [*registered.model.features, *(name for name in of(SAFETY_NET) if name in known)]


def entry(
    risk: Risk,
    prediction_id: str,
    origin: str,
    registered: RegisteredModel | None,
    feature_service: str,
    made_at: pd.Timestamp,
    *,
    as_of: pd.Timestamp | None = None,
    features: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """A row of the log.

    Args:
        risk: what was said.
        prediction_id, origin, made_at: of the prediction.
        registered: the model that could be asked; None also of one that was withdrawn, so that a replay does not ask it either.
        feature_service: which features were there.
        as_of: the time that was asked for; default: the index time.
        features: what the model was asked of, where that is to be kept.
    """
    return {
        "prediction_id": prediction_id,
        "made_at": made_at,
        "origin": origin,
        "patient_id": risk.patient,
        "as_of": risk.index_time if as_of is None else as_of,
        "index_time": risk.index_time,
        **{name: getattr(risk, name) for name in SAID},
        "model_name": registered.name if registered else None,
        "model_version": registered.version if registered else None,
        "feature_service": feature_service,
        "features": features,
    }


def _json(features: Mapping[str, float] | None) -> str | None:
    if features is None:
        return None
    return json.dumps({name: None if math.isnan(value) else value for name, value in features.items()})
