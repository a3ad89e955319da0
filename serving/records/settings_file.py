"""A TOML file of a home that people edit while a server runs: read again when it changes, with the last usable copy at hand."""

import errno
import logging
import os
import tomllib
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

from pydantic import BaseModel, ValidationError

from vigil.features.errors import VigilError

logger: Final = logging.getLogger("vigil.serving")

Content = TypeVar("Content", bound=BaseModel)


class SettingsFile(Generic[Content]):
    """One file. A file that becomes unusable is logged and changes nothing.

    The same holds at a start, by a copy of the last usable file that is stored beside it.
    """

    def __init__(self, path: Path, content: type[Content], error: type[VigilError], expected: str, *, strict: bool) -> None:
        """Read the file, if there is one. A slip in it does not stop a server: the last usable copy stays in force.

        Args:
            path: where the file is.
            content: what it holds; made without arguments where there is no file.
            error: raised where the file cannot be used.
            expected: what to write in place of what cannot be used.
            strict: refuse a file that cannot be used.

        Raises:
            VigilError: it cannot be used; only if strict.
        """
        self.path = path
        self._last_good = path.with_suffix(".last_good.toml")  # our copy, in force while the file cannot be used
        self._type, self._error, self._expected = content, error, expected
        self._version: object = None
        self.content = content()
        if strict:
            self._read()
        else:
            self._start()

    def refresh(self) -> None:
        """Read the file again, if it has changed."""
        try:
            self._read()
        except VigilError as error:
            logger.error("%s; the previous settings stay in force", error)  # noqa: TRY400 - the message says it all

    def _start(self) -> None:
        """Read the file; if it cannot be used, the copy of the last usable one, or nothing."""
        try:
            self._read()
        except VigilError as error:
            try:
                self.content = self._parse(self._last_good, self._last_good.read_text())
                logger.error("%s; %s stays in force", error, self._last_good.name)  # noqa: TRY400
            except (VigilError, OSError):
                logger.error("%s; defaults are in force", error)  # noqa: TRY400

    def _read(self) -> None:
        version = _version(self.path)
        if version == self._version:
            return
        self._version = version  # also of an unusable one: it is reported only when it changes
        try:
            text = "" if version is None else _text(self.path)
        except (OSError, ValueError) as error:  # such as a link to itself, or bytes that are no text
            raise self._error(f"{self.path}: cannot be read ({type(error).__name__}); expected TOML") from None
        self.content = self._parse(self.path, text)
        self._copy(text)

    def _parse(self, path: Path, text: str) -> Content:
        try:
            return self._type.model_validate(tomllib.loads(text))
        except ValidationError as error:
            first: Any = error.errors()[0]
            raise self._error(
                f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}; expected {self._expected}"
            ) from None
        except (ValueError, RecursionError) as error:  # TOML errors are ValueErrors
            raise self._error(f"{path}: cannot be read ({type(error).__name__}); expected TOML") from None

    def _copy(self, text: str) -> None:
        """Store a usable file for the next start."""
        try:
            if text and (not self._last_good.exists() or self._last_good.read_text() != text):
                unfinished = self._last_good.with_suffix(f".{os.getpid()}")
                unfinished.write_text(text)
                unfinished.replace(self._last_good)
        except OSError as error:
            logger.warning("%s: cannot be written (%s)", self._last_good.name, type(error).__name__)


def _version(path: Path) -> object:
    """Return what changes when a file does, as far as its directory entry tells; None: there is no file."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    except OSError as error:
        return error.errno
    return status.st_mtime_ns, status.st_ino, status.st_size


def _text(path: Path) -> str:
    if not path.is_file():  # reading a pipe would wait
        raise OSError(errno.EINVAL, "not a file")
    return path.read_text()
