"""``RiskAssessment``: the present risk of a patient, by search.

An identifier never stands in a URL, because URLs are logged: ``GET`` takes the id of a Patient, ``POST .../_search`` also an
identifier.
"""

from typing import Annotated, Any, Final
from urllib.parse import parse_qsl

from fastapi import APIRouter, Depends, Request
from fastapi.concurrency import run_in_threadpool

from vigil.serving.auth.tokens import Caller
from vigil.serving.fhir.outcomes import BASE, FhirError, FhirResponse
from vigil.serving.fhir.risk_assessments import to_risk_assessment
from vigil.serving.fhir.routes.access import may
from vigil.serving.scoring.risk_report import Include, NoReport

router: Final = APIRouter(prefix=f"{BASE}/RiskAssessment", include_in_schema=False)

Reader = Annotated[Caller, Depends(may("s", "RiskAssessment"))]
_IN_URL: Final = ("patient", "subject")
_IN_BODY: Final = ("patient.identifier", "subject.identifier")
_IGNORED: Final = ("_format", "_count", "_sort")  # one risk a patient: they change nothing


@router.get("")
async def search(request: Request, caller: Reader) -> FhirResponse:
    """The risk of the patient of an id."""
    return await _search(request, caller, request.url.query, _IN_URL)


@router.post("/_search")
async def search_by_form(request: Request, caller: Reader) -> FhirResponse:
    """The risk of the patient of an id, or of an identifier (``SYSTEM|VALUE``)."""
    body = (await request.body()).decode("utf-8", "replace")
    return await _search(request, caller, body, (*_IN_URL, *_IN_BODY))


async def _search(request: Request, caller: Caller, query: str, names: tuple[str, ...]) -> FhirResponse:
    try:
        pairs = parse_qsl(query, keep_blank_values=True, max_num_fields=20)
    except ValueError:
        pairs = []
    asked = [(name, value) for name, value in pairs if name in names]
    unknown = [name for name, _ in pairs if name not in (*names, *_IGNORED)]
    if unknown and "handling=strict" in request.headers.get("prefer", ""):
        raise FhirError(400, f"search: expected only {', '.join(names)}")
    if len(asked) != 1:
        hint = "" if names != _IN_URL else "; identifiers go into the body of POST RiskAssessment/_search"
        raise FhirError(400, f"search: expected one of {', '.join(names)}{hint}")
    (name, value) = asked[0]
    key = value if name in _IN_BODY or "/" in value else f"Patient/{value}"
    found = await run_in_threadpool(_find, request.app.state.components, caller, key)
    entries = [
        {"fullUrl": f"urn:uuid:{resource['id']}", "resource": resource, "search": {"mode": "match"}} for resource in found
    ]
    bundle: dict[str, Any] = {"resourceType": "Bundle", "type": "searchset", "total": len(entries)}
    return FhirResponse(bundle | ({"entry": entries} if entries else {}))


def _find(components: Any, caller: Caller, key: str) -> list[dict[str, Any]]:
    """Return the risk of a patient; none of one whom nobody knows, or whom the caller may not see."""
    patient_id = components.directory.find(key)
    if patient_id is None:
        return []
    subject = components.pseudonyms.subject_key(patient_id)
    subject = components.journal.survivors_of([subject])[subject]
    if components.access.invisible_subjects(caller, [subject]):
        return []
    wanted: list[Include] = ["range"]
    report = components.risk_service.by_subject([subject], include=wanted)[0]
    if isinstance(report, NoReport):
        return []
    return [to_risk_assessment(report, components.directory.reference(subject))]
