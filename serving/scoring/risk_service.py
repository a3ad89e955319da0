"""The risk service: from features to logged risk reports. The API and the main job score subjects by it."""

import logging
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vigil.features.batch import build_features
from vigil.features.catalogue import INDEX_STEP, SERVICES, views_to_assess
from vigil.features.declarations import Declarations
from vigil.features.errors import VigilError
from vigil.features.observations import TIME, check
from vigil.features.store.client import Store
from vigil.models.alarms.critical_bounds import bounds_among
from vigil.models.alarms.patient_terms import PatientTerms
from vigil.models.assessment import Finding, age_by_hours, assess_registered, usable_model
from vigil.models.bedside import USUAL_TERMS, ScoreTerms, find_expired, has_ages, read_columns
from vigil.models.registry import RegisteredModel
from vigil.models.tasks import RiskTask
from vigil.serving.observability.logs import error_location
from vigil.serving.records.clock import Clock
from vigil.serving.records.journal import Journal
from vigil.serving.records.journal_lookups import Latest
from vigil.serving.records.prediction_log import PredictionLog, logged_features, prediction
from vigil.serving.records.prediction_rows import Origin
from vigil.serving.records.registration import Registration
from vigil.serving.records.silences import Silences
from vigil.serving.records.timestamps import instant, microsecond, not_ahead, present, utc
from vigil.serving.scoring.champion import Champion, service_in_use
from vigil.serving.scoring.news2_terms import terms_of
from vigil.serving.scoring.risk_report import Include, NoReport, RiskReport, contributions_of, range_of
from vigil.serving.scoring.standing import StandingRisks
from vigil.serving.scoring.subject_state import features_as_of

logger = logging.getLogger("vigil.serving")

Float64 = NDArray[np.float64]

_STEP_HOURS: Final = INDEX_STEP / timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class UnusableObservation:
    """An observation of a request that cannot be used. ``row``: its position; None: the time asked about is the problem.

    ``reason``: a key of :data:`vigil.features.observations.REASONS`, ``after_as_of`` or ``in_the_future``.
    """

    row: int | None
    reason: str
    signal: str | None = None


class UnusableObservationsError(VigilError):
    """Observations of a request cannot be used, so no risk was made. ``observations``: which and why."""

    def __init__(self, observations: Sequence[UnusableObservation]) -> None:
        super().__init__("observations: some cannot be used")
        self.observations = observations


