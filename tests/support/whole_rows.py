"""SQL for tests on files whose rows refer to others by number: views in which each row is whole again."""

import json
import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
from sqlalchemy.dialects import sqlite

from vigil.serving.records.journal_tables import OBSERVATIONS
from vigil.serving.records.prediction_rows import unpack_features
from vigil.serving.records.prediction_tables import PREDICTIONS

_WHOLE = {"predictions.db": ("logged", PREDICTIONS), "journal.db": ("observed", OBSERVATIONS)}
_SHOWN = {"prediction_id": "uuid_text(prediction_id)", "features": "features_text(feature_names, features)"}


@contextmanager
def open_whole(home: Path, file: str) -> Iterator[sqlite3.Connection]:
    """Open a file of a home in a transaction, with a view of its whole rows: ``logged`` predictions, or ``observed``.

    In the view, ids of predictions are texts and features JSON.
    """
    view, selected = _WHOLE[file]
    with closing(sqlite3.connect(home / file)) as connection, connection:
        connection.create_function("uuid_text", 1, lambda value: str(uuid.UUID(bytes=value)), deterministic=True)
        connection.create_function("features_text", 2, _features_text, deterministic=True)
        query = selected.element.compile(dialect=sqlite.dialect(), compile_kwargs={"literal_binds": True})
        columns = ", ".join(f"{_SHOWN.get(column.name, column.name)} AS {column.name}" for column in selected.c)
        connection.execute(f"CREATE TEMP VIEW {view} AS SELECT {columns} FROM ({query})")
        yield connection


def _features_text(names: str | None, packed: bytes | None) -> str | None:
    if names is None or packed is None:
        return None
    values = [None if np.isnan(value) else value for value in unpack_features(packed)]
    return json.dumps(dict(zip(json.loads(names), values, strict=True)))
