"""Everything of an export but its Observations: patients, encounters, conditions, locations, devices and deletions.

It is held in memory; Observations, of which there are a thousand times as many, are not.
"""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from vigil.features.identifiers import is_identifier
from vigil.pipelines.sources.fhir.files import Entry, Export
from vigil.pipelines.sources.fhir.settings import FhirSettings
from vigil.serving.fhir.concepts import read_codings
from vigil.serving.fhir.references import Patients, identifier_keys, read_local, read_patient
from vigil.serving.fhir.refusals import RefusedError
from vigil.serving.fhir.times import read_instant_or_none

KINDS: Final = ("Patient", "Encounter", "Condition", "Location", "Device")
_WRONG: Final = ("entered-in-error", "refuted")  # of a Condition (https://hl7.org/fhir/R4/valueset-condition-ver-status.html)


@dataclass(slots=True)
class Registers:
    """What an export says of others than readings.

    Attributes:
        patients: their identifiers, by every key.
        facts: Patients, by patient identifier of the survivor.
        encounters: by id.
        conditions: those that are outcomes, by id.
        locations, devices: by id.
        deletions: until when each resource is deleted, by type and id, in microseconds since 1970.
        left_out: how many resources were left out, by type and reason.
    """

    patients: Patients
    facts: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    encounters: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    conditions: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    locations: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    devices: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    deletions: dict[str, float] = field(default_factory=dict)
    left_out: dict[str, Counter[str]] = field(default_factory=dict)
    _urls: dict[str, tuple[str, str]] = field(default_factory=dict)
    _base_urls: tuple[str, ...] = ()

    def leave_out(self, kind: str, reason: str) -> None:
        """Count a resource that is left out."""
        self.left_out.setdefault(kind, Counter())[reason] += 1

    def is_deleted(self, resource: Mapping[str, Any]) -> bool:
        """Return whether a resource was deleted, and not written again since."""
        until = self.deletions.get(f"{resource.get('resourceType')}/{resource.get('id')}") if self.deletions else None
        return until is not None and _updated(resource, math.inf if math.isinf(until) else -math.inf) <= until

    def identify(self, reference: Any, kind: str) -> str | None:
        """Return the id of the resource of a kind that a reference is to; None: it is to none of this export."""
        text = reference.get("reference") if isinstance(reference, Mapping) else reference
        if not isinstance(text, str):
            return None
        local = self._urls.get(text)
        if local is None:
            for base in self._base_urls:
                text = text.removeprefix(base)
            local = None if "://" in text else read_local(text)
        return local[1] if local is not None and local[0] == kind else None

    def device_name(self, device_id: str | None) -> str | None:
        """Return the first identifier of a device, or else its id."""
        device = self.devices.get(device_id or "")
        keys = [] if device is None else list(identifier_keys(device))
        return keys[0].rpartition("|")[2] if keys else device_id


def read_registers(export: Export, settings: FhirSettings) -> Registers:
    """Read all of an export but its Observations. Of several versions of a resource the newest counts."""
    newest: dict[str, dict[str, Mapping[str, Any]]] = {kind: {} for kind in KINDS}
    bases = tuple(url.rstrip("/") + "/" for url in settings.base_urls)
    registers = Registers(Patients(settings.base_urls, settings.patient_system), _base_urls=bases)
    full_urls: dict[str, str] = {}
    for entry in export.others():
        if entry.deleted is not None:
            until = math.inf if entry.deleted_at is None else entry.deleted_at
            registers.deletions[entry.deleted] = max(until, registers.deletions.get(entry.deleted, -math.inf))
        elif entry.resource is not None and (kind := entry.resource.get("resourceType")) in newest:
            resource = _select(entry.resource, kind)
            if _is_newer(newest[kind].get(resource["id"]), resource):
                newest[kind][resource["id"]] = resource
            _add_url(entry, resource, registers, full_urls)
    for kind, resources in newest.items():
        for identity in [identity for identity, resource in resources.items() if registers.is_deleted(resource)]:
            registers.leave_out(kind, "deleted")
            del resources[identity]
    registers.encounters, registers.locations, registers.devices = (
        newest["Encounter"],
        newest["Location"],
        newest["Device"],
    )
    _add_patients(registers, newest["Patient"], full_urls)
    registers.conditions = {
        identity: condition
        for identity, condition in newest["Condition"].items()
        if _is_outcome(condition, settings.outcomes.conditions)
    }
    return registers


