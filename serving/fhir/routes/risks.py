"""``RiskAssessment``: the present risk of a patient, by search."""

from typing import Any, Final

from fastapi import APIRouter

from vigil.serving.auth.tokens import Caller
from vigil.serving.fhir.outcomes import BASE
from vigil.serving.fhir.risk_assessments import to_risk_assessment
from vigil.serving.fhir.routes.reads import Page, offer_search
from vigil.serving.fhir.search import Search
from vigil.serving.scoring.risk_report import Include, NoReport

router: Final = APIRouter(prefix=BASE, include_in_schema=False)


def _search(components: Any, search: Search, caller: Caller) -> Page:
    """Return the risk of a patient; none of one whom nobody knows, or whom the caller may not see."""
    subject = components.chart.find(caller, search.require_patient())
    if subject is None:
        return [], None
    wanted: list[Include] = ["range"]
    report = components.risk_service.by_subject([subject], include=wanted)[0]
    if isinstance(report, NoReport):
        return [], None
    return [to_risk_assessment(report, components.directory.reference(subject))], None


offer_search(router, "RiskAssessment", _search)
