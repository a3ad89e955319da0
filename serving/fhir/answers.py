"""What became of an operation of a FHIR client."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vigil.serving.fhir.outcomes import FhirError, issue, outcome, refusal_issue
from vigil.serving.fhir.refusals import Refusal


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of one operation.

    Attributes:
        status: HTTP status.
        type, id, version: of the resource; None: there is none to be named.
        updated_at: microseconds.
        issues: of the OperationOutcome: why it is refused, or what of it cannot be used.
        is_unchanged: the resource was here already, and what was sent changed nothing.
    """

    status: int
    type: str | None = None
    id: str | None = None
    version: int | None = None
    updated_at: int | None = None
    issues: Sequence[Mapping[str, Any]] = ()
    is_unchanged: bool = False

    @property
    def location(self) -> str | None:
        """Where the resource is, relative to the base."""
        return None if self.id is None else f"{self.type}/{self.id}/_history/{self.version or 1}"

    @property
    def outcome(self) -> dict[str, Any] | None:
        """The OperationOutcome; None: there is nothing to say."""
        return outcome([dict(each) for each in self.issues]) if self.issues else None


def refused(refusals: Sequence[Refusal]) -> FhirError:
    """Return the error of a resource that is refused as a whole."""
    error = FhirError(422, "refused")
    error.issue = refusal_issue(refusals[0]) if refusals else issue("processing", "the patient is not known")
    return error


def ignored(kind: str) -> Answer:
    """Return the answer to a resource of a type that is not kept here."""
    text = f"{kind} cannot be written here, and was not stored; see /fhir/metadata"
    return Answer(200, issues=[issue("not-supported", text, severity="warning")])


def unused(reason: str) -> Answer:
    """Return the answer to an Encounter that says nothing about the present stay: it is not kept, and has no place here."""
    element = f"Encounter.{reason.partition(':')[0]}"
    return Answer(200, issues=[issue("informational", f"{reason}; nothing was changed", [element], severity="information")])


def elsewhere() -> Answer:
    """Return the answer about a patient of another ward."""
    return Answer(403, issues=[issue("forbidden", "subject: the token covers other wards only")])


def overtaken_by_another() -> Answer:
    """Return the answer to a version that another one overtook."""
    text = "If-Match: another version was stored meanwhile; read it, and decide again"
    return Answer(412, issues=[issue("conflict", text)])


def in_entry(position: int, found: dict[str, Any], status: int) -> FhirError:
    """Return an error of a transaction that says which entry is at fault."""
    error = FhirError(status, "refused")
    inner = [path for path in found.get("expression", []) if isinstance(path, str)]
    error.issue = {**found, "expression": [f"Bundle.entry[{position}]", *inner]}
    return error
