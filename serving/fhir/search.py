"""Searches: what a client asks for, and the pages in which it is answered (https://hl7.org/fhir/R4/search.html).

An identifier never stands in a URL, because URLs are logged: ``GET`` takes ids of resources, ``POST .../_search`` identifiers,
too. So does the link to the next page: it holds ids, whatever the client wrote.
"""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NoReturn
from urllib.parse import parse_qsl, urlencode

from vigil.serving.fhir.interactions import RESOURCES
from vigil.serving.fhir.outcomes import FhirError
from vigil.serving.fhir.times import EPOCH, MICROSECOND, read_instant_or_none
from vigil.serving.records.journal_readings import ALWAYS, LAST, Interval

MOST: Final = 1_000  # resources of a page
USUAL: Final = 100
# _page is ours, in the links that we send.
_OF_PAGES: Final = {"_count": "number", "_summary": "special", "_sort": "special", "_page": "special"}
_PARAMETERS: Final = {offered.type: {**dict(offered.search), **_OF_PAGES} for offered in RESOURCES}
_PATIENTS: Final = ("patient", "subject")
_IDENTIFIERS: Final = ("identifier", "patient.identifier", "subject.identifier")
_IGNORED: Final = frozenset(("_format", "_pretty", "_elements", "_total"))  # they change no resource that is found
_ADDING: Final = ("_include", "_revinclude")  # what is found without them is right, and no more than was asked for
# By what each type is sorted; the first is the order in which its resources are stored. A change gives a Patient another place
# in it, so from the last to the first a page could leave them out.
_SORTS: Final[Mapping[str, Sequence[str]]] = {
    "DetectedIssue": ("identified", "-identified"),
    "Encounter": ("_lastUpdated",),
    "Observation": ("_lastUpdated", "-_lastUpdated", "date", "-date"),
    "Patient": ("_lastUpdated",),
    "RiskAssessment": ("_lastUpdated", "-_lastUpdated"),  # there is one at most
}
_MOST_FIELDS: Final = 30
_ONCE: Final = "expected once; alternatives are separated by commas"
_ONE_PATIENT: Final = "patient: expected one"
_PREFIXED: Final = re.compile(r"(eq|ge|gt|le|lt)?([0-9].*)", flags=re.DOTALL)
_ALTERNATIVES: Final = re.compile(r"(?<!\\),")
_ESCAPED: Final = re.compile(r"\\([\\,$|])")
_PARTIAL: Final = re.compile(r"([0-9]{4})(?:-([0-9]{2})(?:-([0-9]{2}))?)?")


@dataclass(frozen=True, slots=True)
class Search:
    """What is asked for of one type of resource.

    Attributes:
        type: of the resources.
        patient: key of the patient (:class:`vigil.serving.fhir.directory.Directory`); None: of any.
        subject: subject key of that patient, once :meth:`vigil.serving.fhir.chart.Chart.resolve` has found it; None: they are
            unknown, or the caller may not see them.
        ids: of resources; None: any.
        tokens: alternatives by name of the parameter, each ``CODE`` or ``SYSTEM|CODE``.
        times: interval by name of the parameter.
        sort: parameter by which the resources are ordered, with ``-`` the last first; empty: by when they were stored.
        count: resources of a page.
        is_of_total: only how many resources there are is asked for.
        after: what the page before ended with; None: this is the first.
        kept: parameters as they were sent, for the links, without those that name a patient.
    """

    type: str
    patient: str | None = None
    subject: str | None = None
    ids: tuple[str, ...] | None = None
    tokens: Mapping[str, Sequence[str]] = field(default_factory=dict)
    times: Mapping[str, Interval] = field(default_factory=dict)
    sort: str = ""
    count: int = USUAL
    is_of_total: bool = False
    after: str | None = None
    kept: Sequence[tuple[str, str]] = ()

    def time(self, name: str) -> Interval:
        """Return the interval of a parameter; all time if it was not sent."""
        return self.times.get(name, ALWAYS)

    def require_patient(self) -> str | None:
        """Return the subject key of the patient who is named; None: they are unknown to the caller.

        Raises:
            FhirError: none is named (400).
        """
        if self.patient is None:
            _refuse(f"patient: expected the id of one Patient; their identifier goes into the body of POST {self.type}/_search")
        return self.subject


