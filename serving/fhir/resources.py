"""Patients, Encounters and Devices as this server shows them: what it knows of them, and nothing else."""

from typing import Any, Final

from vigil.serving.fhir.times import write_instant
from vigil.serving.records.registration import RecordedRegistration
from vigil.serving.records.timestamps import instant

_GENDER: Final = {0.0: "female", 1.0: "male"}
_ENCOUNTER_CLASS: Final = {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "IMP"}


def to_patient(
    identity: str, registration: RecordedRegistration | None, identifier: tuple[str | None, str] | None, replaced_by: str | None
) -> dict[str, Any]:
    """Return a Patient. The date of birth is not known here, only the age at admission.

    Args:
        identity: id of the resource.
        registration: what the journal knows; None: they were never registered.
        identifier: system and value by which the hospital knows them; None: it is not known any more.
        replaced_by: reference to the Patient that they were merged into; None: they were not merged.
    """
    resource: dict[str, Any] = {"resourceType": "Patient", "id": identity}
    if registration is not None:
        resource["meta"] = _meta(registration)
    if identifier is not None:
        system, value = identifier
        resource["identifier"] = [{"value": value} if system is None else {"system": system, "value": value}]
    resource["active"] = replaced_by is None
    if registration is not None and registration.sex is not None:
        resource["gender"] = _GENDER[registration.sex]
    if replaced_by is not None:
        resource["link"] = [{"other": {"reference": replaced_by}, "type": "replaced-by"}]
    return resource


def to_encounter(identity: str, registration: RecordedRegistration, patient: str) -> dict[str, Any]:
    """Return the present stay of a patient as an Encounter.

    Args:
        identity: id of the resource.
        registration: what the journal knows.
        patient: reference to the Patient.
    """
    resource: dict[str, Any] = {
        "resourceType": "Encounter",
        "id": identity,
        "meta": _meta(registration),
        "status": "finished" if registration.discharged else "in-progress",
        "class": _ENCOUNTER_CLASS,
        "subject": {"reference": patient},
    }
    if registration.hospital_admitted_at is not None:
        resource["period"] = {"start": write_instant(instant(registration.hospital_admitted_at))}
    if registration.ward:
        location: dict[str, Any] = {"location": {"display": registration.ward}, "status": "active"}
        if registration.unit_admitted_at is not None:
            location["period"] = {"start": write_instant(instant(registration.unit_admitted_at))}
        resource["location"] = [location]
    return resource


def _meta(registration: RecordedRegistration) -> dict[str, Any]:
    return {"versionId": str(registration.recorded_at), "lastUpdated": write_instant(instant(registration.recorded_at))}