@dataclass(frozen=True)
class _Rows:
    """Feature rows of some of the subjects.

    Attributes:
        positions: of each row among the subjects asked for.
        rows: ``subject_id, index_time`` and features.
        origin: where they are from.
        findings: reasons not to ask the model.
    """

    positions: list[int]
    rows: pd.DataFrame
    origin: Origin
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True)
class RiskService:
    """Scores subjects and logs every report.

    Attributes:
        champion: the model in use.
        task: the question it answers.
        store: the online store, with the latest features of subjects.
        journal: the observations that arrived over the API.
        clock: the present of each subject.
        log: where every prediction is written.
        declared: what sources declare at present.
        silences: which signals had stopped as of a time.
        standing: finds the risks that need not be made again.
    """

    champion: Champion
    task: RiskTask
    store: Store
    journal: Journal
    clock: Clock
    log: PredictionLog
    declared: Callable[[], Declarations]
    silences: Silences
    standing: StandingRisks

    def by_subject(
        self, subjects: Sequence[str], as_of: datetime | None = None, include: Collection[Include] = ()
    ) -> list[RiskReport | NoReport]:
        """Return a report of each subject, in order, or the reason why there is none.

        A risk that stands is reported again: the same prediction, as of its own time. Else features come from the online store
        where its row is of the present and knows the last observations, or from the journal, if that knows the subject. If
        neither has them, NEWS2 is made of the last row that the store had.

        Raises:
            LogUnavailableError: the reports could not be logged, so they are not given.
        """
        if as_of is not None:
            return self._make(subjects, as_of, include)
        found = {subject: standing for subject in subjects if (standing := self.standing.find(subject)) is not None}
        others = [subject for subject in subjects if subject not in found]
        made = dict(zip(others, self._make(others, None, include) if others else (), strict=True))
        return [made[subject] if subject in made else self.standing.report(found[subject], include) for subject in subjects]

    def _make(
        self, subjects: Sequence[str], as_of: datetime | None, include: Collection[Include]
    ) -> list[RiskReport | NoReport]:
        # At the present, but not before what the journal holds: its clock may be ahead.
        latest = 0 if as_of else self.journal.latest() or 0
        registered = self.champion.model
        service = service_in_use(registered, self.task)
        now = [utc(as_of) if as_of else self.clock.now(subject) for subject in subjects]
        known_until = {subject: max(microsecond(time), latest) for subject, time in zip(subjects, now, strict=True)}
        with self.journal.snapshot() as journal:
            senders, own = journal.latest(known_until), journal.terms(known_until)
        declared = self.declared()
        terms = [terms_of(senders[subject], declared, own.get(subject)) for subject in subjects]
        found, missing = self._read_features(subjects, now, service, as_of, terms)
        reports: dict[int, RiskReport | NoReport] = {**missing}
        for part in found:
            times = [now[position] for position in part.positions]
            if as_of is None and part.origin == "journal":
                times = part.rows["index_time"].tolist()
                own, terms = self._renew_terms(part, own, terms, senders, declared)
            findings = [part.findings] * len(times)
            own_terms = [terms[position] for position in part.positions]
            made = self._report(registered, service, part.rows, times, part.origin, findings, own_terms, include)
            reports |= {
                position: replace(report, senders=senders[subjects[position]])
                for position, report in zip(part.positions, made, strict=True)
            }
        return self._with_present([reports[position] for position in range(len(subjects))], own)

    def _renew_terms(
        self,
        part: _Rows,
        own: Mapping[str, PatientTerms],
        terms: Sequence[ScoreTerms],
        senders: Mapping[str, Mapping[str, Latest]],
        declared: Declarations,
    ) -> tuple[dict[str, PatientTerms], list[ScoreTerms]]:
        """Return terms as of features from the journal, which are of a later time than the question."""
        times = dict(zip(part.rows["subject_id"], part.rows["index_time"].map(microsecond), strict=True))
        with self.journal.snapshot() as journal:
            later = journal.terms(times)
        renewed = {subject: held for subject, held in own.items() if subject not in times} | later
        score_terms = list(terms)
        for position, subject in zip(part.positions, times, strict=True):
            score_terms[position] = terms_of(senders[subject], declared, renewed.get(subject))
        return renewed, score_terms

    def _with_present(
        self, reports: Sequence[RiskReport | NoReport], own: Mapping[str, PatientTerms]
    ) -> list[RiskReport | NoReport]:
        """Return reports with the bounds that stand, the patients' terms, and the signals that have stopped."""
        times = {report.risk.patient: microsecond(report.as_of) for report in reports if isinstance(report, RiskReport)}
        with self.journal.snapshot() as journal:
            standing = journal.standing_bounds(times)
        stopped = self.silences.stopped(times)
        return [
            report.with_bounds(standing.get(report.risk.patient, ()), own.get(report.risk.patient)).with_stopped(
                stopped.get(report.risk.patient, ())
            )
            if isinstance(report, RiskReport)
            else report
            for report in reports
        ]

    def from_observations(
        self,
        subject: Registration,
        observations: pd.DataFrame,
        as_of: datetime | None = None,
        include: Collection[Include] = (),
    ) -> RiskReport:
        """Return the risk from observations that a caller gives; nothing but the prediction is stored.

        Args:
            subject: who they are; the ward does not matter.
            observations: ``signal, value, unit, comparator`` (None: none was sent) and ``observed_at``, any number.
            as_of: default: the time of the latest observation.
            include: what else to report.

        Raises:
            UnusableObservationsError: an observation cannot be used; none is left out silently.
            LogUnavailableError: the report could not be logged.
        """
        now = present()
        frame = observations.assign(subject_id=subject.subject_id, row=np.arange(len(observations)))
        frame["observed_at"] = not_ahead(frame["observed_at"].map(utc), now)
        time = not_ahead(pd.Series([utc(as_of)]), now)[0] if as_of else frame["observed_at"].max()
        checked = check(frame.assign(unit=frame["unit"].where(frame["unit"].notna(), None)), now)
        unusable = [
            UnusableObservation(row["row"], row["reason"], row["signal"]) for row in checked.quarantined.to_dict("records")
        ]
        if time > now:
            unusable.append(UnusableObservation(None, "in_the_future"))
        unusable += [UnusableObservation(row, "after_as_of") for row in frame.loc[frame["observed_at"] > time, "row"]]
        if unusable:
            raise UnusableObservationsError(unusable)
        registered = self.champion.model
        service = service_in_use(registered, self.task)
        rows = build_features(checked.accepted, _index(subject, time), views_to_assess(service))
        report = self._report(registered, service, rows, [time], "request", [()], [USUAL_TERMS], include)[0]
        return report.with_bounds(bounds_among(checked.accepted, time))

    def _read_features(
        self,
        subjects: Sequence[str],
        now: Sequence[pd.Timestamp],
        service: str,
        as_of: datetime | None,
        terms: Sequence[ScoreTerms],
    ) -> tuple[list[_Rows], dict[int, NoReport]]:
        """Return feature rows of the subjects, and of those without any the reason."""
        try:
            rows, is_readable = self.store.online(subjects, service), True
        except Exception as error:  # noqa: BLE001 - the journal may know them; a message may hold patient data
            logger.error("feature store: %s at %s", type(error).__name__, error_location(error))  # noqa: TRY400
            no_time = pd.Series(pd.NaT, range(len(subjects)), TIME)
            rows, is_readable = pd.DataFrame({"subject_id": subjects, "index_time": no_time}), False
        age = _hours_since(rows["index_time"], now)
        latest = self.journal.latest_of(subjects)
        recorded = np.array([latest.get(subject, 0) // 1_000_000 for subject in subjects], dtype=np.int64)
        is_fresh = (age >= 0) & (age < _STEP_HOURS) & ~_is_overtaken(rows, recorded, exactly=as_of is not None)
        is_fresh &= ~(_needs_levels(rows, service, terms) & np.array([subject in latest for subject in subjects]))
        if is_fresh.all():
            return [_Rows(list(range(len(subjects))), rows, "online_store")], {}
        found = [_select(np.flatnonzero(is_fresh), rows)]
        others: list[int] = np.flatnonzero(~is_fresh).tolist()
        journalled = self._from_journal([subjects[position] for position in others], service, as_of)
        row_of = {subject: row for row, subject in enumerate(journalled["subject_id"])}
        known = [position for position in others if subjects[position] in row_of]
        copied = journalled.iloc[[row_of[subjects[position]] for position in known]].reset_index(drop=True)
        found.append(_Rows(known, copied, "journal", () if is_readable else ("no_feature_store",)))
        stale = [position for position in others if subjects[position] not in row_of and age[position] >= 0]
        if stale:
            aged = age_by_hours(rows.iloc[stale], age[stale]).reset_index(drop=True)
            found.append(_Rows(stale, aged, "online_store", ("stale_data",)))
        reported = {position for part in found for position in part.positions}
        unknown = NoReport("unknown_subject" if is_readable else "unavailable")
        return [part for part in found if part.positions], {
            position: unknown if np.isnan(age[position]) else NoReport("too_early", float(-age[position]))
            for position in range(len(subjects))
            if position not in reported
        }

    def _from_journal(self, subjects: Sequence[str], service: str, as_of: datetime | None) -> pd.DataFrame:
        """Return features as of a time, or now, of those subjects that the journal knew then."""
        latest = self.journal.latest()
        if latest is None:
            return pd.DataFrame({"subject_id": []})
        # Nothing may be recorded later before the time of the answer, or it could not be reproduced.
        wanted = None if as_of is None else microsecond(utc(as_of))
        time = wanted if wanted is not None and wanted <= latest else microsecond(self.journal.tick())
        with self.journal.snapshot() as journal:
            return features_as_of(journal, views_to_assess(service), subjects, min(time, wanted or time))

    def _report(
        self,
        registered: RegisteredModel | None,
        service: str,
        rows: pd.DataFrame,
        as_of: Sequence[pd.Timestamp],
        origin: Origin,
        findings: Sequence[tuple[Finding, ...]],
        terms: Sequence[ScoreTerms],
        include: Collection[Include],
    ) -> list[RiskReport]:
        """Assess feature rows, log the predictions and return the reports."""
        risks, model = assess_registered(registered, rows, findings, terms), usable_model(registered)
        reports = [
            RiskReport(str(uuid.uuid4()), risk, time, self.task, model, service)
            for risk, time in zip(risks, as_of, strict=True)
        ]
        if "contributions" in include:
            contributions = contributions_of(model, rows, risks)
            reports = [replace(report, contributions=own) for report, own in zip(reports, contributions, strict=True)]
        if "range" in include:
            reports = [replace(report, range=range_of(model, report.risk)) for report in reports]
        names = logged_features(model, rows.columns) if model else []
        values: list[list[float]] = rows[names].to_numpy(np.float64).tolist() if model else [[]] * len(rows)
        made_at = present()
        self.log.append(
            [
                prediction(
                    report.risk,
                    report.prediction_id,
                    origin,
                    model,
                    service,
                    made_at,
                    as_of=report.as_of,
                    features=dict(zip(names, row, strict=True)) if report.risk.basis == "model" else None,
                )
                for report, row in zip(reports, values, strict=True)
            ],
            keep_free=True,
        )
        return reports


def _index(subject: Registration, time: pd.Timestamp) -> pd.DataFrame:
    """Return the one index time of a subject, with who they are."""
    admitted: dict[str, Any] = {
        name: pd.Series([None if at is None else instant(at)], dtype=TIME)
        for name, at in (
            ("unit_admitted_at", subject.unit_admitted_at),
            ("hospital_admitted_at", subject.hospital_admitted_at),
        )
    }
    return pd.DataFrame(
        {
            "subject_id": [subject.subject_id],
            "index_time": [time],
            "age": [np.nan if subject.age is None else subject.age],
            "sex": [np.nan if subject.sex is None else subject.sex],
            "pregnant": [np.nan if subject.pregnant is None else float(subject.pregnant)],
            **admitted,
        }
    )


def _select(positions: NDArray[np.int64], rows: pd.DataFrame) -> _Rows:
    return _Rows(positions.tolist(), rows.iloc[positions].reset_index(drop=True), "online_store")


def _needs_levels(rows: pd.DataFrame, service: str, terms: Sequence[ScoreTerms]) -> NDArray[np.bool_]:
    """Return for which rows the terms change NEWS2, so that it is made of sustained levels, which the store lacks."""
    if not has_ages(SERVICES[service]):
        return np.ones(len(rows), dtype=bool)
    is_expired = find_expired(read_columns(rows), terms).any(axis=1)
    needs: NDArray[np.bool_] = is_expired | np.array([own.spo2_scale == 2 for own in terms])
    return needs


def _is_overtaken(rows: pd.DataFrame, recorded: NDArray[np.int64], *, exactly: bool) -> NDArray[np.bool_]:
    """Return which rows of the store are older than what the journal holds. The store knows times to the second.

    For an observation of the same second it is unknown whether the row has it. A question as of a time uses the journal then,
    which is exact. A question as of now uses the row, since the next one is written before long. A row without a reading
    does not have it: a patient who was registered a moment before must not look as if nothing were known.

    Args:
        rows: of the store.
        recorded: the second in which the journal last recorded something of each subject; 0: never.
        exactly: whether the question is as of a time.
    """
    seconds = rows["index_time"].to_numpy("datetime64[s]").astype(np.int64)
    return np.where(exactly | _is_empty(rows), recorded >= seconds, recorded > seconds)


def _is_empty(rows: pd.DataFrame) -> NDArray[np.bool_]:
    """Return which rows know no vital sign of the last day."""
    return rows["hours_since_reading"].isna().to_numpy() if "hours_since_reading" in rows else np.zeros(len(rows), dtype=bool)


def _hours_since(index_time: "pd.Series[pd.Timestamp]", now: Sequence[pd.Timestamp]) -> Float64:
    """Return the hours from index times until now; NaN where there is none."""
    passed = np.array([time.to_datetime64() for time in now]) - index_time.to_numpy("datetime64[us]")
    return np.asarray(passed / np.timedelta64(1, "h"), dtype=np.float64)
