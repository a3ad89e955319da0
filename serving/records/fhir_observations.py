"""The Observations that FHIR clients sent: what the journal knows them by, so that they can be read, corrected and retracted.

The values are in the journal. A row here says which readings a resource is, and which version of it is the present one.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final

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
        source: the client whose readings they are. None, as of all below: an earlier version of Vigil stored the row.
        content: digest of what the client said.
        status: of R4, as the client sent it.
        number: of the version in the journal: the client's where it numbers them. None, too: it is an original.
    """

    id: str
    subject_id: str
    version: int
    updated_at: int
    deleted: bool
    readings: Sequence[SentReading]
    source: str | None = None
    content: str | None = None
    status: str | None = None
    number: int | None = None

    @property
    def observed_at(self) -> int | None:
        """When its readings were observed, as the client sent it; None: it has none, or none with a time."""
        return next((time for _, _, time in self.readings), None)


_COLUMNS: Final = [FHIR_OBSERVATIONS.c[field.name] for field in fields(SentResource)]
_FETCHED: Final = 1_000  # rows at a time


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
                query = sa.select(*_COLUMNS).where(column.in_(chunk), FHIR_OBSERVATIONS.c.updated_at >= since)
                found += [_to_resource(row) for row in connection.execute(query)]
        return found

    def observed_between(self, subjects: Sequence[str], since: int, until: int) -> list[SentResource]:
        """Return the resources of some subjects that were observed in an interval (microseconds) that holds both its ends."""
        table = FHIR_OBSERVATIONS.c
        wanted = table.subject_id.in_(subjects) & table.observed_at.between(since, until)
        with reading(self._engine) as connection:
            return [_to_resource(row) for row in connection.execute(sa.select(*_COLUMNS).where(wanted))]

    def updated_since(self, subjects: Sequence[str], time: int, *, revised: bool = False) -> Iterator[list[SentResource]]:
        """Yield the resources of some subjects that were stored at or after a time, some at once.

        ``revised``: only those that were changed or deleted since they were sent first.
        """
        table = FHIR_OBSERVATIONS.c
        wanted = table.subject_id.in_(subjects) & (table.updated_at >= time)
        if revised:
            wanted &= (table.version > 1) | table.deleted
        with reading(self._engine) as connection:
            for rows in connection.execute(sa.select(*_COLUMNS).where(wanted)).partitions(_FETCHED):
                yield [_to_resource(row) for row in rows]

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
            if new := [_to_row(resource) for identity, resource in by_id.items() if identity not in known]:
                connection.execute(FHIR_OBSERVATIONS.insert(), new)
        return by_id.keys() - known

    def renew(self, resource: SentResource) -> bool:
        """Store the next version of a resource, if the one before it is the present one; return whether it was.

        Raises:
            DatabaseError: nothing was stored.
        """
        row = _to_row(resource)
        with writing(self._engine) as connection:
            update = FHIR_OBSERVATIONS.update().where(
                FHIR_OBSERVATIONS.c.id == resource.id, FHIR_OBSERVATIONS.c.version == resource.version - 1
            )
            return connection.execute(update.values(row)).rowcount == 1

    def put_back(self, resource: SentResource) -> None:
        """Let a version be the present one again, if the one after it still is.

        Raises:
            DatabaseError: nothing was stored.
        """
        following = (FHIR_OBSERVATIONS.c.id == resource.id) & (FHIR_OBSERVATIONS.c.version == resource.version + 1)
        with writing(self._engine) as connection:
            connection.execute(FHIR_OBSERVATIONS.update().where(following).values(_to_row(resource)))

    def retime(self, resource: SentResource) -> None:
        """Store the times of a resource's readings anew, if its version is still the present one.

        Raises:
            DatabaseError: nothing was stored.
        """
        row = _to_row(resource)
        same = (FHIR_OBSERVATIONS.c.id == resource.id) & (FHIR_OBSERVATIONS.c.version == resource.version)
        with writing(self._engine) as connection:
            connection.execute(
                FHIR_OBSERVATIONS.update().where(same).values({name: row[name] for name in ("readings", "observed_at")})
            )

    def delete_before(self, time: int) -> int:
        """Delete what clients sent last before a time, in microseconds; return how many resources."""
        return delete_in_steps(self._engine, FHIR_OBSERVATIONS, FHIR_OBSERVATIONS.c.updated_at < time)


def _to_row(resource: SentResource) -> dict[str, Any]:
    return {**as_row(resource), "observed_at": resource.observed_at}


def _to_resource(row: "sa.Row[Any]") -> SentResource:
    readings = [(message, signal, at) for message, signal, at in row.readings]
    return SentResource(
        row.id,
        row.subject_id,
        row.version,
        row.updated_at,
        row.deleted,
        readings,
        row.source,
        row.content,
        row.status,
        row.number,
    )
