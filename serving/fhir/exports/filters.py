"""``_typeFilter``: which Observations an export tells, by the parameters of a search."""

from typing import Final

from vigil.serving.fhir.exports.parts import ReadingFilter
from vigil.serving.fhir.observation_pages import signals_of
from vigil.serving.fhir.outcomes import FhirError
from vigil.serving.fhir.search import Search, parse_search

_TYPE: Final = "Observation"
_OFFERED: Final = ("code", "category", "date")


def read_filters(texts: list[str]) -> list[str]:
    """Return the filters in the values of the parameter: separated by commas, those within a filter as ``%2C``.

    Raises:
        FhirError: one is of another type, or has other parameters (400).
    """
    queries = []
    for text in (each for value in texts for each in value.split(",")):
        kind, _, query = text.partition("?")
        if kind != _TYPE:
            raise FhirError(400, f"_typeFilter: expected {_TYPE}? and one of {', '.join(_OFFERED)}")
        queries.append(query)
        parse_filter(queries[-1])
    return queries


def parse_filter(query: str) -> ReadingFilter:
    """Return the filter that a query means.

    Raises:
        FhirError: it cannot be understood (400).
    """
    search: Search = parse_search(_TYPE, query, prefer="handling=strict")
    if not query or {name for name, _ in search.kept} - set(_OFFERED) or search.patient is not None:
        raise FhirError(400, f"_typeFilter: expected {_TYPE}? and one of {', '.join(_OFFERED)}")
    signals = signals_of(search)
    return ReadingFilter(None if signals is None else frozenset(signals), search.time("date"))
