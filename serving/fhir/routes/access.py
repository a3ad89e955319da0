"""What every route under ``/fhir`` asks first: may the caller do this, and which form is wanted."""

import re
from collections.abc import Awaitable, Callable
from typing import Final

from fastapi import Request

from vigil.serving.api import problems
from vigil.serving.api.problems import ProblemError
from vigil.serving.auth.tokens import Caller
from vigil.serving.fhir.outcomes import MEDIA_TYPE, FhirError

_JSON: Final = re.compile(r"(\*/\*|application/(\*|json|fhir\+json))$")
_VERSION: Final = re.compile(r"fhirversion\s*=\s*\"?([\w.]+)")
_R4: Final = ("4.0", "4.0.1")


def may(interaction: str, resource: str) -> Callable[[Request], Awaitable[Caller]]:
    """Return a dependency: the caller of a request, who may do an interaction with a type of resource.

    Args:
        interaction: a letter of ``cruds``.
        resource: such as ``Observation``.
    """

    async def require(request: Request) -> Caller:
        require_form(request)
        caller: Caller = request.state.caller
        require_permission(caller, interaction, resource)
        return caller

    return require


def require_permission(caller: Caller, interaction: str, resource: str) -> None:
    """Check that a caller may do an interaction with a type of resource.

    Raises:
        ProblemError: they may not (403).
    """
    if not caller.may(interaction, resource):
        raise ProblemError(problems.out_of_scope([f"system/{resource}.{interaction}"]))


def require_form(request: Request) -> None:
    """Check that JSON of FHIR R4 is what is sent and wanted: XML and other versions are not read in half.

    Raises:
        FhirError: another form is wanted (406), or was sent (415).
    """
    wanted = request.query_params.get("_format", "").replace("/fhir ", "/fhir+")  # a plus that was not encoded
    accepted = [wanted] if wanted else request.headers.get("accept", "*/*").split(",")
    if not any(_is_wanted(each) for each in accepted):
        raise FhirError(406, f"Accept, _format: expected {MEDIA_TYPE} of FHIR 4.0; XML and other versions are not offered")
    is_empty = "content-type" not in request.headers and request.headers.get("content-length", "0") == "0"
    if request.method in {"POST", "PUT"} and not is_empty:  # an operation without parameters has no body
        sent = request.headers.get("content-type", "").lower()
        media_type = sent.partition(";")[0].strip()
        is_form = request.url.path.endswith("/_search") and media_type == "application/x-www-form-urlencoded"
        if not is_form and (media_type not in {"application/json", MEDIA_TYPE} or not _is_r4(sent)):
            raise FhirError(415, f"Content-Type: expected {MEDIA_TYPE} of FHIR 4.0")


def _is_wanted(accepted: str) -> bool:
    text = accepted.strip().lower()
    media_type = text.partition(";")[0].strip()
    return (media_type == "json" or _JSON.match(media_type) is not None) and _is_r4(text)


def _is_r4(text: str) -> bool:
    version = _VERSION.search(text)
    return version is None or version.group(1) in _R4
