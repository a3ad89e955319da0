"""Who a reference of a FHIR client means: from the key of a patient to the patient identifier, and to the id that we show.

A patient is known by an identifier of the hospital's system, by the id under which this server shows them, or by a name that a
client gave when it sent the Patient: its own id, or another identifier.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final

from vigil.features.pseudonyms import Pseudonyms
from vigil.serving.fhir.ids import ResourceIds
from vigil.serving.fhir.references import identifier_keys, read_local, without_version
from vigil.serving.fhir.settings import FhirSettingsFile
from vigil.serving.identity.identities import Identities
from vigil.serving.records.fhir_names import FhirNames
from vigil.serving.records.timestamps import microsecond, present

_PURPOSE: Final = "ids of resources"


class Directory:
    """The patients that FHIR clients may refer to."""

    def __init__(
        self, pseudonyms: Pseudonyms, identities: Identities, names: FhirNames, settings: FhirSettingsFile, base_url: str
    ) -> None:
        """Look patients up in a home whose FHIR base others reach at ``base_url``."""
        self.ids = ResourceIds(pseudonyms.derive(_PURPOSE))
        self._pseudonyms, self._identities, self._names, self._settings = pseudonyms, identities, names, settings
        self.base_url = base_url

    def find(self, key: str) -> str | None:
        """Return the patient identifier that a key stands for; None: no patient is known by it.

        Args:
            key: ``Patient/ID``, an absolute URL of this server or of a configured one, or ``SYSTEM|VALUE``.
        """
        if (identifier := self._identifier(key)) is not None:
            return identifier
        subject = self.find_subject(key)
        return None if subject is None else self._identities.find([subject]).get(subject)

    def find_subject(self, key: str) -> str | None:
        """Return the subject key that a reference stands for; None: no patient is known by it."""
        self._settings.refresh()
        key = without_version(key)
        return self._own_subject(key) or self._names.find([self.pseudonym(key)]).get(self.pseudonym(key))

    def find_known(self, keys: Iterable[str]) -> dict[str, str]:
        """Return the patient identifier of each key that names a patient who is known in this home."""
        found = {key: patient_id for key in keys if (patient_id := self.find(key)) is not None}
        subjects = {key: self._pseudonyms.subject_key(patient_id) for key, patient_id in found.items()}
        known = self._identities.find(set(subjects.values()))
        return {key: patient_id for key, patient_id in found.items() if subjects[key] in known}

    def is_name(self, key: str) -> bool:
        """Return whether a key has to be remembered to be understood: it is no identifier of the hospital's system."""
        return self._identifier(key) is None

    def _identifier(self, key: str) -> str | None:
        """Return the patient identifier in a key that is one of the hospital's system."""
        self._settings.refresh()
        system = self._settings.content.patient_system
        return key.removeprefix(f"{system}|") or None if system is not None and key.startswith(f"{system}|") else None

    def _own_subject(self, key: str) -> str | None:
        local = read_local(key.removeprefix(f"{self.base_url}/"))
        is_ours = "://" not in key.removeprefix(f"{self.base_url}/")
        return self.ids.subject(local[1]) if is_ours and local is not None and local[0] == "Patient" else None

    def pseudonym(self, key: str) -> str:
        """Return the pseudonym of a key, the same for a relative reference and an absolute one to a configured server."""
        for base in self._settings.content.base_urls:
            key = key.removeprefix(base.rstrip("/") + "/")
        return self._pseudonyms.subject_key(f"fhir name {key}")

    @property
    def needs_identifier(self) -> bool:
        """Whether patients are known by an identifier of the hospital's system, so that a Patient has to have one."""
        self._settings.refresh()
        return self._settings.content.patient_system is not None

    def identifier_of(self, patient: Mapping[str, Any]) -> str | None:
        """Return the patient identifier of a Patient that a client sent; None: it has none.

        Without a configured system it is the first identifier, with its system.
        """
        keys = list(identifier_keys(patient))
        self._settings.refresh()
        if self._settings.content.patient_system is not None:
            return next((found for key in keys if (found := self._identifier(key)) is not None), None)
        return keys[0].removeprefix("|") if keys else None

    def identifier(self, patient_id: str) -> tuple[str | None, str]:
        """Return system and value of the identifier by which the hospital knows a patient; the system may be unknown."""
        self._settings.refresh()
        system = self._settings.content.patient_system
        if system is None and "|" in patient_id:
            system, _, patient_id = patient_id.partition("|")
        return system or None, patient_id

    def remember(self, patient_id: str, keys: Iterable[str]) -> None:
        """Let keys stand for a patient from now on; on the disk when this returns.

        Raises:
            DatabaseError: nothing was stored.
        """
        subject = self._pseudonyms.subject_key(patient_id)
        self._names.store({self.pseudonym(key): subject for key in keys}, microsecond(present()))

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes of Encounters that are stays."""
        self._settings.refresh()
        return self._settings.content.classes

    def opened_by(self, subject: str) -> set[str]:
        """Return the names (pseudonyms) of the Encounter that opened the present stay of a subject."""
        return self._names.opened_by(subject)

    def open_stay(self, subject: str, encounter: Collection[str]) -> None:
        """Remember by which names (pseudonyms) the Encounter is known that opened the present stay of a subject.

        Raises:
            DatabaseError: nothing was stored.
        """
        self._names.open_stay(subject, encounter, microsecond(present()))

    def reference(self, subject: str) -> str:
        """Return the reference by which this server names a patient."""
        return f"Patient/{self.ids.of_subject(subject)}"

    def page(self, subject: str) -> str:
        """Return the path of the page of a patient, which ``serving/pages`` offers to people."""
        return f"/patient/{self.ids.of_subject(subject)}"
