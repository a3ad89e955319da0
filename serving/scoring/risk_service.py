"""From features to an answer. The API and the main job score patients through this one door, and each answer is logged."""

import logging
import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from features.batch import build_features
from features.catalogue import INDEX_STEP, computed_for, service_views
from features.observations import TIME, check
from features.signals import SIGNALS
from features.store.client import Store
from models.assessment import Finding, Risk, assess_registered, out_of_date, trusted
from models.registry import RegisteredModel
from models.tasks import RiskTask
from serving.api import problems
from serving.api.problems import ProblemError
from serving.api.quarantine_reasons import explain
from serving.api.schemas import (
    SEX_CODES,
    Contribution,
    DataAge,
    Include,
    ModelReference,
    News2,
    ObservationsRequest,
    Problem,
    Range,
    RiskAnswer,
    RiskItem,
)
from serving.observability.logs import place_of
from serving.records.clock import Clock
from serving.records.database import microsecond, reading
from serving.records.journal import Journal
from serving.records.prediction_log import PredictionLog, entry, logged_features
from serving.records.timestamps import not_ahead, present, utc
from serving.scoring.champion import Champion
from serving.scoring.subject_state import features_as_of

logger = logging.getLogger("vigil.serving")

Float64 = NDArray[np.float64]

CONTRIBUTIONS: Final = 5  # the strongest signals named in an answer


