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
