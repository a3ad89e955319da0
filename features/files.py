"""Files that are written once and never replaced, such as keys."""

import os
import secrets
from contextlib import suppress
from pathlib import Path


def write_new(path: Path, content: bytes, mode: int) -> None:
    """Write a file that does not exist yet, completely or not at all.

    An existing file is left unchanged: of several writers the first one wins. Missing folders are created.

    Args:
        path: File to write.
        content: Bytes of the file.
        mode: Permissions of the file. The umask can only narrow them.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):
            os.link(unfinished, path)  # unlike a rename, a link never replaces an existing file
    finally:
        unfinished.unlink()


def read_hex_key(path: Path, size: int) -> bytes | None:
    """Read a key of ``size`` bytes from a file of hexadecimal digits. Return None if the file holds no such key.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "some.key"
    >>> write_new(path, b"key!".hex().encode(), 0o600)
    >>> read_hex_key(path, 4)
    b'key!'
    >>> read_hex_key(path, 32) is None
    True
    """
    try:
        key = bytes.fromhex(path.read_text().strip())
    except (OSError, ValueError):
        return None
    return key if len(key) == size else None
