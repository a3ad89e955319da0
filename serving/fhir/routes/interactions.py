"""What is offered under ``/fhir``, by type of resource: the one list that the CapabilityStatement and the tests read."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final


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


_CONDITIONAL: Final = (("conditionalCreate", True), ("conditionalUpdate", True))

RESOURCES: Final[tuple[Offered, ...]] = (
    Offered("Encounter", ("create", "update")),
    Offered(
        "Observation",
        ("create", "update", "delete"),
        details=(("versioning", "versioned-update"), ("updateCreate", True), *_CONDITIONAL),
    ),
    Offered("Patient", ("create", "update"), details=(("updateCreate", True), *_CONDITIONAL)),
    Offered("RiskAssessment", ("search-type",), (("patient", "reference"), ("subject", "reference"))),
)
SYSTEM_INTERACTIONS: Final[tuple[str, ...]] = ("transaction", "batch")
