"""How we keep what must not be lost: SQLite files, through SQLAlchemy, so that another database can follow."""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import sqlalchemy as sa

from features.errors import VigilError

_WAIT_SECONDS: Final = 5  # for another writer
_SPARE_BYTES: Final = 500_000_000  # of a disk, or, if that is less,
_SPARE_SHARE: Final = 0.05


class DatabaseError(VigilError):
    """A file of the home cannot be written or read."""


def open_database(path: Path, metadata: sa.MetaData) -> sa.Engine:
    """The file, with its tables. What a transaction wrote is on the disk when it ends: write-ahead log, synchronous=FULL.

    Raises:
        DatabaseError: it cannot be opened, or an earlier version wrote it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # hide_parameters: an error must not carry a patient's row into a log.
    url = sa.URL.create("sqlite", database=str(path.resolve()))  # put into a text, a path with % or ? would be another one
    engine = sa.create_engine(url, hide_parameters=True, connect_args={"timeout": _WAIT_SECONDS})
    sa.event.listen(engine, "connect", _durable)
    sa.event.listen(engine, "begin", _at_once)
    try:
        with writing(engine) as connection:
            metadata.create_all(connection)
            _add_columns(connection, metadata)
            _check_columns(connection, metadata, path)
    except sa.exc.DatabaseError as error:
        raise _problem(path, error) from None
    return engine


@contextmanager
def writing(engine: sa.Engine) -> Iterator[sa.Connection]:
    """A transaction that writes; all of it is on the disk when it ends, or nothing.

    Raises:
        DatabaseError: nothing was written.
    """
    try:
        with engine.execution_options(writes=True).begin() as connection:
            yield connection
    except sa.exc.DatabaseError as error:
        raise _unusable(engine, error) from None


@contextmanager
def reading(engine: sa.Engine) -> Iterator[sa.Connection]:
    """What stood there at one moment.

    Raises:
        DatabaseError: it cannot be read.
    """
    try:
        with engine.connect() as connection:
            yield connection
    except sa.exc.DatabaseError as error:
        raise _unusable(engine, error) from None


def is_nearly_full(folder: Path) -> bool:
    """Whether so little of the disk is free that only what must be kept may still be written."""
    usage = shutil.disk_usage(folder)
    return usage.free < min(_SPARE_BYTES, usage.total * _SPARE_SHARE)


def instant(microseconds: int) -> pd.Timestamp:
    """The time of a number of microseconds since 1970, UTC."""
    return pd.Timestamp(microseconds, unit="us", tz="UTC").as_unit("us")


def microsecond(time: pd.Timestamp) -> int:
    """The other way round."""
    return int(time.to_datetime64().astype("datetime64[us]").astype(np.int64))


def pending(path: Path, metadata: sa.MetaData) -> list[str]:
    """What :func:`open_database` would change in a file that is there: tables and columns that it would add.

    Raises:
        DatabaseError: it cannot be read, or an earlier version wrote it that cannot be brought up to date.
    """
    engine = sa.create_engine(sa.URL.create("sqlite", database=f"file:{path.resolve()}", query={"mode": "ro", "uri": "true"}))
    try:
        with engine.connect() as connection:
            there = set(sa.inspect(connection).get_table_names())
            missing = {table: _missing(connection, table) for table in metadata.sorted_tables if table.name in there}
    except sa.exc.DatabaseError as error:
        raise _problem(path, error) from None
    finally:
        engine.dispose()
    changes = []
    for table in metadata.sorted_tables:
        if table not in missing:
            changes.append(f"{path.name}: add table {table.name}")
            continue
        _require_none(path, table, [column for column in missing[table] if not column.nullable])
        changes += [f"{path.name}: add column {table.name}.{column.name}" for column in missing[table]]
    return changes


def _unusable(engine: sa.Engine, error: sa.exc.DatabaseError) -> Exception:
    """What is wrong with a file: locked, full, or damaged. Other errors of this family are faults of ours, and stay so."""
    if isinstance(error, sa.exc.OperationalError) or type(error) is sa.exc.DatabaseError:
        return _problem(Path(str(engine.url.database)), error)
    return error


def _problem(path: Path, error: sa.exc.DatabaseError) -> DatabaseError:
    return DatabaseError(
        f"{path.name}: cannot be used ({type(error.orig).__name__}); is it locked or damaged, or the disk full?"
    )


def _missing(connection: sa.Connection, table: sa.Table) -> "list[sa.Column[Any]]":
    """The columns that this version knows of a table, and the file does not have."""
    there = {column["name"] for column in sa.inspect(connection).get_columns(table.name)}
    return [column for column in table.columns if column.name not in there]


def _require_none(path: Path, table: sa.Table, missing: "Sequence[sa.Column[Any]]") -> None:
    if missing:
        names = ", ".join(sorted(column.name for column in missing))
        raise DatabaseError(
            f"{path.name}: table {table.name} has no {names}, as an earlier version wrote it; move the file away, or use "
            "another --home"
        )


def _add_columns(connection: sa.Connection, metadata: sa.MetaData) -> None:
    """Add the columns that this version knows and an earlier one did not; rows of that time have no value in them."""
    for table in metadata.sorted_tables:
        for column in _missing(connection, table):
            if column.nullable:
                ddl = sa.schema.CreateColumn(column).compile(dialect=connection.dialect)
                connection.exec_driver_sql(f"ALTER TABLE {table.name} ADD COLUMN {ddl}")


def _check_columns(connection: sa.Connection, metadata: sa.MetaData, path: Path) -> None:
    for table in metadata.sorted_tables:
        _require_none(path, table, _missing(connection, table))


def _durable(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # SQLAlchemy's begin is the only one
    if connection.execute("PRAGMA page_count").fetchone() == (0,):  # of a file that is not new it would wait for writers
        connection.execute("PRAGMA auto_vacuum=INCREMENTAL")  # what retention empties is given back bit by bit
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")


def _at_once(connection: sa.Connection) -> None:
    """A transaction that will write says so at its beginning: later it might find that another has written in between."""
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
