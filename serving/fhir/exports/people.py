"""Patients and Encounters in exports.

A patient who was merged into another is told, too, with a link to that one: their readings are told as the other's.
"""

from collections.abc import Iterator

from vigil.serving.fhir.exports.parts import Gone, Part, Told
from vigil.serving.fhir.resources import to_encounter, to_patient
from vigil.serving.records.journal_exports import Member


def export_patients(told: Told, member: Member) -> Iterator[Part]:
    """Yield the Patient, and those that were merged into it."""
    ids, names = told.directory.ids, told.identities.find(member.keys)
    registrations = {member.subject: member.registration, **member.merged}
    for key, registration in registrations.items():
        if told.is_told(member, key, registration):
            identifier = names.get(key)
            yield to_patient(
                ids.of_subject(key),
                registration,
                None if identifier is None else told.directory.identifier(identifier),
                None if key == member.subject else told.directory.reference(member.subject),
            )
    for key in sorted(member.lost):
        yield Gone("Patient", ids.of_subject(key))


def export_encounters(told: Told, member: Member) -> Iterator[Part]:
    """Yield the present stay. That of a patient who has been merged since is gone."""
    ids = told.directory.ids
    if member.registration is not None and told.is_told(member, member.subject, member.registration):
        identity = ids.of_subject(member.subject, "encounter")
        yield to_encounter(identity, member.registration, told.directory.reference(member.subject))
    if told.since is not None:
        for key in sorted(member.whole & member.merged.keys()):
            yield Gone("Encounter", ids.of_subject(key, "encounter"))
