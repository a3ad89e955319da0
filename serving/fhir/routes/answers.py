"""How an answer to a write becomes a response, or an entry of a response bundle."""

from collections.abc import Sequence
from typing import Annotated, Any, Final

from fastapi import Depends, Request, Response
from fastapi.concurrency import run_in_threadpool

from vigil.serving.api.refusals import as_problems
from vigil.serving.auth.tokens import Caller
from vigil.serving.fhir.answers import Answer
from vigil.serving.fhir.inbound import Inbound
from vigil.serving.fhir.operations import Operation
from vigil.serving.fhir.outcomes import FhirError, FhirResponse, issue, outcome
from vigil.serving.fhir.times import write_instant
from vigil.serving.records.timestamps import instant

_PATIENT: Final = "subject"  # where resources name the patient


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


def to_response(answer: Answer) -> Response:
    """Return the response to a single interaction. Its body says what of the resource could not be used."""
    headers: dict[str, str] = {}
    if answer.location is not None and answer.status in (200, 201, 204):
        headers = {"Location": f"/fhir/{answer.location}", "ETag": f'W/"{answer.version or 1}"'}
    if answer.status == 204:
        return Response(status_code=204, headers=headers)
    stored = issue("informational", "stored", severity="information")
    content = answer.outcome or outcome([stored])
    return FhirResponse(content, answer.status, headers)


def to_entry(answer: Answer) -> dict[str, Any]:
    """Return the entry of a response bundle."""
    response: dict[str, Any] = {"status": str(answer.status)}
    if answer.location is not None:
        response |= {"location": answer.location, "etag": f'W/"{answer.version or 1}"'}
    if answer.updated_at is not None:
        response["lastModified"] = write_instant(instant(answer.updated_at))
    if (own := answer.outcome) is not None:
        response["outcome"] = own
    return {"response": response}
