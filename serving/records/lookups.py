"""Reads made with every request, past SQLAlchemy: single rows by a query made once, and whether all is as before."""

import sqlite3
import threading
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from vigil.serving.records.database import WAIT_SECONDS, unusable_file


class Lookup:
    """A query for few rows that is asked with every request. It goes to the driver as it stands, outside of any transaction.

    SQLAlchemy takes ten times as long to run such a query as SQLite to answer it. Values come as the driver has them: JSON is
    text. Threads may share it.
    """

    def __init__(self, engine: sa.Engine, query: "sa.Select[Any]") -> None:
        self._path = Path(str(engine.url.database))
        compiled = query.compile(engine)
        self._text, self._names = str(compiled), tuple(compiled.positiontup or ())
        self._constants = {name: value for name, value in compiled.params.items() if value is not None}
        self._connection = _open_reader(self._path)
        self._lock = threading.Lock()

    def rows(self, **values: Any) -> list[tuple[Any, ...]]:
        """Return the rows of the query, for values of its parameters.

        Raises:
            DatabaseError: it cannot be read.
        """
        given = self._constants | values
        try:
            with self._lock:
                return self._connection.execute(self._text, [given[name] for name in self._names]).fetchall()
        except sqlite3.Error as error:
            raise unusable_file(self._path, error) from None


class ChangeWatch:
    """Tells whether a database was written since the last look, at next to no cost. For one thread.

    It is a seam: SQLite counts the commits of other connections; a server would notify instead.
    """

    def __init__(self, engine: sa.Engine) -> None:
        self._path = Path(str(engine.url.database))
        self._cursor: sqlite3.Cursor | None = None
        self._seen: int | None = None

    def has_changed(self) -> bool:
        """Return whether any other connection wrote since this was called last."""
        if self._cursor is None:
            self._cursor = _open_reader(self._path).cursor()  # outside of any transaction, which would see nothing new
        (version,) = self._cursor.execute("PRAGMA data_version").fetchone()
        before, self._seen = self._seen, version
        return bool(version != before)


def _open_reader(path: Path) -> sqlite3.Connection:
    """Open a file for reading only, for any thread."""
    uri = f"{path.resolve().as_uri()}?mode=ro"
    return sqlite3.connect(uri, uri=True, isolation_level=None, timeout=WAIT_SECONDS, check_same_thread=False)
