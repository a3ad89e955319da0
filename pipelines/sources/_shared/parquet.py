"""Reading the Parquet tables of a cohort that is a folder of them."""

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from vigil.pipelines.sources import SourceError
from vigil.pipelines.table_files import refuse_repeated_columns


def read_columns(path: Path, *columns: str) -> pd.DataFrame:
    """Read the named columns of a Parquet table.

    Raises:
        SourceError: the file does not exist, is not Parquet, or lacks a column.
        RepeatedColumnError: two columns have one name.
    """
    require_columns(path, *columns)
    table: pd.DataFrame = pd.read_parquet(path, columns=list(columns))
    return table


def require_columns(path: Path, *columns: str) -> None:
    """Refuse what is no Parquet table with the named columns.

    Raises:
        SourceError: the file does not exist, is not Parquet, or lacks a column.
        RepeatedColumnError: two columns have one name.
    """
    if not path.is_file():
        raise SourceError(f"{path}: not there; expected a table with columns {', '.join(columns)}")
    try:
        present = pq.read_schema(path).names
    except pa.ArrowInvalid as error:
        raise SourceError(f"{path}: not a Parquet file; expected one with columns {', '.join(columns)}") from error
    refuse_repeated_columns(path, present)
    if missing := [column for column in columns if column not in present]:
        raise SourceError(f"{path}: no column {', '.join(missing)}; expected {', '.join(columns)}; got {', '.join(present)}")
