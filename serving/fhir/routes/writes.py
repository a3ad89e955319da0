"""Single interactions that write: create, update and delete, with or without a condition."""

from typing import Annotated, Final

from fastapi import APIRouter, Depends, Header, Request, Response

from vigil.serving.auth.tokens import Caller
from vigil.serving.fhir.operations import (
    Operation,
    check_operation,
    parse_condition,
    parse_json,
    parse_version,
    require_resource,
)
from vigil.serving.fhir.outcomes import BASE, FhirError
from vigil.serving.fhir.routes.access import may
from vigil.serving.fhir.routes.answers import InboundHere, parse_preference, take, to_response

router: Final = APIRouter(prefix=BASE, include_in_schema=False)

IfMatch = Annotated[str | None, Header()]
IfNoneExist = Annotated[str | None, Header()]


def _offer(kind: str) -> None:
    """Offer create and update of a type of resource."""

    @router.post(f"/{kind}", name=f"create_{kind}")
    async def create(
        request: Request,
        inbound: InboundHere,
        caller: Annotated[Caller, Depends(may("c", kind))],
        if_none_exist: IfNoneExist = None,
    ) -> Response:
        identifier = None if if_none_exist is None else parse_condition(if_none_exist)
        resource = require_resource(parse_json(await request.body()), kind)
        return await _do(request, inbound, Operation("create", kind, identifier=identifier, resource=resource), caller)

    @router.put(f"/{kind}", name=f"update_{kind}_by_identifier")
    async def update_by_identifier(
        request: Request, inbound: InboundHere, caller: Annotated[Caller, Depends(may("u", kind))], if_match: IfMatch = None
    ) -> Response:
        identifier = parse_condition(request.url.query)
        resource = require_resource(parse_json(await request.body()), kind)
        operation = Operation("update", kind, None, identifier, resource, parse_version(if_match))
        return await _do(request, inbound, operation, caller)

    @router.put(f"/{kind}/{{id}}", name=f"update_{kind}")
    async def update(
        request: Request,
        id: str,  # noqa: A002 - FHIR's name
        inbound: InboundHere,
        caller: Annotated[Caller, Depends(may("u", kind))],
        if_match: IfMatch = None,
    ) -> Response:
        if request.url.query:
            raise FhirError(400, "URL: expected an id or a condition, not both")
        resource = require_resource(parse_json(await request.body()), kind)
        return await _do(request, inbound, Operation("update", kind, id, None, resource, parse_version(if_match)), caller)


for _kind in ("Device", "Encounter", "Observation", "Patient"):
    _offer(_kind)


@router.delete("/Observation/{id}")
async def delete_observation(
    request: Request,
    id: str,  # noqa: A002 - FHIR's name
    inbound: InboundHere,
    caller: Annotated[Caller, Depends(may("d", "Observation"))],
    if_match: IfMatch = None,
) -> Response:
    """Retract an Observation: from now on it does not count."""
    return await _do(request, inbound, Operation("delete", "Observation", id, if_match=parse_version(if_match)), caller)


async def _do(request: Request, inbound: InboundHere, operation: Operation, caller: Caller) -> Response:
    check_operation(operation)
    (answer,) = await take(inbound, [operation], caller)
    return to_response(answer, operation, parse_preference(request))
