"""Terms of a patient: ``POST /v1/patients/terms``."""

from dataclasses import replace
from typing import Annotated, Final

from fastapi import APIRouter, Security

from serving.api.authentication import require_scopes
from serving.api.dependencies import IngestionHere
from serving.api.refusals import as_problems
from serving.api.schemas.terms import TermsAnswer, TermsIn, terms_out
from serving.api.strict_route import StrictRoute
from serving.auth.tokens import Caller

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
    terms = request.terms(caller.sub)
    with as_problems():
        recorded_at = ingestion.set_terms(request.patient_id, terms, caller)
    shown = terms_out(replace(terms, recorded_at=recorded_at))
    assert shown is not None
    return TermsAnswer(patient_id=request.patient_id, terms=shown)
