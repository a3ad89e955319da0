"""Patient as a registration: age, sex, and whether they have died. Cohorts of exports read age and sex by the same rules."""

from collections.abc import Mapping
from datetime import date, datetime
from typing import Any, Final

from vigil.serving.fhir.outcomes import FhirError

SEXES: Final = {"female": 0.0, "male": 1.0}
_DAYS: Final = 365.25  # of a year


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
        facts["sex"] = SEXES.get(gender)
    born = patient.get("birthDate")
    if born is not None:
        age = age_on(born, today)
        if age is None or not 0 <= age <= 130:
            raise FhirError(422, "birthDate: expected a date that is past, of the last 130 years", ["Patient.birthDate"])
        facts["age"] = age
    if patient.get("deceasedBoolean") is True or "deceasedDateTime" in patient:
        facts["discharged"] = True
    return facts


def age_on(born: Any, day: date) -> float | None:
    """Return the age in years on a day; None: the date of birth is none. Of one without day or month the middle counts.

    >>> [age_on(born, date(1954, 7, 1)) for born in ("1950-07-01", "1950", "July 1950")]
    [4.0, 4.0, None]
    """
    text = born if isinstance(born, str) else ""
    whole = {4: f"{text}-07-01", 7: f"{text}-15"}.get(len(text), text)
    try:
        parsed = datetime.strptime(whole, "%Y-%m-%d").date()  # noqa: DTZ007 - a date has no zone
    except ValueError:
        return None
    return (day - parsed).days / _DAYS if len(whole) == len("2026-01-31") else None
