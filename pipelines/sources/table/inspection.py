"""Looking at a file whose columns are not described: how it is written, and what its columns seem to be."""

import csv
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import pandas as pd
import pyarrow.parquet as pq

from vigil.features.declarations import SourceDeclaration
from vigil.features.signals import SIGNALS
from vigil.features.units import canonical_unit, competing_conversions
from vigil.pipelines.proposed_units import propose_unit
from vigil.pipelines.sources import SourceError
from vigil.pipelines.sources.table.files import PARQUET
from vigil.pipelines.sources.table.names import find_fact, find_signal
from vigil.pipelines.table_files import TIME_FORMATS, formats_of

_SAMPLE: Final = 20_000  # rows of a file that are looked at
_LOOKED_AT: Final = 2_000  # values of a column
_DELIMITERS: Final = ",;\t|"
_ISO: Final = ""


@dataclass
class InspectedTable:
    """A file as it seems to be."""

    path: Path
    rows: pd.DataFrame
    settings: dict[str, Any] = field(default_factory=dict)
    facts: dict[str, str] = field(default_factory=dict)  # column by field of the mapping
    signals: dict[str, str] = field(default_factory=dict)  # column by signal
    times: set[str] = field(default_factory=set)  # columns
    doubts: list[str] = field(default_factory=list)

    @property
    def key(self) -> str | None:
        """The column that names the stay."""
        return self.facts.get("stay") or self.facts.get("patient")

    @property
    def is_long(self) -> bool:
        return {"signal", "value"} <= self.facts.keys() and not self.signals

    @property
    def is_observed(self) -> bool:
        return "time" in self.facts and (self.is_long or bool(self.signals))

    def varies(self, column: str) -> bool:
        """Return whether a column differs within any stay."""
        return self.key is not None and bool(self.rows.groupby(self.key)[column].nunique().max() > 1)

    def doubt(self, text: str) -> None:
        self.doubts.append(f"{self.path.name}: {text}")

    def values(self, column: str) -> list[str]:
        """Return some values of a column as texts."""
        return list(map(str, self.rows[column].dropna().unique()[:_LOOKED_AT]))


def inspect(path: Path, time_zone: str | None) -> InspectedTable:
    """Look at a file. ``time_zone``: of times without one; None: it is not known.

    Raises:
        SourceError: the file cannot be read, or has no rows.
    """
    if path.suffix in PARQUET:
        try:
            batch = next(pq.ParquetFile(path).iter_batches(batch_size=_SAMPLE))
        except (OSError, ValueError, StopIteration) as error:
            raise SourceError(f"{path}: cannot be read ({type(error).__name__}); expected Parquet with rows") from None
        table = InspectedTable(path, batch.to_pandas())
    else:
        table = _look_at_csv(path)
    _find_times(table, time_zone)
    for column in map(str, table.rows.columns):
        fact, (signal, unit) = find_fact(column), find_signal(column)
        if signal and column not in table.times and (fact is None or fact == "signal"):
            _add_signal(table, column, signal, unit)
        elif fact and fact not in table.facts:
            table.facts[fact] = column
    if "time" not in table.facts and len(unnamed := table.times - set(table.facts.values())) == 1:
        table.facts["time"] = next(iter(unnamed))
        table.doubt(f"{table.facts['time']} is taken as the time of the observations, as no column is called so")
    if "time" in table.facts and table.facts["time"] not in table.times:
        _look_at_offsets(table)
    return table


def _look_at_csv(path: Path) -> InspectedTable:
    try:
        with path.open("rb") as file:
            start = file.read(4_000_000)
    except OSError as error:
        raise SourceError(f"{path}: cannot be read ({type(error).__name__}); expected a CSV or Parquet file") from None
    encoding = _encoding(start)
    if encoding != "utf-16" and b"\0" in start:
        raise SourceError(f"{path}: is no text; expected CSV or Parquet; a workbook has to be saved as CSV first")
    lines = start.decode(encoding, errors="ignore").splitlines()[:_SAMPLE]
    first = 1 if lines and lines[0].lower().startswith("sep=") else 0
    widths = {sign: Counter(len(row) for row in csv.reader(lines[first : first + 200], delimiter=sign)) for sign in _DELIMITERS}
    delimiter, width = max(
        ((sign, width) for sign, counts in widths.items() for width in counts),
        key=lambda pair: (pair[1] > 1) * widths[pair[0]][pair[1]] * (1 + pair[1] / 1_000),
        default=(",", 1),
    )
    rows = list(csv.reader(lines[first:], delimiter=delimiter))
    skipped = next((number for number, row in enumerate(rows) if len(row) == width and all(map(str.strip, row))), 0)
    if not rows[skipped + 1 :]:
        raise SourceError(f"{path}: has no rows; expected a line with the names of columns, and values below")
    names = [name.strip().lstrip("\ufeff") for name in rows[skipped]]
    texts = [[cell.strip() or None for cell in row] for row in rows[skipped + 1 :] if len(row) == len(names)]
    table = InspectedTable(path, pd.DataFrame(texts, columns=names, dtype=object))
    defaults = {"delimiter": ",", "encoding": "utf-8", "skip_lines": 0}
    found = {"delimiter": delimiter, "encoding": encoding.removesuffix("-sig"), "skip_lines": skipped}
    table.settings |= {name: value for name, value in found.items() if value != defaults[name]}
    numbers = [text for name in names for text in table.values(name)[:200] if re.fullmatch(r"[+-]?\d+[.,]\d+", text)]
    if numbers and sum("," in text for text in numbers) > len(numbers) / 2:
        table.settings["decimal_comma"] = True
        if any("." in text for text in numbers):
            table.doubt("most numbers have a decimal comma, and some a point, which is then not understood")
    return table


