"""The exports that clients asked for: what each is of, how far it is, and which files it has. The files lie elsewhere."""

import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Final, Literal

import sqlalchemy as sa

from vigil.serving.records.connection_tables import EXPORTS
from vigil.serving.records.database import as_row, reading, with_retries, writing

Status = Literal["waiting", "running", "complete", "failed"]

_UNDER_WAY: Final = ("waiting", "running")


@dataclass(frozen=True, slots=True)
class Export:
    """One export.

    Attributes:
        id: its name in URLs.
        client: who asked for it.
        request: the URL of the request, without what is not understood.
        wards: of the patients; None: all.
        types: of resources.
        filters: queries of Observations, one of which has to match; empty: all.
        since: the time of the export that it continues, microseconds; None: it is a whole one.
        ignored: names of parameters that were not understood.
        created_at, expires_at: microseconds.
        status: how far it is.
        attempts: how often it was begun.
        progress: the same for people.
        problem: why it failed, and what to do.
        as_of: the time of the journal that the files tell of, microseconds.
        files: each with its ``list`` of the manifest, ``type``, ``name`` and ``count``.
    """

    id: str
    client: str
    request: str
    wards: Sequence[str] | None
    types: Sequence[str]
    filters: Sequence[str]
    since: int | None
    ignored: Sequence[str]
    created_at: int
    expires_at: int
    status: Status = "waiting"
    attempts: int = 0
    progress: str = "waiting"
    problem: str | None = None
    as_of: int | None = None
    files: Sequence[Mapping[str, Any]] = field(default_factory=list)

    @property
    def is_under_way(self) -> bool:
        """Whether it is not complete, and has not failed."""
        return self.status in _UNDER_WAY


_COLUMNS: Final = [EXPORTS.c[field.name] for field in fields(Export)]


def new_id() -> str:
    """Return a name for an export that tells nothing."""
    return secrets.token_hex(16)


class Exports:
    """The exports of one home."""

    def __init__(self, engine: sa.Engine) -> None:
        """Use the database of the connections."""
        self._engine = engine

    def add(self, export: Export, most: int) -> bool:
        """Store a new export, unless so many of its client are under way; return whether it was stored.

        Raises:
            DatabaseError: nothing was stored.
        """
        own = sa.select(sa.func.count()).where(EXPORTS.c.client == export.client, EXPORTS.c.status.in_(_UNDER_WAY))
        with writing(self._engine) as connection:
            if connection.execute(own).scalar_one() >= most:
                return False
            connection.execute(EXPORTS.insert().values(as_row(export)))
        return True

    def find(self, identity: str) -> Export | None:
        """Return an export; None: there is none."""
        with reading(self._engine) as connection:
            row = connection.execute(sa.select(*_COLUMNS).where(EXPORTS.c.id == identity)).first()
        return None if row is None else Export(*row)

    def all(self) -> list[Export]:
        """Return all exports, the oldest first."""
        with reading(self._engine) as connection:
            return [Export(*row) for row in connection.execute(sa.select(*_COLUMNS).order_by(EXPORTS.c.created_at))]

    def is_any_under_way(self) -> bool:
        """Return whether an export waits or is being written."""
        query = sa.select(EXPORTS.c.id).where(EXPORTS.c.status.in_(_UNDER_WAY)).limit(1)
        with reading(self._engine) as connection:
            return connection.execute(query).first() is not None

    def begin(self) -> Export | None:
        """Return the oldest export that is under way, as running; None: there is none. For the one process that writes."""
        query = sa.select(*_COLUMNS).where(EXPORTS.c.status.in_(_UNDER_WAY)).order_by(EXPORTS.c.created_at, EXPORTS.c.id)
        with writing(self._engine) as connection:
            row = connection.execute(query.limit(1)).first()
            if row is None:
                return None
            own = EXPORTS.update().where(EXPORTS.c.id == row.id)
            connection.execute(own.values(status="running", attempts=EXPORTS.c.attempts + 1, progress="started"))
            return Export(*connection.execute(sa.select(*_COLUMNS).where(EXPORTS.c.id == row.id)).one())

    def note(self, identity: str, progress: str) -> bool:
        """Store how far an export is; return whether it is still wanted."""
        return self._update(identity, progress=progress)

    def complete(self, identity: str, as_of: int, files: Sequence[Mapping[str, Any]], expires_at: int) -> bool:
        """Store what an export has; return whether it is still wanted."""
        values = {"as_of": as_of, "files": list(files), "expires_at": expires_at}
        return self._update(identity, status="complete", progress="complete", **values)

    def release(self, identity: str) -> bool:
        """Let the next process begin an export, as if this one had not; return whether it is still wanted."""
        return self._update(identity, status="waiting", progress="waiting", attempts=EXPORTS.c.attempts - 1)

    def fail(self, identity: str, problem: str) -> bool:
        """Store why an export cannot be made; return whether it is still wanted."""
        return self._update(identity, status="failed", problem=problem)

    def _update(self, identity: str, **values: Any) -> bool:
        def update() -> bool:
            with writing(self._engine) as connection:
                return connection.execute(EXPORTS.update().where(EXPORTS.c.id == identity).values(**values)).rowcount == 1

        return with_retries(update)

    def delete(self, identities: Iterable[str]) -> int:
        """Delete exports; return how many there were."""
        with writing(self._engine) as connection:
            return sum(connection.execute(EXPORTS.delete().where(EXPORTS.c.id == identity)).rowcount for identity in identities)
