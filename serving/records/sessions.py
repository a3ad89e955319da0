"""Sessions of people who have logged in, so that any process knows them, and after a restart.

The cookie of a session is a random name; the table holds its digest only. So a copy of this table opens no session.
"""

import hashlib
import logging
import secrets
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from vigil.serving.records.connection_tables import PEOPLE, SESSIONS
from vigil.serving.records.database import DatabaseError, as_row, delete_in_steps, reading, upsert, writing

logger: Final = logging.getLogger("vigil.serving")

_NAME_BYTES: Final = 32
_RENEWED_AFTER: Final = 30_000_000  # microseconds: a use is written so often at most


@dataclass(frozen=True)
class Session:
    """What one login gave to one person. Times are microseconds UTC.

    Attributes:
        sub: the caller, for the audit of alarms.
        name: of the person, as pages show it to them.
        scopes: those of Vigil and SMART scopes that were granted.
        wards: those the person may see; None: all wards.
        context: of the launch: ``patient`` (a subject key; None: Vigil does not know the patient) and ``encounter``
            (a pseudonym), each if the launch had one.
        created_at: when the person logged in.
        used_at: when the session was used last.
        expires_at: when it ends, however much it is used.
    """

    sub: str
    name: str
    scopes: list[str]
    wards: list[str] | None
    context: dict[str, str | None]
    created_at: int
    used_at: int
    expires_at: int


class Sessions:
    """The sessions of one home."""

    def __init__(self, engine: sa.Engine) -> None:
        """Use the database of the connections."""
        self._engine = engine

    def create(self, session: Session) -> str:
        """Store a session, and return its name, which nothing else knows. Expired sessions are deleted.

        The name of the person is remembered beyond the session.

        Raises:
            DatabaseError: it was not stored.
        """
        name = secrets.token_urlsafe(_NAME_BYTES)
        with writing(self._engine) as connection:
            connection.execute(SESSIONS.delete().where(SESSIONS.c.expires_at <= session.created_at))
            connection.execute(SESSIONS.insert().values(digest=_digest(name), **as_row(session)))
            upsert(connection, PEOPLE, [{"sub": session.sub, "name": session.name, "seen_at": session.created_at}])
        return name

    def find(self, name: str, now: int, ends_at: Callable[[Session], int], *, is_use: bool) -> Session | None:
        """Return the session of a name; None: there is none, or it has ended.

        Args:
            name: the content of a cookie.
            now: microseconds UTC.
            ends_at: returns when a session ends without another use, microseconds UTC.
            is_use: whether a person does something. Asking by a page itself, such as for news, does not extend a session.

        Raises:
            DatabaseError: sessions cannot be read.
        """
        row = SESSIONS.c.digest == _digest(name)
        columns: list[Any] = [column for column in SESSIONS.columns if not column.primary_key]
        with reading(self._engine) as connection:
            found = connection.execute(sa.select(*columns).where(row)).mappings().first()
        if found is None:
            return None
        session = Session(**found)
        if now >= ends_at(session):
            with suppress(DatabaseError):
                self.end(name)  # so that no longer setting and no clock that is set back opens it again
            return None
        if is_use and now - session.used_at >= _RENEWED_AFTER:
            try:
                with writing(self._engine) as connection:
                    connection.execute(SESSIONS.update().where(row).values(used_at=now))
            except DatabaseError:  # such as of a full disk: who is logged in can go on reading
                logger.warning("a session was not renewed: connections.db cannot be written")
            else:
                return Session(**{**found, "used_at": now})
        return session

    def end(self, name: str) -> None:
        """End a session.

        Raises:
            DatabaseError: it has not ended.
        """
        with writing(self._engine) as connection:
            connection.execute(SESSIONS.delete().where(SESSIONS.c.digest == _digest(name)))

    def delete_expired(self, now: int) -> int:
        """Delete the sessions that have expired; return how many."""
        return delete_in_steps(self._engine, SESSIONS, SESSIONS.c.expires_at <= now)

    def end_all(self) -> None:
        """End all sessions, such as those in a copy of the home."""
        delete_in_steps(self._engine, SESSIONS, sa.true())


def _digest(name: str) -> bytes:
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()