def _encoding(start: bytes) -> str:
    if start.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    try:
        start.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if error.start < len(start) - 4:  # else a character is cut
            return "cp1252"
    return "utf-8-sig"


def _find_times(table: InspectedTable, time_zone: str | None) -> None:
    """Find the columns of times, how they are written, and whether they have a zone."""
    written: dict[str, list[str]] = {}
    is_local = False
    for column in map(str, table.rows.columns):
        values = table.rows[column]
        if isinstance(values.dtype, pd.DatetimeTZDtype) or pd.api.types.is_datetime64_dtype(values):
            table.times.add(column)
            is_local |= not isinstance(values.dtype, pd.DatetimeTZDtype)
            continue
        texts = table.values(column) if values.dtype == object else []
        formats = _formats(texts)
        if formats:
            table.times.add(column)
            written[column] = formats
            is_local |= formats[0] != _ISO or any(datetime.fromisoformat(text).tzinfo is None for text in texts)
    if written:
        common = [one for one in TIME_FORMATS if all(one in formats for formats in written.values())]
        if not all(formats == [_ISO] for formats in written.values()) and not common:
            table.doubt(f"its times are written in several ways ({', '.join(written)}); a file can have one")
        if common:
            table.settings["time_format"] = common[0]
        if len(common) > 1:
            table.doubt(f"its times could be {' or '.join(common)}; the first is taken")
    if is_local and time_zone is not None:
        table.settings["time_zone"] = time_zone
    elif is_local:
        table.doubt('its times have no zone; add time_zone = "Europe/Berlin", or whichever it is')


def _formats(texts: Sequence[str]) -> list[str]:
    """Return the ways in which all texts are times; none: they are not."""
    return [_ISO] if texts and all(map(_is_iso, texts)) else formats_of(texts, TIME_FORMATS)


def _is_iso(text: str) -> bool:
    return SourceDeclaration().read_time(text) is not None


def _add_signal(table: InspectedTable, column: str, signal: str, unit: str | None) -> None:
    if signal in table.signals:
        table.doubt(f"{column} looks like {signal}, as {table.signals[signal]} does, which is taken")
        return
    numbers = numbers_of(table, column)
    if not numbers:
        table.doubt(f"{column} looks like {signal} and holds no numbers; it is left out")
        return
    table.signals[signal] = column
    settle_unit(table, column, signal, unit, numbers)


def settle_unit(table: InspectedTable, title: str, signal: str, unit: str | None, numbers: Sequence[float]) -> None:
    """Write the unit of a signal into the settings, where it is not the signal's own, or another could be meant."""
    own, proposal = SIGNALS[signal].unit, propose_unit(signal, numbers)
    middle = f"{title} has a median of {pd.Series(numbers).median():g}"
    if unit is None and proposal is not None and proposal[0] != own:
        table.doubt(f"{middle}, so it is taken in {proposal[0]}, and not in {own}")
    elif unit is not None and proposal is not None and proposal[0] != canonical_unit(unit):
        table.doubt(f"{middle}, which fits {proposal[0]} better than {unit}, which its name says")
    elif unit is None and proposal is None:
        table.doubt(f"{middle}, which fits no unit of {signal} well; it is taken in {own}")
    chosen = canonical_unit(unit) if unit else proposal[0] if proposal else own
    if chosen != own or competing_conversions(signal):  # else there is nothing to say
        table.settings.setdefault("units", {})[signal] = chosen


def numbers_of(table: InspectedTable, column: str) -> list[float]:
    values = table.rows[column].dropna()
    if table.settings.get("decimal_comma") and values.dtype == object:
        values = values.astype(str).str.replace(",", ".", n=1)
    numbers = pd.to_numeric(values, errors="coerce").dropna().tolist()
    return [float(number) for number in numbers[:_LOOKED_AT]]


def _look_at_offsets(table: InspectedTable) -> None:
    """Take a column of numbers as times after the admission, if it has the name of a time."""
    column = table.facts["time"]
    if not numbers_of(table, column):
        table.doubt(f"{column} is called a time and cannot be read as one; write its time_format")
        return
    table.settings["offset"] = "min" if "offset" in column.lower() or "min" in column.lower() else "h"
    table.doubt(f"{column} holds numbers: they are taken as {table.settings['offset']} after the admission")
