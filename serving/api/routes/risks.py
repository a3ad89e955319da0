"""Risks of patients: now, from given observations, over time, against their own usual, and all of it in one answer."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Annotated, Any, Final

import pandas as pd
from fastapi import APIRouter, Depends, Response, Security

from vigil.features.kernel.plan import UNBOUNDED
from vigil.features.pseudonyms import Pseudonyms
from vigil.serving.api import problems
from vigil.serving.api.authentication import require_scopes
from vigil.serving.api.concurrency import Workload
from vigil.serving.api.dependencies import (
    AccessHere,
    ChampionHere,
    ClockHere,
    IdentitiesHere,
    JournalHere,
    PredictionLogHere,
    PseudonymsHere,
    RiskServiceHere,
    WardStateHere,
)
from vigil.serving.api.problems import ProblemError
from vigil.serving.api.quarantine_reasons import explain_quarantine
from vigil.serving.api.schemas.alarms import AlarmOut, alarm_out
from vigil.serving.api.schemas.bounds import bounds_out
from vigil.serving.api.schemas.history import (
    AnomaliesAnswer,
    AnomaliesRequest,
    AnomalyOut,
    GapOut,
    HistoryAnswer,
    HistoryPoint,
    HistoryRequest,
    TrendOut,
    VisitSummary,
)
from vigil.serving.api.schemas.problems import Problem
from vigil.serving.api.schemas.request import MAX_PATIENTS
from vigil.serving.api.schemas.risks import (
    ContributionOut,
    ObservationsRequest,
    RiskAnswer,
    RiskItem,
    RiskRequest,
    RisksAnswer,
    RisksRequest,
    risk_answer,
)
from vigil.serving.api.strict_route import StrictRoute
from vigil.serving.auth.access import Access
from vigil.serving.auth.tokens import Caller
from vigil.serving.identity.identities import Identities
from vigil.serving.records.clock import Clock
from vigil.serving.records.journal import Journal
from vigil.serving.records.prediction_log import PredictionLog
from vigil.serving.records.timestamps import microsecond, present, utc
from vigil.serving.records.ward_state import WardState
from vigil.serving.scoring.anomalies import anomalies, baseline_row, gaps
from vigil.serving.scoring.champion import Champion
from vigil.serving.scoring.history import recent_bounds, recent_changes, risk_history
from vigil.serving.scoring.risk_report import Include, NoReport
from vigil.serving.scoring.risk_service import RiskService, UnusableObservation, UnusableObservationsError

router: Final = APIRouter(prefix="/v1", tags=["risk"], route_class=StrictRoute)

_WORKLOAD: Final = Workload()

Reader = Annotated[Caller, Security(require_scopes, scopes=["risk:read"])]


@dataclass(frozen=True)
class Patients:
    """What every question about a patient needs: who they are, and whether the caller may see them."""

    pseudonyms: Pseudonyms
    access: Access
    journal: Journal
    identities: Identities

    def find(self, patient_ids: Sequence[str], as_of: datetime | None) -> list["Patient"]:
        """Return the patients that identifiers stood for at a time, default now: after a merge it is the surviving one."""
        subjects = [self.pseudonyms.subject_key(patient_id) for patient_id in patient_ids]
        until = UNBOUNDED if as_of is None else microsecond(utc(as_of))
        survivors = self.journal.survivors_of(subjects, until)
        names = self.identities.find_or_empty({into for subject, into in survivors.items() if into != subject})
        return [Patient(survivors[subject], names.get(survivors[subject])) for subject in subjects]

    def visible(self, caller: Caller, patient_id: str, as_of: datetime | None = None) -> "Patient":
        """Return a patient that the caller may see.

        Raises:
            ProblemError: the caller may not; the patient is reported as unknown.
        """
        (patient,) = self.find([patient_id], as_of)
        if self.access.invisible_subjects(caller, [patient.subject]):
            raise ProblemError(problems.unknown_patient())
        return patient


@dataclass(frozen=True, slots=True)
class Patient:
    """A patient asked about: the subject key, and the identifier that the one asked with was merged into, if it was."""

    subject: str
    merged_into: str | None


async def _patients(
    pseudonyms: PseudonymsHere, access: AccessHere, journal: JournalHere, identities: IdentitiesHere
) -> Patients:
    return Patients(pseudonyms, access, journal, identities)


@dataclass(frozen=True)
class Course:
    """What the course of a patient is read from."""

    log: PredictionLog
    journal: Journal
    clock: Clock
    champion: Champion
    ward_state: WardState

    def history(self, patient: Patient, request: HistoryRequest) -> HistoryAnswer:
        """Return the risks of the last hours, and their trend."""
        points, trend = risk_history(self.log, self.clock, patient.subject, request.hours)
        bounds = recent_bounds(self.journal, self.clock, patient.subject, request.hours)
        return HistoryAnswer(
            patient_id=request.patient_id,
            merged_into=patient.merged_into,
            points=[HistoryPoint.model_validate(point) for point in points],
            trend=TrendOut.model_validate(trend),
            bounds=bounds_out(bounds),
        )

    def changes(self, subject: str) -> list[ContributionOut] | None:
        """Return how much each signal moved the log-odds lately."""
        changes = recent_changes(self.journal, self.champion.model, subject)
        return None if changes is None else [ContributionOut.model_validate(change) for change in changes]

    def alarms(self, subject: str, request: HistoryRequest) -> list[AlarmOut]:
        """Return the alarms that are open, or ended within the hours asked for."""
        since = microsecond(present() - pd.Timedelta(hours=request.hours))
        alarms = self.ward_state.alarms(subject=subject)
        recent = [alarm for alarm in alarms if alarm.ended_at is None or alarm.ended_at >= since]
        return [alarm_out(alarm, request.patient_id) for alarm in recent]


async def _course(
    log: PredictionLogHere, journal: JournalHere, clock: ClockHere, champion: ChampionHere, ward_state: WardStateHere
) -> Course:
    return Course(log, journal, clock, champion, ward_state)


PatientsHere = Annotated[Patients, Depends(_patients)]
CourseHere = Annotated[Course, Depends(_course)]


@router.post("/risk", summary="Risk of one patient", response_model=RiskAnswer)
async def get_risk(request: RiskRequest, service: RiskServiceHere, patients: PatientsHere, caller: Reader) -> Response:
    """The risk from the patient's latest features; NEWS2 with its interval where the model cannot be asked, and why."""
    work = partial(_risk_items, service, patients, caller, [request.patient_id], request.as_of, request.include)
    (item,) = await _WORKLOAD.run(caller, work)
    if item.problem:
        raise ProblemError(item.problem)
    assert item.risk is not None
    return Response(item.risk.model_dump_json(), media_type="application/json")  # validated already when it was made


