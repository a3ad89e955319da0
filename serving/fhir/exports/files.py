"""The files of exports: NDJSON, gzipped, in a folder of the home that only its owner can open. No other module opens them."""

import fcntl
import gzip
import io
import os
import shutil
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final, Self, cast

from vigil.features.errors import VigilError
from vigil.serving.records.database import is_nearly_full

FOLDER: Final = "exports"

_LOCK: Final = "lock"
_LEVEL: Final = 1  # of compression: a tenth of the size, and hardly slower than none
_CHUNK_BYTES: Final = 1 << 16  # read at once; NDJSON is twenty times as long when it is unpacked
_WITH_GZIP_HEADER: Final = 16 + zlib.MAX_WBITS


class ExportFileError(VigilError):
    """A file of an export cannot be written or read."""


class LineWriter:
    """Writes a file line by line; it is on the disk when it is closed."""

    def __init__(self, path: Path) -> None:
        self._file = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb")
        self._gzip = gzip.GzipFile(fileobj=self._file, mode="wb", filename="", compresslevel=_LEVEL, mtime=0)
        self._lines = io.BufferedWriter(cast("io.RawIOBase", self._gzip), _CHUNK_BYTES)

    def write(self, line: bytes) -> None:
        """Write a line, which has no end of line."""
        self._lines.write(line + b"\n")

    def close(self) -> None:
        """Write what is waiting."""
        self._lines.close()  # and the compressor with it
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, place: TracebackType | None) -> None:
        self.close()


class ExportFiles:
    """The files of the exports of one home. Each export has a folder of its name."""

    def __init__(self, home: Path) -> None:
        self._home, self._folder = home, home / FOLDER

    def is_disk_nearly_full(self) -> bool:
        """Return whether so little of the disk is free that no export may be written."""
        return is_nearly_full(self._home)

    @contextmanager
    def lock(self) -> Iterator[bool]:
        """Hold the right to write exports, which one process of the machine has; yield whether this one has it now.

        It ends with the process, however that ends.
        """
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with (self._folder / _LOCK).open("wb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            yield True

    def begin(self, export: str) -> None:
        """Make the folder of an export, empty."""
        self.remove(export)
        (self._folder / export).mkdir(mode=0o700, parents=True)

    def write(self, export: str, name: str) -> LineWriter:
        """Return a writer of a new file."""
        return LineWriter(self._path(export, name))

    def has(self, export: str) -> bool:
        """Return whether an export has a folder. A home that was restored from a backup has none of them."""
        return (self._folder / export).is_dir()

    def read(self, export: str, name: str, *, gzipped: bool) -> Iterator[bytes]:
        """Yield the content of a file, gzipped or not.

        Raises:
            ExportFileError: it is not there.
        """
        try:
            file = self._path(export, name).open("rb")
        except OSError as error:
            raise ExportFileError(f"{FOLDER}: a file cannot be read ({type(error).__name__}); export again") from None
        return self._chunks(file, gzipped=gzipped)

    @staticmethod
    def _chunks(file: BinaryIO, *, gzipped: bool) -> Iterator[bytes]:
        decompressor = zlib.decompressobj(_WITH_GZIP_HEADER)
        with file:
            while chunk := file.read(_CHUNK_BYTES):
                yield chunk if gzipped else decompressor.decompress(chunk)

    def size(self, export: str, name: str) -> int:
        """Return the bytes of a file, gzipped."""
        return self._path(export, name).stat().st_size

    def remove(self, export: str) -> None:
        """Remove the files of an export, if there are any."""
        with suppress(FileNotFoundError):
            shutil.rmtree(self._folder / export)

    def stored(self) -> set[str]:
        """Return the names of all exports that have a folder."""
        with suppress(FileNotFoundError):
            return {path.name for path in self._folder.iterdir() if path.is_dir()}
        return set()

    def _path(self, export: str, name: str) -> Path:
        return self._folder / export / f"{name}.gz"
