"""Signed assertions that clients have used, so that none is accepted twice: by any process, and after a restart."""

import hashlib
from pathlib import Path
from typing import Final

import sqlalchemy as sa

from vigil.serving.records.database import Digest, Schema, insert_new, open_database, writing

METADATA: Final = sa.MetaData()
_USED: Final = sa.Table(
    "used_assertions",
    METADATA,
    sa.Column("digest", Digest, primary_key=True),  # of the client and the assertion's jti
    sa.Column("until", sa.BigInteger, nullable=False),  # seconds since 1970: expired for everyone from then on
)
SCHEMA: Final = Schema("connections", METADATA, revision="0001")
_KEPT_SECONDS: Final = 3_600  # beyond expiry, in case the clock is set back


class UsedAssertions:
    """The used assertions of one home."""

    def __init__(self, home: Path) -> None:
        self._engine = open_database(home, SCHEMA)

    def use(self, client: str, jti: str, until: float, now: float) -> bool:
        """Note the use of an assertion; return whether it is the first.

        Args:
            client: who signed it.
            jti: its name.
            until: when nobody accepts it any longer, in seconds since 1970.
            now: seconds since 1970.

        Raises:
            DatabaseError: it was not noted.
        """
        digest = hashlib.sha256(f"{len(client)} {client} {jti}".encode()).digest()
        with writing(self._engine) as connection:
            connection.execute(_USED.delete().where(_USED.c.until < int(now) - _KEPT_SECONDS))
            known = connection.execute(sa.select(_USED.c.until).where(_USED.c.digest == digest)).first()
            insert_new(connection, _USED, [{"digest": digest, "until": int(until) + 1}])
        return known is None
