"""What is known of patients: their risk now, from given readings, over time, against themselves, and all in one answer."""

from collections.abc import Sequence
from datetime import datetime
from functools import partial
from typing import Annotated, Final

from anyio import CapacityLimiter
from anyio.to_thread import run_sync
from fastapi import APIRouter, Response, Security

from serving.api import problems
from serving.api.problems import ProblemError
from serving.api.schemas import (
    MAX_PATIENTS,
    Include,
    ObservationsRequest,
    RiskAnswer,
    RiskItem,
    RiskRequest,
    RisksAnswer,
    RisksRequest,
)
from serving.api.turns import Turns
from serving.auth.middleware import PartsHere, authorized
from serving.auth.tokens import Caller
from serving.composition import Parts
from serving.scoring.history import (
    AnomaliesAnswer,
    AnomaliesRequest,
    HistoryAnswer,
    HistoryRequest,
    VisitSummary,
    anomalies_of,
    history_of,
    summary_of,
)

router: Final = APIRouter(prefix="/v1", tags=["risk"])

# Python computes in one thread at a time, and more would only wait for each other, some milliseconds at each turn: one computes
# while what another said is written to the disk.
_TWO_AT_A_TIME: Final = CapacityLimiter(2)

_TURNS: Final = Turns()

Reader = Annotated[Caller, Security(authorized, scopes=["risk:read"])]


@router.post("/risk", summary="Risk of one patient", response_model=RiskAnswer)
async def get_risk(request: RiskRequest, parts: PartsHere, caller: Reader) -> Response:
    """From the patient's latest features; NEWS2 with its interval where the model cannot be asked, and why."""
    asked = partial(_by_id, parts, caller, [request.patient_id], request.as_of, request.include)
    item = (await run_sync(asked, limiter=_TWO_AT_A_TIME))[0]
    if item.problem:
        raise ProblemError(item.problem)
    assert item.risk is not None
    return Response(item.risk.model_dump_json(), media_type="application/json")  # checked already when it was made


@router.post("/risks", summary=f"Risk of up to {MAX_PATIENTS} patients")
async def get_risks(request: RisksRequest, parts: PartsHere, caller: Reader) -> RisksAnswer:
    """In the order asked for; each patient has a risk or the problem that prevents it."""
    asked = partial(_by_id, parts, caller, request.patient_ids, request.as_of, request.include)
    return RisksAnswer(items=await _TURNS.take(caller, asked))


@router.post("/risk/observations", summary="Risk from readings in the request")
def get_risk_from_readings(request: ObservationsRequest, parts: PartsHere, caller: Reader) -> RiskAnswer:
    """Features are computed from these readings alone, by the same definition as in training."""
    del caller  # nothing of anybody else is read
    pseudonym = parts.pseudonyms.of(request.patient_id)
    answer = parts.scorer.from_observations(request.model_copy(update={"patient_id": pseudonym}))
    return answer.model_copy(update={"patient_id": request.patient_id})


@router.post("/risk/history", summary="Risks of a patient over time, and where they are going")
async def get_risk_history(request: HistoryRequest, parts: PartsHere, caller: Reader) -> HistoryAnswer:
    """What was said of the patient, when readings came or somebody asked; thinned to the last of each interval."""
    return await _TURNS.take(caller, lambda: history_of(parts, _visible(parts, caller, request.patient_id), request))


@router.post("/risk/anomalies", summary="How far each vital sign is from the patient's own usual")
async def get_anomalies(request: AnomaliesRequest, parts: PartsHere, caller: Reader) -> AnomaliesAnswer:
    """Of a patient whose readings came over the API: what is unlike them, whatever is normal for others."""
    return await _TURNS.take(caller, lambda: anomalies_of(parts, _visible(parts, caller, request.patient_id), request))


@router.post("/visit-summary", summary="Everything for a teleconsultation in one answer")
async def get_visit_summary(request: HistoryRequest, parts: PartsHere, caller: Reader) -> VisitSummary:
    """Present risk and its reasons, trend, anomalies and gaps in the data; alarms for a token that also has `alarms:read`."""
    return await _TURNS.take(caller, lambda: _summary(request, parts, caller))


def _summary(request: HistoryRequest, parts: Parts, caller: Caller) -> VisitSummary:
    patient = _visible(parts, caller, request.patient_id)
    current = _by_id(parts, caller, [request.patient_id], None, ["contributions", "range"])[0]
    if current.problem:
        raise ProblemError(current.problem)
    assert current.risk is not None
    return summary_of(parts, patient, request, current.risk, with_alarms=caller.may("alarms:read"))


def _by_id(
    parts: Parts, caller: Caller, identifiers: Sequence[str], as_of: datetime | None, include: Sequence[Include]
) -> list[RiskItem]:
    """Risks under the identifiers asked for; whom a caller may not see is nobody he knows."""
    problems.refuse_future(as_of)
    patients = [parts.pseudonyms.of(identifier) for identifier in identifiers]
    hidden = parts.hidden(caller, patients)
    asked = list(dict.fromkeys(patient for patient in patients if patient not in hidden))  # what is said twice is logged once
    found = dict(zip(asked, parts.scorer.by_id(asked, as_of, include) if asked else [], strict=True))
    items = []
    for patient, identifier in zip(patients, identifiers, strict=True):
        item = RiskItem(patient_id="", problem=problems.unknown_patient()) if patient in hidden else found[patient]
        risk = item.risk.model_copy(update={"patient_id": identifier}) if item.risk else None
        items.append(RiskItem(patient_id=identifier, risk=risk, problem=item.problem))
    return items


def _visible(parts: Parts, caller: Caller, identifier: str) -> str:
    patient = parts.pseudonyms.of(identifier)
    if parts.hidden(caller, [patient]):
        raise ProblemError(problems.unknown_patient())
    return patient
