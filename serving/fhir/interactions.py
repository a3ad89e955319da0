"""What is offered under ``/fhir``, by type of resource: the one list that the CapabilityStatement and the tests read."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from vigil.serving.fhir.subscriptions.resource import PROFILE
from vigil.serving.fhir.subscriptions.topics import TOPICS


@dataclass(frozen=True)
class Offered:
    """What is offered of one type of resource.

    Attributes:
        type: of the resource.
        interactions: codes of https://hl7.org/fhir/R4/valueset-type-restful-interaction.html.
        search: search parameters by name, with their type.
        profiles: that what we send conforms to.
        details: further members of ``CapabilityStatement.rest.resource``.
    """

    type: str
    interactions: Sequence[str]
    search: tuple[tuple[str, str], ...] = ()
    profiles: tuple[str, ...] = ()
    details: tuple[tuple[str, Any], ...] = ()

    def describe(self) -> dict[str, Any]:
        """Return the entry of the CapabilityStatement."""
        described: dict[str, Any] = {"type": self.type, "interaction": [{"code": code} for code in self.interactions]}
        described |= dict(self.details)
        if self.profiles:
            described["supportedProfile"] = list(self.profiles)
        if self.search:
            described["searchParam"] = [{"name": name, "type": kind} for name, kind in self.search]
        return described


_BACKPORT: Final = "http://hl7.org/fhir/uv/subscriptions-backport"
_SUBSCRIPTION_OPERATIONS: Final = [
    {"name": name, "definition": f"{_BACKPORT}/OperationDefinition/backport-subscription-{name}"}
    for name in ("status", "events")
]
_SUBSCRIPTION_TOPICS: Final = [
    {"url": f"{_BACKPORT}/StructureDefinition/capabilitystatement-subscriptiontopic-canonical", "valueCanonical": url}
    for url in TOPICS
]


def _export(name: str) -> tuple[dict[str, str], ...]:
    """Return the operation ``$export`` with its definition."""
    return ({"name": "export", "definition": f"{BULK_DATA}/OperationDefinition/{name}"},)


BULK_DATA: Final = "http://hl7.org/fhir/uv/bulkdata"
_CONDITIONAL: Final = (("conditionalCreate", True), ("conditionalUpdate", True))

_VERSIONED: Final = ("versioning", "versioned-update")
_PATIENT: Final = (("patient", "reference"), ("subject", "reference"))
# Identifiers are taken in the body of POST _search only, because URLs are logged.
_PATIENT_IDENTIFIER: Final = (("patient.identifier", "token"), ("subject.identifier", "token"))
_OF_ALL: Final = (("_id", "token"), ("_lastUpdated", "date"))
_READ: Final = ("read", "search-type")

RESOURCES: Final[tuple[Offered, ...]] = (
    Offered(
        "DetectedIssue",
        ("update", *_READ),
        (_PATIENT[0], _PATIENT_IDENTIFIER[0], ("identified", "date"), ("status", "token"), *_OF_ALL),
        details=(("versioning", "versioned-update"),),
    ),
    Offered("Device", ("create", "update"), details=(("updateCreate", True),)),
    Offered(
        "Encounter",
        ("create", "update", *_READ),
        (*_PATIENT, *_PATIENT_IDENTIFIER, ("status", "token"), *_OF_ALL),
        details=(_VERSIONED,),
    ),
    Offered("Group", _READ, (("_id", "token"),), details=(("operation", _export("group-export")),)),
    Offered(
        "Observation",
        ("create", "update", "delete", *_READ),
        (*_PATIENT, *_PATIENT_IDENTIFIER, ("code", "token"), ("category", "token"), ("date", "date"), *_OF_ALL),
        details=(_VERSIONED, ("updateCreate", True), *_CONDITIONAL),
    ),
    Offered(
        "Patient",
        ("create", "update", *_READ),
        (("identifier", "token"), *_OF_ALL),
        details=(_VERSIONED, ("updateCreate", True), *_CONDITIONAL, ("operation", _export("patient-export"))),
    ),
    Offered("Provenance", _READ, (("target", "reference"),)),
    Offered(
        "RiskAssessment",
        _READ,
        (*_PATIENT, *_PATIENT_IDENTIFIER),
        details=(("operation", [{"name": "verify", "definition": "urn:vigil:operation:verify"}]),),
    ),
    Offered(
        "Subscription",
        ("read", "create", "update", "delete", "search-type"),
        (("_id", "token"), ("status", "token"), ("url", "uri")),
        profiles=(PROFILE,),
        details=(("extension", _SUBSCRIPTION_TOPICS), ("operation", _SUBSCRIPTION_OPERATIONS)),
    ),
)
SYSTEM_INTERACTIONS: Final[tuple[str, ...]] = ("transaction", "batch")
SYSTEM_OPERATIONS: Final = _export("export")
