"""Observation of FHIR R4 as readings: what a hospital sends, as the check of observations takes it.

One Observation gives no reading, one, or several: a blood pressure panel gives one a component. What cannot be used is a
reading, too, with the reason, the element and the rule (:class:`vigil.serving.fhir.refusals.Refusal`). The check
(:func:`vigil.features.observations.check`) then judges units and values, as it does for every door.
"""

import functools
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final, Literal, NamedTuple

from vigil.features.revisions import CORRECTED, FINAL, RETRACTED
from vigil.features.signals import SIGNALS
from vigil.serving.fhir.concepts import Codings, Concept, read_category, read_codings, resolve
from vigil.serving.fhir.references import FindPatient, identifier_keys, read_device, read_patient
from vigil.serving.fhir.refusals import Refusal, RefusedError
from vigil.serving.fhir.times import LONGEST_PERIOD, read_effective, read_instant_or_none
from vigil.serving.fhir.values import VALUES, read_value

# What each status means (https://hl7.org/fhir/R4/valueset-observation-status.html); None: there is no result yet.
STATUSES: Final[Mapping[str, str | None]] = {
    "registered": None,
    "preliminary": FINAL,
    "final": FINAL,
    "amended": CORRECTED,
    "corrected": CORRECTED,
    "cancelled": RETRACTED,
    "entered-in-error": RETRACTED,
}
_DATA_TYPES: Final = ("DateTime", "Instant", "Period", "Timing")
_BASE: Final = frozenset(
    ("resourceType", "id", "meta", "implicitRules", "language", "text", "contained", "extension", "modifierExtension")
)
_ELEMENTS: Final = (
    _BASE
    | VALUES
    | frozenset("effective" + name for name in _DATA_TYPES)
    | frozenset(
        (
            "identifier", "basedOn", "partOf", "status", "category", "code", "subject", "focus", "encounter", "issued",
            "performer", "dataAbsentReason", "interpretation", "note", "bodySite", "method", "specimen", "device",
            "referenceRange", "hasMember", "derivedFrom", "component",
        )
    )
)  # fmt: skip
_COMPONENT: Final = VALUES | frozenset(
    ("id", "extension", "modifierExtension", "code", "dataAbsentReason", "interpretation", "referenceRange")
)
_LONGEST: Final = 128  # characters of the name of a message; as the API accepts
# What is collected over hours is of the end of that time; ours: charts sum up a day at most.
_LONGEST_OF: Final = {"urine_output": timedelta(hours=24)}
_LARGEST_VERSION: Final = 1_000_000  # as the API accepts

_CODE: Final = "a code of docs/fhir.md, or one that is declared; codings of one signal"

NamedBy = Literal["identifier", "id"]


class Reading(NamedTuple):
    """One value of an Observation.

    Attributes:
        signal: name of the signal, or a code that also tells its unit; empty: unknown.
        value: number, or a text that is a bound; None: there is none, or it cannot be used.
        unit, comparator: as :class:`vigil.serving.fhir.values.Value` has them.
        status: one of :data:`vigil.features.revisions.STATUSES`.
        message_id: of the Observation, with ``#`` and the code of a component; None: it has no name.
        path: of the element that holds the value.
        refusal: why it cannot be used; None: the check decides.
    """

    signal: str
    value: float | str | None
    unit: str | None
    comparator: str | None
    status: str
    message_id: str | None
    path: str = "Observation"
    refusal: Refusal | None = None


@dataclass(slots=True)
class MappedObservation:
    """What an Observation says.

    Attributes:
        patient_id: the patient identifier.
        observed_at: in microseconds since 1970, UTC. None of what was retracted: it had no time, which is then not needed.
        issued: when this version became known, in microseconds since 1970, UTC: ``issued``, or of a correction or retraction
            else ``meta.lastUpdated``.
        device_id: of the device.
        encounter: the key of the encounter, such as ``Encounter/7``.
        version: number of this version of it; None: it has none.
        readings: its values, perhaps none.
        absent: how many values it says to be absent, with the reason.
        ignored: how many values it has that are of no signal, beside others: unknown components, the value of a panel.
    """

    patient_id: str | None = None
    observed_at: int | None = None
    issued: int | None = None
    device_id: str | None = None
    encounter: str | None = None
    version: int | None = None
    readings: list[Reading] = field(default_factory=list)
    absent: int = 0
    ignored: int = 0

    @property
    def refusals(self) -> list[Refusal]:
        """Why readings of it cannot be used."""
        return [reading.refusal for reading in self.readings if reading.refusal is not None]


