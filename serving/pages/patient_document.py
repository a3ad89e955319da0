"""What the FHIR document of a patient holds: the risk, its NEWS2 and readings, and their alarms."""

from datetime import timedelta
from typing import Any, Final

from vigil.serving.auth.tokens import Caller
from vigil.serving.fhir.detected_issues import to_detected_issue
from vigil.serving.fhir.document import to_document
from vigil.serving.fhir.news2 import to_news2_observation
from vigil.serving.fhir.risk_assessments import to_risk_assessment
from vigil.serving.records.timestamps import microsecond, present
from vigil.serving.scoring.risk_report import Include, RiskReport

_ALARM_DAYS: Final = 7


def patient_document(components: Any, subject: str, caller: Caller) -> dict[str, Any]:
    """Return the document of a patient whom the caller may see.

    Raises:
        LogUnavailableError: the risk could not be logged, so it is not given.
    """
    chart, past = components.chart, components.past_risks
    survivor = chart.survivor(subject)
    reference = chart.directory.reference(survivor)
    identity = reference.partition("/")[2]
    patient = chart.read("Patient", identity, caller) or {"resourceType": "Patient", "id": identity}
    wanted: list[Include] = ["range"]
    report = components.risk_service.by_subject([survivor], include=wanted)[0]
    risks: list[dict[str, Any]] = []
    readings: list[dict[str, Any]] = []
    if isinstance(report, RiskReport):
        inputs = past.inputs_of(report)
        risks = [to_risk_assessment(report, reference, inputs), to_news2_observation(report, reference, inputs)]
        found = (components.observation_pages.read(name.partition("/")[2], caller) for name in inputs)
        readings = [resource for resource in found if resource is not None]
    sections = [("Risk and NEWS2", risks), ("Readings that they rest on", readings)]
    if caller.has_scope("alarms:read"):
        since = microsecond(present() - timedelta(days=_ALARM_DAYS))
        alarms = [one for one in components.ward_state.alarms(subject=survivor) if (one.ended_at or since) >= since]
        sections.append((f"Alarms of the last {_ALARM_DAYS} days", [to_detected_issue(one, reference) for one in alarms]))
    return to_document(patient, sections, present().to_pydatetime(), chart.directory.base_url)
