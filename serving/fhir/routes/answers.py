"""How an answer to a write becomes a response, or an entry of a response bundle."""

import re
from collections.abc import Sequence
from typing import Annotated, Any, Final

from fastapi import Depends, Request, Response
from fastapi.concurrency import run_in_threadpool

from vigil.serving.api.refusals import as_problems
from vigil.serving.auth.tokens import Caller
from vigil.serving.fhir.answers import Answer
from vigil.serving.fhir.inbound import Inbound
from vigil.serving.fhir.operations import Operation
from vigil.serving.fhir.outcomes import BASE, FhirError, FhirResponse, issue, outcome
from vigil.serving.fhir.times import write_instant
from vigil.serving.records.timestamps import instant

_PATIENT: Final = "subject"  # where resources name the patient
_MINIMAL, _REPRESENTATION = "minimal", "representation"
_RETURN: Final = re.compile(r"(?:^|[,;\s])return\s*=\s*\"?(minimal|representation|OperationOutcome)\b")


async def _inbound(request: Request) -> Inbound:
    inbound: Inbound = request.app.state.components.fhir
    return inbound


InboundHere = Annotated[Inbound, Depends(_inbound)]


async def take(inbound: Inbound, operations: Sequence[Operation | FhirError], caller: Caller) -> list[Answer]:
    """Do operations, and return their answers.

    Raises:
        ProblemError: another ward has a patient, or the caller was refused too often.
    """
    with as_problems(_PATIENT):
        return await inbound.take(operations, caller)


async def check(inbound: Inbound, operations: Sequence[Operation], caller: Caller) -> None:
    """Find what would be refused of a transaction, before anything is written.

    Raises:
        ProblemError: as :func:`take`.
        FhirError: something else would be refused.
    """
    with as_problems(_PATIENT):
        await run_in_threadpool(inbound.check, operations, caller)


def parse_preference(request: Request) -> str | None:
    """Return what a client wants to have back of what it wrote (``Prefer: return=...``); None: it does not say."""
    found = _RETURN.search(request.headers.get("prefer", ""))
    return None if found is None else found.group(1)


def to_response(answer: Answer, sent: Operation, preference: str | None) -> Response:
    """Return the response to a single interaction.

    The body is the resource as it was taken, with its id and version. It is an OperationOutcome instead where the client
    prefers that, where nothing was changed, and where something could not be used, unless the client insists.
    """
    headers: dict[str, str] = {}
    is_done = answer.status in (200, 201, 204)
    if answer.location is not None and is_done:
        headers = {"Location": f"{BASE}/{answer.location}", "ETag": f'W/"{answer.version or 1}"'}
    if answer.status == 204 or (preference == _MINIMAL and is_done):
        return Response(status_code=answer.status, headers=headers)
    taken = _taken(answer, sent) if is_done else None
    if taken is not None and (preference == _REPRESENTATION or (preference is None and answer.outcome is None)):
        return FhirResponse(taken, answer.status, headers)
    done = "it was here already, and nothing was changed" if answer.is_unchanged else "stored"
    content = answer.outcome or outcome([issue("informational", done, severity="information")])
    return FhirResponse(content, answer.status, headers)


def _taken(answer: Answer, sent: Operation) -> dict[str, Any] | None:
    """Return a resource as it was taken; None: none was."""
    if answer.id is None or sent.resource is None or answer.is_unchanged:
        return None
    own = sent.resource.get("meta")
    meta = {**(own if isinstance(own, dict) else {}), "versionId": str(answer.version or 1)}
    if answer.updated_at is not None:
        meta["lastUpdated"] = write_instant(instant(answer.updated_at))
    return {**sent.resource, "id": answer.id, "meta": meta}


def to_entry(answer: Answer, sent: Operation | FhirError, preference: str | None) -> dict[str, Any]:
    """Return the entry of a response bundle, with the resource as it was taken only if the client prefers that."""
    response: dict[str, Any] = {"status": str(answer.status)}
    if answer.location is not None:
        response |= {"location": answer.location, "etag": f'W/"{answer.version or 1}"'}
    if answer.updated_at is not None:
        response["lastModified"] = write_instant(instant(answer.updated_at))
    if (own := answer.outcome) is not None:
        response["outcome"] = own
    taken = _taken(answer, sent) if preference == _REPRESENTATION and isinstance(sent, Operation) else None
    return {"response": response} if taken is None else {"resource": taken, "response": response}
