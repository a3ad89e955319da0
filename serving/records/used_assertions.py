"""What may be used once, so that it is not accepted twice: by any process, and after a restart.

Signed assertions of clients; states, codes and links of logins.
"""

import hashlib
import threading
from typing import Final

import sqlalchemy as sa

from vigil.serving.records.connection_tables import USED_ASSERTIONS
from vigil.serving.records.database import insert_new, writing

_KEPT_SECONDS: Final = 3_600  # beyond expiry, in case the clock is set back


class UsedAssertions:
    """The used assertions of one home."""

    def __init__(self, engine: sa.Engine) -> None:
        """Use the database of the connections."""
        self._engine = engine
        # SQLite's writers ask again and again for the lock, so that of many at once one may be passed over for seconds.
        self._turn = threading.Lock()

    def use(self, client: str, jti: str, until: float, now: float) -> bool:
        """Note the use of an assertion; return whether it is the first.

        Args:
            client: who signed it.
            jti: its name.
            until: when it expires, in seconds since 1970.
            now: seconds since 1970.

        Raises:
            DatabaseError: it was not noted.
        """
        digest = hashlib.sha256(f"{len(client)} {client} {jti}".encode()).digest()
        with self._turn, writing(self._engine) as connection:
            connection.execute(USED_ASSERTIONS.delete().where(USED_ASSERTIONS.c.until < int(now) - _KEPT_SECONDS))
            known = connection.execute(sa.select(USED_ASSERTIONS.c.until).where(USED_ASSERTIONS.c.digest == digest)).first()
            insert_new(connection, USED_ASSERTIONS, [{"digest": digest, "until": int(until) + 1}])
        return known is None
