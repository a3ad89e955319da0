"""The Observations that FHIR clients sent: what the journal knows them by, so that they can be read, corrected and retracted.

The values are in the journal. A row here says which readings a resource is, and which version of it is the present one.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from vigil.serving.records.connection_tables import FHIR_OBSERVATIONS
from vigil.serving.records.database import as_row, delete_in_steps, in_chunks, reading, writing

SentReading = tuple[str, str, int | None]  # message, signal, observed at (microseconds)


@dataclass(frozen=True, slots=True)
class SentResource:
    """One Observation as a client knows it.

    Attributes:
        id: of the resource.
        subject_id: the subject key of its patient.
        version: of the resource on this server, from 1.
        updated_at: microseconds.
        deleted: whether the client deleted it.
        readings: the readings that it is in the journal; None of a panel without a value.
    """

    id: str
    subject_id: str
    version: int
    updated_at: int
    deleted: bool
    readings: Sequence[SentReading]


class FhirObservations:
    """The Observations of one home."""

    def __init__(self, engine: sa.Engine) -> None:
        """Use the database of the connections."""
        self._engine = engine

    def find(self, ids: Iterable[str]) -> dict[str, SentResource]:
        """Return the resources that are known, by id."""
        return {each.id: each for each in self._read(FHIR_OBSERVATIONS.c.id, ids, 0)}

    def of_subjects(self, subjects: Iterable[str], since: int) -> list[SentResource]:
        """Return the resources of subjects that were stored at or after a time, microseconds."""
        return self._read(FHIR_OBSERVATIONS.c.subject_id, subjects, since)

    def _read(self, column: "sa.ColumnElement[str]", values: Iterable[str], since: int) -> list[SentResource]:
        found = []
        with reading(self._engine) as connection:
            for chunk in in_chunks(list(values)):
                query = FHIR_OBSERVATIONS.select().where(column.in_(chunk), FHIR_OBSERVATIONS.c.updated_at >= since)
                for row in connection.execute(query).mappings():
                    readings = [(message, signal, at) for message, signal, at in row["readings"]]
                    found.append(SentResource(**{**row, "readings": readings}))
        return found

    def add(self, resources: Sequence[SentResource]) -> set[str]:
        """Store new resources; return the ids of those that nobody had stored before. On the disk when this returns.

        Raises:
            DatabaseError: nothing was stored.
        """
        by_id = {resource.id: resource for resource in resources}
        with writing(self._engine) as connection:
            known: set[str] = set()
            for chunk in in_chunks(list(by_id)):
                query = sa.select(FHIR_OBSERVATIONS.c.id).where(FHIR_OBSERVATIONS.c.id.in_(chunk))
                known |= set(connection.execute(query).scalars())
            if new := [as_row(resource) for identity, resource in by_id.items() if identity not in known]:
                connection.execute(FHIR_OBSERVATIONS.insert(), new)
        return by_id.keys() - known

    def renew(self, resource: SentResource) -> bool:
        """Store the next version of a resource, if the one before it is the present one; return whether it was.

        Raises:
            DatabaseError: nothing was stored.
        """
        row = as_row(resource)
        with writing(self._engine) as connection:
            update = FHIR_OBSERVATIONS.update().where(
                FHIR_OBSERVATIONS.c.id == resource.id, FHIR_OBSERVATIONS.c.version == resource.version - 1
            )
            return connection.execute(update.values(row)).rowcount == 1

    def delete_before(self, time: int) -> int:
        """Delete what clients sent last before a time, in microseconds; return how many resources."""
        return delete_in_steps(self._engine, FHIR_OBSERVATIONS, FHIR_OBSERVATIONS.c.updated_at < time)
