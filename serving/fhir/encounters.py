"""Which Encounters count, and what they say: one rule for what clients send and for the exports of which cohorts are made.

A stay is an Encounter of one of some classes. One that is present opens the present stay, or moves the patient. Only the
Encounter that opened the present stay can end it: a visit to radiology, an appointment or a stay of years ago says nothing
about where the patient is now.
"""

import re
import unicodedata
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any, Final, Literal

from vigil.serving.fhir.outcomes import FhirError
from vigil.serving.fhir.times import read_instant_or_none
from vigil.serving.records.registration import Registration

Role = Literal["opening", "part", "other"]  # of an Encounter in the present stay: it opened it, is a part of it, or neither

# Of https://terminology.hl7.org/ValueSet-v3-ActEncounterCode.html. Cohorts are of inpatients; patients in an emergency
# department, or for a short stay, are monitored, too.
STAY_CLASSES: Final = ("IMP", "ACUTE", "NONAC", "OBSENC")
MONITORED_CLASSES: Final = (*STAY_CLASSES, "EMER", "SS")
_PRESENT: Final = ("arrived", "triaged", "in-progress", "onleave")
_NOT_KNOWN_TO_BE: Final = ("planned", "unknown")
_WITHDRAWN: Final = ("cancelled", "entered-in-error")
_STATUSES: Final = frozenset((*_PRESENT, *_NOT_KNOWN_TO_BE, *_WITHDRAWN, "finished"))
_WARD: Final = "wa"  # https://hl7.org/fhir/R4/codesystem-location-physical-type.html
_NOT_OF_A_NAME: Final = re.compile(r"[^A-Za-z0-9_.-]+")
_LONGEST_NAME: Final = 64  # of a ward, as the API accepts


def is_stay(encounter: Mapping[str, Any], classes: Collection[str]) -> bool:
    """Return whether an Encounter is of a class whose Encounters are stays, and took place or takes place."""
    return _has_class(encounter, classes) and encounter.get("status") not in (*_NOT_KNOWN_TO_BE, *_WITHDRAWN)


def _has_class(encounter: Mapping[str, Any], classes: Collection[str]) -> bool:
    """Return whether an Encounter has one of some classes. One that names none may be anything, and counts."""
    kind = encounter.get("class", {})
    return isinstance(kind, Mapping) and (kind.get("code") is None or kind["code"] in classes)


def is_ward(physical_type: Any) -> bool:
    """Return whether the ``physicalType`` of a location is a ward."""
    codings = physical_type.get("coding") if isinstance(physical_type, Mapping) else None
    return isinstance(codings, list) and any(isinstance(each, Mapping) and each.get("code") == _WARD for each in codings)


def why_unused(encounter: Mapping[str, Any], classes: Collection[str]) -> str | None:
    """Return why an Encounter says nothing about any stay; None: it does.

    Raises:
        FhirError: the status is none (422).
    """
    status = encounter.get("status")
    if not isinstance(status, str) or status not in _STATUSES:
        raise FhirError(422, f"status: expected one of {', '.join(sorted(_STATUSES))}", ["Encounter.status"])
    if status in _NOT_KNOWN_TO_BE:
        return f"status: an Encounter that is {status} is no stay yet"
    return None if _has_class(encounter, classes) else f"class: stays are Encounters of the classes {', '.join(classes)}"


def read_start(encounter: Mapping[str, Any]) -> int | None:
    """Return when an Encounter began, in microseconds since 1970; None: it does not say."""
    return _read_period(encounter, "start")


def _read_period(encounter: Mapping[str, Any], name: str) -> int | None:
    period = encounter.get("period")
    return read_instant_or_none(period.get(name)) if isinstance(period, Mapping) else None


