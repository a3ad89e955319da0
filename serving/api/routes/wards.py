"""A ward: its patients by urgency, alarms and what was done about them, and events as they happen."""

import asyncio
from typing import Annotated, Final

from fastapi import APIRouter, Header, Query, Security
from fastapi.responses import StreamingResponse
from pydantic import Field
from pydantic.json_schema import SkipJsonSchema

from vigil.models.alarms.safety_net import ALARM_FROM
from vigil.serving.api import problems
from vigil.serving.api.alarm_actions import join_reason, record_action
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
from vigil.serving.api.schemas.request import MAX_PATIENTS, WardName
from vigil.serving.api.schemas.wards import SafetyNetOut, WardAnswer
from vigil.serving.api.strict_route import StrictRoute
from vigil.serving.api.ward_list import list_ward
from vigil.serving.auth.tokens import Caller
from vigil.serving.identity.identities import Identities
from vigil.serving.instant import Instant
from vigil.serving.records.timestamps import utc
from vigil.serving.records.ward_rows import Alarm, Status

router: Final = APIRouter(prefix="/v1", tags=["wards"], route_class=StrictRoute)

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
    entries = list_ward(ward, caller, ward_state, identities)
    _, alive_at = ward_state.progress()
    ward_settings.refresh()
    own = ward_settings.settings(ward).safety_net
    return WardAnswer(
        ward=ward,
        known=bool(entries) or ward_settings.has_section(ward) or journal.has_ward(ward),
        safety_net=SafetyNetOut(alarm_from=own.alarm_from if own else ALARM_FROM, because=own.because if own else None),
        risks_as_of=None if alive_at is None else alive_at.to_pydatetime(),
        patients=[entry.patient for entry in entries],
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
    return _named(record_action(ward_state, metrics, caller, request.alarm_id, "acknowledged", None), identities)


@router.post("/alarms/override", summary="Record that an alarm was not right, and why")
def override_alarm(
    request: OverrideIn, ward_state: WardStateHere, identities: IdentitiesHere, metrics: MetricsHere, caller: AlarmWriter
) -> AlarmOut:
    """Stored with the caller and the time, only one for each alarm; it may become a label."""
    reason = join_reason(request.reason, request.note)
    return _named(record_action(ward_state, metrics, caller, request.alarm_id, "overridden", reason), identities)


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


def _named(alarm: Alarm, identities: Identities) -> AlarmOut:
    return alarm_out(alarm, identities.find_or_empty([alarm.subject_id])[alarm.subject_id])


def _require_ward(caller: Caller, ward: str) -> None:
    if not caller.can_see(ward):
        raise ProblemError(problems.not_your_ward("ward"))
