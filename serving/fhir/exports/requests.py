"""What a client asks to be exported: the parameters of ``$export``, in the query or in a Parameters resource."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode

from vigil.serving.api import problems
from vigil.serving.api.problems import ProblemError
from vigil.serving.auth.tokens import Caller
from vigil.serving.fhir.exports.content import KINDS
from vigil.serving.fhir.exports.filters import read_filters
from vigil.serving.fhir.operations import require_resource
from vigil.serving.fhir.outcomes import FhirError
from vigil.serving.fhir.times import read_instant_or_none

FORMATS: Final = ("application/fhir+ndjson", "application/ndjson", "ndjson")
PARAMETERS: Final = ("_type", "_since", "_typeFilter", "_outputFormat")
# Of the specification, and not offered. Their names may be repeated to the client; other names may be anything.
_NOT_OFFERED: Final = ("_elements", "patient", "includeAssociatedData", "organizeOutputBy", "allowPartialManifests")
_NARROWS: Final = "patient"  # without it the client would get more patients than it wants
_UNKNOWN: Final = "a parameter that the specification does not have"
_MOST_FIELDS: Final = 50

Pairs = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked for.

    Attributes:
        types: of resources.
        since: microseconds; None: everything.
        filters: queries of Observations; empty: all.
        ignored: names of parameters that are not offered.
        query: what was understood, for the manifest.
    """

    types: Sequence[str]
    since: int | None
    filters: Sequence[str]
    ignored: Sequence[str]
    query: str


def read_query(query: str) -> Pairs:
    """Return the parameters of a query.

    Raises:
        FhirError: there are too many (400).
    """
    try:
        return parse_qsl(query, keep_blank_values=True, max_num_fields=_MOST_FIELDS)
    except ValueError:
        raise FhirError(400, f"$export: expected at most {_MOST_FIELDS} parameters") from None


def read_parameters(resource: Any) -> Pairs:
    """Return the parameters of a Parameters resource.

    Raises:
        FhirError: it is none (400).
    """
    parameters = require_resource(resource, "Parameters").get("parameter", [])
    if not isinstance(parameters, list) or len(parameters) > _MOST_FIELDS:
        raise FhirError(400, f"parameter: expected a list of at most {_MOST_FIELDS} parameters", ["Parameters.parameter"])
    pairs = []
    for position, parameter in enumerate(parameters):
        name = parameter.get("name") if isinstance(parameter, dict) else None
        if not isinstance(name, str):
            raise FhirError(400, "name: expected a text", [f"Parameters.parameter[{position}].name"])
        value = next((value for key, value in parameter.items() if key.startswith("value")), "")
        pairs.append((name, value if isinstance(value, str) else ""))
    return pairs


def require_async(prefer: str) -> None:
    """Check that the client expects to be answered later.

    Raises:
        FhirError: it does not (400).
    """
    if "respond-async" not in {part.strip() for part in prefer.replace(";", ",").split(",")}:
        raise FhirError(400, "Prefer: expected respond-async, since an export takes its time")


def read_asked(pairs: Pairs, prefer: str, caller: Caller) -> Asked:
    """Return what parameters ask for.

    Args:
        pairs: name and value.
        prefer: the header of that name: with ``handling=strict`` nothing is ignored, with ``handling=lenient`` everything
            that is not offered.
        caller: who may read some types only.

    Raises:
        FhirError: they cannot be understood (400). The text repeats nothing of what was sent.
        ProblemError: the caller may not read a type (403).
    """
    values: dict[str, list[str]] = {name: [] for name in PARAMETERS}
    unknown = []
    for name, value in pairs:
        if name in values:
            values[name].append(value)
        else:
            unknown.append(name if name in _NOT_OFFERED else _UNKNOWN)
    is_lenient = "handling=lenient" in prefer
    if unknown and "handling=strict" in prefer:
        raise FhirError(400, f"$export: expected only {', '.join(PARAMETERS)}")
    if _NARROWS in unknown and not is_lenient:
        raise FhirError(400, f"{_NARROWS}: not offered; expected only {', '.join(PARAMETERS)}")
    if any(text not in FORMATS for text in values["_outputFormat"]):
        raise FhirError(400, f"_outputFormat: expected one of {', '.join(FORMATS)}")
    asked = list(dict.fromkeys(kind for text in values["_type"] for kind in text.split(",") if kind))
    if any(kind not in KINDS for kind in asked):
        if not is_lenient:
            raise FhirError(400, f"_type: expected some of {', '.join(KINDS)}")
        unknown.append("_type, in part")
    filters: list[str] = []
    try:
        filters = read_filters(values["_typeFilter"])
    except FhirError:
        if not is_lenient:
            raise
        unknown.append("_typeFilter")
    since = _read_since(values["_since"])
    types = _permitted([kind for kind in asked if kind in KINDS], caller)
    understood = [(name, value) for name in PARAMETERS for value in values[name] if name not in unknown]
    return Asked(types, since, filters, list(dict.fromkeys(unknown)), urlencode(understood))


def may_export(caller: Caller, kind: str) -> bool:
    """Return whether a caller may read and search a type of resource."""
    return caller.may("r", kind) and caller.may("s", kind)


def _read_since(texts: Sequence[str]) -> int | None:
    if not texts:
        return None
    since = read_instant_or_none(texts[0].replace(" ", "+"))  # a plus that was not encoded
    if len(texts) > 1 or since is None:
        raise FhirError(400, "_since: expected one instant with seconds and zone, such as the transactionTime of an export")
    return since


def _permitted(asked: Sequence[str], caller: Caller) -> list[str]:
    """Return the types that are exported, in the order of :data:`KINDS`: those named, or else all that the caller may read.

    Raises:
        ProblemError: the caller may not read one that is named, or none at all.
    """
    wanted = [kind for kind in KINDS if (kind in asked if asked else may_export(caller, kind))]
    missing = [kind for kind in wanted or KINDS if not may_export(caller, kind)]
    if missing:
        raise ProblemError(problems.out_of_scope([f"system/{kind}.rs" for kind in missing]))
    return wanted