@dataclass(frozen=True)
class _Known:
    """Feature rows of some of the patients asked for.

    Attributes:
        places: of each row in the request.
        rows: ``subject_id, index_time`` and features.
        origin: of the prediction log's ORIGINS.
        findings: what speaks against asking the model.
    """

    places: list[int]
    rows: pd.DataFrame
    origin: str
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True)
class RiskScorer:
    """Scores patients, who are named by pseudonym, and logs what it said.

    Attributes:
        champion: the model in use.
        task: the question it answers.
        store: where the latest features of patients are.
        journal: where the readings are that came over the API.
        clock: what time it is for a patient.
        log: where every prediction goes.
    """

    champion: Champion
    task: RiskTask
    store: Store
    journal: Journal
    clock: Clock
    log: PredictionLog

    def by_id(
        self, patients: Sequence[str], as_of: datetime | None = None, include: Collection[Include] = ()
    ) -> list[RiskItem]:
        """Risks in the order asked for; a patient of whom nothing is known gets a problem instead.

        From the feature store, where its row is of the present and knows the last readings; else from the journal as of now,
        if that knows the patient; else NEWS2 from what the store knew last.

        Raises:
            LogUnavailableError: what was found could not be logged, so it is not given.
        """
        registered = self.champion.model
        service = self._service(registered)
        now = [utc(as_of) if as_of else self.clock.now(patient) for patient in patients]
        known, failed = self._known(patients, now, service, as_of)
        items = {place: RiskItem(patient_id=patients[place], problem=problem) for place, problem in failed.items()}
        for part in known:
            times = [now[place] for place in part.places]
            if as_of is None and part.origin == "journal":
                times = part.rows["index_time"].tolist()
            answers = self._answer(registered, service, part.rows, times, part.origin, [part.findings] * len(times), include)
            for place, answer in zip(part.places, answers, strict=True):
                items[place] = RiskItem(patient_id=patients[place], risk=answer)
        return [items[place] for place in range(len(patients))]

    def _known(
        self, patients: Sequence[str], now: Sequence[pd.Timestamp], service: str, as_of: datetime | None
    ) -> tuple[list[_Known], dict[int, Problem]]:
        """What is known of whom, and of those of whom nothing is, why."""
        try:
            rows, stored = self.store.online(patients, service), True
        except Exception as error:  # noqa: BLE001 - the journal may know; a message may hold patients' data
            logger.error("feature store: %s at %s", type(error).__name__, place_of(error))  # noqa: TRY400
            rows, stored = (
                pd.DataFrame({"subject_id": patients, "index_time": pd.Series(pd.NaT, range(len(patients)), TIME)}),
                False,
            )
        age = _hours(now, rows["index_time"])
        fresh = (age >= 0) & (age < INDEX_STEP / timedelta(hours=1))
        fresh &= ~self._overtaken(patients, rows, exactly=as_of is not None)
        if fresh.all():
            return [_Known(list(range(len(patients))), rows, "online_store")], {}
        known = [_part(np.flatnonzero(fresh), rows, "online_store")]
        elsewhere: list[int] = np.flatnonzero(~fresh).tolist()
        journalled = self._from_journal([patients[place] for place in elsewhere], service, as_of)
        row_of = {patient: row for row, patient in enumerate(journalled["subject_id"])}
        there = [place for place in elsewhere if patients[place] in row_of]
        copied = journalled.iloc[[row_of[patients[place]] for place in there]].reset_index(drop=True)
        known.append(_Known(there, copied, "journal", () if stored else ("no_feature_store",)))
        stale = [place for place in elsewhere if patients[place] not in row_of and age[place] >= 0]
        if stale:
            later = out_of_date(rows.iloc[stale], age[stale])
            known.append(_Known(stale, later.reset_index(drop=True), "online_store", ("stale_data",)))
        found = {place for part in known for place in part.places}
        nobody = problems.unknown_patient() if stored else problems.unavailable()
        return [part for part in known if part.places], {
            place: nobody if np.isnan(age[place]) else problems.too_early(age[place])
            for place in range(len(patients))
            if place not in found
        }

    def _overtaken(self, patients: Sequence[str], rows: pd.DataFrame, *, exactly: bool) -> NDArray[np.bool_]:
        """Which rows of the store, whose times are to the second, are older than what the journal has.

        Of a reading of the same second it is not known whether the row has it: what is asked as of a time goes by the journal
        then, which is exact; what is asked as of now takes the row, for the next is written before long. A row that knows no
        reading does not have it: a patient who was registered a moment before must not look as if nothing were known.
        """
        latest = self.journal.latest_of(patients)
        seconds = rows["index_time"].to_numpy("datetime64[s]").astype(np.int64)
        recorded = np.array([latest.get(patient, 0) // 1_000_000 for patient in patients], dtype=np.int64)
        at_the_second = exactly | _empty(rows)
        return np.where(at_the_second, recorded >= seconds, recorded > seconds)

    def _from_journal(self, patients: Sequence[str], service: str, as_of: datetime | None) -> pd.DataFrame:
        """Features as of a time, or now, of those of the patients whom the journal knew then."""
        latest = self.journal.latest()
        if latest is None:
            return pd.DataFrame({"subject_id": []})
        # Nothing may yet be recorded before the time that the answer is of, or nobody could make it again.
        asked = None if as_of is None else microsecond(utc(as_of))
        time = asked if asked is not None and asked <= latest else microsecond(self.journal.tick())
        with reading(self.journal.engine) as connection:
            return features_as_of(connection, tuple(service_views(service)), patients, min(time, asked or time))

    def from_observations(self, request: ObservationsRequest) -> RiskAnswer:
        """The risk from readings in the request, through the same features as everywhere else.

        Raises:
            ProblemError: a reading cannot be used (none is left out silently), or none is recent.
        """
        now = present()
        frame = pd.DataFrame([reading.model_dump() for reading in request.observations])
        frame["observed_at"] = not_ahead(frame["observed_at"].map(utc), now)
        frame["subject_id"] = request.patient_id
        frame["row"] = np.arange(len(frame))
        as_of = not_ahead(pd.Series([utc(request.as_of)]), now)[0] if request.as_of else frame["observed_at"].max()
        checked = check(frame.assign(unit=frame["unit"].where(frame["unit"].notna(), None)), now)
        errors = [_error(row) for row in checked.quarantined.to_dict("records")]
        if as_of > now:
            errors.append({"field": "as_of", "rule": "in_the_future", "expected": "at or before the present"})
        late = frame.loc[frame["observed_at"] > as_of, "row"]
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
                "sex": [SEX_CODES[request.sex] if request.sex else np.nan],
                "pregnant": [np.nan if request.pregnant is None else float(request.pregnant)],
                **{
                    name: pd.Series([getattr(request, name)], dtype=TIME)
                    for name in ("unit_admitted_at", "hospital_admitted_at")
                },
            }
        )
        registered = self.champion.model
        service = self._service(registered)
        rows = build_features(checked.accepted, index, computed_for(service))
        return self._answer(registered, service, rows, [as_of], "request", [()], request.include)[0]

    def _answer(
        self,
        registered: RegisteredModel | None,
        service: str,
        rows: pd.DataFrame,
        as_of: Sequence[pd.Timestamp],
        origin: str,
        findings: Sequence[tuple[Finding, ...]],
        include: Collection[Include],
    ) -> list[RiskAnswer]:
        risks, model = assess_registered(registered, rows, findings), trusted(registered)
        reasons = _reasons(model, rows, risks) if "contributions" in include else [None] * len(risks)
        names = logged_features(model, rows.columns) if model else []
        values: list[list[float]] = rows[names].to_numpy(np.float64).tolist() if model else [[]] * len(rows)
        made_at = present()
        answers, entries = [], []
        for risk, time, reason, row in zip(risks, as_of, reasons, values, strict=True):
            name = str(uuid.uuid4())
            answers.append(
                RiskAnswer(
                    prediction_id=name,
                    patient_id=risk.patient,
                    as_of=time.to_pydatetime(),
                    index_time=risk.index_time.to_pydatetime(),
                    horizon_hours=self.task.horizon.total_seconds() / 3600,
                    outcome=self.task.outcome,
                    basis=risk.basis,
                    probability=risk.probability,
                    range=_range(model, risk) if "range" in include else None,
                    band=risk.band,
                    decided_by=risk.decided_by,
                    reasons=list(risk.reasons),
                    findings=list(risk.findings),
                    unusual=list(risk.unusual),
                    news2=_news2(risk),
                    contributions=reason,
                    model=reference(model, service),
                    data_age=_data_age(risk, time),
                )
            )
            features = dict(zip(names, row, strict=True)) if risk.basis == "model" else None
            entries.append(entry(risk, name, origin, model, service, made_at, as_of=time, features=features))
        self.log.append(entries, keep_free=True)
        return answers

    def _service(self, registered: RegisteredModel | None) -> str:
        return registered.feature_service if registered else self.task.feature_service


