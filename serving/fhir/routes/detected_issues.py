"""``DetectedIssue``: alarms by id, and what clients do about them."""

from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Header, Request
from fastapi.concurrency import run_in_threadpool

from vigil.serving.api.alarm_actions import find_alarm, record_action
from vigil.serving.auth.tokens import Caller
from vigil.serving.fhir.detected_issues import read_new_actions, to_detected_issue, version_of
from vigil.serving.fhir.operations import parse_json, parse_version, require_resource
from vigil.serving.fhir.outcomes import BASE, FhirError, FhirResponse
from vigil.serving.fhir.routes.access import may
from vigil.serving.records.ward_rows import Alarm

router: Final = APIRouter(prefix=f"{BASE}/DetectedIssue", include_in_schema=False)

Reader = Annotated[Caller, Depends(may("r", "DetectedIssue"))]
Writer = Annotated[Caller, Depends(may("u", "DetectedIssue"))]


@router.get("/{id}")
async def read(request: Request, id: str, caller: Reader) -> FhirResponse:  # noqa: A002 - FHIR's name
    """One alarm."""
    components = request.app.state.components
    alarm = await run_in_threadpool(find_alarm, components.ward_state, caller, id)
    return await run_in_threadpool(_respond, components, alarm)


@router.put("/{id}")
async def act(
    request: Request,
    id: str,  # noqa: A002 - FHIR's name
    caller: Writer,
    if_match: Annotated[str | None, Header()] = None,
) -> FhirResponse:
    """Record what was done about an alarm: the mitigations that the resource has more than the alarm."""
    resource = require_resource(parse_json(await request.body()), "DetectedIssue")
    return await run_in_threadpool(_act, request.app.state.components, caller, id, resource, parse_version(if_match))


def _act(components: Any, caller: Caller, identity: str, resource: dict[str, Any], wanted: int | None) -> FhirResponse:
    alarm = find_alarm(components.ward_state, caller, identity)
    if wanted is not None and wanted != version_of(alarm):
        raise FhirError(412, "If-Match: expected the present version; read the resource again")
    for new in read_new_actions(alarm, resource, _patient(components, alarm), caller.sub):
        alarm = record_action(components.ward_state, components.metrics, caller, identity, new.action, new.reason)
    return _respond(components, alarm)


def _respond(components: Any, alarm: Alarm) -> FhirResponse:
    headers = {"ETag": f'W/"{version_of(alarm)}"'}
    return FhirResponse(to_detected_issue(alarm, _patient(components, alarm)), headers=headers)


def _patient(components: Any, alarm: Alarm) -> str:
    survivor: str = components.journal.survivors_of([alarm.subject_id])[alarm.subject_id]
    reference: str = components.directory.reference(survivor)
    return reference
