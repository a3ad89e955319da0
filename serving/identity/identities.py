"""The mapping from subject keys to patient identifiers. It is stored in ``HOME/identities.db`` and nowhere else."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

import sqlalchemy as sa

from vigil.serving.records.database import Schema, insert_new, open_database, reading, writing

logger = logging.getLogger("vigil.serving")

METADATA: Final = sa.MetaData()
IDENTITIES: Final = sa.Table(
    "identities",
    METADATA,
    sa.Column("subject_id", sa.String, primary_key=True),
    sa.Column("identifier", sa.String, nullable=False),
)
SCHEMA: Final = Schema("identities", METADATA, revision="0002")
FILE: Final = SCHEMA.file
_CHUNK: Final = 500  # values in one query


class Identities:
    """The identities of one home."""

    def __init__(self, home: Path) -> None:
        self._engine = open_database(home, SCHEMA)

    def store(self, identities: Mapping[str, str]) -> None:
        """Store the identifier of each subject; they are on the disk when this returns. Stored identities do not change.

        Args:
            identities: identifier by subject key.

        Raises:
            DatabaseError: none of them was stored.
        """
        known = self.find(identities)  # reading is faster than writing rows that exist
        rows = [
            {"subject_id": subject, "identifier": identifier}
            for subject, identifier in identities.items()
            if subject not in known
        ]
        if not rows:
            return
        with writing(self._engine) as connection:
            insert_new(connection, IDENTITIES, rows)

    def find(self, subjects: Iterable[str]) -> dict[str, str]:
        """Return the identifier of each known subject. Unknown subjects are left out."""
        wanted = list(subjects)
        identifiers: dict[str, str] = {}
        with reading(self._engine) as connection:
            for first in range(0, len(wanted), _CHUNK):
                query = sa.select(IDENTITIES).where(IDENTITIES.c.subject_id.in_(wanted[first : first + _CHUNK]))
                identifiers |= {row.subject_id: row.identifier for row in connection.execute(query)}
        return identifiers

    def find_or_empty(self, subjects: Iterable[str]) -> dict[str, str]:
        """Return the identifier of each subject, empty if it is unknown, so that the other patients are still shown."""
        wanted = set(subjects)
        identifiers = self.find(wanted)
        if missing := len(wanted - identifiers.keys()):
            logger.error(
                "%s: %d patients have no identifier and are shown without one; restore the file from a backup", FILE, missing
            )
        return {subject: identifiers.get(subject, "") for subject in wanted}

    def subjects(self) -> set[str]:
        """Return all subjects that have an identifier."""
        with reading(self._engine) as connection:
            return set(connection.execute(sa.select(IDENTITIES.c.subject_id)).scalars())

    def delete(self, subjects: Sequence[str]) -> int:
        """Delete the identifiers of at most 500 subjects; return how many there were.

        Raises:
            DatabaseError: none of them was deleted.
        """
        with writing(self._engine) as connection:
            return connection.execute(IDENTITIES.delete().where(IDENTITIES.c.subject_id.in_(subjects))).rowcount
