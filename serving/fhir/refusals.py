"""What is wrong with a resource: a reason of quarantine, the element, the rule and what was expected. Never the value."""

from dataclasses import dataclass
from typing import Final

from vigil.features.measures import name_signal
from vigil.serving.api.quarantine_reasons import explain_quarantine

_VALUE: Final = ".value"
_UNIT: Final = ".value.ofType(Quantity)"
# Where the reasons that the check of observations finds have their cause, below the element that holds the value.
_BELOW_READING: Final = {
    **dict.fromkeys(("missing_unit", "unknown_unit", "codes_disagree"), _UNIT),
    **dict.fromkeys(("not_exact", "undeclared_range", "device_error", "not_a_number", "not_a_code", "implausible"), _VALUE),
    **dict.fromkeys(("unknown_signal", "ambiguous_code"), ".code"),
}
_OF_RESOURCE: Final = {
    **dict.fromkeys(("missing_subject", "unclear_subject"), "Observation.subject"),
    **dict.fromkeys(("missing_time", "recorded_before_observed", "in_the_future"), "Observation.effective"),
    "unknown_status": "Observation.status",
    **dict.fromkeys(("unknown_version", "superseded"), "Observation.meta.versionId"),
}


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a reading cannot be used.

    Attributes:
        reason: a key of :data:`vigil.features.observations.REASONS`.
        path: the element, as FHIRPath.
        rule: that is broken: an invariant of R4 such as ``obs-6``, a data type, or a rule of Vigil's in words.
        expected: what would have been understood.
    """

    reason: str
    path: str
    rule: str
    expected: str


class RefusedError(Exception):
    """Ends the reading of an element; it never leaves this package."""

    def __init__(self, reason: str, path: str, rule: str, expected: str) -> None:
        super().__init__(reason, path)
        self.refusal = Refusal(reason, path, rule, expected)


def explain(path: str, signal: str, reason: str) -> Refusal:
    """Return the refusal for a reason that the check of observations found.

    Args:
        path: of the element that holds the value, such as ``Observation.component[1]``.
        signal: name or code, as it was sent on.
        reason: a key of :data:`vigil.features.observations.REASONS`.

    >>> explain("Observation.component[1]", "spo2", "implausible")
    Refusal(reason='implausible', path='Observation.component[1].value', rule='value', expected='20 to 100 %')
    """
    field, expected = explain_quarantine(reason, str(name_signal(signal)))
    where = path + _BELOW_READING[reason] if reason in _BELOW_READING else _OF_RESOURCE.get(reason, "Observation")
    return Refusal(reason, where, field, expected)