class _Statement(NamedTuple):
    """What an Observation is among the versions of its message: its status, name, and whether it is a later version."""

    status: str
    message: str | None
    revises: bool


class ObservationMapper:
    """Maps Observations of one sender.

    >>> mapper = ObservationMapper({"Patient/12": "12"}.get)
    >>> mapped = mapper.map({
    ...     "resourceType": "Observation", "id": "a", "status": "final", "subject": {"reference": "Patient/12"},
    ...     "code": {"coding": [{"system": "http://loinc.org", "code": "8867-4"}]},
    ...     "effectiveDateTime": "2026-01-31T08:00:00Z",
    ...     "valueQuantity": {"value": 80, "unit": "bpm", "system": "http://unitsofmeasure.org", "code": "/min"},
    ... })
    >>> mapped.patient_id, mapped.readings[0].signal, mapped.readings[0].value, mapped.readings[0].unit
    ('12', 'heart_rate', 80.0, '/min')
    """

    def __init__(
        self,
        find_patient: FindPatient,
        own_codes: Mapping[tuple[str, str], str] | None = None,
        named_by: NamedBy = "identifier",
    ) -> None:
        """Prepare the mapping.

        Args:
            find_patient: returns the patient identifier that a key stands for (:mod:`vigil.serving.fhir.references`).
            own_codes: signals of the codes (system, code) that a hospital has beside the standard ones.
            named_by: what names a message: its first business ``identifier`` and else its ``id``, for what senders create;
                or its ``id`` alone, for what a server exports.
        """
        self._find_patient = find_patient
        self._named_by = named_by
        codes = dict(own_codes or {})

        @functools.lru_cache(maxsize=8192)
        def resolve_cached(codings: Codings, category: str | None) -> Concept:
            return resolve(codings, category, codes)

        self._resolve = resolve_cached

    def map(self, resource: Any) -> MappedObservation:
        """Return what an Observation says. It never raises: what is wrong is a refusal of its readings.

        Args:
            resource: parsed JSON.
        """
        mapped = MappedObservation()
        try:
            self._map(resource, mapped)
        except RefusedError as error:
            mapped.readings = [self._refused(resource, error.refusal)]
        return mapped

    def _map(self, resource: Any, mapped: MappedObservation) -> None:
        if not isinstance(resource, dict) or resource.get("resourceType") != "Observation":
            raise RefusedError("malformed", "Observation", "resourceType", "a JSON object with resourceType Observation")
        concept = self._read_concept(resource, resource, "Observation")
        parts = self._read_components(resource) if "component" in resource else []
        if not concept.name and concept.panel is None and not any(part.name or part.reason for part, _, _ in parts):
            if "hasMember" in resource and VALUES.isdisjoint(resource):
                return  # it groups others, which say all themselves
            raise RefusedError(concept.reason, "Observation.code", "the code names one signal", _CODE)
        _require_understood(resource, _ELEMENTS, "Observation")
        status = _read_status(resource)
        self._read_facts(resource, status, mapped)
        if status is None:  # no result yet
            mapped.absent += 1
            return
        mapped.observed_at = _read_time(resource, status, concept.name)
        says = _Statement(status, self._name(resource), status != FINAL or (mapped.version or 1) > 1)
        self._add_own(resource, concept, says, mapped, has_parts=bool(parts))
        for part, component, path in parts:
            own = says
            if part.name:
                own = _Statement(status, _name_component(says.message, part.name), says.revises)
            self._add(component, path, part, own, mapped)
        if not mapped.readings and not mapped.absent and mapped.ignored:
            raise RefusedError("unknown_signal", "Observation.component", "one is of a signal", _CODE)
        if says.revises and concept.panel and says.message is not None:
            mapped.readings += _retract_missing(concept.panel, says.message, mapped.readings)

    def _read_facts(self, resource: Mapping[str, Any], status: str | None, mapped: MappedObservation) -> None:
        """Read what all values of an Observation have in common."""
        mapped.patient_id = read_patient(resource, self._find_patient)
        if "focus" in resource:
            _require_no_other_focus(resource, mapped.patient_id, self._find_patient)
        mapped.version = _read_version(resource, status)
        if "issued" in resource:
            mapped.issued = read_instant_or_none(resource["issued"])
        if mapped.issued is None and status in (CORRECTED, RETRACTED) and isinstance(meta := resource.get("meta"), dict):
            mapped.issued = read_instant_or_none(meta.get("lastUpdated"))
        if "device" in resource:
            mapped.device_id = read_device(resource)
        encounter = resource.get("encounter")
        if isinstance(encounter, dict) and isinstance(reference := encounter.get("reference"), str):
            mapped.encounter = reference

    def _read_concept(self, element: Mapping[str, Any], resource: Mapping[str, Any], path: str) -> Concept:
        """Return what the code of an Observation or of a component says. Its category is read where that decides."""
        codings = read_codings(element.get("code"), f"{path}.code")
        concept = self._resolve(codings, None)
        return self._resolve(codings, read_category(resource)) if concept.reason == "ambiguous_code" else concept

    def _read_components(self, resource: Mapping[str, Any]) -> list[tuple[Concept, Any, str]]:
        """Return the concept, element and path of each component; a malformed one has a concept that is a reason."""
        components = resource["component"]
        if not isinstance(components, list):
            raise RefusedError("malformed", "Observation.component", "component", "a list")
        parts = []
        for position, component in enumerate(components):
            path = f"Observation.component[{position}]"
            try:
                concept = self._read_concept(component if isinstance(component, dict) else {}, resource, path)
            except RefusedError as error:
                concept = Concept("", reason=error.refusal.reason)
            if concept.reason == "unknown_signal":
                concept = Concept("")
            parts.append((concept, component, path))
        return parts

    def _add_own(
        self, resource: Mapping[str, Any], concept: Concept, says: _Statement, mapped: MappedObservation, *, has_parts: bool
    ) -> None:
        """Add the value of the Observation itself."""
        has_value, groups = not VALUES.isdisjoint(resource), has_parts or "hasMember" in resource
        if concept.panel is not None or not concept.name:
            if concept.reason and concept.reason != "unknown_signal":
                raise RefusedError(concept.reason, "Observation.code", "the code names one signal", _CODE)
            mapped.ignored += has_value
            if concept.panel is not None and not groups and says.status != RETRACTED:
                if "dataAbsentReason" not in resource:
                    raise RefusedError("not_a_number", "Observation.component", "vs-2", "values, hasMember or dataAbsentReason")
                mapped.absent += 1
        elif has_value or not groups or "dataAbsentReason" in resource:
            self._add(resource, "Observation", concept, says, mapped)

    def _add(self, element: Any, path: str, concept: Concept, says: _Statement, mapped: MappedObservation) -> None:
        """Add the value of an element, or why it cannot be used."""
        if not concept.name and not concept.reason:
            mapped.ignored += 1
            return
        try:
            if path != "Observation":
                _require_component(element, concept, path)
            value = None if says.status == RETRACTED else read_value(element, path, concept)
        except RefusedError as error:
            number, unit, comparator = _as_sent(element)
            refused = Reading(concept.signal, number, unit, comparator, says.status, says.message, path, error.refusal)
            mapped.readings.append(refused)
            return
        if value is not None:
            mapped.readings.append(
                Reading(concept.signal, value.value, value.unit, value.comparator, says.status, says.message, path)
            )
            return
        mapped.absent += says.status != RETRACTED
        if says.revises:  # what it said before no longer counts
            mapped.readings.append(Reading(concept.signal, None, None, None, RETRACTED, says.message, path))

    def _name(self, resource: Mapping[str, Any]) -> str | None:
        """Return the name of the message that an Observation is."""
        name = None
        if self._named_by == "identifier" and "identifier" in resource:
            name = next(identifier_keys(resource), None)
        if name is None and isinstance(identity := resource.get("id"), str) and identity:
            name = f"Observation/{identity}"
        if name is not None and len(name) > _LONGEST - 32:  # room for the name of a component
            return hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
        return name

    def _refused(self, resource: Any, refusal: Refusal) -> Reading:
        """Return an Observation that is refused as a whole as one reading, with what is known of it."""
        if not isinstance(resource, dict):
            return Reading("", None, None, None, FINAL, None, refusal=refusal)
        try:
            concept = self._read_concept(resource, resource, "Observation")
        except RefusedError:
            concept = Concept("")
        number, unit, comparator = _as_sent(resource)
        status = STATUSES.get(resource["status"]) if isinstance(resource.get("status"), str) else None
        message = self._name(resource)
        return Reading(concept.signal, number, unit, comparator, status or FINAL, message, refusal=refusal)


