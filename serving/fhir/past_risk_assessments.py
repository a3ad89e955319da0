"""The RiskAssessments of the past: which of them a caller may see, and what they were made of."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from vigil.serving.auth.access import Access
from vigil.serving.auth.tokens import Caller
from vigil.serving.fhir.directory import Directory
from vigil.serving.fhir.outcomes import FhirError
from vigil.serving.fhir.risk_assessments import to_risk_assessment
from vigil.serving.records.journal import Journal
from vigil.serving.records.journal_inputs import Input
from vigil.serving.records.timestamps import microsecond
from vigil.serving.scoring.past_risks import INPUTS_FROM, PastRisk, PastRisks
from vigil.serving.scoring.risk_report import RiskReport
from vigil.serving.scoring.verification import Obstacle, Verifier

_OBSTACLE_SYSTEM: Final = "urn:vigil:verification-obstacle"
_OBSTACLES: Final[dict[Obstacle, str]] = {
    "retention": "Retention has deleted readings that it was made of",
    "inputs_not_stored": "What it was made of was never stored here",
    "no_model": "The registry does not hold the version of the model any more",
    "no_feature_service": "This version of Vigil does not have the features that it was made of",
}


@dataclass(frozen=True)
class PastRiskAssessments:
    """The past RiskAssessments of one home."""

    risks: PastRisks
    verifier: Verifier
    journal: Journal
    access: Access
    directory: Directory

    def find(self, caller: Caller, identity: str) -> PastRisk:
        """Return a past risk that the caller may see: wards are those of today.

        Raises:
            FhirError: there is none (404).
        """
        past = self.risks.find(identity)
        if past is None or not self._is_visible(caller, past):
            raise FhirError(404, "RiskAssessment: not known")
        return past

    def resource(self, past: PastRisk) -> dict[str, Any]:
        """Return the RiskAssessment of a past risk."""
        model = None if past.model_name is None or past.model_version is None else (past.model_name, past.model_version)
        return to_risk_assessment(past.report, self.patient(past), self.references(past.inputs), model)

    def verify(self, past: PastRisk) -> dict[str, Any]:
        """Make a past risk again, and return what came of it as Parameters: names of outputs, and never a value."""
        found = self.verifier.verify(past)
        parameters: list[dict[str, Any]] = []
        if found.is_equal is not None:
            parameters.append({"name": "result", "valueBoolean": found.is_equal})
        if found.is_equal:
            parameters.append({"name": "inputs", "valueCode": "logged-features" if found.from_log else "readings"})
        parameters += [{"name": "difference", "valueString": name} for name in found.different]
        if found.obstacle is not None:
            reason = {"system": _OBSTACLE_SYSTEM, "code": found.obstacle, "display": _OBSTACLES[found.obstacle]}
            parameters.append({"name": "reason", "valueCoding": reason})
        return {"resourceType": "Parameters", "parameter": parameters}

    def patient(self, past: PastRisk) -> str:
        """Return the reference to the patient, of the survivor if they were merged since."""
        return self.directory.reference(self._survivor(past))

    def references(self, inputs: Iterable[Input]) -> list[str]:
        """Return the references to Observations."""
        return [f"Observation/{self.directory.ids.of_row(own.row)}" for own in inputs]

    def inputs_of(self, report: RiskReport) -> list[str]:
        """Return the references to what a present report was made of."""
        until = microsecond(report.risk.index_time)
        with self.journal.snapshot() as journal:
            return self.references(journal.newest_inputs(report.risk.patient, until - INPUTS_FROM, until))

    def _survivor(self, past: PastRisk) -> str:
        return self.journal.survivors_of([past.subject])[past.subject]

    def _is_visible(self, caller: Caller, past: PastRisk) -> bool:
        try:
            self.patient(past)
        except ValueError:  # of a cohort, whose subjects have no id here
            return False
        return not self.access.invisible_subjects(caller, [past.subject])
