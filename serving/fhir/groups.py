"""A Group for each ward: its patients, for those who ask for all of them at once.

Its id is opaque, because the name of a ward may be no id of FHIR. Patients who were discharged from the ward are inactive
members. Patients who were moved to another ward are none.
"""

from typing import Any, Final

from vigil.serving.auth.tokens import Caller
from vigil.serving.fhir.directory import Directory
from vigil.serving.records.journal import UNASSIGNED, Journal
from vigil.serving.records.journal_readings import ALWAYS

_PAGE: Final = 1_000  # patients that are read at once
_SUBSETTED: Final = {"system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue", "code": "SUBSETTED"}


class Groups:
    """The Groups of one home, as callers see them."""

    def __init__(self, directory: Directory, journal: Journal) -> None:
        self._directory, self._journal = directory, journal

    def find_ward(self, identity: str, caller: Caller) -> str | None:
        """Return the ward of a Group; None: there is none that the caller may see."""
        return next((ward for ward in self._wards(caller) if self._directory.ids.of_ward(ward) == identity), None)

    def read(self, identity: str, caller: Caller) -> dict[str, Any] | None:
        """Return a Group with its members; None: there is none that the caller may see."""
        ward = self.find_ward(identity, caller)
        if ward is None:
            return None
        group = self._group(ward, self._wards(caller)[ward])
        members = self._members(ward)
        return group | ({"member": members} if members else {})

    def search(self, caller: Caller) -> list[dict[str, Any]]:
        """Return all Groups, without their members."""
        return [
            self._group(ward, number) | {"meta": {"tag": [_SUBSETTED]}} for ward, number in sorted(self._wards(caller).items())
        ]

    def _wards(self, caller: Caller) -> dict[str, int]:
        """Return the wards that a caller may see, each with the number of its patients."""
        with self._journal.snapshot() as journal:
            wards = journal.patients_by_ward()
        return {ward: number for ward, number in wards.items() if ward != UNASSIGNED and caller.can_see(ward)}

    def _group(self, ward: str, number: int) -> dict[str, Any]:
        return {
            "resourceType": "Group",
            "id": self._directory.ids.of_ward(ward),
            "type": "person",
            "actual": True,
            "name": ward,
            "quantity": number,
        }

    def _members(self, ward: str) -> list[dict[str, Any]]:
        members: list[dict[str, Any]] = []
        after: int | None = -1
        with self._journal.snapshot() as journal:
            while after is not None:
                page = journal.registrations([ward], ALWAYS, after, _PAGE)
                for _, registration in page:
                    entity = {"reference": self._directory.reference(registration.subject_id)}
                    members.append({"entity": entity} | ({"inactive": True} if registration.discharged else {}))
                after = page[-1][0] if len(page) == _PAGE else None
        return members
