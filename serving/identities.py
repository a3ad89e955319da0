"""Who is behind a pseudonym: kept here alone, in ``HOME/identities.db``, so that an answer can name whom it was asked about."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite

from serving.database import DatabaseError, open_database

FILE: Final = "identities.db"

_METADATA: Final = sa.MetaData()
_IDENTITIES: Final = sa.Table(
    "identities",
    _METADATA,
    sa.Column("pseudonym", sa.String, primary_key=True),
    sa.Column("identifier", sa.String, nullable=False),
)
_CHUNK: Final = 500  # values in a query


class Identities:
    """The identities of one home."""

    def __init__(self, home: Path) -> None:
        self._engine = open_database(home / FILE, _METADATA)

    def keep(self, identities: Mapping[str, str]) -> None:
        """Keep the identifier of each pseudonym; they are on the disk when this returns. Those that are there stay as they are.

        Raises:
            DatabaseError: none was kept.
        """
        rows = [{"pseudonym": pseudonym, "identifier": identifier} for pseudonym, identifier in identities.items()]
        if not rows:
            return
        try:
            with self._engine.execution_options(writes=True).begin() as connection:
                connection.execute(sqlite.insert(_IDENTITIES).on_conflict_do_nothing(), rows)
        except sa.exc.OperationalError as error:
            raise DatabaseError(f"{FILE}: cannot be written ({type(error.orig).__name__}); is the disk full?") from None

    def of(self, pseudonyms: Iterable[str]) -> dict[str, str]:
        """The identifier behind each pseudonym; one that is not known is left out."""
        wanted = list(pseudonyms)
        found: dict[str, str] = {}
        with self._engine.connect() as connection:
            for first in range(0, len(wanted), _CHUNK):
                among = _IDENTITIES.c.pseudonym.in_(wanted[first : first + _CHUNK])
                found |= {row.pseudonym: row.identifier for row in connection.execute(sa.select(_IDENTITIES).where(among))}
        return found
