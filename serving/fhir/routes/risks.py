"""``RiskAssessment``: the present risk of a patient by search, any by id, and ``$verify``, which makes one again.

``Provenance``: how a risk came about, under the id of the risk.
"""

from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Request

from vigil.serving.api.concurrency import Workload
from vigil.serving.auth.tokens import Caller
from vigil.serving.fhir.outcomes import BASE, FhirResponse
from vigil.serving.fhir.past_risk_assessments import PastRiskAssessments
from vigil.serving.fhir.risk_assessments import to_risk_assessment
from vigil.serving.fhir.routes.access import may
from vigil.serving.fhir.routes.reads import Page, offer_read, offer_search
from vigil.serving.fhir.search import Search
from vigil.serving.scoring.risk_report import Include, NoReport

router: Final = APIRouter(prefix=BASE, include_in_schema=False)

_WORKLOAD: Final = Workload()


def _search(components: Any, search: Search) -> Page:
    """Return the risk of a patient; none of one whom nobody knows, or whom the caller may not see."""
    subject = search.require_patient()
    if subject is None:
        return [], None
    wanted: list[Include] = ["range"]
    report = components.risk_service.by_subject([subject], include=wanted)[0]
    if isinstance(report, NoReport):
        return [], None
    inputs = components.past_risks.inputs_of(report)
    return [to_risk_assessment(report, components.directory.reference(subject), inputs)], None


offer_search(router, "RiskAssessment", lambda components, search, _: _search(components, search))
offer_read(router, "RiskAssessment", lambda components, identity, caller: components.past_risks.read(identity, caller))
offer_read(router, "Provenance", lambda components, identity, caller: components.past_risks.read_provenance(identity, caller))
offer_search(router, "Provenance", lambda components, search, caller: components.past_risks.search_provenance(search, caller))


@router.get("/RiskAssessment/{id}/$verify")
@router.post("/RiskAssessment/{id}/$verify")
async def verify(
    request: Request,
    id: str,  # noqa: A002 - FHIR's name
    caller: Annotated[Caller, Depends(may("r", "RiskAssessment"))],
) -> FhirResponse:
    """Whether a risk, made again, is what was given."""
    past: PastRiskAssessments = request.app.state.components.past_risks
    return FhirResponse(await _WORKLOAD.run(caller, lambda: past.verify(id, caller)))
