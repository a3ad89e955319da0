"""A risk as a RiskAssessment of FHIR R4 (https://hl7.org/fhir/R4/riskassessment.html).

``probabilityDecimal`` is a percentage, at most 100 (invariant ras-2). It excludes a range, so the range that the evidence
supports is a prediction of its own. Without a probability, the band is still there, and a note says why.
"""

from collections.abc import Sequence
from typing import Any, Final

from vigil.models.alarms.safety_net import Band
from vigil.models.assessment import Finding
from vigil.models.tasks import is_limited
from vigil.serving.fhir.concepts import UCUM
from vigil.serving.fhir.software_device import DEVICE_REFERENCE, software_device
from vigil.serving.fhir.times import write_instant
from vigil.serving.scoring.risk_report import RiskReport

_BANDS: Final[dict[Band, str]] = {"low": "low", "medium": "moderate", "high": "high"}
_RISK: Final = "http://terminology.hl7.org/CodeSystem/risk-probability"
# Asserted by artificial intelligence: https://terminology.hl7.org/CodeSystem-v3-ObservationValue.html
_ASSERTED_BY_AI: Final = {
    "system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue",
    "code": "AIAST",
    "display": "Artificial Intelligence asserted",
}
_NOTES: Final[dict[Finding, str]] = {
    "no_model": "no model is in use",
    "stale_data": "the data are out of date",
    "outside_training": "the patient is unlike those of training",
}


def to_risk_assessment(
    report: RiskReport, patient: str, inputs: Sequence[str] = (), model: tuple[str, str] | None = None
) -> dict[str, Any]:
    """Return the resource.

    Args:
        report: perhaps with a range.
        patient: reference to the Patient, such as ``Patient/ID``.
        inputs: references to the Observations that it is made of.
        model: name and version of the model, where the report does not hold it any more.
    """
    risk, task = report.risk, report.task
    by_model = risk.basis == "model"
    resource: dict[str, Any] = {
        "resourceType": "RiskAssessment",
        "id": report.prediction_id,
        "meta": {"security": [_ASSERTED_BY_AI]} if by_model else {},
        "contained": [device_of(report, model)],
        "status": "final",
        "method": {"text": "Vigil: model and NEWS2" if by_model else "NEWS2 (Royal College of Physicians 2017)"},
        "code": {"text": f"Risk of {task.outcome}"},
        "subject": {"reference": patient},
        "occurrenceDateTime": write_instant(report.as_of),
        "performer": DEVICE_REFERENCE,
        "basis": [{"reference": reference} for reference in inputs],
        "prediction": _predictions(report),
        "note": [{"text": text} for text in _notes(report)],
    }
    return {name: value for name, value in resource.items() if value not in ({}, [])}


def device_of(report: RiskReport, model: tuple[str, str] | None) -> dict[str, Any]:
    """Return what made a risk. ``model``: name and version, where the report does not hold it any more."""
    if report.model is not None:
        model = report.model.name, report.model.version
    name, version = model if report.risk.basis == "model" and model is not None else (None, None)
    return software_device(name, version, report.feature_service)


def _predictions(report: RiskReport) -> list[dict[str, Any]]:
    risk, task = report.risk, report.task
    period = {"start": write_instant(report.as_of)}
    if is_limited(task.horizon):  # a period without an end lasts on
        period["end"] = write_instant(report.as_of + task.horizon)
    common = {"outcome": {"text": task.outcome}, "whenPeriod": period}
    first: dict[str, Any] = dict(common)
    if risk.probability is not None:
        first["probabilityDecimal"] = round(100 * risk.probability, 2)
    if risk.band in _BANDS:
        first["qualitativeRisk"] = {"coding": [{"system": _RISK, "code": _BANDS[risk.band]}], "text": risk.band}
    else:
        first["qualitativeRisk"] = {"text": risk.band}
    predictions = [first]
    if report.range is not None:
        low, high = ({"value": round(100 * bound, 2), "unit": "%", "system": UCUM, "code": "%"} for bound in report.range)
        rationale = "Lowest and highest probability that the evidence supports (Venn-Abers)"
        predictions.append({**common, "probabilityRange": {"low": low, "high": high}, "rationale": rationale})
    return predictions


def _notes(report: RiskReport) -> list[str]:
    """Return what has to be known beside the figures: NEWS2, the age of the data, and why there is no probability."""
    risk = report.risk
    notes = [f"NEWS2 {risk.news2}; with what is missing up to {risk.news2_highest}"]
    hours = report.latest_reading_hours
    notes.append("no reading within a day" if hours is None else f"latest reading {60 * hours:.0f} min before")
    if risk.probability is None:
        why = ", ".join(_NOTES.get(finding, finding.replace("_", " ")) for finding in risk.findings)
        notes.append(f"no probability: {why or 'the model was not asked'}")
    if report.model is not None and report.model.model.metadata_.get("simulated"):
        notes.append("the model learned from simulated patients: no clinical evidence")
    notes.append("a decision aid, not a decision")
    return notes
