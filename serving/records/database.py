"""The databases of a home: durable, migrated at the start, and the one place that knows a dialect of SQL.

Each database has one owner in this folder, who declares its tables as a :class:`Schema`. A file of an earlier version is
migrated when it is opened, inside one transaction that other processes wait for.
"""

import functools
import json
import logging
import operator
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from vigil.features.errors import VigilError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

logger = logging.getLogger("vigil.serving")

_JSON: Final = json.JSONEncoder(check_circular=False)
WAIT_SECONDS: Final = 5  # for another writer
_RETRY_SECONDS: Final = 60  # in which a job tries again where others write without a pause
_SPARE_BYTES: Final = 500_000_000  # of a disk, or, if that is less,
_SPARE_SHARE: Final = 0.05
_ROWS_DELETED: Final = 2_000  # in one transaction
_CHUNK: Final = 500  # values in a query
_PAGES_FREED: Final = 500  # in one transaction
_PAUSE_SECONDS: Final = 0.01  # for others who wait to write: SQLite does not queue them
_CHECKPOINT_MILLISECONDS: Final = 100
_INCREMENTAL: Final = 2  # of PRAGMA auto_vacuum
# As Alembic defines it, so that a new file is not migrated through its whole past.
_REVISIONS: Final = sa.Table("alembic_version", sa.MetaData(), sa.Column("version_num", sa.String(32), primary_key=True))
_DIALECT_INSERT: Final = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}

T = TypeVar("T")


class Digest(sa.LargeBinary):
    """Bytes that go to the driver, and come from it, as they are. SQLAlchemy would wrap each in an object of the driver."""

    def bind_processor(self, dialect: sa.Dialect) -> None:
        """Return no conversion."""

    def result_processor(self, dialect: sa.Dialect, coltype: object) -> None:
        """Return no conversion."""


class DatabaseError(VigilError):
    """A database of the home cannot be written or read."""


@dataclass(frozen=True)
class Schema:
    """One database of a home.

    Attributes:
        name: of the database; its migrations are in ``serving/records/migrations/NAME``.
        metadata: its tables, as this version uses them.
        revision: its latest migration.
        former_file: the file's name in homes of earlier versions, if that was another.
    """

    name: str
    metadata: sa.MetaData
    revision: str
    former_file: str | None = None

    @property
    def file(self) -> str:
        """The name of the file in the home."""
        return f"{self.name}.db"


def open_database(home: Path, schema: Schema) -> sa.Engine:
    """Open a database of a home, and migrate it. What a transaction wrote is on the disk when it ends.

    Raises:
        DatabaseError: it cannot be opened, or a later version wrote it.
    """
    path = home / schema.file
    home.mkdir(parents=True, exist_ok=True)
    _take_over_former_file(home, schema)
    engine = _engine(path, writes=True)
    sa.event.listen(engine, "connect", _set_durability)
    sa.event.listen(engine, "begin", _begin_transaction)
    try:
        with writing(engine) as connection:  # the lock under which one process migrates
            _migrate(connection, schema)
    except sa.exc.DatabaseError as error:
        raise unusable_file(path, error) from None
    return engine


def pending_migrations(home: Path, schema: Schema) -> list[str]:
    """Return what :func:`open_database` would change in a file that exists: the title of each migration.

    Raises:
        DatabaseError: the file cannot be read, or a later version wrote it.
    """
    path = home / schema.file
    if schema.former_file and not path.exists():
        path = home / schema.former_file
    if not path.exists():
        return []
    engine = _engine(path, writes=False)
    try:
        with engine.connect() as connection:
            revision = _revision(connection, schema)
    except sa.exc.DatabaseError as error:
        raise unusable_file(path, error) from None
    finally:
        engine.dispose()
    renamed = [] if path.name == schema.file else [f"{path.name}: rename to {schema.file}"]
    if revision in (None, schema.revision):
        return renamed
    from vigil.serving.records.migrations import titles

    return renamed + [f"{schema.file}: {title}" for title in titles(schema.name, revision)]