@router.post("/risks", summary=f"Risk of up to {MAX_PATIENTS} patients")
async def get_risks(request: RisksRequest, service: RiskServiceHere, patients: PatientsHere, caller: Reader) -> RisksAnswer:
    """The risks in the order of the request; each patient has a risk or the problem that prevents it."""
    work = partial(_risk_items, service, patients, caller, as_of=request.as_of, include=request.include)
    wanted = list(dict.fromkeys(request.patient_ids))  # one asked for twice is made once
    items = dict(zip(wanted, await _WORKLOAD.run_parts(caller, work, wanted), strict=True))
    return RisksAnswer(items=[items[patient_id] for patient_id in request.patient_ids])


@router.post("/risk/observations", summary="Risk from observations in the request")
async def get_risk_from_observations(
    request: ObservationsRequest, service: RiskServiceHere, pseudonyms: PseudonymsHere, caller: Reader
) -> RiskAnswer:
    """Features are computed from these observations alone, by the same definition as in training."""

    def work() -> RiskAnswer:  # nothing about other patients is read
        subject = replace(request.registration(), subject_id=pseudonyms.subject_key(request.patient_id))
        frame = pd.DataFrame([observation.model_dump() for observation in request.observations])
        try:
            report = service.from_observations(subject, frame, request.as_of, request.include)
        except UnusableObservationsError as error:
            errors = [_unusable(observation) for observation in error.observations]
            raise ProblemError(problems.unusable_observations(errors)) from None
        return risk_answer(report, request.patient_id)

    return await _WORKLOAD.run(caller, work)


@router.post("/risk/history", summary="Risks of a patient over time, and where they are going")
async def get_risk_history(
    request: HistoryRequest, patients: PatientsHere, course: CourseHere, caller: Reader
) -> HistoryAnswer:
    """Past risks of the patient, made when observations arrived or a caller asked; thinned to the last of each interval."""
    return await _WORKLOAD.run(caller, lambda: course.history(patients.visible(caller, request.patient_id), request))


