"""From features to an answer. The API and the main job score patients through this one door, and each answer is logged."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import numpy as np
import pandas as pd

from features.build import build_features
from features.catalogue import INDEX_STEP, computed_for
from features.observations import TIME, check
from features.scores import NEWS2_BANDS
from features.signals import SIGNALS
from features.store.client import Store
from models.registry import RegisteredModel
from models.tasks import RiskTask
from serving import problems
from serving.clock import Clock
from serving.prediction_log import PredictionLog
from serving.problems import ProblemError
from serving.schemas import (
    Contribution,
    DataAge,
    ModelReference,
    News2,
    ObservationsRequest,
    Problem,
    RiskAnswer,
    RiskItem,
)

CONTRIBUTIONS: Final = 5  # the strongest signals named in an answer
# What of a feature row is said in the answer.
_SHOWN: Final = [
    "subject_id", "index_time", "news2", "news2_highest", *(f"news2_{vital}" for vital in NEWS2_BANDS), "hours_since_reading",
]  # fmt: skip


@dataclass(frozen=True)
class RiskScorer:
    """Scores patients with one model, and logs what it said.

    Attributes:
        registered: the model and its version.
        task: the question it answers.
        store: where the latest features of patients are.
        clock: what time it is for a patient.
        log: where every prediction goes.
    """

    registered: RegisteredModel
    task: RiskTask
    store: Store
    clock: Clock
    log: PredictionLog

    def by_id(self, patient_ids: Sequence[str], as_of: datetime | None = None) -> list[RiskItem]:
        """Risks from the online store, in the order asked for; a patient without a usable row gets a problem instead."""
        rows = self.store.online(patient_ids, self.registered.feature_service)
        now = [_utc(as_of) if as_of else self.clock.now(patient) for patient in patient_ids]
        found = [_unusable(*row) for row in zip(rows["index_time"], rows["hours_since_reading"], now, strict=True)]
        usable = np.array([problem is None for problem in found], dtype=bool)
        scored = iter(self._answer(rows[usable].reset_index(drop=True), pd.Series(now)[usable].tolist(), "online_store"))
        return [
            RiskItem(patient_id=patient, problem=problem) if problem else RiskItem(patient_id=patient, risk=next(scored))
            for patient, problem in zip(patient_ids, found, strict=True)
        ]

    def from_observations(self, request: ObservationsRequest) -> RiskAnswer:
        """The risk from readings in the request, through the same features as everywhere else.

        Raises:
            ProblemError: a reading cannot be used (none is left out silently), or none is recent.
        """
        frame = pd.DataFrame([reading.model_dump() for reading in request.observations])
        frame["subject_id"] = request.patient_id
        frame["row"] = np.arange(len(frame))
        as_of = _utc(request.as_of) if request.as_of else frame["observed_at"].map(_utc).max()
        now = pd.Timestamp(datetime.now(UTC))
        checked = check(frame.assign(unit=frame["unit"].where(frame["unit"].notna(), None)), now)
        errors = [_error(row) for row in checked.quarantined.to_dict("records")]
        if as_of > now:
            errors.append({"field": "as_of", "rule": "in_the_future", "expected": "at or before the present"})
        late = frame.loc[frame["observed_at"].map(_utc) > as_of, "row"]
        errors += [
            {"field": f"observations.{row}.observed_at", "rule": "after_as_of", "expected": "at or before as_of"}
            for row in late
        ]
        if errors:
            raise ProblemError(problems.unusable_observations(errors))
        index = pd.DataFrame(
            {
                "subject_id": [request.patient_id],
                "index_time": [as_of],
                "age": [request.age if request.age is not None else np.nan],
                "sex": [{"female": 0.0, "male": 1.0, None: np.nan}[request.sex]],
                **{
                    name: pd.Series([getattr(request, name)], dtype=TIME)
                    for name in ("unit_admitted_at", "hospital_admitted_at")
                },
            }
        )
        features = build_features(checked.accepted, index, computed_for(self.registered.feature_service))
        problem = _unusable(as_of, features["hours_since_reading"].iloc[0], as_of)
        if problem:
            raise ProblemError(problem)
        return self._answer(features, [as_of], "request")[0]

    def _answer(self, rows: pd.DataFrame, now: Sequence[pd.Timestamp], origin: str) -> list[RiskAnswer]:
        if rows.empty:
            return []
        model = self.registered.model
        answers = [
            RiskAnswer(
                prediction_id=str(uuid.uuid4()),
                patient_id=row["subject_id"],
                as_of=t.to_pydatetime(),
                index_time=row["index_time"].to_pydatetime(),
                horizon_hours=self.task.horizon.total_seconds() / 3600,
                outcome=self.task.outcome,
                probability=float(p),
                band=model.band(float(p)),
                news2=_news2(row),
                contributions=_strongest(contribution),
                model=self.reference,
                data_age=_data_age(row, t),
            )
            for row, t, p, contribution in zip(
                rows[_SHOWN].to_dict("records"),
                now,
                model.risk(rows),
                model.contributions(rows).drop(columns="baseline").to_dict("records"),
                strict=True,
            )
        ]
        made_at = pd.Timestamp(datetime.now(UTC))
        self.log.append(
            {
                **answer.model_dump(include={"prediction_id", "patient_id", "as_of", "index_time", "probability", "band"}),
                "made_at": made_at,
                "origin": origin,
                "model_name": self.registered.name,
                "model_version": self.registered.version,
                "feature_service": self.registered.feature_service,
                "features": dict(zip(model.features, values, strict=True)),
            }
            for answer, values in zip(answers, rows[model.features].to_numpy(np.float64).tolist(), strict=True)
        )
        return answers

    @property
    def reference(self) -> ModelReference:
        """Which model answers."""
        return ModelReference(
            name=self.registered.name,
            version=self.registered.version,
            feature_service=self.registered.feature_service,
            simulated=bool(self.registered.model.facts_["simulated"]),
        )


def _unusable(index_time: pd.Timestamp, hours_since_reading: float, now: pd.Timestamp) -> Problem | None:
    """Why a feature row must not be answered from, if so: nobody's, too old, from the future, or without a recent reading."""
    if pd.isna(index_time):
        return problems.unknown_patient()
    step = INDEX_STEP / timedelta(hours=1)
    age = (now - index_time) / pd.Timedelta(hours=1)
    if age >= step:
        return problems.stale(age, step)
    if age < 0:
        return problems.too_early(age)
    return problems.no_recent_readings() if np.isnan(hours_since_reading) else None


