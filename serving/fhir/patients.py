"""Patient and Encounter as registrations: who a patient is, in which ward they lie, and whether they have left."""

import re
import unicodedata
from collections.abc import Mapping
from datetime import date
from typing import Any, Final

from vigil.serving.fhir.outcomes import FhirError
from vigil.serving.fhir.times import read_instant_or_none

_SEX: Final = {"female": 0.0, "male": 1.0}
_NOT_OF_A_NAME: Final = re.compile(r"[^A-Za-z0-9_.-]+")
_LONGEST_NAME: Final = 64  # of a ward, as the API accepts
_DAYS: Final = 365.2425  # of a year
_PRESENT: Final = frozenset(("arrived", "triaged", "in-progress", "onleave"))
_PLANNED: Final = frozenset(("planned",))
_OVER: Final = frozenset(("finished", "cancelled", "entered-in-error", "unknown"))
_WARD: Final = "wa"  # https://hl7.org/fhir/R4/codesystem-location-physical-type.html


def read_facts(patient: Mapping[str, Any], today: date) -> dict[str, Any]:
    """Return what a Patient says that counts: ``age``, ``sex`` and ``discharged``, as far as it says it.

    Raises:
        FhirError: the sex or the date of birth is none (422).
    """
    facts: dict[str, Any] = {}
    gender = patient.get("gender")
    if gender is not None:
        if gender not in ("female", "male", "other", "unknown"):
            raise FhirError(422, "gender: expected female, male, other or unknown", ["Patient.gender"])
        facts["sex"] = _SEX.get(gender)
    born = patient.get("birthDate")
    if born is not None:
        facts["age"] = _age(born, today)
    if patient.get("deceasedBoolean") is True or "deceasedDateTime" in patient:
        facts["discharged"] = True
    return facts


def _age(born: Any, today: date) -> float:
    """Return an age in years; of a partial date that of its middle."""
    text = born if isinstance(born, str) else ""
    whole = {4: f"{text}-07-01", 7: f"{text}-15"}.get(len(text), text)
    try:
        years = (today - date.fromisoformat(whole)).days / _DAYS
    except ValueError:
        years = -1.0
    if not 0 <= years <= 130 or len(whole) != 10:
        raise FhirError(422, "birthDate: expected a date that is past, of the last 130 years", ["Patient.birthDate"])
    return years


def read_stay(encounter: Mapping[str, Any]) -> dict[str, Any]:
    """Return what an Encounter says that counts: ``ward``, ``discharged`` and the admissions.

    Raises:
        FhirError: the status is none, or the ward has no usable name (422).
    """
    status = encounter.get("status")
    if not isinstance(status, str) or status not in _PRESENT | _PLANNED | _OVER:
        expected = ", ".join(sorted(_PRESENT | _PLANNED | _OVER))
        raise FhirError(422, f"status: expected one of {expected}", ["Encounter.status"])
    stay: dict[str, Any] = {"discharged": status not in _PRESENT}
    period = encounter.get("period")
    start = read_instant_or_none(period.get("start")) if isinstance(period, Mapping) else None
    if start is not None:
        stay["hospital_admitted_at"] = start
    location = _present_ward(encounter.get("location"))
    if location is not None:
        stay["ward"] = _ward_name(location.get("location"))
        since = location.get("period")
        if isinstance(since, Mapping) and (moved := read_instant_or_none(since.get("start"))) is not None:
            stay["unit_admitted_at"] = moved
    return stay


def is_past(encounter: Mapping[str, Any], admitted_at: int | None) -> bool:
    """Return whether an Encounter is over, and ended before a later admission: then it says nothing about the present stay."""
    period = encounter.get("period")
    end = read_instant_or_none(period.get("end")) if isinstance(period, Mapping) else None
    is_over = encounter.get("status") in _OVER
    return is_over and end is not None and admitted_at is not None and end <= admitted_at


def _present_ward(locations: Any) -> Mapping[str, Any] | None:
    """Return the location where the patient is now: an active one before others, a ward before a room, else the last."""
    present = [each for each in locations if isinstance(each, Mapping)] if isinstance(locations, list) else []
    present = [each for each in present if each.get("status", "active") == "active"] or present
    wards = [each for each in present if _physical_type(each) == _WARD]
    found = wards or present
    return found[-1] if found else None


def _physical_type(location: Mapping[str, Any]) -> str | None:
    concept = location.get("physicalType")
    codings = concept.get("coding") if isinstance(concept, Mapping) else None
    first = codings[0] if isinstance(codings, list) and codings else None
    return first.get("code") if isinstance(first, Mapping) else None


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
