"""The value of an Observation or of a component: number or text, unit and comparator, as the check takes them."""

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from vigil.features.bounds import INEXACT, read_text
from vigil.features.codes import MDC, MDC_UNITS
from vigil.features.units import canonical_unit
from vigil.serving.fhir.concepts import FLOW_UNITS, LARGEST_FLOW, UCUM, Concept, find_answer, read_codings
from vigil.serving.fhir.refusals import RefusedError

ABSENT_REASON: Final = "http://hl7.org/fhir/StructureDefinition/data-absent-reason"
VALUES: Final = frozenset(
    "value" + name
    for name in (
        "Quantity", "CodeableConcept", "String", "Boolean", "Integer", "Range", "Ratio", "SampledData", "Time", "DateTime",
        "Period",
    )
)  # fmt: skip
_QUANTITY: Final = frozenset(("id", "extension", "value", "comparator", "unit", "system", "code"))
_COMPARATORS: Final = (None, "<", "<=", ">=", ">")
_LARGEST: Final = 2**62
_LONGEST: Final = 64  # characters of a text; as the API accepts


class Value(NamedTuple):
    """A value as it is sent on.

    Attributes:
        value: a number, or a text that is a bound, such as ``<40``.
        unit: UCUM code or another name; None: none was sent.
        comparator: makes the value a bound; None: it is exact.
    """

    value: float | str
    unit: str | None = None
    comparator: str | None = None


def read_value(element: Mapping[str, Any], path: str, concept: Concept) -> Value | None:
    """Return the value of an Observation or of one of its components; None: it says that there is none, and why.

    Args:
        element: the Observation or component.
        path: of it.
        concept: what its code says.

    Raises:
        RefusedError: there is a value that cannot be used, or none without a reason.
    """
    if "dataAbsentReason" in element:
        if not VALUES.isdisjoint(element):
            raise RefusedError("malformed", f"{path}.dataAbsentReason", "obs-6", "a value, or the reason why it is absent")
        return None
    names = VALUES.intersection(element)
    if len(names) != 1:
        if names:
            raise RefusedError("malformed", f"{path}.value", "value[x]: one of its types", "one value[x]")
        if _is_declared_absent(element):
            return None
        raise RefusedError("not_a_number", f"{path}.value", "vs-2", "value[x], or dataAbsentReason")
    name = next(iter(names))
    if name == "valueQuantity":
        return _read_quantity(element[name], f"{path}.value.ofType(Quantity)", concept)
    return _read_other(name, element[name], f"{path}.value", concept)


def _is_declared_absent(element: Mapping[str, Any]) -> bool:
    """Return whether the extension data-absent-reason stands in place of a primitive value."""
    return any(_has_absent_reason(element.get(f"_{name}")) for name in VALUES)


def _has_absent_reason(element: Any) -> bool:
    extensions = element.get("extension") if isinstance(element, Mapping) else None
    return isinstance(extensions, list) and any(
        isinstance(each, Mapping) and each.get("url") == ABSENT_REASON for each in extensions
    )


def _read_quantity(quantity: Any, path: str, concept: Concept) -> Value | None:
    if not isinstance(quantity, dict) or not (quantity.keys() <= _QUANTITY or _has_only_extras(quantity)):
        raise RefusedError("malformed", path, "Quantity", f"an object of {', '.join(sorted(_QUANTITY))}")
    if "value" not in quantity and (_has_absent_reason(quantity) or _has_absent_reason(quantity.get("_value"))):
        return None
    number = _read_number(quantity.get("value"), f"{path}.value")
    comparator = quantity.get("comparator")
    if comparator not in _COMPARATORS:
        raise RefusedError("not_exact", f"{path}.comparator", "QuantityComparator", "<, <=, >= or >, or none")
    try:
        unit, rule = _read_unit(quantity.get("system"), quantity.get("code"), quantity.get("unit"))
    except TypeError:  # unhashable
        unit, rule = None, "Quantity"
    if rule:
        reason = "malformed" if rule == "Quantity" else "unknown_unit"
        raise RefusedError(reason, f"{path}.code", rule, "a UCUM or MDC code with its system, or a unit alone")
    if concept.form in ("quantity", "state"):
        return Value(number, unit, comparator)
    if concept.form == "flow":
        return _read_flow(number, unit, comparator, path)
    raise RefusedError("not_a_code", path, "coded answers are no numbers", "valueCodeableConcept with an ACVPU answer")


