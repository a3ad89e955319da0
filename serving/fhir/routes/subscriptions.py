"""``Subscription``: create, read, update, delete and search, and the operations of the Backport, ``$status`` and ``$events``.

A client sees its own subscriptions only; those of others do not exist for it.
"""

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Final, get_args
from urllib.parse import parse_qsl

from fastapi import APIRouter, Depends, Header, Request, Response
from fastapi.concurrency import run_in_threadpool

from vigil.serving.auth.tokens import Caller
from vigil.serving.fhir.operations import parse_json, parse_version, require_resource
from vigil.serving.fhir.outcomes import BASE, FhirError, FhirResponse
from vigil.serving.fhir.routes.access import may
from vigil.serving.fhir.search import require_understood
from vigil.serving.fhir.subscriptions.service import SubscriptionService
from vigil.serving.records.subscriptions import Content, Subscription

router: Final = APIRouter(prefix=f"{BASE}/Subscription", include_in_schema=False)

_SEARCH: Final = ("_id", "status", "url")
_IGNORED: Final = ("_count", "_sort")
_STATUS: Final = ("id", "status")
_EVENTS: Final = ("eventsSinceNumber", "eventsUntilNumber", "content")
_VALUES: Final = ("valueString", "valueId", "valueCode", "valueInteger")


async def _service(request: Request) -> SubscriptionService:
    service: SubscriptionService = request.app.state.components.subscriptions
    return service


ServiceHere = Annotated[SubscriptionService, Depends(_service)]
Reader = Annotated[Caller, Depends(may("r", "Subscription"))]
Searcher = Annotated[Caller, Depends(may("s", "Subscription"))]


async def _subscription(
    id: str,  # noqa: A002 - FHIR's name
    service: ServiceHere,
    caller: Reader,
) -> Subscription:
    return await run_in_threadpool(service.find, id, caller)


SubscriptionHere = Annotated[Subscription, Depends(_subscription)]
IfMatch = Annotated[str | None, Header()]
Parameters = list[tuple[str, str]]


@router.post("")
async def create(
    request: Request,
    service: ServiceHere,
    caller: Annotated[Caller, Depends(may("c", "Subscription"))],
    if_none_exist: Annotated[str | None, Header()] = None,
) -> FhirResponse:
    """A new subscription; its endpoint is asked by a handshake, and it is active once that was answered."""
    if if_none_exist is not None:
        raise FhirError(400, "If-None-Exist: expected none, since a Subscription has no identifier")
    resource = require_resource(parse_json(await request.body()), "Subscription")
    created = await run_in_threadpool(service.create, resource, caller)
    return await _answer(service, created, 201)


@router.get("")
async def search(request: Request, service: ServiceHere, caller: Searcher) -> FhirResponse:
    """The caller's subscriptions, by id, status and endpoint."""
    return await _search(request, service, caller, _parse_query(request.url.query))


@router.post("/_search")
async def search_by_form(request: Request, service: ServiceHere, caller: Searcher) -> FhirResponse:
    """The same, with the parameters in the body."""
    return await _search(request, service, caller, _parse_query((await request.body()).decode("utf-8", "replace")))


@router.get("/$status")
@router.post("/$status")
async def status_of_all(request: Request, service: ServiceHere, caller: Reader) -> FhirResponse:
    """The status of the caller's subscriptions, by id and status."""
    asked = await _read_parameters(request, _STATUS)
    found = await run_in_threadpool(service.search, caller, _values(asked, "id"), _values(asked, "status"))
    return FhirResponse(service.status(found))


@router.get("/{id}")
async def read(service: ServiceHere, subscription: SubscriptionHere) -> FhirResponse:
    """A subscription, without the header that it sends."""
    return await _answer(service, subscription)


@router.put("/{id}")
async def update(
    request: Request,
    id: str,  # noqa: A002 - FHIR's name
    service: ServiceHere,
    caller: Annotated[Caller, Depends(may("u", "Subscription"))],
    if_match: IfMatch = None,
) -> FhirResponse:
    """A new version. The endpoint is asked by a handshake again, unless the status is ``off``."""
    resource = require_resource(parse_json(await request.body()), "Subscription")
    if resource.get("id") != id:
        raise FhirError(400, "id: expected the id of the URL in the resource", ["Subscription.id"])
    return await _answer(service, await run_in_threadpool(service.update, id, resource, caller, parse_version(if_match)))


