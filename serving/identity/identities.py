"""Who is behind a pseudonym: kept here alone, in ``HOME/identities.db``, so that an answer can name whom it was asked about."""

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite

from serving.records.database import open_database, reading, writing

logger = logging.getLogger("vigil.serving")

FILE: Final = "identities.db"

METADATA: Final = sa.MetaData()
IDENTITIES: Final = sa.Table(
    "identities",
    METADATA,
    sa.Column("pseudonym", sa.String, primary_key=True),
    sa.Column("identifier", sa.String, nullable=False),
)
_CHUNK: Final = 500  # values in a query


class Identities:
    """The identities of one home."""

    def __init__(self, home: Path) -> None:
        self._engine = open_database(home / FILE, METADATA)

    def keep(self, identities: Mapping[str, str]) -> None:
        """Keep the identifier of each pseudonym; they are on the disk when this returns. Those that are there stay as they are.

        Raises:
            DatabaseError: none was kept.
        """
        known = self.of(identities)  # to read is quicker than to write what is there
        rows = [{"pseudonym": code, "identifier": identifier} for code, identifier in identities.items() if code not in known]
        if not rows:
            return
        with writing(self._engine) as connection:
            connection.execute(sqlite.insert(IDENTITIES).on_conflict_do_nothing(), rows)

    def of(self, pseudonyms: Iterable[str]) -> dict[str, str]:
        """The identifier behind each pseudonym; one that is not known is left out."""
        wanted = list(pseudonyms)
        found: dict[str, str] = {}
        with reading(self._engine) as connection:
            for first in range(0, len(wanted), _CHUNK):
                among = IDENTITIES.c.pseudonym.in_(wanted[first : first + _CHUNK])
                found |= {row.pseudonym: row.identifier for row in connection.execute(sa.select(IDENTITIES).where(among))}
        return found

    def names(self, pseudonyms: Iterable[str]) -> dict[str, str]:
        """The identifier behind each pseudonym; empty for one that is not known: the others must be shown all the same."""
        wanted = set(pseudonyms)
        found = self.of(wanted)
        if missing := len(wanted - found.keys()):
            logger.error("%s: %d patients have no identifier, and are shown without; restore it from a backup", FILE, missing)
        return {pseudonym: found.get(pseudonym, "") for pseudonym in wanted}
