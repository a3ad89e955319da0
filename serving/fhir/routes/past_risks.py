"""``RiskAssessment`` by id: any risk that was given, as it is in the log, and ``$verify``, which makes it again."""

from typing import Annotated, Final

from fastapi import APIRouter, Depends, Request
from fastapi.concurrency import run_in_threadpool

from vigil.serving.api.concurrency import Workload
from vigil.serving.auth.tokens import Caller
from vigil.serving.fhir.outcomes import BASE, FhirResponse
from vigil.serving.fhir.past_risk_assessments import PastRiskAssessments
from vigil.serving.fhir.routes.access import may

router: Final = APIRouter(prefix=f"{BASE}/RiskAssessment", include_in_schema=False)

_WORKLOAD: Final = Workload()

Reader = Annotated[Caller, Depends(may("r", "RiskAssessment"))]


async def _past(request: Request) -> PastRiskAssessments:
    past: PastRiskAssessments = request.app.state.components.past_risks
    return past


PastHere = Annotated[PastRiskAssessments, Depends(_past)]


@router.get("/{id}")
async def read(id: str, past: PastHere, caller: Reader) -> FhirResponse:  # noqa: A002 - FHIR's name
    """One risk."""
    return await run_in_threadpool(lambda: FhirResponse(past.resource(past.find(caller, id))))


@router.get("/{id}/$verify")
@router.post("/{id}/$verify")
async def verify(id: str, past: PastHere, caller: Reader) -> FhirResponse:  # noqa: A002 - FHIR's name
    """Whether a risk, made again, is what was given."""
    return await _WORKLOAD.run(caller, lambda: FhirResponse(past.verify(past.find(caller, id))))
