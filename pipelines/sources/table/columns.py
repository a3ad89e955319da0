"""Columns of tables as times and as names, whatever they are stored as."""

from datetime import datetime
from typing import Any, Final

import numpy as np
import pandas as pd

from vigil.features.declarations import SourceDeclaration
from vigil.pipelines.sources._shared.facts import time_after
from vigil.pipelines.sources.table.files import LINE
from vigil.pipelines.sources.table.mapping import Origin

EPOCH: Final = pd.Timestamp("2000-01-01T00:00:00Z").as_unit("us")  # of times that count from the admission; any date will do
_MOST_LINES: Final = 5


def read_times(
    texts: "pd.Series[Any]", table: Origin, declaration: SourceDeclaration, *, dates: bool = False
) -> "pd.Series[pd.Timestamp]":
    """Return times as they are declared, UTC; NaT where there is none, or it is written otherwise.

    Args:
        texts: texts, times as another program stores them, or numbers, if the table says so.
        table: that holds the column.
        declaration: of its file.
        dates: whether a date alone is a time, too: its midnight.

    >>> table = Origin(file="a.csv")
    >>> read_times(pd.Series(["2026-03-05T08:00:00+01:00", "05.03.2026"]), table, SourceDeclaration()).tolist()
    [Timestamp('2026-03-05 07:00:00+0000', tz='UTC'), NaT]
    """
    if table.offset is not None:
        return time_after(EPOCH, pd.to_numeric(texts, errors="coerce"), table.offset)
    codes, uniques = pd.factorize(texts)
    instants = [*(_instant(value, declaration, dates=dates) for value in uniques), np.datetime64("NaT")]  # -1: missing
    return pd.Series(np.array(instants, "datetime64[us]")[codes], texts.index).dt.tz_localize("UTC")


def expected_time(table: Origin, declaration: SourceDeclaration) -> str:
    """Return in words how the times of a table are to be written."""
    if table.offset is not None:
        return f"numbers of {table.offset} after the admission"
    written = "times in ISO 8601" if declaration.time_format is None else f"times as {declaration.time_format}"
    if declaration.time_zone is not None:
        return f"{written}, in {declaration.time_zone.key}"
    has_zone = declaration.time_format is None or "%z" in declaration.time_format
    return f"{written} with a zone" if has_zone else f'{written}, and a zone: time_zone = "Europe/Berlin", for example'


def read_names(values: "pd.Series[Any]") -> "pd.Series[str]":
    """Return names as texts. A whole number has no decimals, though a missing one may have made its column one of floats.

    >>> read_names(pd.Series([12.0, float("nan")])).tolist()
    ['12', <NA>]
    """
    if values.dtype.kind == "f" and (values.dropna() % 1 == 0).all():
        values = values.astype("Int64")
    return values.astype("string")


def is_among(values: "pd.Series[Any]", texts: list[str]) -> "pd.Series[bool]":
    """Return which values are one of some texts, whatever their case."""
    return read_names(values).str.lower().isin([text.lower() for text in texts])


def where(rows: pd.DataFrame, which: "pd.Series[bool]") -> str:
    """Return the lines of some rows, for a message."""
    lines = rows.loc[which, LINE].tolist()
    shown = ", ".join(map(str, lines[:_MOST_LINES]))
    return f"line {shown}" if len(lines) == 1 else f"lines {shown}{', ...' if len(lines) > _MOST_LINES else ''}"


def _instant(value: Any, declaration: SourceDeclaration, *, dates: bool) -> np.datetime64:
    """Return an instant, or NaT."""
    if isinstance(value, str):
        time = declaration.read_time(value)
        if time is None and dates:
            time = _read_date(value, declaration)
    else:
        time = pd.Timestamp(value).to_pydatetime(warn=False)
    if time is not None and time.tzinfo is None:
        time = declaration.localise(time)
    return np.datetime64("NaT") if time is None else pd.Timestamp(time).tz_convert("UTC").to_datetime64()


def _read_date(text: str, declaration: SourceDeclaration) -> datetime | None:
    """Return the midnight of a date, which is written as the dates of the declared times are."""
    written = (declaration.time_format or "%Y-%m-%d").split()[0].partition("T")[0]
    try:
        return datetime.strptime(text, written)  # noqa: DTZ007 - the zone is that of the source
    except ValueError:
        return None
