"""Rows of the prediction log, as predictions are written to them and as features are read from them."""

import json
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, get_args

import numpy as np
import pandas as pd
import sqlalchemy as sa

from vigil.serving.records.database import insert_new, number_rows
from vigil.serving.records.prediction_tables import CONTEXTS, FEATURE_NAMES, ROWS, SUBJECTS

# Where the features came from: the online store, observations in the request, the journal when someone asked for a risk, or the
# journal when observations arrived.
Origin = Literal["online_store", "request", "journal", "rescorer"]
ORIGINS: Final[tuple[Origin, ...]] = get_args(Origin)

_CONTEXT: Final = tuple(column.name for column in CONTEXTS.columns if not column.primary_key)
_OWN: Final = ("prediction_id", "made_at", "index_time", "probability", "news2", "news2_highest", "net_score", "net_spot")


@dataclass(frozen=True, slots=True)
class Prediction:
    """One prediction as it is logged; times are microseconds, the outputs those of :class:`vigil.models.assessment.Assessment`.

    ``prediction_id`` is a UUID. ``features`` are stored as float32, in which they are computed. ``code``: that predicted
    (:func:`vigil.models.provenance.describe_code`).
    """

    prediction_id: str
    made_at: int
    origin: Origin
    subject_id: str
    as_of: int
    index_time: int
    basis: str
    probability: float | None
    band: str
    news2: int
    news2_highest: int
    model_name: str | None
    model_version: str | None
    feature_service: str
    decided_by: str | None
    net_score: int | None
    net_spot: int | None
    terms: str | None
    features: Mapping[str, float] | None
    code: str | None = None


Numbers = dict[tuple[str, ...], int]  # of the contexts and the names of features that are stored, by their texts


def insert_predictions(connection: sa.Connection, predictions: Sequence[Prediction], known: Numbers) -> Numbers:
    """Store predictions, but none that is there already by its id.

    Args:
        connection: of a transaction that writes.
        predictions: those to store.
        known: numbers that were committed before.

    Returns:
        The numbers that these predictions need, for later calls once the transaction is committed.
    """
    contexts = [tuple(getattr(prediction, name) or "" for name in _CONTEXT) for prediction in predictions]
    names = [_names(prediction.features) for prediction in predictions]
    subject_numbers = number_rows(connection, SUBJECTS, [(prediction.subject_id,) for prediction in predictions])
    numbers = _number(connection, CONTEXTS, set(contexts), known)
    numbers |= _number(connection, FEATURE_NAMES, {(own,) for own in names if own is not None}, known)
    rows = [
        {
            **{name: getattr(prediction, name) for name in _OWN},
            "subject": subject_numbers[(prediction.subject_id,)],
            "context": numbers[context],
            "as_of": None if prediction.as_of == prediction.index_time else prediction.as_of,
            "feature_names": None if own is None else numbers[(own,)],
            "features": None if prediction.features is None else pack_features(prediction.features.values()),
        }
        for prediction, context, own in zip(predictions, contexts, names, strict=True)
    ]
    insert_new(connection, ROWS, rows)
    return numbers


def _number(connection: sa.Connection, table: sa.Table, texts: set[tuple[str, ...]], known: Numbers) -> Numbers:
    """Return the numbers of rows that hardly ever are new, and that nothing deletes."""
    numbers = {own: known[own] for own in texts if own in known}
    return numbers | number_rows(connection, table, sorted(texts - numbers.keys()))


def pack_features(values: Iterable[float]) -> bytes:
    """Return values as the log stores them."""
    return zlib.compress(np.array(list(values), dtype="<f4").tobytes())


def unpack_features(packed: bytes) -> list[float]:
    """Return the values that :func:`pack_features` packed.

    >>> unpack_features(pack_features([80.5, float("nan")]))
    [80.5, nan]
    """
    return np.frombuffer(zlib.decompress(packed), dtype="<f4").tolist()  # type: ignore[no-any-return]


def features_frame(stored: Iterable[Mapping[str, float]], names: Sequence[str]) -> pd.DataFrame:
    """Return some features of predictions, as the log returns them: one row a prediction, float32."""
    return pd.DataFrame(list(stored), columns=list(names), dtype="float32")


def _names(features: Mapping[str, float] | None) -> str | None:
    return None if features is None else json.dumps(list(features))
