"""Reading by id, and searching: ``GET`` by ids, ``POST .../_search`` by identifiers, too."""

from collections.abc import Callable
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Request
from fastapi.concurrency import run_in_threadpool

from vigil.serving.auth.tokens import Caller
from vigil.serving.fhir.news2 import ID_PREFIX
from vigil.serving.fhir.outcomes import BASE, FhirError, FhirResponse
from vigil.serving.fhir.routes.access import may
from vigil.serving.fhir.search import Search, parse_search, searchset

Read = Callable[[Any, str, Caller], dict[str, Any] | None]
Page = tuple[list[dict[str, Any]], str | None]
SearchFor = Callable[[Any, Search, Caller], Page]

router: Final = APIRouter(prefix=BASE, include_in_schema=False)
_reads: Final[dict[str, Read]] = {}  # by type of resource, as _searches: what the routes below offer
_searches: Final[dict[str, SearchFor]] = {}


def offer_read(to: APIRouter, kind: str, read: Read) -> None:
    """Offer reading a type of resource by id. ``read`` takes the components, the id and the caller; None: there is none."""
    _reads[kind] = read

    @to.get(f"/{kind}/{{id}}", name=f"read_{kind}")
    async def read_one(
        request: Request,
        id: str,  # noqa: A002 - FHIR's name
        caller: Annotated[Caller, Depends(may("r", kind))],
    ) -> FhirResponse:
        resource = await run_in_threadpool(_read_one, request.app.state.components, caller, kind, id)
        return to_read_response(resource)


def to_read_response(resource: dict[str, Any]) -> FhirResponse:
    """Return the response with a resource, and its version if it has one."""
    meta = resource.get("meta", {})
    return FhirResponse(resource, headers={"ETag": f'W/"{meta["versionId"]}"'} if "versionId" in meta else {})


def offer_search(to: APIRouter, kind: str, search: SearchFor) -> None:
    """Offer searching a type of resource. ``search`` takes the components, what is asked for, and the caller."""
    _searches[kind] = search

    @to.get(f"/{kind}", name=f"search_{kind}")
    async def by_url(request: Request, caller: Annotated[Caller, Depends(may("s", kind))]) -> FhirResponse:
        return await answer(request, caller, "")

    @to.post(f"/{kind}/_search", name=f"search_{kind}_by_form")
    async def by_form(request: Request, caller: Annotated[Caller, Depends(may("s", kind))]) -> FhirResponse:
        return await answer(request, caller, (await request.body()).decode("utf-8", "replace"))

    async def answer(request: Request, caller: Caller, form: str) -> FhirResponse:
        asked = parse_search(kind, request.url.query, form=form, prefer=request.headers.get("prefer", ""))
        return FhirResponse(await run_in_threadpool(_find, request.app.state.components, caller, asked))


def answer_entry(components: Any, caller: Caller, url: str, prefer: str) -> dict[str, Any]:
    """Return what a ``GET`` in a bundle asks for: a resource by its id, or a page of those that a search finds.

    Raises:
        FhirError: it is not offered or not found (404), not understood (400), or the caller may not ask (403).
    """
    path, _, query = url.partition("?")
    kind, _, identity = path.strip("/").partition("/")
    if identity and not query and kind in _reads:
        _require(caller, "r", kind)
        return _read_one(components, caller, kind, identity)
    if identity or kind not in _searches:
        raise FhirError(404, "request.url: no such interaction is offered; see /fhir/metadata")
    _require(caller, "s", kind)
    return _find(components, caller, parse_search(kind, query, prefer=prefer))


def _require(caller: Caller, interaction: str, kind: str) -> None:
    if not caller.may(interaction, kind):
        raise FhirError(403, f"token: expected the scope system/{kind}.{interaction}")


def _read_one(components: Any, caller: Caller, kind: str, identity: str) -> dict[str, Any]:
    resource = _reads[kind](components, identity, caller)
    if resource is None:
        raise FhirError(404, f"id: no such {kind} is known")
    return resource


def _find(components: Any, caller: Caller, asked: Search) -> dict[str, Any]:
    resolved = components.chart.resolve(asked, caller)
    resources, following = _searches[asked.type](components, resolved, caller)
    directory = components.directory
    patient = None if resolved.subject is None else directory.ids.of_subject(resolved.subject)
    return searchset(resolved, resources, directory.base_url, patient, following)


def _read_observation(components: Any, identity: str, caller: Caller) -> dict[str, Any] | None:
    pages = components.news2_pages if identity.startswith(ID_PREFIX) else components.observation_pages
    resource: dict[str, Any] | None = pages.read(identity, caller)
    return resource


def _search_observations(components: Any, search: Search, caller: Caller) -> Page:
    """Return readings, and before them the present NEWS2 if its code is asked for."""
    readings, following = components.observation_pages.search(search, caller)
    return [*components.news2_pages.search(search, caller), *readings], following


offer_read(router, "Patient", lambda components, identity, caller: components.chart.read("Patient", identity, caller))
offer_read(router, "Encounter", lambda components, identity, caller: components.chart.read("Encounter", identity, caller))
offer_read(router, "Observation", _read_observation)
offer_search(router, "Patient", lambda components, search, caller: components.chart.search("Patient", search, caller))
offer_search(router, "Encounter", lambda components, search, caller: components.chart.search("Encounter", search, caller))
offer_search(router, "Observation", _search_observations)
