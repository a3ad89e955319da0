"""The prediction log: every prediction, with its features where reproduction or drift needs them."""

import json
import uuid
from collections.abc import Collection, Container, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd
import sqlalchemy as sa

from vigil.features.catalogue import SAFETY_NET, list_features
from vigil.features.errors import VigilError
from vigil.models.assessment import Assessment
from vigil.models.provenance import describe_code
from vigil.serving.records.database import (
    DatabaseError,
    Schema,
    delete_in_steps,
    in_chunks,
    is_nearly_full,
    open_database,
    reading,
    writing,
)
from vigil.serving.records.prediction_rows import (
    Numbers,
    Origin,
    Prediction,
    features_frame,
    insert_predictions,
    unpack_features,
)
from vigil.serving.records.prediction_tables import CONTEXTS, METADATA, PREDICTIONS, ROWS, SUBJECTS
from vigil.serving.records.timestamps import instants, microsecond

if TYPE_CHECKING:
    from vigil.models.registry import RegisteredModel

# What a prediction says, beside when and of which subject: the columns that a reproduction compares.
OUTPUTS: Final = ("basis", "probability", "band", "decided_by", "news2", "news2_highest", "net_score", "net_spot")

SCHEMA: Final = Schema("predictions", METADATA, revision="0005")

_HAS_PREDICTION: Final = sa.exists().where(ROWS.c.subject == SUBJECTS.c.id)
_COURSE_STEP: Final = 300_000_000  # microseconds
_TIMES: Final = ("made_at", "as_of", "index_time")


class LogUnavailableError(VigilError):
    """A prediction could not be logged, so it must not be given."""


