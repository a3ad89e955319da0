"""How an answer to a write becomes a response, or an entry of a response bundle."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final

from fastapi import Depends, Request, Response

from vigil.serving.api import problems
from vigil.serving.api.problems import ProblemError
from vigil.serving.auth.access import OtherWardError, TooManyRefusalsError
from vigil.serving.auth.tokens import Caller
from vigil.serving.fhir.answers import Answer
from vigil.serving.fhir.inbound import Inbound
from vigil.serving.fhir.operations import Operation
from vigil.serving.fhir.outcomes import FhirError, FhirResponse, issue, outcome
from vigil.serving.records.not_recorded import NotRecordedError

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


async def _inbound(request: Request) -> Inbound:
    inbound: Inbound = request.app.state.components.fhir
    return inbound


InboundHere = Annotated[Inbound, Depends(_inbound)]


async def take(inbound: Inbound, operations: Sequence[Operation | FhirError], caller: Caller) -> list[Answer]:
    """Do operations, and return their answers.

    Raises:
        ProblemError: another ward has a patient, or the caller was refused too often.
        FhirError: patients cannot be merged as asked.
    """
    try:
        return await inbound.take(operations, caller)
    except OtherWardError:
        raise ProblemError(problems.not_your_ward("subject")) from None
    except TooManyRefusalsError:
        raise ProblemError(problems.too_many_refusals()) from None
    except NotRecordedError as error:
        raise FhirError(409, f"link: {error.rule}", ["Patient.link"]) from None


def to_time(microseconds: int) -> str:
    """Return a time as FHIR writes it."""
    return (_EPOCH + timedelta(microseconds=microseconds)).isoformat(timespec="milliseconds").replace("+00:00", "Z")


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
        response["lastModified"] = to_time(answer.updated_at)
    if (own := answer.outcome) is not None:
        response["outcome"] = own
    return {"response": response}
