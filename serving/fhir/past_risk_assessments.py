"""RiskAssessments as callers read them: those of the past by id, what they were made of, and whether they can be made again."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any, Final

from vigil.serving.auth.tokens import Caller
from vigil.serving.fhir.chart import Chart
from vigil.serving.fhir.outcomes import FhirError
from vigil.serving.fhir.provenance import to_provenance
from vigil.serving.fhir.risk_assessments import to_risk_assessment
from vigil.serving.fhir.search import Search
from vigil.serving.records.journal_inputs import Input
from vigil.serving.scoring.past_risks import PastRisk, PastRisks, inputs_interval
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

    chart: Chart
    risks: PastRisks
    verifier: Verifier

    def find(self, identity: str, caller: Caller) -> PastRisk | None:
        """Return a past risk of a patient whom the caller may see today; None: there is none."""
        past = self.risks.find(identity)
        if past is None or not self.chart.may_see(caller, past.subject):
            return None
        try:
            self.patient(past)
        except ValueError:  # a subject of a batch cohort has no id here
            return None
        return past

    def read(self, identity: str, caller: Caller) -> dict[str, Any] | None:
        """Return a RiskAssessment by its id; None: there is none that the caller may see."""
        past = self.find(identity, caller)
        if past is None:
            return None
        return to_risk_assessment(past.report, self.patient(past), self.references(past.inputs), past.model)

    def read_provenance(self, identity: str, caller: Caller) -> dict[str, Any] | None:
        """Return the Provenance of a RiskAssessment, whose id it has; None: there is none that the caller may see."""
        past = self.find(identity, caller)
        if past is None:
            return None
        with self.chart.journal.snapshot() as journal:
            number = journal.count_inputs(past.subject, *inputs_interval(past.report.risk.index_time))
        digest = None if past.model is None else self.risks.models.digest(*past.model)
        return to_provenance(past, self.references(past.inputs), number, digest)

    def search_provenance(self, search: Search, caller: Caller) -> tuple[list[dict[str, Any]], None]:
        """Return the Provenances of the RiskAssessments that a search names as ``target``.

        Raises:
            FhirError: it names none (400).
        """
        targets = search.tokens.get("target", ())
        if not targets:
            raise FhirError(400, "search: target: expected RiskAssessment/ID")
        names = [target.removeprefix(f"{self.chart.directory.base_url}/") for target in targets]
        ids = [name.removeprefix("RiskAssessment/") for name in names if name.startswith("RiskAssessment/")]
        found = [self.read_provenance(identity, caller) for identity in dict.fromkeys(ids)]
        return [provenance for provenance in found if provenance is not None], None

    def verify(self, identity: str, caller: Caller) -> dict[str, Any]:
        """Make a past risk again, and return what came of it as Parameters: names of outputs, and never a value.

        Raises:
            FhirError: there is none that the caller may see (404).
        """
        past = self.find(identity, caller)
        if past is None:
            raise FhirError(404, "id: no such RiskAssessment is known")
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
        return self.chart.directory.reference(self.chart.survivor(past.subject))

    def references(self, inputs: Iterable[Input]) -> list[str]:
        """Return the references to Observations."""
        return [f"Observation/{self.chart.directory.ids.of_row(own.row)}" for own in inputs]

    def inputs_of(self, report: RiskReport, signals: Collection[str] | None = None) -> list[str]:
        """Return the references to what a present report was made of, or to the readings of some signals among it."""
        with self.chart.journal.snapshot() as journal:
            inputs = journal.newest_inputs(report.risk.patient, *inputs_interval(report.risk.index_time))
        return self.references(own for own in inputs if signals is None or own.signal in signals)