_ELEMENTS: Final = {  # that are read; the rest is not held in memory
    "Patient": ("identifier", "birthDate", "gender", "deceasedDateTime", "deceasedBoolean", "link"),
    "Encounter": ("status", "class", "subject", "period", "location", "partOf", "serviceProvider", "hospitalization"),
    "Condition": ("code", "subject", "encounter", "onsetDateTime", "onsetPeriod", "recordedDate", "verificationStatus"),
    "Location": ("name", "physicalType", "partOf"),
    "Device": ("identifier",),
}


def _select(resource: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """Return a resource with those of its elements that are read, and an id."""
    identity = resource.get("id")
    names = ("resourceType", "meta", "contained", *_ELEMENTS[kind])
    selected = {name: resource[name] for name in names if name in resource}
    return selected | {"id": identity if isinstance(identity, str) else ""}


def _add_url(entry: Entry, resource: dict[str, Any], registers: Registers, full_urls: dict[str, str]) -> None:
    if entry.full_url is not None:
        kind, identity = resource["resourceType"], resource["id"]
        registers._urls[entry.full_url] = (kind, identity)  # noqa: SLF001 - filled here only
        if kind == "Patient":
            full_urls[identity] = entry.full_url


def _add_patients(registers: Registers, patients: Mapping[str, Mapping[str, Any]], full_urls: Mapping[str, str]) -> None:
    names = {}
    for _ in range(2):  # a link may be to a Patient that comes later
        for identity, patient in patients.items():
            names[identity] = registers.patients.add(patient, full_urls.get(identity))
    for identity, patient in patients.items():
        survivor = registers.patients.find(f"Patient/{identity}")
        if survivor is None:
            registers.leave_out("Patient", "no identifier, or replaced by an unknown one")
        elif not is_identifier(survivor):
            registers.leave_out("Patient", "an identifier with a blank at an end, or an invisible character")
        elif names[identity] == survivor or survivor not in registers.facts:
            registers.facts[survivor] = patient


def _order(resource: Mapping[str, Any]) -> tuple[int, float]:
    meta = resource.get("meta")
    version = meta.get("versionId") if isinstance(meta, Mapping) else None
    is_number = isinstance(version, str) and version.isascii() and version.isdigit() and len(version) < 16
    return int(version) if is_number and version else 0, _updated(resource, 0)


def _updated(resource: Mapping[str, Any], default: float) -> float:
    meta = resource.get("meta")
    at = read_instant_or_none(meta.get("lastUpdated")) if isinstance(meta, Mapping) else None
    return default if at is None else at


def _is_newer(known: Mapping[str, Any] | None, resource: Mapping[str, Any]) -> bool:
    return known is None or _order(resource) >= _order(known)


def _is_outcome(condition: Mapping[str, Any], wanted: list[str]) -> bool:
    if not wanted:
        return False
    try:
        verified = {code for _, code in read_codings(condition.get("verificationStatus", {}), "")}
        codings = read_codings(condition.get("code"), "")
    except RefusedError:
        return False
    if verified.intersection(_WRONG):
        return False
    texts = [f"{system}|{code}" for system, code in codings]
    return any(text == coding or (coding.endswith("*") and text.startswith(coding[:-1])) for coding in wanted for text in texts)


def find_patient(resource: Mapping[str, Any], registers: Registers) -> str | None:
    """Return the patient identifier of a resource's subject; None: it is of no known patient."""
    try:
        name = read_patient(resource, registers.patients.find)
    except RefusedError:
        return None
    return name if name in registers.facts else None
