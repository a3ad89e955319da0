"""A ward: its patients by urgency, alarms and what was done about them, and events as they happen."""

import asyncio
from datetime import timedelta
from typing import Annotated, Final

from fastapi import APIRouter, Header, Query, Security
from fastapi.responses import StreamingResponse
from pydantic import Field
from pydantic.json_schema import SkipJsonSchema

from vigil.features.catalogue import INDEX_STEP
from vigil.models.alarms.safety_net import ALARM_FROM, Band, news2_band, news2_reasons, urgency_rank
from vigil.serving.api import problems
from vigil.serving.api.authentication import require_scopes
from vigil.serving.api.dependencies import (
    IdentitiesHere,
    JournalHere,
    MetricsHere,
    StreamsHere,
    WardSettingsHere,
    WardStateHere,
)
from vigil.serving.api.problems import ProblemError
from vigil.serving.api.routes.ward_events import EVENT, EventStream, first_message, stream_events
from vigil.serving.api.schemas.alarms import AcknowledgeIn, AlarmOut, AlarmsAnswer, OverrideIn, alarm_out
from vigil.serving.api.schemas.bounds import bounds_out
from vigil.serving.api.schemas.request import MAX_PATIENTS, WardName
from vigil.serving.api.schemas.terms import terms_out
from vigil.serving.api.schemas.wards import SafetyNetOut, WardAnswer, WardPatient
from vigil.serving.api.strict_route import StrictRoute
from vigil.serving.auth.tokens import Caller
from vigil.serving.identity.identities import Identities
from vigil.serving.instant import Instant
from vigil.serving.observability.metrics import Metrics
from vigil.serving.records.timestamps import instant, microsecond, moment, present, utc
from vigil.serving.records.ward_rows import Action, Alarm, Status, WardRisk
from vigil.serving.records.ward_state import AlreadyDoneError, WardState

router: Final = APIRouter(prefix="/v1", tags=["wards"], route_class=StrictRoute)

# Within which the risk of a silent patient is renewed; the minutes are for the rescorer to do it.
_RENEWED_WITHIN: Final = INDEX_STEP + timedelta(minutes=5)

WardReader = Annotated[Caller, Security(require_scopes, scopes=["ward:read"])]
AlarmReader = Annotated[Caller, Security(require_scopes, scopes=["alarms:read"])]
AlarmWriter = Annotated[Caller, Security(require_scopes, scopes=["alarms:write"])]
WardQuery = Annotated[WardName, Query()]


@router.get("/ward/patients", summary="A ward's patients by urgency")
def get_ward_patients(
    ward: WardQuery,
    ward_state: WardStateHere,
    ward_settings: WardSettingsHere,
    identities: IdentitiesHere,
    journal: JournalHere,
    caller: WardReader,
) -> WardAnswer:
    """The latest risk of each patient registered in the ward; alarms for a caller with `alarms:read`."""
    _require_ward(caller, ward)
    risks = ward_state.risks(ward=ward)
    names = identities.find_or_empty(risk.subject_id for risk in risks)
    alarms = ward_state.open_alarms(ward) if caller.has_scope("alarms:read") else {}
    now = microsecond(present())
    stopped = ward_state.silences.stopped({risk.subject_id: now for risk in risks})
    patients = [
        _ward_patient(risk, names[risk.subject_id], alarms.get(risk.subject_id), is_stopped=risk.subject_id in stopped)
        for risk in risks
    ]
    _, alive_at = ward_state.progress()
    ward_settings.refresh()
    own = ward_settings.settings(ward).safety_net
    return WardAnswer(
        ward=ward,
        known=bool(risks) or ward_settings.has_section(ward) or journal.has_ward(ward),
        safety_net=SafetyNetOut(alarm_from=own.alarm_from if own else ALARM_FROM, because=own.because if own else None),
        risks_as_of=None if alive_at is None else alive_at.to_pydatetime(),
        patients=sorted(patients, key=_urgency, reverse=True),
    )


@router.get("/alarms", summary="Alarms, newest first")
def get_alarms(
    ward_state: WardStateHere,
    identities: IdentitiesHere,
    caller: AlarmReader,
    ward: Annotated[WardName | SkipJsonSchema[None], Query()] = None,
    status: Annotated[Status | SkipJsonSchema[None], Query()] = None,
    before: Annotated[Instant | SkipJsonSchema[None], Query(description="Only those opened before.")] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_PATIENTS)] = 100,
) -> AlarmsAnswer:
    """Alarms of one ward, or of all that the caller may see. For older ones ask again `before` the last one's `opened_at`.

    Alarms opened at one instant come together, so that there may be more than `limit`.
    """
    if ward is not None:
        _require_ward(caller, ward)
    wards = [ward] if ward is not None else caller.wards
    alarms = ward_state.alarms(wards=wards, status=status, before=None if before is None else utc(before), limit=limit)
    names = identities.find_or_empty(alarm.subject_id for alarm in alarms)
    return AlarmsAnswer(alarms=[alarm_out(alarm, names[alarm.subject_id]) for alarm in alarms])


@router.post("/alarms/acknowledge", summary="Record that the caller takes care of an alarm")
def acknowledge_alarm(
    request: AcknowledgeIn, ward_state: WardStateHere, identities: IdentitiesHere, metrics: MetricsHere, caller: AlarmWriter
) -> AlarmOut:
    """Stored with the caller and the time, beside earlier acknowledgements."""
    return _record_action(ward_state, identities, metrics, caller, request.alarm_id, "acknowledged", None)