class PredictionLog:
    """The append-only log of one home."""

    def __init__(self, home: Path) -> None:
        self._folder = home
        self._engine = open_database(home, SCHEMA)
        self._numbers: Numbers = {}
        describe_code()  # now, because files may be replaced while this process runs

    def append(self, predictions: Iterable[Prediction], *, keep_free: bool = False) -> None:
        """Write predictions; they are on the disk when this returns. One that is there already, by its id, stays as it is.

        Args:
            predictions: those to write.
            keep_free: refuse where the disk is nearly full. A caller's question must not take the space of observations, nor of
                what the rescorer makes of them.

        Raises:
            LogUnavailableError: they could not be written.
        """
        rows = list(predictions)
        if not rows:
            return
        if keep_free and is_nearly_full(self._folder):
            raise LogUnavailableError(f"{SCHEMA.file}: the disk is nearly full, and the rest is for observations; make room")
        try:
            with writing(self._engine) as connection:
                numbers = insert_predictions(connection, rows, self._numbers)
        except DatabaseError as error:
            raise LogUnavailableError(str(error)) from None
        self._numbers |= numbers

    def history(self, subject: str, since: pd.Timestamp, until: pd.Timestamp) -> pd.DataFrame:
        """Return a subject's predictions by index time (after since, up to until), oldest first; all columns but the features.

        Those made from observations in a request are left out: the caller may have invented them.
        """
        query = sa.select(
            *(column for column in PREDICTIONS.columns if column.name not in ("feature_names", "features"))
        ).where(
            PREDICTIONS.c.subject_id == subject,
            PREDICTIONS.c.origin != "request",
            PREDICTIONS.c.index_time > microsecond(since),
            PREDICTIONS.c.index_time <= microsecond(until),
        )
        return self._frame(query.order_by(PREDICTIONS.c.index_time, PREDICTIONS.c.made_at))

    def last(self, subjects: Collection[str], made_until: int) -> str | None:
        """Return the id of the prediction of the latest index time, of those of some subjects made up to a time, microseconds.

        Those made from observations in a request are left out, as in :meth:`history`.
        """
        query = sa.select(PREDICTIONS.c.prediction_id).where(
            PREDICTIONS.c.subject_id.in_(subjects), PREDICTIONS.c.origin != "request", PREDICTIONS.c.made_at <= made_until
        )
        query = query.order_by(PREDICTIONS.c.index_time.desc(), PREDICTIONS.c.made_at.desc()).limit(1)
        with reading(self._engine) as connection:
            return connection.execute(query).scalar()

    def made(self, subject: str, since: int, until: int) -> list[str]:
        """Return the ids of a subject's predictions made after a time and up to another, microseconds."""
        query = sa.select(PREDICTIONS.c.prediction_id).where(
            PREDICTIONS.c.subject_id == subject, PREDICTIONS.c.made_at > since, PREDICTIONS.c.made_at <= until
        )
        with reading(self._engine) as connection:
            return list(connection.execute(query).scalars())

    def courses(self, subjects: Iterable[str], since: int) -> dict[str, list[tuple[int, float]]]:
        """Return the probabilities of subjects with an index time after a time, oldest first: time and probability by subject.

        Times are microseconds. Of each five minutes it is the last. Made for the pages of wards: quick, for many subjects.
        """
        columns = (SUBJECTS.c.subject_id, ROWS.c.index_time, ROWS.c.probability)
        query = (
            sa.select(*columns).join(SUBJECTS, SUBJECTS.c.id == ROWS.c.subject).join(CONTEXTS, CONTEXTS.c.id == ROWS.c.context)
        )
        query = query.where(CONTEXTS.c.origin != "request", ROWS.c.probability.is_not(None), ROWS.c.index_time > since)
        last: dict[tuple[str, int], tuple[int, float]] = {}
        with reading(self._engine) as connection:
            for chunk in in_chunks(list(subjects)):
                of_some = query.where(SUBJECTS.c.subject_id.in_(chunk)).order_by(ROWS.c.index_time, ROWS.c.seq)
                for subject, time, probability in connection.execute(of_some):
                    last[subject, time // _COURSE_STEP] = (time, probability)
        courses: dict[str, list[tuple[int, float]]] = {}
        for (subject, _), point in last.items():
            courses.setdefault(subject, []).append(point)
        return courses

    def hourly(self, model_name: str, model_version: str, since: pd.Timestamp, *, with_features: bool = False) -> pd.DataFrame:
        """Return the rescorer's risks by one model version: the last of each subject and hour.

        Args:
            model_name, model_version: the version.
            since: by index time.
            with_features: only those stored with features, about one an hour: sixty times fewer to read.

        Returns:
            ``subject_id, index_time, probability, net_score, net_spot``, by subject and time.
        """
        former = PREDICTIONS.c.decided_by.is_(None)  # an earlier version stored the chart's score only
        net = [
            sa.case((former, PREDICTIONS.c.news2), else_=PREDICTIONS.c[name]).label(name) for name in ("net_score", "net_spot")
        ]
        query = sa.select(PREDICTIONS.c.subject_id, PREDICTIONS.c.index_time, PREDICTIONS.c.probability, *net).where(
            PREDICTIONS.c.model_name == model_name,
            PREDICTIONS.c.model_version == model_version,
            PREDICTIONS.c.origin == "rescorer",
            PREDICTIONS.c.basis == "model",
            PREDICTIONS.c.index_time >= microsecond(since),
        )
        if with_features:
            query = query.where(PREDICTIONS.c.features.is_not(None))
        rows = self._frame(query).astype({"net_score": "float64", "net_spot": "float64"})
        rows = rows.sort_values(["subject_id", "index_time"], ignore_index=True)
        return rows[~rows.assign(hour=rows["index_time"].dt.floor("h")).duplicated(["subject_id", "hour"], keep="last")]

    def has_live_predictions(self) -> bool:
        """Return whether a ward was ever monitored, so that the rescorer made any prediction."""
        query = sa.select(PREDICTIONS.c.seq).where(PREDICTIONS.c.origin == "rescorer").limit(1)
        with reading(self._engine) as connection:
            return connection.execute(query).first() is not None

    def with_features(self, *, model_name: str, features: Sequence[str], since: pd.Timestamp | None = None) -> pd.DataFrame:
        """Return a model's predictions made since a time and stored with features, oldest first.

        Versions may differ; a feature that one of them did not have is missing.
        """
        query = sa.select(PREDICTIONS).where(
            PREDICTIONS.c.model_name == model_name,
            PREDICTIONS.c.basis == "model",
            PREDICTIONS.c.features.is_not(None),
        )
        if since is not None:
            query = query.where(PREDICTIONS.c.made_at >= microsecond(since))
        rows = self._frame(query.order_by(PREDICTIONS.c.made_at))
        values = features_frame(rows.pop("features"), features)
        # What both the log and the features hold, such as NEWS2, is returned as the feature.
        return pd.concat([rows.drop(columns=[name for name in features if name in rows]), values], axis=1)

    def sample(self, number: int, seed: int) -> pd.DataFrame:
        """Return a random sample of predictions, or all if there are no more; all columns, features as a mapping."""
        with reading(self._engine) as connection:
            rows = np.array(connection.execute(sa.select(ROWS.c.seq)).scalars().all(), dtype=np.int64)
        if len(rows) > number:
            rows = np.random.default_rng(seed).choice(np.sort(rows), number, replace=False)
        chunks = list(in_chunks(rows.tolist())) or [[]]
        frames = [self._frame(sa.select(PREDICTIONS).where(PREDICTIONS.c.seq.in_(chunk))) for chunk in chunks]
        return pd.concat(frames, ignore_index=True)

    def find(self, prediction_id: str) -> pd.DataFrame:
        """Return the prediction of an id, as :meth:`sample` returns predictions: one row, or none."""
        try:
            is_id = str(uuid.UUID(prediction_id)) == prediction_id
        except ValueError:
            is_id = False
        found = PREDICTIONS.c.prediction_id == prediction_id if is_id else sa.false()
        return self._frame(sa.select(PREDICTIONS).where(found))

    def delete_before(self, time: pd.Timestamp) -> int:
        """Delete predictions made before a time, and the keys of subjects that have no other; return how many predictions."""
        deleted = delete_in_steps(self._engine, ROWS, ROWS.c.made_at < microsecond(time))
        delete_in_steps(self._engine, SUBJECTS, ~_HAS_PREDICTION)
        return deleted

    def subjects(self) -> set[str]:
        """Return every subject of which a prediction is stored."""
        with reading(self._engine) as connection:
            return set(connection.execute(sa.select(SUBJECTS.c.subject_id).where(_HAS_PREDICTION)).scalars())

    def _frame(self, query: "sa.Select[Any]") -> pd.DataFrame:
        with reading(self._engine) as connection:
            result = connection.execute(query)
            rows = pd.DataFrame(result.all(), columns=list(result.keys()))
        if "features" in rows:
            names = {text: json.loads(text) for text in rows["feature_names"].dropna().unique()}
            packed = zip(rows.pop("feature_names"), rows["features"], strict=True)
            features = [
                None if own is None else dict(zip(names[text], unpack_features(own), strict=True)) for text, own in packed
            ]
            rows["features"] = pd.Series(features, rows.index, dtype=object)
        return rows.assign(**{time: instants(rows[time]) for time in _TIMES if time in rows})


def logged_features(registered: "RegisteredModel", known: Container[str]) -> list[str]:
    """Return the features stored with a prediction: what the model read, and what the safety net used, where known."""
    return [*registered.model.features, *(name for name in list_features(SAFETY_NET) if name in known)]


def prediction(
    risk: Assessment,
    prediction_id: str,
    origin: Origin,
    registered: "RegisteredModel | None",
    feature_service: str,
    made_at: pd.Timestamp,
    *,
    as_of: pd.Timestamp | None = None,
    features: Mapping[str, float] | None = None,
) -> Prediction:
    """Return what the log stores of a risk.

    Args:
        risk: the assessment.
        prediction_id, origin, made_at: of the prediction.
        registered: the model that could be asked; None also for one that was withdrawn, so that a reproduction does not ask it.
        feature_service: the features that were read.
        as_of: the time that was asked for; default: the index time.
        features: those to be stored.
    """
    return Prediction(
        prediction_id=prediction_id,
        made_at=microsecond(made_at),
        origin=origin,
        subject_id=risk.patient,
        as_of=microsecond(risk.index_time if as_of is None else as_of),
        index_time=microsecond(risk.index_time),
        **{name: getattr(risk, name) for name in OUTPUTS},
        model_name=registered.name if registered else None,
        model_version=registered.version if registered else None,
        feature_service=feature_service,
        terms=risk.terms.to_json(),
        features=features,
        code=describe_code(),
    )
