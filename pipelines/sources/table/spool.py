"""Rows of tables by key: in memory while they are few, else in temporary files, so that some keys at a time are in memory."""

import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from vigil.pipelines.sources.table.columns import read_names

PARTS: Final = 256  # into which keys are divided, by a fixed function of their names
MOST_ROWS: Final = 500_000  # of one batch, as far as whole parts allow; so many are held in memory

Int64 = NDArray[np.int64]


class Spool:
    """Rows of tables. All rows of one key are in one part, whichever table they are of."""

    def __init__(self) -> None:
        self.rows: Int64 = np.zeros(PARTS, np.int64)  # of each part, all tables together
        self._keys: dict[str, set[str]] = {}
        self._empty: dict[str, pd.DataFrame] = {}
        self._held: list[tuple[str, pa.Table, Int64]] = []
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._writers: dict[tuple[str, int], pq.ParquetWriter] = {}
        self._files: dict[tuple[str, int], list[Path]] = {}
        self._written = 0  # files

    def add(self, table: str, key: str, rows: Iterable[pa.Table]) -> None:
        """Add rows of a table.

        Args:
            table: its name, by which :meth:`read` returns it.
            key: the column with the key; rows without one are in part 0.
            rows: some at a time.
        """
        keys = self._keys.setdefault(table, set())
        for some in rows:
            self._empty.setdefault(table, some.schema.empty_table().to_pandas())
            part, names = _divide(some.column(key))
            keys.update(names)
            self.rows += np.bincount(part, minlength=PARTS)
            self._held.append((table, some, part))
            if self._folder is not None or self.rows.sum() > MOST_ROWS:
                self._write_held()

    def finish(self) -> None:
        """End adding."""
        for writer in self._writers.values():
            writer.close()
        self._writers = {}

    def read(self, table: str, parts: Sequence[int]) -> pd.DataFrame:
        """Return the rows of some parts of a table, part by part in the order in which they were added."""
        paths = [path for part in parts for path in self._files.get((table, part), ())]
        frames = [pq.read_table(path, partitioning=None).to_pandas() for path in paths]
        for name, rows, part in self._held:
            if name == table and (is_in := np.isin(part, parts)).any():
                frames.append((rows if is_in.all() else rows.filter(pa.array(is_in))).to_pandas())
        return stack(frames) if frames else self._empty[table]

    @property
    def tables(self) -> list[str]:
        """The names of the tables."""
        return list(self._keys)

    def keys(self, table: str) -> set[str]:
        """Return the keys of a table."""
        return self._keys[table]

    def batches(self, table: str, most_keys: int) -> list[list[int]]:
        """Return groups of parts for batches of at most some rows and keys of a table, as far as whole parts allow."""
        keys = np.bincount(part_of(sorted(self._keys[table])), minlength=PARTS)
        batches: list[list[int]] = [[]]
        for part in range(PARTS):
            members = [*batches[-1], part]
            if batches[-1] and (self.rows[members].sum() > MOST_ROWS or keys[members].sum() > most_keys):
                batches.append([])
            batches[-1].append(part)
        return [batch for batch in batches if self.rows[batch].any()] or [[0]]

    def _write_held(self) -> None:
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="vigil-")
        for table, rows, part in self._held:
            order = np.argsort(part, kind="stable")
            ordered, bounds = rows.take(order), np.searchsorted(part[order], np.arange(PARTS + 1))
            for number in np.flatnonzero(np.diff(bounds)).tolist():
                own = ordered.slice(bounds[number], bounds[number + 1] - bounds[number])
                self._writer(table, number, own.schema).write_table(own)
        self._held = []

    def _writer(self, table: str, part: int, schema: pa.Schema) -> pq.ParquetWriter:
        """Return the writer of a part. A database may give its later rows in other types: they have a file of their own."""
        writer = self._writers.get((table, part))
        if writer is None or writer.schema != schema:
            if writer is not None:
                writer.close()
            assert self._folder is not None  # made before
            paths = self._files.setdefault((table, part), [])
            self._written += 1
            paths.append(Path(self._folder.name) / f"{self._written}.parquet")
            writer = self._writers[table, part] = pq.ParquetWriter(paths[-1], schema, compression="lz4")
        return writer


def stack(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Return the rows of all frames, which have the same columns. Those without rows decide no type."""
    filled = [frame for frame in frames if len(frame)] or frames[:1]
    return pd.concat(filled, ignore_index=True)


def part_of(names: Sequence[Any]) -> Int64:
    """Return the part of each name.

    >>> int(part_of(["a"])[0]) == int(part_of(["b", "a"])[1]) < PARTS
    True
    """
    return np.asarray(pd.util.hash_array(np.array(names, dtype=object), categorize=False) % PARTS, dtype=np.int64)


def _divide(keys: pa.ChunkedArray) -> tuple[Int64, list[str]]:
    """Return the part of each row, and the names that occur."""
    if pa.types.is_dictionary(keys.type):
        keys = keys.cast(keys.type.value_type)
    encoded = pc.dictionary_encode(keys.combine_chunks(), null_encoding="encode")
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.combine_chunks()
    names = read_names(encoded.dictionary.to_pandas())
    part = np.where(names.isna(), 0, part_of(names.fillna("").tolist()))
    return part[encoded.indices.to_numpy()].astype(np.int64), names.dropna().tolist()