@router.delete("/{id}")
async def delete(
    id: str,  # noqa: A002 - FHIR's name
    service: ServiceHere,
    caller: Annotated[Caller, Depends(may("d", "Subscription"))],
) -> Response:
    """Nothing more is sent."""
    await run_in_threadpool(service.delete, id, caller)
    return Response(status_code=204)


@router.get("/{id}/$status")
@router.post("/{id}/$status")
async def status(request: Request, service: ServiceHere, subscription: SubscriptionHere) -> FhirResponse:
    """The status of one subscription."""
    await _read_parameters(request, _STATUS)
    return FhirResponse(service.status([subscription]))


@router.get("/{id}/$events")
@router.post("/{id}/$events")
async def events(request: Request, service: ServiceHere, subscription: SubscriptionHere, caller: Reader) -> FhirResponse:
    """The events of a subscription by number, as far as they are stored."""
    asked = await _read_parameters(request, _EVENTS)
    since, until = _number(asked, "eventsSinceNumber"), _number(asked, "eventsUntilNumber")
    told = await run_in_threadpool(service.events, subscription, caller, 1 if since is None else since, until, _content(asked))
    return FhirResponse(told)


async def _answer(service: SubscriptionService, subscription: Subscription, status_code: int = 200) -> FhirResponse:
    resource = await run_in_threadpool(service.resource, subscription)
    version = subscription.version
    location = f"{BASE}/Subscription/{subscription.id}/_history/{version}"
    headers = {"ETag": f'W/"{version}"'} | ({"Location": location} if status_code == 201 else {})
    return FhirResponse(resource, status_code, headers)


async def _search(request: Request, service: SubscriptionService, caller: Caller, asked: Parameters) -> FhirResponse:
    require_understood([name for name, _ in asked], (*_SEARCH, *_IGNORED), request.headers.get("prefer", ""))
    found = await run_in_threadpool(service.search, caller, *(_values(asked, name) for name in _SEARCH))
    entries = [
        {"fullUrl": f"{service.base}/Subscription/{own.id}", "resource": service.resource(own), "search": {"mode": "match"}}
        for own in found
    ]
    bundle: dict[str, Any] = {"resourceType": "Bundle", "type": "searchset", "total": len(entries)}
    return FhirResponse(bundle | ({"entry": entries} if entries else {}))


def _parse_query(query: str) -> Parameters:
    try:
        return parse_qsl(query, keep_blank_values=True, max_num_fields=100)
    except ValueError:
        raise FhirError(400, "URL: expected at most 100 parameters") from None


async def _read_parameters(request: Request, names: Iterable[str]) -> Parameters:
    """Return the parameters of an operation: of the URL, and of Parameters in the body of a POST."""
    asked = _parse_query(request.url.query)
    body = await request.body() if request.method == "POST" else b""
    if body:
        sent = require_resource(parse_json(body), "Parameters").get("parameter", [])
        for parameter in sent if isinstance(sent, list) else []:
            if isinstance(parameter, Mapping):
                value = next((parameter[name] for name in _VALUES if name in parameter), "")
                asked.append((str(parameter.get("name")), str(value)))
    if any(name not in (*names, "_format") for name, _ in asked):
        raise FhirError(400, f"parameters: expected only {', '.join(names)}")
    return asked


def _values(asked: Parameters, name: str) -> set[str]:
    return {each for own, value in asked if own == name for each in value.split(",") if each}


def _number(asked: Parameters, name: str) -> int | None:
    values = [value for own, value in asked if own == name]
    if not values:
        return None
    if len(values) > 1 or not values[0].isascii() or not values[0].isdigit() or len(values[0]) > 15:
        raise FhirError(400, f"{name}: expected one number")
    return int(values[0])


def _content(asked: Parameters) -> Content | None:
    values: list[Any] = [value for own, value in asked if own == "content"]
    if not values:
        return None
    if len(values) > 1 or values[0] not in get_args(Content):
        raise FhirError(400, f"content: expected one of {', '.join(get_args(Content))}")
    content: Content = values[0]
    return content