def _utc(time: datetime) -> pd.Timestamp:
    return pd.Timestamp(time).tz_convert("UTC").as_unit("us")


def _error(row: dict[Any, Any]) -> dict[str, str]:
    """Names field, rule and expectation of a quarantined reading, without its value."""
    signal = SIGNALS.get(row["signal"])
    known = ", ".join(SIGNALS)
    field, expected = {
        "implausible": ("value", f"{signal.low:g} to {signal.high:g} {signal.unit}" if signal else ""),
        "unknown_unit": ("unit", signal.unit if signal else ""),
        "not_a_code": ("value", f"a whole number from {signal.low:g} to {signal.high:g}" if signal else ""),
        "unknown_signal": ("signal", f"one of {known}"),
        "duplicate_reading": ("value", "each reading once"),
        "in_the_future": ("observed_at", "at or before the present"),
    }.get(row["reason"], ("observed_at", "a reading in the schema's form"))
    return {"field": f"observations.{row['row']}.{field}", "rule": row["reason"], "expected": expected}


def _news2(row: dict[Any, Any]) -> News2:
    parts = {vital: row[f"news2_{vital}"] for vital in NEWS2_BANDS}
    return News2(
        score=int(row["news2"]),
        highest=int(row["news2_highest"]),
        parts={vital: None if np.isnan(points) else int(points) for vital, points in parts.items()},
    )


def _strongest(contribution: dict[Any, float]) -> list[Contribution]:
    ranked = sorted(contribution.items(), key=lambda item: -abs(item[1]))[:CONTRIBUTIONS]
    return [Contribution(signal=signal, log_odds=float(value)) for signal, value in ranked]


def _data_age(row: dict[Any, Any], now: pd.Timestamp) -> DataAge:
    features = (now - row["index_time"]).total_seconds() / 3600
    reading = float(row["hours_since_reading"])
    return DataAge(features_hours=features, latest_reading_hours=None if np.isnan(reading) else reading + features)
