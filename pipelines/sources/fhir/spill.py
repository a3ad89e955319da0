"""Readings on their way from files to stays: divided by patient on the disk, so that no more than a part is in memory."""

import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from vigil.features.observations import TIME

_LEAST: Final = 200_000  # rows in memory before they are written
_ROWS_A_FILE: Final = 200  # on average, at least, where there are many parts
_SCHEMA: Final = pa.schema(
    {
        "patient": pa.string(),
        "encounter": pa.string(),
        "observed_at": pa.int64(),
        "recorded_at": pa.int64(),
        "signal": pa.string(),
        "value": pa.float64(),
        "text": pa.string(),
        "unit": pa.string(),
        "comparator": pa.string(),
        "device_id": pa.string(),
        "message_id": pa.string(),
        "status": pa.string(),
        "version": pa.int64(),
        "refused": pa.string(),
        "path": pa.string(),
        "file": pa.string(),
        "line": pa.int64(),
    }
)


class Row(NamedTuple):
    """A reading; times in microseconds since 1970, UTC. ``text`` takes the place of a value that is no number."""

    patient: str | None
    encounter: str | None
    observed_at: int | None
    recorded_at: int | None
    signal: str
    value: float | None
    text: str | None
    unit: str | None
    comparator: str | None
    device_id: str | None
    message_id: str | None
    status: str
    version: int | None
    refused: str | None
    path: str | None
    file: str
    line: int


class Spill:
    """Rows in a folder, in parts by patient.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     spill = Spill(Path(folder), {"a": 0, "b": 1}, 2)
    ...     for name in "ab":
    ...         spill.add(Row(name, None, 0, 0, "heart_rate", 80.0, *[None] * 5, "final", *[None] * 3, "f", 1))
    ...     spill.flush()
    ...     spill.read(1)[["patient", "value"]].values.tolist()
    [['b', 80.0]]
    """

    def __init__(self, folder: Path, parts: Mapping[str, int], number: int) -> None:
        """Start without rows.

        Args:
            folder: empty, for its files.
            parts: the part of patients; others are spread evenly.
            number: of parts.
        """
        self._folder, self._parts, self._number = folder, parts, number
        self._rows: list[list[Row]] = [[] for _ in range(number)]
        self._waiting = self._files = 0
        self._largest = max(_LEAST, _ROWS_A_FILE * number)

    def add(self, row: Row) -> None:
        """Add a row."""
        part = self._parts.get(row.patient or "")
        if part is None:
            part = zlib.crc32((row.patient or "").encode("utf-8", "surrogatepass")) % self._number
        self._rows[part].append(row)
        self._waiting += 1
        if self._waiting >= self._largest:
            self.flush()

    def flush(self) -> None:
        """Write what waits."""
        for part, rows in enumerate(self._rows):
            if rows:
                columns = zip(*rows, strict=True)
                arrays = [pa.array(column, field.type) for column, field in zip(columns, _SCHEMA, strict=True)]
                name = f"{part:06}-{self._files:06}.parquet"
                pq.write_table(pa.Table.from_arrays(arrays, schema=_SCHEMA), self._folder / name)
                rows.clear()
        self._waiting, self._files = 0, self._files + 1

    def read(self, part: int) -> pd.DataFrame:
        """Return the rows of a part in the order in which they were added; times as timestamps, missing texts as None."""
        files = sorted(self._folder.glob(f"{part:06}-*.parquet"))
        tables = [pq.read_table(file) for file in files]
        table = pa.concat_tables(tables) if tables else _SCHEMA.empty_table()
        columns: dict[str, Any] = {field.name: table[field.name].to_pandas() for field in _SCHEMA if field.name not in _TIMES}
        for name in _TIMES:
            columns[name] = table[name].cast(pa.timestamp("us", "UTC")).to_pandas().astype(TIME)
        columns["version"] = pd.array(table["version"].to_pylist(), dtype="Int64")
        rows = pd.DataFrame({name: columns[name] for name in _SCHEMA.names})
        texts = rows["text"].notna()
        if texts.any():
            rows["value"] = rows["value"].astype(object).where(~texts, rows["text"])
        del rows["text"]
        return rows


_TIMES: Final = ("observed_at", "recorded_at")


def divide(patients: Iterable[str], number: int) -> dict[str, int]:
    """Return the part of each patient, for parts of about as many patients.

    >>> divide(["a", "a", "b", "c"], 2)
    {'a': 0, 'b': 0, 'c': 1}
    """
    unique = list(dict.fromkeys(patients))
    return {patient: position * number // len(unique) for position, patient in enumerate(unique)}