def read_stay(encounter: Mapping[str, Any]) -> dict[str, Any]:
    """Return what an Encounter says that counts: ``ward``, ``discharged`` and the admissions.

    Raises:
        FhirError: the ward has no usable name (422).
    """
    stay: dict[str, Any] = {"discharged": encounter.get("status") not in _PRESENT}
    if (start := read_start(encounter)) is not None:
        stay["hospital_admitted_at"] = start
    location = _present_ward(encounter.get("location"))
    if location is not None:
        stay["ward"] = _ward_name(location.get("location"))
        since = location.get("period")
        if isinstance(since, Mapping) and (moved := read_instant_or_none(since.get("start"))) is not None:
            stay["unit_admitted_at"] = moved
    return stay


def read_effect(encounter: Mapping[str, Any], stay: Mapping[str, Any], present: Registration, role: Role) -> Registration | str:
    """Return what is known of a patient after an Encounter; a text: why it says nothing about the present stay.

    Args:
        encounter: of a class that counts, and not planned (:func:`why_unused`).
        stay: what it says (:func:`read_stay`).
        present: what is known before.
        role: of the Encounter in the present stay.
    """
    if encounter.get("status") not in _PRESENT:
        return _read_end(encounter, stay, present, role)
    if role == "part":
        if present.discharged:
            return "partOf: the stay is over, of which this Encounter is a part"
        return replace(present, **{name: stay[name] for name in ("ward", "unit_admitted_at") if name in stay})
    if role == "other" and _is_before(read_start(encounter), present):
        return "period.start: it is before the present stay began"
    return replace(present, **stay)


def _read_end(encounter: Mapping[str, Any], stay: Mapping[str, Any], present: Registration, role: Role) -> Registration | str:
    if role != "opening":
        return "status: only the Encounter that opened the present stay can end it; send its id, its identifier or its start"
    if _is_before(_read_period(encounter, "end"), present):
        return "period.end: it is before the present stay began"
    return replace(present, discharged=True) if encounter.get("status") in _WITHDRAWN else replace(present, **stay)


def _is_before(time: int | None, present: Registration) -> bool:
    """Return whether a time is before the present admission, as far as both are known."""
    return time is not None and present.hospital_admitted_at is not None and time < present.hospital_admitted_at


def _present_ward(locations: Any) -> Mapping[str, Any] | None:
    """Return the location where the patient is now: an active one before others, a ward before a room, else the last."""
    present = [each for each in locations if isinstance(each, Mapping)] if isinstance(locations, list) else []
    present = [each for each in present if each.get("status", "active") == "active"] or present
    wards = [each for each in present if is_ward(each.get("physicalType"))]
    found = wards or present
    return found[-1] if found else None


def _last_part(reference: str) -> str:
    """Return the id in a reference; of a condition such as ``Location?identifier=urn:wards|B4`` the value of the identifier."""
    return reference.rpartition("|" if "?identifier=" in reference else "/")[2]


def name_ward(text: str) -> str:
    """Return what a record system calls a ward as wards are named here, in tokens, settings and paths.

    >>> name_ward("Station B 4"), name_ward("Intensiv Süd / A"), name_ward("B4")
    ('Station-B-4', 'Intensiv-Sud-A', 'B4')
    """
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return _NOT_OF_A_NAME.sub("-", plain).strip("-")


def _ward_name(reference: Any) -> str:
    """Return the name of a ward: its identifier, else the id of the Location, else its display."""
    texts: list[Any] = []
    if isinstance(reference, Mapping):
        identifier, target = reference.get("identifier"), reference.get("reference")
        texts = [
            identifier.get("value") if isinstance(identifier, Mapping) else None,
            _last_part(target) if isinstance(target, str) and not target.startswith("urn:") else None,
            reference.get("display"),
        ]
    name = name_ward(next((text for text in texts if isinstance(text, str) and text), ""))
    if not name or len(name) > _LONGEST_NAME:
        expected = f"a ward's identifier, the id of its Location or a display, of at most {_LONGEST_NAME} characters"
        raise FhirError(422, f"location: expected {expected}", ["Encounter.location.location"])
    return name