@router.post("/alarms/override", summary="Record that an alarm was not right, and why")
def override_alarm(
    request: OverrideIn, ward_state: WardStateHere, identities: IdentitiesHere, metrics: MetricsHere, caller: AlarmWriter
) -> AlarmOut:
    """Stored with the caller and the time, only one for each alarm; it may become a label."""
    reason = f"{request.reason}: {request.note}" if request.note else request.reason
    return _record_action(ward_state, identities, metrics, caller, request.alarm_id, "overridden", reason)


@router.get(
    "/ward/events",
    summary="Risk changes and alarms as they happen",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/event-stream": {"schema": EVENT}}, "description": "Server-sent events."}},
)
async def follow_ward(
    ward: WardQuery,
    ward_state: WardStateHere,
    identities: IdentitiesHere,
    streams: StreamsHere,
    caller: WardReader,
    last_event_id: Annotated[
        str | SkipJsonSchema[None],
        Header(
            description="The id of the last event that was handled. Empty is as none; from any other text the stream resets."
        ),
    ] = None,
    seconds: Annotated[
        Annotated[float, Field(ge=0, le=86_400)] | SkipJsonSchema[None],
        Query(description="End after so long; at the latest when the token expires."),
    ] = None,
) -> StreamingResponse:
    """Server-sent events; those of alarms for a caller with `alarms:read`.

    With ``Last-Event-ID`` the stream resumes after that event; each event comes at least once.
    """
    _require_ward(caller, ward)
    after, message = first_message(ward, last_event_id, await asyncio.to_thread(ward_state.event_range, ward))
    events = stream_events(ward_state, identities, caller, ward, after, seconds, message)
    return EventStream(events, caller, streams)


def _record_action(
    ward_state: WardState,
    identities: Identities,
    metrics: Metrics,
    caller: Caller,
    alarm_id: str,
    action: Action,
    reason: str | None,
) -> AlarmOut:
    alarm = ward_state.alarm(alarm_id)
    if alarm is None or not caller.can_see(alarm.ward):
        raise ProblemError(problems.unknown_alarm())
    try:
        if ward_state.record_action(alarm_id, action, caller.sub, reason, present()):
            metrics.count_action(action)
    except AlreadyDoneError as error:
        raise ProblemError(problems.already_done(error.status)) from None
    after = ward_state.alarm(alarm_id)
    if after is None:  # retention deleted it meanwhile
        raise ProblemError(problems.unknown_alarm())
    return alarm_out(after, identities.find_or_empty([after.subject_id])[after.subject_id])


def _require_ward(caller: Caller, ward: str) -> None:
    if not caller.can_see(ward):
        raise ProblemError(problems.not_your_ward("ward"))


def _ward_patient(risk: WardRisk, patient_id: str, alarm: Alarm | None, *, is_stopped: bool) -> WardPatient:
    sounded = alarm if alarm is not None and alarm.sounded > 0 else None
    is_stale = present() - instant(risk.index_time) > _RENEWED_WITHIN
    band = _news2_band(risk) if is_stale else risk.band
    probability = None if is_stale else risk.probability
    stale_decided_by = "nothing" if band == "unknown" else "news2"
    return WardPatient(
        patient_id=patient_id,
        as_of=instant(risk.index_time).to_pydatetime(),
        basis="news2" if is_stale else risk.basis,
        probability=probability,
        band=band,
        decided_by=stale_decided_by if is_stale else risk.decided_by,
        reasons=risk.reasons or [],
        news2=risk.news2,
        news2_highest=risk.news2_highest,
        latest_reading_at=moment(risk.latest_reading_at),
        expected_benefit=_expected_benefit(probability, risk.threshold),
        findings=[
            *(["stale_data"] if is_stale else []),
            *(risk.findings or []),
            *(["signal_stopped"] if is_stopped else []),
        ],
        unusual=risk.unusual or [],
        bounds=bounds_out(risk.bounds or []),
        terms=terms_out(risk.terms),
        alarm_id=sounded.alarm_id if sounded else None,
        alarm_status=sounded.status if sounded else None,
        model_name=risk.model_name,
        model_version=risk.model_version,
        feature_service=risk.feature_service,
    )


def _news2_band(risk: WardRisk) -> Band:
    """Return NEWS2's band of a risk that may have the model's; ``unknown`` where NEWS2 does not apply."""
    if risk.reasons is None:  # an earlier version did not store the components: one of 3 may be among them
        return news2_band(news2_reasons(risk.news2, min(risk.news2, 3)))
    is_unknown = risk.net_score is None or risk.band == "unknown" or "hardly_known" in (risk.findings or [])
    return "unknown" if is_unknown and not risk.reasons else news2_band(tuple(risk.reasons))


def _expected_benefit(p: float | None, threshold: float | None) -> float | None:
    return None if p is None or threshold is None else p - (1 - p) * threshold / (1 - threshold)


def _urgency(patient: WardPatient) -> tuple[bool, int, float, int, int]:
    """Return the sort key of a patient. Without a probability the score decides, above patients with no expected benefit."""
    benefit = patient.expected_benefit
    is_open = patient.alarm_status == "open"
    return (is_open, urgency_rank(patient.band), 0.0 if benefit is None else benefit, patient.news2, patient.news2_highest)