def _retract_missing(panel: tuple[str, ...], message: str, readings: list[Reading]) -> list[Reading]:
    """Return retractions of what a later version of a panel no longer has."""
    present = {reading.message_id for reading in readings}
    names = {signal: _name_component(message, signal) for signal in panel}
    return [Reading(signal, None, None, None, RETRACTED, name) for signal, name in names.items() if name not in present]


def _name_component(message: str | None, signal: str) -> str | None:
    """Return the name of a component in the messages of its Observation: the same, whatever other codes it has."""
    return None if message is None else f"{message}#{SIGNALS[signal].loinc or signal}"


def _require_understood(element: Mapping[str, Any], elements: frozenset[str], path: str) -> None:
    """Require that nothing is there which could change the meaning of what is read."""
    if "implicitRules" in element:
        raise RefusedError("unknown_modifier", f"{path}.implicitRules", "isModifier", "no other rules than those of R4")
    if "modifierExtension" in element:
        raise RefusedError("unknown_modifier", f"{path}.modifierExtension", "isModifier", "none: its meaning is not known")
    if not element.keys() <= elements and not all(
        name in elements or (name[:1] == "_" and name[1:] in elements) for name in element
    ):
        raise RefusedError("malformed", path, "elements of FHIR R4 (4.0.1)", "no other elements")


