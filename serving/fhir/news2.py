"""NEWS2 as an Observation of FHIR R4, with the points of each of its components.

Codes: SNOMED CT, United Kingdom edition, as UK Core's example of NEWS2 and HL7 Norway's profile vkp-news2 have them. We found
no code of LOINC that is of NEWS2.
"""

from collections.abc import Sequence
from typing import Any, Final

from vigil.models.bedside import COMPONENTS, Component
from vigil.serving.fhir.concepts import CATEGORY_SYSTEMS, SNOMED, UCUM
from vigil.serving.fhir.software_device import DEVICE_REFERENCE, software_device
from vigil.serving.fhir.times import write_instant
from vigil.serving.scoring.risk_report import RiskReport

NEWS2_CODE: Final = "1104051000000101"
ID_PREFIX: Final = "news2-"  # of the Observation's id; the rest is the prediction's
CATEGORY: Final = "survey"
_NAME: Final = "Royal College of Physicians NEWS2 (National Early Warning Score 2)"
_SPO2_CODES: Final = {1: "1104311000000102", 2: "1104321000000108"}  # by SpO2 scale
_CODES: Final = {
    "respiratory_rate": ("1104301000000104", "respiration rate score"),
    "on_oxygen": ("1104331000000105", "air or oxygen score"),
    "systolic_bp": ("1104341000000101", "systolic blood pressure score"),
    "heart_rate": ("1104351000000103", "pulse score"),
    "consciousness": ("1104361000000100", "consciousness score"),
    "body_temperature": ("1104371000000107", "temperature score"),
}
_ABSENT: Final = "http://terminology.hl7.org/CodeSystem/data-absent-reason"


def to_news2_observation(report: RiskReport, patient: str, inputs: Sequence[str] = ()) -> dict[str, Any]:
    """Return the NEWS2 of a risk.

    A component that is missing counts 0, so the sum is then the least that the score can be (``comparator``).

    Args:
        report: whose assessment has the components.
        patient: reference to the Patient, such as ``Patient/ID``.
        inputs: references to the Observations that it is made of.
    """
    risk = report.risk
    resource: dict[str, Any] = {
        "resourceType": "Observation",
        "id": f"{ID_PREFIX}{report.prediction_id}",
        "contained": [software_device(None, None, report.feature_service)],
        "status": "final",
        "category": [{"coding": [{"system": CATEGORY_SYSTEMS[0], "code": CATEGORY, "display": "Survey"}]}],
        "code": _concept(NEWS2_CODE, f"{_NAME} total score"),
        "subject": {"reference": patient},
        "effectiveDateTime": write_instant(report.as_of),
        "method": {"text": f"NEWS2, Royal College of Physicians 2017, SpO2 scale {risk.terms.spo2_scale}"},
        "device": DEVICE_REFERENCE,
        "derivedFrom": [{"reference": reference} for reference in inputs],
    }
    if risk.score != "NEWS2":
        resource |= _absent("not-applicable", f"{risk.score} applies to the patient, not NEWS2")
    elif not risk.news2 and all(component.points is None for component in risk.components.values()):
        resource |= _absent("unknown", "no component is known")
    else:
        is_whole = risk.news2_highest == risk.news2
        resource["valueQuantity"] = _points(risk.news2) if is_whole else {"comparator": ">=", **_points(risk.news2)}
        resource["component"] = [_component(name, risk.components[name], risk.terms.spo2_scale) for name in COMPONENTS]
        if not is_whole:
            resource["note"] = [{"text": f"with what is missing up to {risk.news2_highest}"}]
    return {name: value for name, value in resource.items() if value != []}


def _component(signal: str, component: Component, spo2_scale: int) -> dict[str, Any]:
    if signal == "spo2":
        code, name = _SPO2_CODES[spo2_scale], f"oxygen saturation scale {spo2_scale} score"
    else:
        code, name = _CODES[signal]
    if component.points is not None:
        value = {"valueQuantity": _points(component.points)}
    else:
        value = _absent("unknown", "the value is too old to count" if component.is_expired else "no value within a day")
    return {"code": _concept(code, f"{_NAME} - {name}"), **value}


def _concept(code: str, display: str) -> dict[str, Any]:
    return {"coding": [{"system": SNOMED, "code": code, "display": display}]}


def _absent(code: str, why: str) -> dict[str, Any]:
    return {"dataAbsentReason": {"coding": [{"system": _ABSENT, "code": code}], "text": why}}


def _points(value: int) -> dict[str, Any]:
    return {"value": value, "unit": "score", "system": UCUM, "code": "{score}"}