def reference(registered: RegisteredModel | None, service: str) -> ModelReference:
    """Which model answers, if any, from which features."""
    if registered is None:
        return ModelReference(name=None, version=None, feature_service=service, simulated=None)
    simulated = bool(registered.model.facts_["simulated"])
    return ModelReference(name=registered.name, version=registered.version, feature_service=service, simulated=simulated)


def _news2(risk: Risk) -> News2:
    return News2(
        score=risk.news2,
        highest=risk.news2_highest,
        parts=risk.news2_parts,
        sustained=risk.net_score,
        use_instead=None if risk.score == "NEWS2" else risk.score,
    )


def _part(places: np.ndarray, rows: pd.DataFrame, origin: str) -> _Known:
    return _Known(places.tolist(), rows.iloc[places].reset_index(drop=True), origin)


def _empty(rows: pd.DataFrame) -> NDArray[np.bool_]:
    """Which rows know no vital sign of the last day."""
    return rows["hours_since_reading"].isna().to_numpy() if "hours_since_reading" in rows else np.zeros(len(rows), dtype=bool)


def _hours(now: Sequence[pd.Timestamp], index_time: "pd.Series[pd.Timestamp]") -> Float64:
    """From index times until now; NaN where there is none."""
    passed = np.array([time.to_datetime64() for time in now]) - index_time.to_numpy("datetime64[us]")
    return np.asarray(passed / np.timedelta64(1, "h"), dtype=np.float64)


def _error(row: dict[Any, Any]) -> dict[str, str]:
    """Names field, rule and expectation of a reading that cannot be used."""
    field, expected = explain(row["reason"], row["signal"])
    return {"field": f"observations.{row['row']}.{field}", "rule": row["reason"], "expected": expected}


def _reasons(registered: RegisteredModel | None, rows: pd.DataFrame, risks: Sequence[Risk]) -> list[list[Contribution] | None]:
    """The strongest signals behind each probability; None where there is none, or the model cannot say."""
    if registered is None or not registered.model.explains:
        return [None] * len(risks)
    found = registered.model.contributions(rows).drop(columns="baseline").to_dict("records")
    return [
        strongest(contribution, rows.iloc[place]) if risk.basis == "model" else None
        for place, (contribution, risk) in enumerate(zip(found, risks, strict=True))
    ]


def strongest(contribution: Mapping[Any, float], row: "pd.Series[Any]") -> list[Contribution]:
    """The signals that moved the log-odds most, the strongest first, and whether each was measured in this row of features."""
    ranked = sorted(contribution.items(), key=lambda item: -abs(item[1]))[:CONTRIBUTIONS]
    return [Contribution(signal=signal, log_odds=float(value), measured=_measured(signal, row)) for signal, value in ranked]


def _measured(signal: str, row: "pd.Series[Any]") -> bool | None:
    """Whether the row knows a reading of a signal; None for what is not measured, such as age."""
    if signal not in SIGNALS:
        return None
    return any(name in row and bool(pd.notna(row[name])) for name in (f"{signal}_last_24h", f"{signal}_last_72h"))


def _range(registered: RegisteredModel | None, risk: Risk) -> Range | None:
    if registered is None or risk.probability is None:
        return None
    low, high = registered.model.range_of(np.array([risk.probability]))
    return Range(low=float(low[0]), high=float(high[0]))


def _data_age(risk: Risk, now: pd.Timestamp) -> DataAge:
    features = (now - risk.index_time).total_seconds() / 3600
    since = risk.hours_since_reading
    # Of a row that is out of date the hours are those of the present already.
    later = 0.0 if "stale_data" in risk.findings else features
    return DataAge(features_hours=features, latest_reading_hours=None if since is None else since + later)
