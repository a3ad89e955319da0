"""Reading the tables of a mapping: columns of CSV and Parquet files, and of queries. Texts of CSV files stay as they are."""

import csv
import re
import tempfile
from collections.abc import Collection, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Final

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq
import sqlalchemy as sa

from vigil.pipelines.environment import expand_variables
from vigil.pipelines.sources import SourceError
from vigil.pipelines.sources._shared.parquet import require_columns
from vigil.pipelines.sources.table.mapping import FileSettings, Origin
from vigil.pipelines.table_files import refuse_repeated_columns

FILES: Final = "files"  # the database of a mapping whose queries run over the files of its folder
PARQUET: Final = (".parquet", ".pq")
# DuckDB's functions, by the kind of file. F and T would be taken as false and true.
_CSV: Final = "read_csv('{}', auto_type_candidates = ['BIGINT', 'DOUBLE', 'TIMESTAMP', 'DATE', 'VARCHAR'])"
_READERS: Final = {"csv": _CSV, "csv.gz": _CSV, "parquet": "read_parquet('{}')"}
LINE: Final = "line"  # the column that tells in which line of its file a row begins, or its number in another table
_MOST_SHOWN: Final = 20
_ROWS: Final = 250_000  # of one part that is read at a time
_CSV_BLOCK: Final = 16_000_000  # bytes of one part of a CSV file; no row may be longer
_QUERY_MEMORY: Final = "2GB"


def iterate_rows(
    table: Origin, columns: Collection[str], folder: Path, settings: FileSettings, url: str | None
) -> Iterator[pa.Table]:
    """Yield columns of a table, some rows at a time, at least once.

    Args:
        table: which.
        columns: their names. One that is asked for twice is read once.
        folder: of the data.
        settings: how the file is written.
        url: of the database; a query needs it.

    Yields:
        The columns, and :data:`LINE`. Those of a CSV file are texts.

    Raises:
        SourceError: the table cannot be read, or lacks a column.
    """
    wanted, line = list(dict.fromkeys(columns)), 1
    if table.query is not None:
        assert url is not None  # the mapping was checked
        parts = _query_files(table.query, wanted, folder) if url == FILES else _query_database(table.query, wanted, url, folder)
    else:
        path = folder / str(table.file)
        if path.suffix in PARQUET:
            parts = _iterate_parquet(path, wanted)
        else:
            parts, line = _iterate_csv(path, wanted, settings)
    for part in parts:
        yield part.append_column(LINE, pa.array(range(line, line + len(part)), pa.int64()))
        line += len(part)


def read_header(path: Path, settings: FileSettings) -> tuple[list[str], int]:
    """Return the names of the columns of a CSV file, and how many lines come before them.

    A line such as ``sep=;``, which Excel writes and reads, is not one of the table.

    Raises:
        SourceError: the file cannot be read, or holds no such line.
    """
    try:
        with path.open(encoding=_with_mark(settings.encoding), newline="") as file:
            skipped = settings.skip_lines
            lines = list(islice(file, skipped + 2))
    except OSError as error:
        raise SourceError(f"{path}: cannot be read ({type(error).__name__}); expected a CSV or Parquet file") from None
    except UnicodeError:
        raise SourceError(
            f'{path}: is not written in {settings.encoding}; name its encoding: encoding = "cp1252", for example'
        ) from None
    if lines[skipped:] and lines[skipped].lower().startswith("sep="):
        skipped += 1
    if len(lines) <= skipped:
        raise SourceError(f"{path}: has no line {skipped + 1}; expected the names of its columns there")
    names = next(csv.reader([lines[skipped]], delimiter=settings.delimiter))
    names = [name.strip() for name in names]
    refuse_repeated_columns(path, names)
    return names, skipped


def _iterate_csv(path: Path, columns: Sequence[str], settings: FileSettings) -> tuple[Iterator[pa.Table], int]:
    """Return the rows of a CSV file, and the line of the first."""
    names, skipped = read_header(path, settings)
    _require_columns(path.name, columns, names, settings)
    return _iterate_csv_rows(path, columns, settings, names, skipped), skipped + 2


def _iterate_csv_rows(
    path: Path, columns: Sequence[str], settings: FileSettings, names: list[str], skipped: int
) -> Iterator[pa.Table]:
    wrong: list[int] = []

    def refuse(row: pyarrow.csv.InvalidRow) -> str:
        wrong.append(row.actual_columns)
        return "skip"

    missing = pa.array(["", *settings.missing])
    try:
        reader = pyarrow.csv.open_csv(
            path,
            pyarrow.csv.ReadOptions(
                column_names=names, skip_rows=skipped + 1, encoding=settings.encoding, block_size=_CSV_BLOCK, use_threads=False
            ),
            pyarrow.csv.ParseOptions(
                delimiter=settings.delimiter, newlines_in_values=True, invalid_row_handler=refuse, ignore_empty_lines=True
            ),
            pyarrow.csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()),
                include_columns=list(columns),
            ),
        )
        yield reader.schema.empty_table()
        for batch in reader:
            trimmed = {name: pc.utf8_trim_whitespace(batch.column(name)) for name in columns}
            known = {name: pc.if_else(pc.is_in(texts, missing), None, texts) for name, texts in trimmed.items()}
            yield pa.table(known)
    except (OSError, pa.ArrowException, UnicodeError) as error:
        if "Empty CSV file" in str(error):  # it has names of columns, and no row
            yield pa.table({name: pa.array([], pa.string()) for name in columns})
            return
        raise SourceError(
            f"{path}: cannot be read as CSV ({type(error).__name__}); expected {len(names)} columns divided by "
            f"{settings.delimiter!r} in {settings.encoding}"
        ) from None
    if wrong:
        raise SourceError(
            f"{path}: {len(wrong)} rows do not have {len(names)} columns divided by {settings.delimiter!r}, the first has "
            f"{wrong[0]}; correct them, or the delimiter; a text that holds the delimiter stands in quotation marks"
        )


