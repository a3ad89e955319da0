"""Names by which FHIR clients know patients: an id of their server, or an identifier of another system.

A name is stored as a pseudonym. So this table alone tells nobody who a patient is. The names of the Encounter that opened the
present stay of a patient are there too, each behind the subject key of the patient.
"""

from collections.abc import Collection, Iterable, Mapping

import sqlalchemy as sa

from vigil.serving.records.connection_tables import FHIR_NAMES
from vigil.serving.records.database import delete_in_steps, in_chunks, reading, upsert, writing


class FhirNames:
    """The names of one home."""

    def __init__(self, engine: sa.Engine) -> None:
        """Use the database of the connections."""
        self._engine = engine

    def store(self, subjects: Mapping[str, str], at: int) -> None:
        """Let names stand for subjects from now on; on the disk when this returns. A name that stood for another is moved.

        Args:
            subjects: subject key by name (a pseudonym).
            at: the present, in microseconds UTC.

        Raises:
            DatabaseError: nothing was stored.
        """
        known = self.find(subjects)
        new = [
            {"name": name, "subject_id": subject, "recorded_at": at}
            for name, subject in subjects.items()
            if known.get(name) != subject
        ]
        if new:
            with writing(self._engine) as connection:
                upsert(connection, FHIR_NAMES, new)

    def find(self, names: Iterable[str]) -> dict[str, str]:
        """Return the subject key of each name that is known."""
        found: dict[str, str] = {}
        with reading(self._engine) as connection:
            for chunk in in_chunks(list(names)):
                query = sa.select(FHIR_NAMES.c.name, FHIR_NAMES.c.subject_id).where(FHIR_NAMES.c.name.in_(chunk))
                found |= {row.name: row.subject_id for row in connection.execute(query)}
        return found

    def open_stay(self, subject: str, encounter: Collection[str], at: int) -> None:
        """Remember the names of the Encounter that opened the present stay of a subject; on the disk when this returns.

        Args:
            subject: the subject key.
            encounter: its names (pseudonyms). Those of the Encounter before are forgotten, also if it has none.
            at: the present, in microseconds UTC.

        Raises:
            DatabaseError: nothing was stored.
        """
        if self.opened_by(subject) == set(encounter):
            return
        rows = [{"name": f"{subject} {name}", "subject_id": subject, "recorded_at": at} for name in sorted(set(encounter))]
        with writing(self._engine) as connection:
            connection.execute(FHIR_NAMES.delete().where(_is_of_stay(subject)))
            upsert(connection, FHIR_NAMES, rows)

    def opened_by(self, subject: str) -> set[str]:
        """Return the names of the Encounter that opened the present stay of a subject."""
        with reading(self._engine) as connection:
            names = connection.execute(sa.select(FHIR_NAMES.c.name).where(_is_of_stay(subject))).scalars()
            return {name.rpartition(" ")[2] for name in names}

    def forget_others(self, subjects: Collection[str]) -> int:
        """Delete the names of all but some subjects; return how many names."""
        with reading(self._engine) as connection:
            known = set(connection.execute(sa.select(FHIR_NAMES.c.subject_id).distinct()).scalars())
        forgotten = sorted(known.difference(subjects))
        return sum(
            delete_in_steps(self._engine, FHIR_NAMES, FHIR_NAMES.c.subject_id.in_(chunk)) for chunk in in_chunks(forgotten)
        )


def _is_of_stay(subject: str) -> "sa.ColumnElement[bool]":
    return (FHIR_NAMES.c.subject_id == subject) & FHIR_NAMES.c.name.startswith(f"{subject} ", autoescape=True)
