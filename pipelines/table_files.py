"""Tables that people or other programs hand over: CSV and Parquet files, whose columns have to be told apart by their names."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import pandas as pd
import pyarrow.parquet as pq

from vigil.features.errors import VigilError

_DATES: Final = ("%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%Y/%m/%d", "%d.%m.%y")
# How programs write local times, beside ISO 8601.
TIME_FORMATS: Final = tuple(f"{date} {time}" for date in _DATES for time in ("%H:%M:%S", "%H:%M", "%I:%M:%S %p", "%I:%M %p"))


class RepeatedColumnError(VigilError):
    """A table has two columns of one name."""


def read_table(path: Path, **csv_options: Any) -> pd.DataFrame:
    """Read a CSV file (by its suffix) or a Parquet file.

    Args:
        path: the file.
        csv_options: as :func:`read_csv` takes them.

    Raises:
        RepeatedColumnError: two columns have one name.
        OSError, ValueError, pyarrow.ArrowException: the file cannot be read.
    """
    if path.suffix == ".csv":
        return read_csv(path, **csv_options)
    refuse_repeated_columns(path, pq.read_schema(path).names)
    return pd.read_parquet(path)


def read_csv(path: Path, **options: Any) -> pd.DataFrame:
    """Read a CSV file. pandas alone would rename the second of two columns of one name, and the first would count.

    Args:
        path: the file.
        options: of :func:`pandas.read_csv`.

    Raises:
        RepeatedColumnError: two columns have one name.
        OSError, ValueError: the file cannot be read.
    """
    table: pd.DataFrame = pd.read_csv(path, **options)
    header = pd.read_csv(path, **{**options, "dtype": str, "header": None, "nrows": 1, "keep_default_na": False})
    refuse_repeated_columns(path, header.iloc[0])
    return table


def refuse_repeated_columns(path: Path, names: Iterable[str]) -> None:
    """Refuse a table in which two columns have one name. Columns without a name are not compared.

    Raises:
        RepeatedColumnError: with the name.
    """
    seen: set[str] = set()
    for name in filter(None, names):
        if name in seen:
            raise RepeatedColumnError(f"{path}: column {name} is there more than once; expected each once; remove the others")
        seen.add(name)


def formats_of(texts: Sequence[str], formats: Iterable[str], *, least: float = 1.0) -> list[str]:
    """Return the formats in which at least a share of some texts are times.

    >>> formats_of(["05.03.2026 08:00", "17.03.2026 09:30"], TIME_FORMATS)
    ['%d.%m.%Y %H:%M']
    """
    return [one for one in formats if texts and sum(_is_time(text, one) for text in texts) >= least * len(texts)]


def _is_time(text: str, written: str) -> bool:
    try:
        datetime.strptime(text, written)  # noqa: DTZ007 - the time itself is not used
    except ValueError:
        return False
    return True