def _iterate_parquet(path: Path, columns: Sequence[str]) -> Iterator[pa.Table]:
    require_columns(path, *columns)
    with pq.ParquetFile(path) as file:
        yield pa.schema([file.schema_arrow.field(name) for name in columns]).empty_table()
        for batch in file.iter_batches(_ROWS, columns=list(columns)):
            yield pa.Table.from_batches([batch]).select(columns)


def _query_files(query: str, columns: Sequence[str], folder: Path) -> Iterator[pa.Table]:
    """Run a query over the files of a folder and its subfolders by DuckDB, which does not load them.

    A file ``icu/chartevents.csv.gz`` is the table ``chartevents``. Others are read by their paths in the folder. What a query
    needs beyond :data:`_QUERY_MEMORY` lies in a temporary folder meanwhile.
    """
    import duckdb

    options: dict[str, Any] = {"autoinstall_known_extensions": "false", "autoload_known_extensions": "false"}
    try:
        with tempfile.TemporaryDirectory(prefix="vigil-") as room, duckdb.connect(config=options) as connection:
            connection.execute(f"SET memory_limit = '{_QUERY_MEMORY}'; SET temp_directory = '{_quoted(room)}'")
            connection.execute("SET enable_progress_bar = false")
            connection.execute(f"SET file_search_path = '{_quoted(str(folder.resolve()))}'")
            for path in sorted(folder.rglob("*")):
                name, _, kind = path.name.partition(".")
                if kind in _READERS and re.search(rf"\b{re.escape(name)}\b", query):
                    reader = _READERS[kind].format(_quoted(str(path.resolve())))
                    connection.execute(f'CREATE OR REPLACE VIEW "{name}" AS SELECT * FROM {reader}')  # noqa: S608 - names, quoted
            rows: pa.RecordBatchReader = connection.sql(query).to_arrow_reader(_ROWS)
            refuse_repeated_columns(Path("query"), rows.schema.names)
            _require_columns("query", columns, rows.schema.names, None)
            yield rows.schema.empty_table().select(columns)
            for batch in rows:
                yield pa.Table.from_batches([batch]).select(columns)
    except duckdb.Error as error:
        # What these say is about names of files, tables and columns. Others may quote values.
        says = isinstance(error, duckdb.IOException | duckdb.CatalogException | duckdb.BinderException | duckdb.ParserException)
        told = str(error).partition("\n")[0] if says else type(error).__name__
        raise SourceError(f"query: DuckDB cannot run it over {folder}: {told}") from None


def _quoted(text: str) -> str:
    return text.replace("'", "''")


def _query_database(query: str, columns: Sequence[str], url: str, folder: Path) -> Iterator[pa.Table]:
    try:
        address = sa.make_url(expand_variables(url))
    except KeyError as error:
        raise SourceError(f"database: {error.args[0]}: no such environment variable; set it, or correct the URL") from None
    except (ValueError, sa.exc.ArgumentError):
        raise SourceError(
            "database: no URL of a database; expected such as postgresql+psycopg://reader:$PASSWORD@host/ehr, or files"
        ) from None
    if address.get_backend_name() == "sqlite" and address.database:
        path = folder / address.database
        if not path.is_file():  # SQLite would make it
            raise SourceError(f"database: {path}: no such file; expected one of SQLite")
        address = address.set(database=str(path))
    try:
        engine = sa.create_engine(address)
        with engine.connect().execution_options(stream_results=True) as connection:
            for rows in pd.read_sql_query(sa.text(query), connection, chunksize=_ROWS):
                refuse_repeated_columns(Path("query"), rows.columns)
                _require_columns("query", columns, list(rows.columns), None)
                yield _to_arrow(rows[list(columns)])
    except (sa.exc.SQLAlchemyError, ImportError) as error:  # its message may hold a password, or values
        cause = type(getattr(error, "orig", None) or error).__name__
        raise SourceError(f"query: the database refuses it ({cause}); try it there: {query}") from None


def _to_arrow(rows: pd.DataFrame) -> pa.Table:
    """Return rows of a database. Values of several types in one column become texts."""
    columns = {}
    for name in rows:
        try:
            columns[name] = pa.array(rows[name], from_pandas=True)
        except (pa.ArrowInvalid, pa.ArrowTypeError):
            columns[name] = pa.array(rows[name].astype("string"), pa.string())
    return pa.table(columns)


def _require_columns(title: str, columns: Sequence[str], present: Sequence[str], settings: FileSettings | None) -> None:
    missing = [name for name in columns if name not in present]
    if not missing:
        return
    shown = ", ".join(present[:_MOST_SHOWN]) + (", ..." if len(present) > _MOST_SHOWN else "")
    hint = ""
    if settings is not None and len(present) == 1:
        hint = f"; is {settings.delimiter!r} its delimiter?"
    raise SourceError(f"{title}: no column {', '.join(missing)}; it has {shown}{hint}")


def _with_mark(encoding: str) -> str:
    """Return the encoding that drops the mark with which some programs begin a file in UTF-8."""
    return "utf-8-sig" if encoding == "utf-8" else encoding
