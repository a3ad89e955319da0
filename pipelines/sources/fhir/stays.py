"""Stays of a FHIR export: its encounters, with ward, age and sex, and the first outcome in each."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from vigil.pipelines.sources.fhir.registers import Registers, find_patient
from vigil.pipelines.sources.fhir.settings import FhirSettings
from vigil.serving.fhir.concepts import read_codings
from vigil.serving.fhir.encounters import is_stay, is_ward
from vigil.serving.fhir.patients import SEXES, age_on
from vigil.serving.fhir.refusals import RefusedError
from vigil.serving.fhir.times import read_instant_or_none

SECOND: Final = 1_000_000  # microseconds
_DAY: Final = 86_400 * SECOND
AFTER: Final = _DAY  # an outcome up to a day after the stay still belongs to it, as in the mappings of published layouts
# A date ends at the latest 12 h after its end in UTC, in the zone farthest behind.
_LATEST_ZONE: Final = 12 * 3600 * SECOND
_EXPIRED: Final = "exp"  # https://terminology.hl7.org/CodeSystem-discharge-disposition.html
_DATE_FORMS: Final = ("%Y-%m-%d", "%Y-%m", "%Y")


@dataclass(slots=True)
class Stay:
    """A stay; times in microseconds since 1970, UTC.

    Attributes:
        patient: the patient identifier.
        encounter: the id of the Encounter; empty: everything of the patient, of whom no encounters are known.
        start, end: of the stay; None: they are told by the readings.
        ward: the first one; None: unknown.
        unit_admitted_at, hospital_admitted_at: when it began there.
        age: in years, at the start; None: unknown, or there is no start yet (:func:`age_at`).
        sex: 0 female, 1 male; None: neither, or unknown.
        site: the hospital.
        onset: of the outcome; None: it has none.
        onset_known: False: it happened at this time or before.
    """

    patient: str
    encounter: str
    start: int | None
    end: int | None
    site: str
    ward: str | None = None
    unit_admitted_at: int | None = None
    hospital_admitted_at: int | None = None
    age: float | None = None
    sex: float | None = None
    onset: int | None = None
    onset_known: bool = True

    @property
    def subject(self) -> str:
        """The name of the subject."""
        return f"{self.patient}~{self.encounter}" if self.encounter else self.patient


class Stays:
    """All stays of an export.

    Attributes:
        stays: ordered by patient and start.
    """

    def __init__(self, registers: Registers, settings: FhirSettings) -> None:
        self._registers, self._settings = registers, settings
        self._roots = {identity: self._root(identity) for identity in registers.encounters}
        stays = self._of_encounters() if registers.encounters else self._of_patients()
        self.stays = sorted(stays, key=lambda stay: (stay.patient, stay.start or 0, stay.encounter))
        _add_outcomes(self.stays, registers, settings, self._roots)

    def encounter_of(self, reference: str) -> str:
        """Return the id of the encounter that is the stay of a reference to it or to a part of it; empty: there is none."""
        identity = self._registers.identify(reference, "Encounter")
        return self._roots.get(identity or "") or ""

    def _root(self, identity: str) -> str | None:
        """Return the outermost encounter around an encounter that is a stay."""
        root, seen = None, set()
        known = self._registers.encounters
        at: str | None = identity
        while at is not None and at in known and at not in seen:
            seen.add(at)
            if is_stay(known[at], self._settings.classes):
                root = at
            at = self._registers.identify(known[at].get("partOf"), "Encounter")
        return root

    def _of_encounters(self) -> Iterator[Stay]:
        parts: dict[str, list[Mapping[str, Any]]] = {}
        for identity, root in self._roots.items():
            encounter = self._registers.encounters[identity]
            if root is None:
                self._registers.leave_out("Encounter", "of another class, or it did not take place")
            else:
                parts.setdefault(root, []).append(encounter)
        for root, encounters in parts.items():
            stay = self._make(self._registers.encounters[root], encounters)
            if stay is not None:
                yield stay

    def _make(self, encounter: Mapping[str, Any], parts: list[Mapping[str, Any]]) -> Stay | None:
        patient = find_patient(encounter, self._registers)
        start, end = _read_period(encounter.get("period"))
        if patient is None:
            self._registers.leave_out("Encounter", "of an unknown patient")
        elif start is None:
            self._registers.leave_out("Encounter", "period.start is no instant")
        elif end is not None and end < start:
            self._registers.leave_out("Encounter", "ends before it starts")
        else:
            start -= start % SECOND
            wards = sorted(
                (entered if entered is not None else start, name) for part in parts for name, entered in self._wards(part)
            )
            site = self._site(encounter.get("serviceProvider"))
            stay = Stay(patient, encounter["id"], start, end, site, hospital_admitted_at=start)
            if wards:
                stay.unit_admitted_at, stay.ward = max(start, wards[0][0]), wards[0][1]
            _add_facts(stay, self._registers.facts[patient])
            _set_earliest(stay, _transfer(wards, self._settings.outcomes.wards, start))
            if self._settings.outcomes.death and _is_expired(encounter) and end is not None:
                _set_earliest(stay, (end, True))
            return stay
        return None

    def _of_patients(self) -> Iterator[Stay]:
        """Yield the record of each patient as one stay, from their first reading to their last."""
        for patient, facts in self._registers.facts.items():
            stay = Stay(patient, "", None, None, self._settings.name)
            _add_facts(stay, facts)
            yield stay

    def _wards(self, encounter: Mapping[str, Any]) -> list[tuple[str, int | None]]:
        """Return name and time of each ward of an encounter."""
        locations = encounter.get("location", [])
        found = []
        for location in locations if isinstance(locations, list) else []:
            if not isinstance(location, Mapping) or not isinstance(reference := location.get("location"), Mapping):
                continue
            start, _ = _read_period(location.get("period"))
            if (name := self._ward_name(reference)) is not None:
                found.append((name, start if start is not None else _read_period(encounter.get("period"))[0]))
        return found

    def _ward_name(self, reference: Mapping[str, Any]) -> str | None:
        """Return the name of the ward that a location is, or is in; of any other location its own."""
        known = self._registers.locations
        first = at = self._registers.identify(reference, "Location")
        seen: set[str] = set()
        while at is not None and at in known and at not in seen:
            seen.add(at)
            if is_ward(known[at].get("physicalType")):
                first = at
                break
            at = self._registers.identify(known[at].get("partOf"), "Location")
        name = known.get(first or "", {}).get("name") or reference.get("display") or first
        return name if isinstance(name, str) and name else None

    def _site(self, provider: Any) -> str:
        identity = self._registers.identify(provider, "Organization")
        display = provider.get("display") if isinstance(provider, Mapping) else None
        return identity or (display if isinstance(display, str) and display else self._settings.name)


def _codes(concept: Any) -> set[str]:
    try:
        return {code for _, code in read_codings(concept, "")}
    except RefusedError:
        return set()


def _read_period(period: Any) -> tuple[int | None, int | None]:
    if not isinstance(period, Mapping):
        return None, None
    return read_instant_or_none(period.get("start")), read_instant_or_none(period.get("end"))


def _add_facts(stay: Stay, patient: Mapping[str, Any]) -> None:
    stay.sex = SEXES.get(str(patient.get("gender")))
    if stay.start is not None:
        stay.age = age_at(patient, stay.start)


def age_at(patient: Mapping[str, Any], time: int) -> float | None:
    """Return the age of a Patient in years; of a birth date without day or month the middle counts."""
    return age_on(patient.get("birthDate"), datetime.fromtimestamp(time / SECOND, UTC).date())


def _is_expired(encounter: Mapping[str, Any]) -> bool:
    hospitalization = encounter.get("hospitalization")
    return isinstance(hospitalization, Mapping) and _EXPIRED in _codes(hospitalization.get("dischargeDisposition"))


def _transfer(wards: list[tuple[int, str]], wanted: list[str], start: int) -> tuple[int, bool] | None:
    """Return when a stay first came to a wanted ward. Who was there from the start had the outcome before."""
    return next(((entered, entered > start) for entered, name in wards if name in wanted), None)


def _set_earliest(stay: Stay, outcome: tuple[int, bool] | None) -> None:
    if outcome is not None and (stay.onset is None or outcome[0] < stay.onset):
        stay.onset, stay.onset_known = outcome


def _add_outcomes(stays: list[Stay], registers: Registers, settings: FhirSettings, roots: Mapping[str, str | None]) -> None:
    """Add deaths and conditions to the stays in which they happened."""
    by_patient: dict[str, list[Stay]] = {}
    for stay in stays:
        by_patient.setdefault(stay.patient, []).append(stay)
    if settings.outcomes.death:
        for patient, own in by_patient.items():
            _set_in_stay(own, registers.facts[patient].get("deceasedDateTime"))
    by_encounter = {stay.encounter: stay for stay in stays if stay.encounter}
    for condition in registers.conditions.values():
        name = find_patient(condition, registers)
        reference = registers.identify(condition.get("encounter"), "Encounter")
        encounter = by_encounter.get(roots.get(reference or "") or "")
        own = [encounter] if encounter is not None else by_patient.get(name or "", [])
        if not _set_in_stay(own, _onset(condition), is_certain=encounter is not None):
            registers.leave_out("Condition", "an outcome without a time, or in no stay")


def _onset(condition: Mapping[str, Any]) -> Any:
    """Return the time of a condition: its onset, or when it was recorded where only that is an instant."""
    period = condition.get("onsetPeriod")
    times = [
        condition.get("onsetDateTime"),
        period.get("start") if isinstance(period, Mapping) else None,
        condition.get("recordedDate"),
    ]
    precise = [time for time in times if read_instant_or_none(time) is not None]
    return next(iter(precise or filter(None, times)), None)


def _set_in_stay(stays: list[Stay], time: Any, *, is_certain: bool = False) -> bool:
    """Set an outcome in the stay in which it happened, and return whether there is one. Of a date it is not known when.

    Args:
        stays: of one patient, by time.
        time: of the outcome.
        is_certain: whether it is of the first of them, also if it began before.
    """
    at = read_instant_or_none(time)
    latest = at if at is not None else _end_of_date(time)
    if latest is None:
        return False
    earliest = latest if at is not None else latest - 366 * _DAY if len(str(time)) < len("2026-01-31") else latest - 2 * _DAY
    for stay in stays:
        start = stay.start if stay.start is not None else earliest
        if is_certain or (latest >= start and (stay.end is None or earliest <= stay.end + AFTER)):
            onset = latest if at is not None or stay.end is None else min(latest, stay.end)
            _set_earliest(stay, (max(onset, start), at is not None and at >= start))
            return True
    return False


def _end_of_date(text: Any) -> int | None:
    """Return the latest instant of a date of any precision, in any zone."""
    for form, longest in zip(_DATE_FORMS, (1, 31, 366), strict=True) if isinstance(text, str) else ():
        try:
            date = datetime.strptime(text, form).replace(tzinfo=UTC)
        except ValueError:
            continue
        return int(date.timestamp()) * SECOND + longest * _DAY + _LATEST_ZONE
    return None
