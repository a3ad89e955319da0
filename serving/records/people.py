"""The names of the people who log in, so that pages name who took care of an alarm, and not the caller that a token names.

They are personal data of staff: no line of a log holds one, and retention forgets people who do not come any more.
"""

from collections.abc import Collection

import sqlalchemy as sa

from vigil.serving.records.connection_tables import PEOPLE, SESSIONS
from vigil.serving.records.database import delete_in_steps, in_chunks, reading


class People:
    """The people of one home. A login stores them (:class:`vigil.serving.records.sessions.Sessions`)."""

    def __init__(self, engine: sa.Engine) -> None:
        """Use the database of the connections."""
        self._engine = engine

    def names(self, callers: Collection[str]) -> dict[str, str]:
        """Return the name of each caller (``sub``) who has logged in.

        Raises:
            DatabaseError: they cannot be read.
        """
        found: dict[str, str] = {}
        if not callers:
            return found
        with reading(self._engine) as connection:
            for chunk in in_chunks(sorted(callers)):
                query = sa.select(PEOPLE.c.sub, PEOPLE.c.name).where(PEOPLE.c.sub.in_(chunk))
                found |= {row.sub: row.name for row in connection.execute(query)}
        return found

    def forget_before(self, time: int) -> int:
        """Forget those who logged in last before a time (microseconds UTC) and have no session; return how many."""
        is_logged_in = PEOPLE.c.sub.in_(sa.select(SESSIONS.c.sub))
        return delete_in_steps(self._engine, PEOPLE, (PEOPLE.c.seen_at < time) & ~is_logged_in)