def _has_only_extras(quantity: Mapping[str, Any]) -> bool:
    """Return whether what is unknown are extensions of primitives."""
    return all(name in _QUANTITY or (name[:1] == "_" and name[1:] in _QUANTITY) for name in quantity)


def _read_number(value: Any, path: str) -> float:
    if type(value) not in (int, float):
        raise RefusedError("not_a_number", path, "decimal", "a JSON number, not a text")
    number = float(value) if abs(value) < _LARGEST else math.inf
    if not math.isfinite(number):
        raise RefusedError("not_a_number", path, "decimal", "a finite number")
    return number


@functools.lru_cache(maxsize=4096)
def _read_unit(system: Any, code: Any, text: Any) -> tuple[str | None, str]:
    """Return a unit (None: none was sent), and the rule that is broken. The code counts; the text beside it is for people."""
    if not all(each is None or type(each) is str for each in (system, code, text)):
        return None, "Quantity"
    if code is None:
        return text or None, ""
    if system is None:
        return None, "qty-3"
    if system == UCUM:
        return code, ""
    if system == MDC and code in MDC_UNITS:
        return MDC_UNITS[code], ""
    return None, "units are of UCUM or MDC"


def _read_flow(number: float, unit: str | None, comparator: str | None, path: str) -> Value:
    """Return whether there is a flow of oxygen."""
    litres = FLOW_UNITS.get(canonical_unit(unit).replace("liters", "L")) if unit else None
    if comparator is not None:
        raise RefusedError("not_exact", f"{path}.comparator", "a flow is a number", "no comparator")
    if litres is None:
        reason = "unknown_unit" if unit else "missing_unit"
        raise RefusedError(reason, f"{path}.code", "a flow has a unit", " or ".join(FLOW_UNITS))
    if not 0 <= number * litres <= LARGEST_FLOW:
        raise RefusedError("implausible", f"{path}.value", "plausible range", f"0 to {LARGEST_FLOW:g} L/min")
    return Value(float(number > 0), "1")


def _read_other(name: str, value: Any, path: str, concept: Concept) -> Value:
    """Return a value that is no Quantity."""
    read = _READERS.get((name, concept.form))
    if read is not None:
        return read(value, path, concept)
    if name == "valueRange":
        raise RefusedError("not_exact", f"{path}.ofType(Range)", "a reading is one number", "valueQuantity")
    expected = {"answer": "valueCodeableConcept", "state": "valueCodeableConcept, valueBoolean or valueInteger"}
    reason = "not_a_code" if concept.form in expected else "not_a_number"
    raise RefusedError(reason, path, f"{name} says nothing of this signal", expected.get(concept.form, "valueQuantity"))


def _read_concept(value: Any, path: str, concept: Concept) -> Value:
    path = f"{path}.ofType(CodeableConcept)"
    answer = find_answer(concept.name, read_codings(value, path))
    if answer is None:
        raise RefusedError("not_a_code", path, "coded answer", "one of docs/fhir.md")
    return Value(answer)


def _read_integer(value: Any, path: str, _: Concept) -> Value:
    number = _read_number(value, f"{path}.ofType(integer)")
    if not number.is_integer():
        raise RefusedError("malformed", f"{path}.ofType(integer)", "integer", "a whole number")
    return Value(number)


def _read_boolean(value: Any, path: str, _: Concept) -> Value:
    if type(value) is not bool:
        raise RefusedError("malformed", f"{path}.ofType(boolean)", "boolean", "true or false")
    return Value(float(value))


def _read_string(value: Any, path: str, _: Concept) -> Value:
    """Return a text that is a bound. No other text is read as a number."""
    if type(value) is not str or len(value) > _LONGEST:
        raise RefusedError("malformed", f"{path}.ofType(string)", "string", f"a text of at most {_LONGEST} characters")
    comparator = read_text(value)[1]
    if comparator is None or comparator == INEXACT:
        reason = "not_a_number" if comparator is None else "not_exact"
        raise RefusedError(reason, f"{path}.ofType(string)", "a text is no number", "valueQuantity, or a bound such as <40")
    return Value(value)


_READERS: Final[Mapping[tuple[str, str], Callable[[Any, str, Concept], Value]]] = {
    ("valueCodeableConcept", "answer"): _read_concept,
    ("valueCodeableConcept", "state"): _read_concept,
    ("valueInteger", "quantity"): _read_integer,
    ("valueInteger", "state"): _read_integer,
    ("valueBoolean", "state"): _read_boolean,
    ("valueString", "quantity"): _read_string,
}
