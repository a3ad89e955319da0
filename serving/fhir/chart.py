"""What callers may read of patients: who they are, and where they lie. Whom a caller may not see is as unknown as anybody."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from operator import attrgetter
from typing import Any, Final, Literal

from vigil.features.kernel.plan import UNBOUNDED
from vigil.features.pseudonyms import Pseudonyms
from vigil.serving.auth.access import Access
from vigil.serving.auth.tokens import Caller
from vigil.serving.fhir.directory import Directory
from vigil.serving.fhir.references import identifier_keys
from vigil.serving.fhir.resources import to_encounter, to_patient
from vigil.serving.fhir.search import Search
from vigil.serving.identity.identities import Identities
from vigil.serving.records.journal import Journal
from vigil.serving.records.journal_readings import Interval
from vigil.serving.records.journal_snapshot import JournalSnapshot
from vigil.serving.records.registration import RecordedRegistration

Person = Literal["Patient", "Encounter"]

_KINDS: Final[Mapping[Person, Literal["patient", "encounter"]]] = {"Patient": "patient", "Encounter": "encounter"}  # of ids


class Chart:
    """The patients of one home, as callers see them."""

    def __init__(
        self, directory: Directory, pseudonyms: Pseudonyms, identities: Identities, journal: Journal, access: Access
    ) -> None:
        self.directory, self.journal = directory, journal
        self._pseudonyms, self._identities, self._access = pseudonyms, identities, access

    def identify(self, key: str) -> str | None:
        """Return the subject key of the patient that a key of the directory stands for; None: nobody is known by it."""
        return self._subject(self.directory.find(key))

    def identify_patient(self, patient: Mapping[str, Any]) -> str | None:
        """Return the subject key of a Patient that a client showed, by any of its identifiers; None: of nobody."""
        patient_id = self.directory.identifier_of(patient)
        others = (self.directory.find(key) for key in identifier_keys(patient))
        return self._subject(patient_id or next((known for known in others if known is not None), None))

    def _subject(self, patient_id: str | None) -> str | None:
        return None if patient_id is None else self.survivor(self._pseudonyms.subject_key(patient_id))

    def survivor(self, subject: str) -> str:
        """Return the subject that a subject counts for now."""
        return self.journal.survivors_of([subject])[subject]

    def may_see(self, caller: Caller, subject: str) -> bool:
        """Return whether a caller may see a patient."""
        return not self._access.invisible_subjects(caller, [subject])

    def resolve(self, search: Search, caller: Caller) -> Search:
        """Return a search with the subject key of the patient it names, if the caller may see them."""
        subject = None if search.patient is None else self.identify(search.patient)
        return replace(search, subject=subject if subject is not None and self.may_see(caller, subject) else None)

    def read(self, kind: Person, identity: str, caller: Caller) -> dict[str, Any] | None:
        """Return a Patient or an Encounter by its id, this server's or one that a client chose; None: there is none."""
        own = self.directory.ids.subject(identity, _KINDS[kind])
        if own is None:
            patient_id = self.directory.find(f"{kind}/{identity}")
            own = None if patient_id is None else self._pseudonyms.subject_key(patient_id)
        if own is None or not self.may_see(caller, own):
            return None
        with self.journal.snapshot() as journal:
            registration = journal.registration(own, UNBOUNDED)
        return None if registration is None else self._resource(kind, identity, registration, self._identities.find([own]))

    def search(self, kind: Person, search: Search, caller: Caller) -> tuple[list[dict[str, Any]], str | None]:
        """Return a page of Patients or Encounters, and where the next one begins; None: there is none."""
        after = -1 if search.after is None else self.directory.ids.row(search.after)
        if after is None:
            return [], None
        wards = None if caller.wards is None else sorted(caller.wards)
        with self.journal.snapshot() as journal:
            if search.patient is not None or search.ids is not None:
                found = self._registered(journal, self._wanted(kind, search, caller), search.time("_lastUpdated"))[after + 1 :]
            else:
                found = journal.registrations(wards, search.time("_lastUpdated"), after, search.count + 1)
        page = found[: search.count]
        names = self._identities.find(registration.subject_id for _, registration in page)
        resources = [self._resource(kind, self._id(kind, each.subject_id), each, names) for _, each in page]
        following = self.directory.ids.of_row(page[-1][0]) if len(found) > len(page) else None
        return [resource for resource in resources if _is_wanted(resource, search)], following

    def _wanted(self, kind: Person, search: Search, caller: Caller) -> list[str]:
        """Return the subjects that a search names, as far as the caller may see them."""
        if search.ids is None:
            return [] if search.subject is None else [search.subject]
        by_id = dict.fromkeys(self.directory.ids.subject(identity, _KINDS[kind]) for identity in search.ids)
        if search.patient is not None:
            return [] if search.subject is None or search.subject not in by_id else [search.subject]
        return [each for each in by_id if each is not None and self.may_see(caller, each)]

    @staticmethod
    def _registered(
        journal: JournalSnapshot, subjects: Iterable[str], recorded: Interval
    ) -> list[tuple[int, RecordedRegistration]]:
        """Return the registrations of subjects that were recorded in an interval, in that order, each with its place in it."""
        known = [each for subject in subjects if (each := journal.registration(subject, UNBOUNDED)) is not None]
        known = [each for each in known if recorded.since <= each.recorded_at <= recorded.until]
        return list(enumerate(sorted(known, key=attrgetter("recorded_at"))))

    def _id(self, kind: Person, subject: str) -> str:
        return self.directory.ids.of_subject(subject, _KINDS[kind])

    def _resource(
        self, kind: Person, identity: str, registration: RecordedRegistration, names: Mapping[str, str]
    ) -> dict[str, Any]:
        subject = registration.subject_id
        if kind == "Encounter":
            return to_encounter(identity, registration, self.directory.reference(subject))
        into = self.survivor(subject)
        identifier = names.get(subject)
        return to_patient(
            identity,
            registration,
            None if identifier is None else self.directory.identifier(identifier),
            None if into == subject else self.directory.reference(into),
        )


def _is_wanted(resource: Mapping[str, Any], search: Search) -> bool:
    """Return whether a resource has one of the states that a search asks for."""
    states = search.tokens.get("status")
    return states is None or resource.get("status") in {state.rpartition("|")[2] for state in states}