def _require_component(component: Any, concept: Concept, path: str) -> None:
    """Require that a component can be read."""
    if not isinstance(component, dict):
        raise RefusedError("malformed", path, "component", "an object with code and value[x]")
    if concept.reason:
        raise RefusedError(concept.reason, f"{path}.code", "the code names one signal", _CODE)
    _require_understood(component, _COMPONENT, path)


def _read_status(resource: Mapping[str, Any]) -> str | None:
    status = resource.get("status")
    if not isinstance(status, str) or status not in STATUSES:
        raise RefusedError("unknown_status", "Observation.status", "ObservationStatus", ", ".join(STATUSES))
    if status == "registered" and not VALUES.isdisjoint(resource):
        raise RefusedError("unknown_status", "Observation.status", "registered: no result yet", "preliminary or final")
    return STATUSES[status]


def _read_time(resource: Mapping[str, Any], status: str, signal: str) -> int | None:
    """Return when it was observed. A retraction needs no time."""
    try:
        return read_effective(resource, _LONGEST_OF.get(signal, LONGEST_PERIOD))
    except RefusedError:
        if status == RETRACTED:
            return None
        raise


def _require_no_other_focus(resource: Mapping[str, Any], patient: str, find: FindPatient) -> None:
    """Require that the reading is of the patient, and not of a fetus, a donor or a device of theirs."""
    focus = resource["focus"]
    for each in focus if isinstance(focus, list) else [None]:
        try:
            own = read_patient({"resourceType": "Observation", "focus": each}, find, "focus")
        except RefusedError:
            own = None
        if own != patient:
            raise RefusedError("missing_subject", "Observation.focus", "the focus is the subject itself", "no focus")


def _read_version(resource: Mapping[str, Any], status: str | None) -> int | None:
    """Return the number of a version: ``meta.versionId``, or for a revision whose server does not number them a time."""
    meta = resource.get("meta")
    if isinstance(meta, dict):
        version = meta.get("versionId")
        if isinstance(version, str) and version.isascii() and version.isdigit() and 0 < int(version[:8]) <= _LARGEST_VERSION:
            return int(version) if len(version) < 8 else None
    if status not in (CORRECTED, RETRACTED):
        return None
    at = read_instant_or_none(meta.get("lastUpdated")) if isinstance(meta, dict) else None
    at = read_instant_or_none(resource.get("issued")) if at is None else at
    return None if at is None or at <= 0 else at


def _as_sent(element: Any) -> tuple[float | str | None, str | None, str | None]:
    """Return value, unit and comparator of a quantity that cannot be used, for the quarantine."""
    quantity = element.get("valueQuantity") if isinstance(element, dict) else None
    if not isinstance(quantity, dict):
        return None, None, None
    value, unit, comparator = (quantity.get(name) for name in ("value", "unit", "comparator"))
    code = quantity.get("code")
    number = value if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 2**62 else None
    text = value if isinstance(value, str) and len(value) <= 64 else None
    unit = code if isinstance(code, str) else unit
    return (
        float(number) if number is not None else text,
        unit[:32] if isinstance(unit, str) else None,
        comparator[:8] if isinstance(comparator, str) else None,
    )