@contextmanager
def writing(engine: sa.Engine) -> Iterator[sa.Connection]:
    """Open a transaction that writes; all of it is on the disk when it ends, or nothing.

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
    """Open a transaction that reads the database as it stands at one moment.

    Raises:
        DatabaseError: it cannot be read.
    """
    try:
        with engine.connect() as connection:
            yield connection
    except sa.exc.DatabaseError as error:
        raise _unusable(engine, error) from None


def in_chunks(values: Sequence[T]) -> Iterator[Sequence[T]]:
    """Yield values in parts that one query can name."""
    return (values[first : first + _CHUNK] for first in range(0, len(values), _CHUNK))


def as_row(record: "DataclassInstance") -> dict[str, Any]:
    """Return the fields of a dataclass as a row. ``dataclasses.asdict`` would copy whatever they hold, which takes long."""
    names, values = _fields(type(record))
    return dict(zip(names, values(record), strict=True))


@functools.cache
def _fields(kind: "type[DataclassInstance]") -> tuple[tuple[str, ...], Callable[[Any], tuple[Any, ...]]]:
    names = tuple(field.name for field in fields(kind))
    return names, operator.attrgetter(*names)


def insert_new(connection: sa.Connection, table: sa.Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert rows; one that conflicts with a row that exists is left out."""
    if rows:
        connection.execute(_insert(connection, table).on_conflict_do_nothing(), [*rows])


def number_rows(connection: sa.Connection, table: sa.Table, rows: Sequence[tuple[str, ...]]) -> dict[tuple[str, ...], int]:
    """Return the number of each row of a table that stores texts once for many other rows; those that are new are inserted.

    Args:
        connection: of a transaction that writes.
        table: a primary key ``id``, and texts that are unique together.
        rows: the texts.
    """
    wanted = list(dict.fromkeys(rows))
    numbers = find_numbers(connection, table, wanted)
    if new := [row for row in wanted if row not in numbers]:
        names = [column.name for column in table.columns if not column.primary_key]
        insert_new(connection, table, [dict(zip(names, row, strict=True)) for row in new])
        numbers |= find_numbers(connection, table, new)
    return numbers


def find_numbers(connection: sa.Connection, table: sa.Table, rows: Sequence[tuple[str, ...]]) -> dict[tuple[str, ...], int]:
    """Return the number of each row of such a table, of those that are there."""
    query = _numbers_query(table)
    names = [column.name for column in table.columns if not column.primary_key]
    numbers: dict[tuple[str, ...], int] = {}
    for some in in_chunks(rows):
        lists = {name: list(set(column)) for name, column in zip(names, zip(*some, strict=True), strict=True)}
        numbers |= {tuple(row[1:]): row[0] for row in connection.execute(query, lists)}
    return numbers


@functools.cache
def _numbers_query(table: sa.Table) -> "sa.Select[Any]":
    """Return the query of numbers by texts. It has a list for each column: for a list of rows SQLite uses no index."""
    texts = [column for column in table.columns if not column.primary_key]
    return sa.select(table.c.id, *texts).where(*(text.in_(sa.bindparam(text.name, expanding=True)) for text in texts))


