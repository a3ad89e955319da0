"""How we keep what must not be lost: one SQLite file each, through SQLAlchemy, so that another database can follow."""

from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa

from features.errors import VigilError

_WAIT_SECONDS: Final = 5  # for another writer


class DatabaseError(VigilError):
    """A file of the home cannot be written or read."""


def open_database(path: Path, metadata: sa.MetaData) -> sa.Engine:
    """The file, with its tables. What a transaction wrote is on the disk when it ends: write-ahead log, synchronous=FULL."""
    # hide_parameters: an error must not carry a patient's row into a log.
    url = f"sqlite:///{path.resolve()}"
    engine = sa.create_engine(url, hide_parameters=True, connect_args={"timeout": _WAIT_SECONDS})
    sa.event.listen(engine, "connect", _durable)
    sa.event.listen(engine, "begin", _at_once)
    metadata.create_all(engine)
    return engine


def _durable(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # SQLAlchemy's begin is the only one
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")


def _at_once(connection: sa.Connection) -> None:
    """A transaction that will write says so at its beginning: later it might find that another has written in between."""
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
