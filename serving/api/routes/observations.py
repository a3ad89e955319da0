"""Observations and registrations: ``POST /v1/observations`` and ``POST /v1/patients``."""

from typing import Annotated, Final

from fastapi import APIRouter, Security

from vigil.serving.api import problems
from vigil.serving.api.authentication import require_scopes
from vigil.serving.api.dependencies import IngestionHere
from vigil.serving.api.problems import ProblemError
from vigil.serving.api.quarantine_reasons import explain_quarantine
from vigil.serving.api.refusals import as_problems
from vigil.serving.api.schemas.observations import ObservationsIn, PatientsAnswer, PatientsIn, ReceiptOut, ReceiptsAnswer
from vigil.serving.api.schemas.request import MAX_OBSERVATIONS, MAX_PATIENTS
from vigil.serving.api.strict_route import StrictRoute
from vigil.serving.auth.tokens import Caller
from vigil.serving.stream.ingestion import SentObservation

router: Final = APIRouter(prefix="/v1", tags=["observations"], route_class=StrictRoute)


@router.post("/observations", summary=f"Send up to {MAX_OBSERVATIONS} observations")
async def send_observations(
    request: ObservationsIn,
    ingestion: IngestionHere,
    caller: Annotated[Caller, Security(require_scopes, scopes=["observations:write"])],
) -> ReceiptsAnswer:
    """Each observation is on the disk before the answer. Sending the same message again changes nothing."""
    sent = [SentObservation(**dict(observation)) for observation in request.observations]
    with as_problems("observations"):
        receipts = await ingestion.accept(sent, caller)
    results = []
    for observation, receipt in zip(sent, receipts, strict=True):
        field, expected = explain_quarantine(receipt.reason, observation.signal) if receipt.reason else (None, None)
        results.append(
            ReceiptOut(
                message_id=observation.message_id,
                status=receipt.status,
                reason=receipt.reason,
                field=field,
                expected=expected,
            )
        )
    counts = {
        status: sum(receipt.status == status for receipt in receipts) for status in ("accepted", "duplicate", "quarantined")
    }
    nothing_usable = counts["quarantined"] == len(receipts)
    warning = f"none of the {len(receipts)} observations can be used; results say why" if nothing_usable else None
    return ReceiptsAnswer(**counts, warning=warning, results=results)


@router.post("/patients", summary=f"Register up to {MAX_PATIENTS} patients: who they are, and where")
def register_patients(
    request: PatientsIn,
    ingestion: IngestionHere,
    caller: Annotated[Caller, Security(require_scopes, scopes=["patients:write"])],
) -> PatientsAnswer:
    """Age, sex and admission are features; the ward decides who is notified. Observations of unregistered patients count, too.

    A caller restricted to wards may register an unassigned patient into one of them. It cannot move a patient out of another
    ward.
    """
    for position, patient in enumerate(request.patients):
        if not caller.can_see(patient.ward):
            raise ProblemError(problems.not_your_ward(f"patients.{position}.ward"))
    registrations = [
        (patient.patient_id, patient.registration(ward=patient.ward, discharged=patient.discharged))
        for patient in request.patients
    ]
    with as_problems("patients"):
        ingestion.register(registrations, caller)
    return PatientsAnswer(registered=len(registrations))