def parse_search(kind: str, query: str, *, form: str = "", prefer: str) -> Search:
    """Return what a query string and a form ask for.

    Args:
        kind: the type of resource.
        query: URL-encoded parameters, of the URL.
        form: of the body, where identifiers may stand.
        prefer: the header of that name; ``handling=strict`` refuses parameters that are not offered.

    Raises:
        FhirError: they cannot be understood (400). The text repeats nothing of what was sent.
    """
    of_url, of_body = _split(query), _split(form)
    if any("identifier" in re.split("[:.]", name) for name, _ in of_url):
        _refuse(f"identifier: expected in the body of POST {kind}/_search, since URLs are logged")
    pairs, offered = of_url + of_body, _PARAMETERS[kind]
    require_understood([name for name, _ in pairs], offered, prefer)
    return _parse(kind, [(name, value) for name, value in pairs if name in offered], offered)


def require_understood(names: Iterable[str], offered: Collection[str], prefer: str) -> None:
    """Check that no parameter is ignored that would narrow what is found, and none at all if the client is strict.

    R4 demands it of modifiers, such as ``code:not``. A chain, such as ``patient.name``, and ``_has`` narrow just as well.

    Raises:
        FhirError: one would be (400).
    """
    for name in names:
        if name in offered or name in _IGNORED:
            continue
        own, modifier, _ = name.partition(":")
        narrows = (modifier or "." in own) and own not in _ADDING
        if narrows or "handling=strict" in prefer:
            _refuse(f"expected only {', '.join(offered)}, without modifier or chain")


def _split(query: str) -> list[tuple[str, str]]:
    try:
        return parse_qsl(query, keep_blank_values=True, max_num_fields=_MOST_FIELDS)
    except ValueError:
        _refuse(f"expected at most {_MOST_FIELDS} parameters")


def _parse(kind: str, pairs: Sequence[tuple[str, str]], offered: Mapping[str, str]) -> Search:
    patients: set[str] = set()
    ids: list[str] | None = None
    tokens: dict[str, list[str]] = {}
    times: dict[str, Interval] = {}
    rest: dict[str, str] = {}
    for name, value in pairs:
        if name in _IDENTIFIERS and (name != "identifier" or kind == "Patient"):
            patients.add(_as_identifier(name, _only(value)))
        elif name in _PATIENTS:
            key = _only(value)
            patients.add(key if "/" in key else f"Patient/{key}")
        elif name == "_id":
            if ids is not None:
                _refuse(f"{name}: {_ONCE}")
            ids = value.split(",")
        elif offered[name] in ("token", "reference"):
            if name in tokens:  # both would have to hold
                _refuse(f"{name}: {_ONCE}")
            tokens[name] = value.split(",")
        elif offered[name] == "date":
            times[name] = _narrow(times.get(name, ALWAYS), _read_interval(name, value))
        else:
            rest[name] = value
    if len(patients) > 1:
        _refuse(_ONE_PATIENT)
    count, is_of_total = _read_count(rest.get("_count")), rest.get("_summary") == "count"
    is_of_total |= count == 0
    unkept = {*_PATIENTS, *_IDENTIFIERS, "_page", *(() if is_of_total else ("_summary",))}
    return Search(
        kind,
        patient=next(iter(patients), None),
        ids=None if ids is None else tuple(ids),
        tokens=tokens,
        times=times,
        sort=_read_sort(kind, rest.get("_sort", "")),
        count=MOST if is_of_total else count,
        is_of_total=is_of_total,
        after=None if is_of_total else rest.get("_page"),
        kept=[pair for pair in pairs if pair[0] not in unkept],
    )


