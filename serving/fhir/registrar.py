"""Patients and Encounters of FHIR clients: registrations, merges, and the names by which clients know patients."""

import secrets
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

from vigil.features.kernel.plan import UNBOUNDED
from vigil.features.pseudonyms import Pseudonyms
from vigil.serving.auth.tokens import Caller
from vigil.serving.fhir.answers import Answer, refused, unused
from vigil.serving.fhir.directory import Directory
from vigil.serving.fhir.encounters import Role, read_effect, read_start, read_stay, why_unused
from vigil.serving.fhir.operations import Operation
from vigil.serving.fhir.outcomes import FhirError
from vigil.serving.fhir.patients import read_facts
from vigil.serving.fhir.references import identifier_key, identifier_keys, read_local, read_patient, without_version
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

    def identify(self, operation: Operation, patients: Found, caller: Caller) -> str:
        """Return the patient identifier that a Patient or an Encounter is of, and let its names stand for it in this request.

        Raises:
            FhirError: there is none, or one of the names stands for another patient.
            OtherWardError: one stands for a patient of another ward.
        """
        assert operation.resource is not None
        if operation.type == "Encounter":
            try:
                return read_patient(operation.resource, self.finder(patients))
            except RefusedError as error:
                raise refused([error.refusal]) from None
        keys = _keys(operation)
        known = self._directory.find_known(keys) | {key: own for key in keys if (own := patients.get(key)) is not None}
        patient_id = self._named_by(operation)
        if patient_id is None or not (self._directory.needs_identifier or patient_id in known.values()):
            patient_id = next(iter(known.values()), patient_id)
        if patient_id is None:
            if self._directory.needs_identifier:
                raise FhirError(422, "identifier: expected one of the system by which patients are known", _IDENTIFIER)
            patient_id = secrets.token_hex(16)  # known by the id that the answer names, and by the one of the URL
        read_facts(operation.resource, present().date())
        if not (_is_conditional_create(operation) and self._registration(self._pseudonyms.subject_key(patient_id))):
            self._require_same(operation.resource, patient_id, known, caller, patients)
            patients |= dict.fromkeys(filter(self._directory.is_name, keys), patient_id)
        if operation.full_url is not None:
            patients[operation.full_url] = patient_id
            self._add_relative(operation.full_url, patient_id, patients)
        return patient_id

    def _require_same(
        self, patient: Mapping[str, Any], patient_id: str, known: Mapping[str, str], caller: Caller, patients: Found
    ) -> None:
        """Check that what names a Patient names nobody else: readings that came under one name would be missed under the other.

        Patients who were merged, or whom the Patient links, are one.

        Raises:
            FhirError: it does (409).
            OtherWardError: it names a patient of another ward.
        """
        others = {key: own for key, own in known.items() if own != patient_id}
        if not others:
            return
        for other in set(others.values()):
            self._ingestion.require_visible(other, caller)
        linked = {self._read_linked(link, patients) for link in merging_links(patient)}
        subjects = {own: self._pseudonyms.subject_key(own) for own in {patient_id, *others.values()}}
        survivors = self._journal.survivors_of(subjects.values())
        for key, other in others.items():
            if other not in linked and survivors[subjects[other]] != survivors[subjects[patient_id]]:
                name = "id" if read_local(key) is not None else "identifier"
                text = f"{name}: it names another patient already; send link (replaced-by or replaces), or merge first"
                raise FhirError(409, text, [f"Patient.{name}"])

    def _add_relative(self, full_url: str, patient_id: str, patients: Found) -> None:
        """Let ``Patient/77`` stand for a Patient of this request whose full URL ends so, unless it stands for another one."""
        relative = "/".join(read_local(full_url) or ())
        if relative and self._directory.find(relative) is None:
            patients[relative] = patient_id if patients.get(relative, patient_id) == patient_id else None

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
        patient_id = self.identify(operation, patients, caller)
        subject = self._pseudonyms.subject_key(patient_id)
        known = self._require_version(operation, subject)
        if operation.type == "Encounter":
            return self._register_stay(operation, patient_id, caller, known)
        if known is not None and _is_conditional_create(operation):
            self._ingestion.require_movable(patient_id, caller)
            identity = self._directory.ids.of_subject(subject)
            return Answer(200, "Patient", identity, known.recorded_at, known.recorded_at, is_unchanged=True)
        facts = self._facts(subject, known, caller)
        after = replace(facts, **read_facts(operation.resource, present().date()))
        if known is None or after != facts:
            self._ingestion.register([(patient_id, after)], caller, lambda: self._require_version(operation, subject))
        self._follow_links(operation.resource, patient_id, caller, patients)
        self._remember(operation, patient_id, caller)
        version = self._version(subject)
        identity = operation.id or self._directory.ids.of_subject(subject)
        return Answer(201 if known is None else 200, "Patient", identity, version, version)

    def _register_stay(
        self, operation: Operation, patient_id: str, caller: Caller, known: RecordedRegistration | None
    ) -> Answer:
        """Store what an Encounter says of the present stay, if it says anything of it."""
        encounter, subject = operation.resource or {}, self._pseudonyms.subject_key(patient_id)
        self._ingestion.require_movable(patient_id, caller)
        said = self.read_stay(encounter, caller)
        if isinstance(said, str):
            return unused(said)
        facts = self._facts(subject, known, caller)
        names = {self._directory.pseudonym(key) for key in _keys(operation)}
        opened_by = self._directory.opened_by(subject)
        role: Role = "other" if known is None else self._role_of(operation, facts, names, opened_by)
        after = read_effect(encounter, said, facts, role)
        if isinstance(after, str):
            return unused(after)
        if known is None or after != facts:
            self._ingestion.register([(patient_id, after)], caller, lambda: self._require_version(operation, subject))
        if role != "part":
            self._directory.open_stay(subject, names | opened_by if role == "opening" else names)
        self._remember(operation, patient_id, caller)
        version = self._version(subject)
        identity = operation.id or self._directory.ids.of_subject(subject, "encounter")
        return Answer(200, "Encounter", identity, version, version)

    def read_stay(self, encounter: Mapping[str, Any], caller: Caller) -> dict[str, Any] | str:
        """Return what an Encounter says of a stay; a text: why it says nothing of any.

        Raises:
            FhirError: its status or its ward cannot be used (422), or it is in a ward that the caller may not see (403).
        """
        if (reason := why_unused(encounter, self._directory.classes)) is not None:
            return reason
        stay = read_stay(encounter)
        if "ward" in stay and not caller.can_see(stay["ward"]):
            raise FhirError(403, "location: the token covers other wards only", ["Encounter.location"])
        return stay

    def _role_of(self, operation: Operation, present: Registration, names: set[str], opened_by: set[str]) -> Role:
        """Return the role of an Encounter in the present stay of a registered patient.

        Names tell it, or the id by which this server shows the present stay. Where one of the two Encounters has no names, it
        is told by their start. Without names and start on both sides there is one stay only that can be meant.
        """
        encounter = operation.resource or {}
        if names & opened_by or self._is_shown_stay(f"Encounter/{operation.id or ''}", present.subject_id):
            return "opening"
        whole = encounter.get("partOf")
        if isinstance(whole, Mapping):
            reference = whole.get("reference")
            text = without_version(reference) if isinstance(reference, str) else ""
            keys = (text, identifier_key(whole.get("identifier")) or "")
            if any(self._directory.pseudonym(key) in opened_by for key in keys) or self._is_shown_stay(
                text, present.subject_id
            ):
                return "part"
        if names and opened_by:
            return "other"
        start = read_start(encounter)
        is_told = start is not None or not (names or opened_by)
        return "opening" if is_told and start == present.hospital_admitted_at else "other"

    def _is_shown_stay(self, reference: str, subject: str) -> bool:
        """Return whether a reference is to the present stay of a subject by the id under which this server shows it."""
        local = read_local(reference)
        return local is not None and self._directory.ids.subject(local[1], "encounter") == subject

    def _facts(self, subject: str, known: RecordedRegistration | None, caller: Caller) -> Registration:
        if known is None:
            return Registration(subject, self._first_ward(caller))
        return Registration(**{name: getattr(known, name) for name in Registration.__slots__})

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
        keys = [f"Encounter/{operation.id}"] if operation.type == "Encounter" and operation.id is not None else []
        if operation.type == "Patient":
            keys = [key for key in _keys(operation) if self._directory.is_name(key)]
        known = {key: self._directory.find(key) for key in keys}
        for former in {own for own in known.values() if own is not None and own != patient_id}:
            self._ingestion.require_visible(former, caller)
        if new := [key for key, own in known.items() if own != patient_id]:
            self._directory.remember(patient_id, new)

    def _follow_links(self, patient: Mapping[str, Any], patient_id: str, caller: Caller, patients: Found) -> None:
        """Merge patients that are linked: one that was replaced counts for the one that replaces it."""
        for link in merging_links(patient):
            other = self._read_linked(link, patients)
            merged, into = (patient_id, other) if link["type"] == "replaced-by" else (other, patient_id)
            if merged != into:
                self._ingestion.merge(merged, into, caller)

    def _read_linked(self, link: Mapping[str, Any], patients: Found) -> str:
        """Return the patient identifier of the other Patient of a link.

        Raises:
            FhirError: it is of no known patient (422).
        """
        try:
            return read_patient({"resourceType": "Patient", "other": link.get("other")}, self.finder(patients), "other")
        except RefusedError as error:
            raise refused([error.refusal]) from None


def _keys(operation: Operation) -> list[str]:
    """Return by what a client names a Patient or an Encounter: its identifiers, and the id that the client chose."""
    own = [] if operation.id is None else [f"{operation.type}/{operation.id}"]
    return [*identifier_keys(operation.resource or {}), *own]


def _is_conditional_create(operation: Operation) -> bool:
    return operation.interaction == "create" and operation.identifier is not None


def merging_links(patient: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield the links of a Patient that say that two patients are one."""
    links = patient.get("link")
    for link in links if isinstance(links, list) else []:
        if isinstance(link, Mapping) and link.get("type") in ("replaced-by", "replaces"):
            yield link
