"""``$export``: everything of the patients of a ward, or of all wards, at once, as files."""

import re
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, StreamingResponse

from vigil.serving.api import problems
from vigil.serving.api.problems import ProblemError
from vigil.serving.auth.tokens import Caller
from vigil.serving.fhir.exports.requests import Pairs, read_asked, read_parameters, read_query, require_async
from vigil.serving.fhir.exports.service import PATH, ExportService
from vigil.serving.fhir.operations import parse_json
from vigil.serving.fhir.outcomes import BASE, FhirError, FhirResponse, issue, outcome
from vigil.serving.fhir.routes.access import require_form
from vigil.serving.records.timestamps import instant, microsecond, present

router: Final = APIRouter(prefix=BASE, include_in_schema=False)

NDJSON: Final = "application/fhir+ndjson"
_FASTEST: Final = 1  # seconds between two questions whether an export is complete; more for one that takes long
_SLOWEST: Final = 30
_SHARE: Final = 10_000_000  # microseconds of waiting, for which a second is added
_GZIP: Final = re.compile(r"\s*(?:gzip|\*)\s*(?:;\s*q\s*=\s*(?!0(?:\.0*)?\s*$)[0-9.]+\s*)?")


async def _exports(request: Request) -> ExportService:
    exports: ExportService = request.app.state.components.exports
    return exports


async def _caller(request: Request) -> Caller:
    caller: Caller = request.state.caller
    return caller


ExportsHere = Annotated[ExportService, Depends(_exports)]
CallerHere = Annotated[Caller, Depends(_caller)]


@router.api_route("/Group/{id}/$export", methods=["GET", "POST"])
async def export_group(
    request: Request,
    id: str,  # noqa: A002 - FHIR's name
    exports: ExportsHere,
    caller: CallerHere,
) -> FhirResponse:
    """Start an export of the patients of a ward."""
    ward = await run_in_threadpool(request.app.state.components.groups.find_ward, id, caller)
    if ward is None:
        raise FhirError(404, "id: no such Group is known")
    return await _start(request, exports, caller, f"Group/{id}", [ward])


@router.api_route("/Patient/$export", methods=["GET", "POST"])
async def export_patients(request: Request, exports: ExportsHere, caller: CallerHere) -> FhirResponse:
    """Start an export of all patients whom the caller may see."""
    return await _start(request, exports, caller, "Patient", None if caller.wards is None else sorted(caller.wards))


@router.api_route("/$export", methods=["GET", "POST"])
async def export_all(request: Request, exports: ExportsHere, caller: CallerHere) -> FhirResponse:
    """Start an export of everything."""
    if caller.wards is not None:
        raise ProblemError(problems.not_your_ward("$export"))
    return await _start(request, exports, caller, "", None)


async def _start(request: Request, exports: ExportService, caller: Caller, level: str, wards: list[str] | None) -> FhirResponse:
    require_form(request)
    prefer = ",".join(request.headers.getlist("prefer"))
    require_async(prefer)
    asked = read_asked(await _parameters(request), prefer, caller)
    url = await run_in_threadpool(exports.start, caller, level, wards, asked)
    started = issue("informational", "started; ask at Content-Location whether it is complete", severity="information")
    return FhirResponse(outcome([started]), 202, {"Content-Location": url})


async def _parameters(request: Request) -> Pairs:
    pairs = list(read_query(request.url.query))
    return [*pairs, *read_parameters(parse_json(await request.body()))] if request.method == "POST" else pairs


@router.get(f"/{PATH}/{{id}}")
async def export_status(
    id: str,  # noqa: A002 - FHIR's name
    exports: ExportsHere,
    caller: CallerHere,
) -> Response:
    """How far an export is, and when it is complete its files."""
    export = await run_in_threadpool(exports.find, caller, id)
    if export.is_under_way:
        waited = microsecond(present()) - export.created_at
        pause = min(max(waited // _SHARE, _FASTEST), _SLOWEST)
        return Response(status_code=202, headers={"Retry-After": str(pause), "X-Progress": export.progress})
    if export.status == "failed":
        return FhirResponse(outcome([issue("exception", export.problem or "")]), 500)
    expires = instant(export.expires_at).strftime("%a, %d %b %Y %H:%M:%S GMT")
    return JSONResponse(exports.manifest(export), headers={"Expires": expires})


@router.delete(f"/{PATH}/{{id}}")
async def remove_export(
    id: str,  # noqa: A002 - FHIR's name
    exports: ExportsHere,
    caller: CallerHere,
) -> FhirResponse:
    """Cancel an export, or remove its files."""
    await run_in_threadpool(exports.remove, caller, id)
    return FhirResponse(outcome([issue("informational", "removed", severity="information")]), 202)


@router.get(f"/{PATH}/{{id}}/{{file}}")
async def export_file(
    request: Request,
    id: str,  # noqa: A002 - FHIR's name
    file: str,
    exports: ExportsHere,
    caller: CallerHere,
) -> StreamingResponse:
    """Return a file of a complete export."""
    gzipped = any(_GZIP.fullmatch(each) for each in request.headers.get("accept-encoding", "").split(","))
    content = await run_in_threadpool(exports.read, caller, id, file, gzipped=gzipped)
    headers = {"Content-Encoding": "gzip"} if gzipped else {}
    return StreamingResponse(content, media_type=NDJSON, headers={**headers, "Vary": "Accept-Encoding"})