@router.post("/risk/anomalies", summary="How far each vital sign is from the patient's own usual")
async def get_anomalies(
    request: AnomaliesRequest, patients: PatientsHere, journal: JournalHere, caller: Reader
) -> AnomaliesAnswer:
    """What is unusual for this patient, whatever is normal for others; of patients whose observations came over the API."""

    def work() -> AnomaliesAnswer:
        patient = patients.visible(caller, request.patient_id, request.as_of)
        problems.refuse_future(request.as_of)
        row = baseline_row(journal, patient.subject, present() if request.as_of is None else utc(request.as_of))
        if row is None:
            raise ProblemError(problems.no_readings())
        signals = [AnomalyOut.model_validate(anomaly) for anomaly in anomalies(row)]
        return AnomaliesAnswer(
            patient_id=request.patient_id,
            merged_into=patient.merged_into,
            as_of=row["index_time"].to_pydatetime(),
            signals=signals,
        )

    return await _WORKLOAD.run(caller, work)


@router.post("/visit-summary", summary="Everything for a teleconsultation in one answer")
async def get_visit_summary(
    request: HistoryRequest, service: RiskServiceHere, patients: PatientsHere, course: CourseHere, caller: Reader
) -> VisitSummary:
    """Present risk with contributions, trend, anomalies and gaps in the data; alarms for a caller with `alarms:read`."""

    def work() -> VisitSummary:
        patient = patients.visible(caller, request.patient_id)
        subject = patient.subject
        item = _risk_items(service, patients, caller, [request.patient_id], None, ["contributions", "range"])[0]
        if item.problem:
            raise ProblemError(item.problem)
        assert item.risk is not None
        row = baseline_row(course.journal, subject, present())
        return VisitSummary(
            patient_id=request.patient_id,
            merged_into=patient.merged_into,
            risk=item.risk,
            changes=course.changes(subject),
            history=course.history(patient, request),
            alarms=course.alarms(subject, request) if caller.has_scope("alarms:read") else None,
            anomalies=[] if row is None else [AnomalyOut.model_validate(own) for own in anomalies(row) if own.unusual],
            data_gaps=[] if row is None else [GapOut.model_validate(gap) for gap in gaps(row)],
        )

    return await _WORKLOAD.run(caller, work)


def _risk_items(
    service: RiskService,
    patients: Patients,
    caller: Caller,
    patient_ids: Sequence[str],
    as_of: datetime | None,
    include: Sequence[Include],
) -> list[RiskItem]:
    """Return risks in the order asked for. Patients the caller may not see are reported as unknown."""
    problems.refuse_future(as_of)
    found = patients.find(patient_ids, as_of)
    subjects = [patient.subject for patient in found]
    invisible = patients.access.invisible_subjects(caller, subjects)
    wanted = list(
        dict.fromkeys(subject for subject in subjects if subject not in invisible)
    )  # one asked for twice is logged once
    reports = dict(zip(wanted, service.by_subject(wanted, as_of, include) if wanted else [], strict=True))
    items = []
    for patient, patient_id in zip(found, patient_ids, strict=True):
        report = reports.get(patient.subject, NoReport("unknown_subject"))
        if isinstance(report, NoReport):
            items.append(RiskItem(patient_id=patient_id, problem=_problem(report)))
        else:
            items.append(RiskItem(patient_id=patient_id, risk=risk_answer(report, patient_id, patient.merged_into)))
    return items


def _problem(reason: NoReport) -> Problem:
    if reason.reason == "too_early":
        return problems.as_of_before_features(-reason.hours_too_early)
    return problems.unknown_patient() if reason.reason == "unknown_subject" else problems.unavailable()


def _unusable(observation: UnusableObservation) -> dict[str, Any]:
    """Return field, rule and expectation of an observation that cannot be used."""
    if observation.row is None:
        return {"field": "as_of", "rule": observation.reason, "expected": "at or before the present"}
    if observation.reason == "after_as_of":
        field, expected = "observed_at", "at or before as_of"
    else:
        field, expected = explain_quarantine(observation.reason, observation.signal or "")
    return {"field": f"observations.{observation.row}.{field}", "rule": observation.reason, "expected": expected}