def upsert(connection: sa.Connection, table: sa.Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert rows, or replace those of the same primary key. All rows have the same columns."""
    if not rows:
        return
    insert = _insert(connection, table)
    keys = [column.name for column in table.primary_key]
    changes = {name: insert.excluded[name] for name in rows[0] if name not in keys}
    connection.execute(insert.on_conflict_do_update(index_elements=keys, set_=changes), [*rows])


def delete_in_steps(engine: sa.Engine, table: sa.Table, condition: "sa.ColumnElement[bool]") -> int:
    """Delete the rows that meet a condition, some in each transaction, so that writers wait shortly; return how many."""
    (key,) = table.primary_key.columns
    some = sa.select(key).where(condition).limit(_ROWS_DELETED)
    deleted, last = 0, _ROWS_DELETED

    def delete_some() -> int:
        with writing(engine) as connection:
            return connection.execute(table.delete().where(key.in_(some))).rowcount

    while last == _ROWS_DELETED:
        last = with_retries(delete_some)
        deleted += last
        time.sleep(_PAUSE_SECONDS)
    return deleted


def with_retries(write: Callable[[], T]) -> T:
    """Call a function that writes, for up to a minute, while other processes write without a pause."""
    deadline = time.monotonic() + _RETRY_SECONDS
    while True:
        try:
            return write()
        except DatabaseError:
            if time.monotonic() > deadline:
                raise


def free_space(home: Path, schema: Schema) -> None:
    """Return the space of deleted rows to the disk, in steps, while others write.

    Raises:
        DatabaseError: it cannot be done now; the rows are deleted all the same.
    """
    path = home / schema.file
    try:
        with closing(sqlite3.connect(path, isolation_level=None, timeout=_RETRY_SECONDS)) as connection:
            if connection.execute("PRAGMA auto_vacuum").fetchone() != (_INCREMENTAL,):
                connection.execute("PRAGMA auto_vacuum=INCREMENTAL")  # an older file: as a whole now, in steps later
                connection.execute("VACUUM")
            empty = connection.execute("PRAGMA freelist_count").fetchone()[0]
            for _ in range(0, empty, _PAGES_FREED):
                connection.executescript(f"PRAGMA incremental_vacuum({_PAGES_FREED})")  # execute would stop at the first page
                time.sleep(_PAUSE_SECONDS)
            # Writers wait while this waits for readers, so it waits shortly; SQLite does the rest at a later checkpoint.
            connection.execute(f"PRAGMA busy_timeout = {_CHECKPOINT_MILLISECONDS}")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    except sqlite3.Error as error:
        raise DatabaseError(
            f"{path.name}: rows are deleted, but their space was not returned to the disk ({type(error).__name__}); run vigil "
            "retention again"
        ) from None


def is_nearly_full(folder: Path) -> bool:
    """Return whether so little of the disk is free that only indispensable records may still be written."""
    usage = shutil.disk_usage(folder)
    return usage.free < min(_SPARE_BYTES, usage.total * _SPARE_SHARE)


def _engine(path: Path, *, writes: bool) -> sa.Engine:
    # As an object: put into a text, a path with % or ? would be another one.
    url = sa.URL.create("sqlite", database=str(path.resolve()))
    if not writes:
        url = sa.URL.create("sqlite", database=f"file:{path.resolve()}", query={"mode": "ro", "uri": "true"})
    # hide_parameters: an error must not carry a patient's row into a log.
    return sa.create_engine(url, hide_parameters=True, connect_args={"timeout": WAIT_SECONDS}, json_serializer=_JSON.encode)


def _take_over_former_file(home: Path, schema: Schema) -> None:
    """Rename the file of an earlier version, with its write-ahead log."""
    if schema.former_file is None or (home / schema.file).exists():
        return
    for suffix in ("-wal", "-shm", ""):  # the database last: until then the next start tries again
        with suppress(FileNotFoundError):  # there is none, or another process renames it at the same time
            (home / f"{schema.former_file}{suffix}").rename(home / f"{schema.file}{suffix}")


def _migrate(connection: sa.Connection, schema: Schema) -> None:
    """Create the tables of a new file, or bring those of an earlier version up to date."""
    revision = _revision(connection, schema)
    if revision == schema.revision:
        return
    if revision is None:
        schema.metadata.create_all(connection)
        _REVISIONS.create(connection)
        connection.execute(_REVISIONS.insert().values(version_num=schema.revision))
        return
    from vigil.serving.records.migrations import upgrade

    logger.info("%s: migrating from revision %s to %s", schema.file, revision, schema.revision)
    upgrade(connection, schema.name)


def _revision(connection: sa.Connection, schema: Schema) -> str | None:
    """Return the revision of a file; None: it is new; ``base``: an earlier version wrote it, before there were revisions."""
    tables = set(sa.inspect(connection).get_table_names())
    if _REVISIONS.name in tables:
        revision = str(connection.execute(sa.select(_REVISIONS.c.version_num)).scalar_one())
        if revision > schema.revision:
            raise DatabaseError(
                f"{schema.file}: a later version of Vigil wrote it (revision {revision}, this one knows {schema.revision}); "
                "install that version, or restore an earlier backup"
            )
        return revision
    return "base" if tables else None


def _insert(connection: sa.Connection, table: sa.Table) -> Any:
    return _DIALECT_INSERT[connection.dialect.name](table)


def _unusable(engine: sa.Engine, error: sa.exc.DatabaseError) -> Exception:
    """Return what is wrong with a file: locked, full or damaged. Other errors are faults of the code, and stay as they are."""
    if isinstance(error, sa.exc.OperationalError) or type(error) is sa.exc.DatabaseError:
        return unusable_file(Path(str(engine.url.database)), error)
    return error


def unusable_file(path: Path, error: sa.exc.DatabaseError | sqlite3.Error) -> DatabaseError:
    """Return the error of a file that cannot be used, without what its rows hold."""
    cause = error.orig if isinstance(error, sa.exc.DatabaseError) else error
    return DatabaseError(f"{path.name}: cannot be used ({type(cause).__name__}); is it locked or damaged, or is the disk full?")


def _set_durability(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # SQLAlchemy's begin is the only one
    if connection.execute("PRAGMA page_count").fetchone() == (0,):  # in a file that is not new it would wait for writers
        connection.execute("PRAGMA auto_vacuum=INCREMENTAL")  # what retention empties is returned to the disk in steps
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")


def _begin_transaction(connection: sa.Connection) -> None:
    """Begin. A transaction that will write says so at once: later it might find that another has written in between."""
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
