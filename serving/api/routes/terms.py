"""Terms of a patient: ``POST /v1/patients/terms``."""

from typing import Annotated, Final

from fastapi import APIRouter, Security

from vigil.models.alarms.patient_terms import describe_terms
from vigil.serving.api.authentication import require_scopes
from vigil.serving.api.dependencies import IngestionHere
from vigil.serving.api.refusals import as_problems
from vigil.serving.api.schemas.terms import TermsAnswer, TermsIn, terms_out
from vigil.serving.api.strict_route import StrictRoute
from vigil.serving.auth.tokens import Caller

router: Final = APIRouter(prefix="/v1/patients", tags=["alarms"], route_class=StrictRoute)


@router.post("/terms", summary="Decide the SpO2 scale, alarm thresholds and signal limits of one patient")
def set_terms(
    request: TermsIn,
    ingestion: IngestionHere,
    caller: Annotated[Caller, Security(require_scopes, scopes=["terms:write"])],
) -> TermsAnswer:
    """From now on the patient is scored, and alarms sound, by these terms; what is left out is as the ward has it.

    They replace all terms of before. To return to those of the ward, send a reason alone. Risks and alarms show the terms.
    """
    with as_problems():
        recorded = ingestion.set_terms(request.patient_id, request.terms(caller.sub), caller)
    return TermsAnswer(patient_id=request.patient_id, terms=terms_out(describe_terms(recorded)))
