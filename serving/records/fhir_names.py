"""Names by which FHIR clients know patients: an id of their server, or an identifier of another system.

A name is stored as a pseudonym. So this table alone tells nobody who a patient is.
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

    def forget_others(self, subjects: Collection[str]) -> int:
        """Delete the names of all but some subjects; return how many names."""
        with reading(self._engine) as connection:
            known = set(connection.execute(sa.select(FHIR_NAMES.c.subject_id).distinct()).scalars())
        forgotten = sorted(known.difference(subjects))
        return sum(
            delete_in_steps(self._engine, FHIR_NAMES, FHIR_NAMES.c.subject_id.in_(chunk)) for chunk in in_chunks(forgotten)
        )
