"""Patients and Encounters of FHIR clients: registrations, merges, and the names by which clients know patients."""

import secrets
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

from vigil.features.kernel.plan import UNBOUNDED
from vigil.features.pseudonyms import Pseudonyms
from vigil.serving.auth.tokens import Caller
from vigil.serving.fhir.answers import Answer, refused
from vigil.serving.fhir.directory import Directory
from vigil.serving.fhir.operations import Operation
from vigil.serving.fhir.outcomes import FhirError
from vigil.serving.fhir.patients import is_past, read_facts, read_stay
from vigil.serving.fhir.references import identifier_keys, read_patient
from vigil.serving.fhir.refusals import RefusedError
from vigil.serving.records.journal import UNASSIGNED, Journal
from vigil.serving.records.registration import RecordedRegistration, Registration
from vigil.serving.records.timestamps import present
from vigil.serving.stream.ingestion import Ingestion

Found = dict[str, str | None]  # patient identifiers by key, of one request
_IDENTIFIER: Final = ["Patient.identifier"]


class Registrar:
    """Registers the patients of one home."""

    def __init__(self, directory: Directory, ingestion: Ingestion, journal: Journal, pseudonyms: Pseudonyms) -> None:
        """Hand over to ``ingestion``."""
        self._directory, self._ingestion, self._journal, self._pseudonyms = directory, ingestion, journal, pseudonyms

    def finder(self, patients: Found) -> Callable[[str], str | None]:
        """Return what finds patients: those of this request by their full URLs, and those that are known."""

        def find(key: str) -> str | None:
            if key not in patients:
                _, is_conditional, query = key.partition("Patient?identifier=")
                patients[key] = self._directory.find(query if is_conditional else key)
            return patients[key]

        return find

    def identify(self, operation: Operation, patients: Found) -> str:
        """Return the patient identifier that a Patient or an Encounter is of, and let its full URL stand for it.

        Raises:
            FhirError: there is none.
        """
        assert operation.resource is not None
        if operation.type == "Encounter":
            try:
                return read_patient(operation.resource, self.finder(patients))
            except RefusedError as error:
                raise refused([error.refusal]) from None
        patient_id = self._named_by(operation)
        if patient_id is None and operation.id is not None:
            patient_id = self._directory.find(f"Patient/{operation.id}")
        if patient_id is None:
            if self._directory.needs_identifier:
                raise FhirError(422, "identifier: expected one of the system by which patients are known", _IDENTIFIER)
            patient_id = secrets.token_hex(16)  # known by the id that the answer names, and by the one of the URL
        read_facts(operation.resource, present().date())
        for key in (operation.full_url, None if operation.id is None else f"Patient/{operation.id}"):
            if key is not None:
                patients[key] = patient_id
        return patient_id

    def _named_by(self, operation: Operation) -> str | None:
        """Return the patient identifier that the identifiers of a Patient, and a condition, stand for; None: there is none.

        Raises:
            FhirError: they stand for two patients.
        """
        assert operation.resource is not None
        own = self._directory.identifier_of(operation.resource)
        if operation.identifier is None:
            return own
        keys = list(identifier_keys(operation.resource))
        if keys and operation.identifier not in keys:
            raise FhirError(422, "identifier: expected the one of the condition in the Patient, too", _IDENTIFIER)
        found = self._directory.find(operation.identifier)
        if None not in (found, own) and found != own and operation.interaction == "update":
            raise FhirError(409, "identifier: the condition and the Patient stand for two patients", _IDENTIFIER)
        return found or own

    def register(self, operation: Operation, caller: Caller, patients: Found) -> Answer:
        """Store what a Patient or an Encounter says."""
        if operation.resource is None:
            raise FhirError(405, f"{operation.type} cannot be deleted; finish the Encounter to end monitoring")
        patient_id = self.identify(operation, patients)
        subject = self._pseudonyms.subject_key(patient_id)
        known = self._require_version(operation, subject)
        if known is not None and operation.type == "Patient" and _is_conditional_create(operation):
            self._ingestion.require_movable(patient_id, caller)
            identity = self._directory.ids.of_subject(subject)
            return Answer(200, "Patient", identity, known.recorded_at, known.recorded_at, is_unchanged=True)
        facts = (
            Registration(subject, self._first_ward(caller))
            if known is None
            else Registration(**{name: getattr(known, name) for name in Registration.__slots__})
        )
        said = (
            read_stay(operation.resource) if operation.type == "Encounter" else read_facts(operation.resource, present().date())
        )
        after = replace(facts, **said)
        if operation.type == "Encounter":
            require_ward(said, caller)
            if is_past(operation.resource, facts.hospital_admitted_at):
                after = facts
        if known is None or after != facts:
            self._ingestion.register([(patient_id, after)], caller, lambda: self._require_version(operation, subject))
        self._remember(operation, patient_id, caller)
        version = self._version(subject)
        if operation.type == "Encounter":
            identity = operation.id or self._directory.ids.of_subject(subject, "encounter")
            return Answer(200, "Encounter", identity, version, version)
        self._follow_links(operation.resource, patient_id, caller, patients)
        identity = operation.id or self._directory.ids.of_subject(subject)
        return Answer(201 if known is None else 200, "Patient", identity, version, version)

    def _registration(self, subject: str) -> RecordedRegistration | None:
        with self._journal.snapshot() as journal:
            return journal.registration(subject, UNBOUNDED)

    def require_version(self, operation: Operation, patient_id: str) -> None:
        """Check that the version that a client has seen of a patient's record, if it says which, is the present one.

        Raises:
            FhirError: it is not (412).
        """
        self._require_version(operation, self._pseudonyms.subject_key(patient_id))

    def _require_version(self, operation: Operation, subject: str) -> RecordedRegistration | None:
        known = self._registration(subject)
        if operation.if_match is not None and (known is None or known.recorded_at != operation.if_match):
            raise FhirError(412, "If-Match: another version is the present one; read it, and decide again")
        return known

    def _version(self, subject: str) -> int:
        """Return the version of a patient's record: when it was recorded, in microseconds."""
        known = self._registration(subject)
        assert known is not None
        return known.recorded_at

    @staticmethod
    def _first_ward(caller: Caller) -> str:
        """Return the ward of a patient of whom none is known: the caller's, if it has one only."""
        return next(iter(caller.wards)) if caller.wards is not None and len(caller.wards) == 1 else UNASSIGNED

    def _remember(self, operation: Operation, patient_id: str, caller: Caller) -> None:
        """Let the id that a client chose, and the other identifiers of a Patient, stand for it.

        Raises:
            OtherWardError: one stood for a patient of another ward.
        """
        assert operation.resource is not None
        keys = list(identifier_keys(operation.resource)) if operation.type == "Patient" else []
        if operation.id is not None:
            keys.append(f"{operation.type}/{operation.id}")
        known = {key: self._directory.find(key) for key in keys}
        for former in {own for own in known.values() if own is not None and own != patient_id}:
            self._ingestion.require_visible(former, caller)
        if new := [key for key, own in known.items() if own != patient_id]:
            self._directory.remember(patient_id, new)

    def _follow_links(self, patient: Mapping[str, Any], patient_id: str, caller: Caller, patients: Found) -> None:
        """Merge patients that are linked: one that was replaced counts for the one that replaces it."""
        find = self.finder(patients)
        for link in merging_links(patient):
            try:
                other = read_patient({"resourceType": "Patient", "other": link.get("other")}, find, "other")
            except RefusedError as error:
                raise refused([error.refusal]) from None
            merged, into = (patient_id, other) if link["type"] == "replaced-by" else (other, patient_id)
            if merged != into:
                self._ingestion.merge(merged, into, caller)


def _is_conditional_create(operation: Operation) -> bool:
    return operation.interaction == "create" and operation.identifier is not None


def merging_links(patient: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield the links of a Patient that say that two patients are one."""
    links = patient.get("link")
    for link in links if isinstance(links, list) else []:
        if isinstance(link, Mapping) and link.get("type") in ("replaced-by", "replaces"):
            yield link


def require_ward(stay: Mapping[str, Any], caller: Caller) -> None:
    """Check that an Encounter is in a ward of the caller, if it names one."""
    if "ward" in stay and not caller.can_see(stay["ward"]):
        raise FhirError(403, "location: the token covers other wards only", ["Encounter.location"])