def searchset(
    search: Search, resources: Iterable[Mapping[str, Any]], base: str, patient: str | None = None, following: str | None = None
) -> dict[str, Any]:
    """Return a page as a Bundle.

    Args:
        search: what was asked for.
        resources: that were found.
        base: URL of this server's FHIR base.
        patient: id of the Patient that was asked for; None: of none.
        following: where the next page begins; None: there is none.

    Raises:
        FhirError: only the number is asked for, and there are more than one page holds (400).
    """
    if search.is_of_total and following is not None:
        _refuse(f"_summary, _count: expected a search that finds at most {MOST:,} resources, to count them")
    named = "_id" if search.type == "Patient" else "patient"
    asked = [*([(named, patient)] if patient is not None else []), *search.kept]
    links = [("self", asked if search.after is None else [*asked, ("_page", search.after)])]
    if following is not None:
        links.append(("next", [*asked, ("_page", following)]))
    entries = [
        {"fullUrl": f"{base}/{search.type}/{resource['id']}", "resource": resource, "search": {"mode": "match"}}
        for resource in resources
    ]
    bundle: dict[str, Any] = {
        "resourceType": "Bundle",
        "type": "searchset",
        "link": [{"relation": name, "url": f"{base}/{search.type}?{urlencode(parameters)}"} for name, parameters in links],
    }
    if search.after is None and following is None:
        bundle["total"] = len(entries)
    return bundle | ({"entry": entries} if entries and not search.is_of_total else {})


def _only(value: str) -> str:
    """Return the one value of a parameter that names a patient, without the marks before commas and the like in it."""
    if _ALTERNATIVES.search(value):
        _refuse(_ONE_PATIENT)
    return _ESCAPED.sub(r"\1", value)


def _as_identifier(name: str, value: str) -> str:
    if not value.partition("|")[2]:
        _refuse(f"{name}: expected SYSTEM|VALUE")
    return value


def _read_count(text: str | None) -> int:
    if text is None:
        return USUAL
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        _refuse("_count: expected a number")
    return min(int(text), MOST)


def _read_sort(kind: str, text: str) -> str:
    """Return by what to sort. Resources are in the order in which they were stored, so that order needs no other one."""
    by = _SORTS.get(kind, ())
    if text and text not in by:
        _refuse(f"_sort: expected one of {', '.join(by)}" if by else f"_sort: not offered for {kind}")
    return "" if text in by[:1] else text


def _narrow(one: Interval, other: Interval) -> Interval:
    return Interval(max(one.since, other.since), min(one.until, other.until))


def _read_interval(name: str, text: str) -> Interval:
    """Return the interval that a date with a prefix means; a date without a zone is one of UTC."""
    match = _PREFIXED.fullmatch(text)
    whole = None if match is None else _extent(match[2])
    if match is None or whole is None:
        _refuse(f"{name}: expected a date or an instant with zone, perhaps after eq, ge, gt, le or lt")
    return {
        "eq": whole,
        "ge": Interval(whole.since, LAST),
        "gt": Interval(whole.until + 1, LAST),
        "le": Interval(-LAST, whole.until),
        "lt": Interval(-LAST, whole.since - 1),
    }[match[1] or "eq"]


def _extent(text: str) -> Interval | None:
    """Return from when to when a date or an instant lasts; None: it is none. An instant lasts as long as its last digit."""
    instant = read_instant_or_none(text.replace(" ", "+"))  # a plus that was not encoded
    if instant is not None:
        digits = len(match[1]) if (match := re.search(r"\.([0-9]+)", text)) else 0
        return Interval(instant, instant + 10 ** max(6 - digits, 0) - 1)
    match = _PARTIAL.fullmatch(text)
    if match is None:
        return None
    year, month, day = (None if part is None else int(part) for part in match.groups())
    try:
        start = datetime(year or 0, month or 1, day or 1, tzinfo=UTC)
        if day is not None:
            end = start + timedelta(days=1)
        elif month is not None:
            end = (start + timedelta(days=31)).replace(day=1)
        else:
            end = start.replace(year=start.year + 1)
    except (ValueError, OverflowError):
        return None
    return Interval((start - EPOCH) // MICROSECOND, (end - EPOCH) // MICROSECOND - 1)


def _refuse(rule: str) -> NoReturn:
    raise FhirError(400, f"search: {rule}")
