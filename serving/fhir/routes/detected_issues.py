"""``DetectedIssue``: alarms, and what clients do about them."""

from typing import Annotated, Final

from fastapi import APIRouter, Depends, Header, Request
from fastapi.concurrency import run_in_threadpool

from vigil.serving.auth.tokens import Caller
from vigil.serving.fhir.operations import parse_json, parse_version, require_resource
from vigil.serving.fhir.outcomes import BASE, FhirResponse
from vigil.serving.fhir.routes.access import may
from vigil.serving.fhir.routes.reads import offer_read, offer_search, to_read_response

router: Final = APIRouter(prefix=BASE, include_in_schema=False)

offer_read(router, "DetectedIssue", lambda components, identity, caller: components.alarm_pages.read(identity, caller))
offer_search(router, "DetectedIssue", lambda components, search, caller: components.alarm_pages.search(search, caller))


@router.put("/DetectedIssue/{id}")
async def act(
    request: Request,
    id: str,  # noqa: A002 - FHIR's name
    caller: Annotated[Caller, Depends(may("u", "DetectedIssue"))],
    if_match: Annotated[str | None, Header()] = None,
) -> FhirResponse:
    """Record what was done about an alarm: the mitigations that the resource has more than the alarm."""
    resource = require_resource(parse_json(await request.body()), "DetectedIssue")
    pages = request.app.state.components.alarm_pages
    return to_read_response(await run_in_threadpool(pages.act, id, resource, parse_version(if_match), caller))
