"""The types of resources that can be exported. To offer another one, write its function and enter it here."""

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from vigil.serving.fhir.exports.alarms import export_alarms
from vigil.serving.fhir.exports.observations import export_observations
from vigil.serving.fhir.exports.parts import Part, Told
from vigil.serving.fhir.exports.people import export_encounters, export_patients
from vigil.serving.fhir.exports.risks import export_risks
from vigil.serving.records.journal_exports import Member

KINDS: Final[Mapping[str, Callable[[Told, Member], Iterator[Part]]]] = {
    "Patient": export_patients,
    "Encounter": export_encounters,
    "Observation": export_observations,
    "DetectedIssue": export_alarms,
    "RiskAssessment": export_risks,
}
