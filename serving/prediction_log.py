"""Every prediction, with the features it was made from: what drift is measured on and what a question is answered from."""

import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import pandas as pd
import sqlalchemy as sa

from features.errors import VigilError
from features.observations import TIME

FILE: Final = "predictions.db"
_WAIT_SECONDS: Final = 2

_METADATA = sa.MetaData()
_PREDICTIONS = sa.Table(
    "predictions",
    _METADATA,
    sa.Column("prediction_id", sa.String, primary_key=True),
    sa.Column("made_at", sa.String, nullable=False, index=True),  # ISO 8601, UTC
    sa.Column("origin", sa.String, nullable=False),  # "online_store" or "request"
    sa.Column("patient_id", sa.String, nullable=False),
    sa.Column("as_of", sa.String, nullable=False),
    sa.Column("index_time", sa.String, nullable=False),
    sa.Column("probability", sa.Float, nullable=False),
    sa.Column("band", sa.String, nullable=False),
    sa.Column("model_name", sa.String, nullable=False),
    sa.Column("model_version", sa.String, nullable=False, index=True),
    sa.Column("feature_service", sa.String, nullable=False),
    sa.Column("features", sa.String, nullable=False),  # JSON object, null where unknown
)


class LogUnavailableError(VigilError):
    """A prediction could not be logged, so it must not be given."""


class PredictionLog:
    """An append-only table in ``home/predictions.db``."""

    def __init__(self, home: Path) -> None:
        # hide_parameters: an error must not carry a patient's row into a log. timeout: seconds to wait for another writer.
        url = f"sqlite:///{home.resolve() / FILE}"
        self._engine = sa.create_engine(url, hide_parameters=True, connect_args={"timeout": _WAIT_SECONDS})
        sa.event.listen(self._engine, "connect", _durable)
        _METADATA.create_all(self._engine)

    def append(self, rows: Iterable[dict[str, Any]]) -> None:
        """Write predictions; they are on disk when this returns. ``features`` is a mapping, times are timestamps.

        Raises:
            LogUnavailableError: they could not be written.
        """
        values = [
            {
                **row,
                **{time: row[time].isoformat() for time in ("made_at", "as_of", "index_time")},
                "features": json.dumps({name: None if math.isnan(value) else value for name, value in row["features"].items()}),
            }
            for row in rows
        ]
        if values:
            try:
                with self._engine.begin() as connection:
                    connection.execute(_PREDICTIONS.insert(), values)
            except sa.exc.OperationalError as error:
                raise LogUnavailableError(
                    f"{FILE}: cannot be written ({type(error.orig).__name__}); is it locked, or the disk full?"
                ) from None

    def read(
        self, *, model_name: str, model_version: str, features: Sequence[str], since: pd.Timestamp | None = None
    ) -> pd.DataFrame:
        """Predictions of one model version made since a time, oldest first: all columns, and the features as columns."""
        query = sa.select(_PREDICTIONS).where(
            _PREDICTIONS.c.model_name == model_name, _PREDICTIONS.c.model_version == model_version
        )
        if since is not None:
            query = query.where(_PREDICTIONS.c.made_at >= since.isoformat())
        with self._engine.connect() as connection:
            rows = pd.DataFrame(connection.execute(query.order_by(_PREDICTIONS.c.made_at)).mappings().all())
        if rows.empty:
            rows = pd.DataFrame(columns=[column.name for column in _PREDICTIONS.columns])
        values = pd.DataFrame([json.loads(text) for text in rows.pop("features")], columns=list(features), dtype="float32")
        for time in ("made_at", "as_of", "index_time"):
            rows[time] = pd.to_datetime(rows[time], format="ISO8601", utc=True).astype(TIME)
        return pd.concat([rows, values], axis=1)


def _durable(connection: Any, _record: object) -> None:
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
