"""Files that are written once."""

import os
import secrets
from contextlib import suppress
from pathlib import Path


def write_new(path: Path, content: bytes, mode: int) -> None:
    """Write a file that is not there yet, whole or not at all; whoever was first wins, and his is left as it is.

    ``mode``: the permissions, which the umask can only narrow. Folders are made as needed.
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
            os.link(unfinished, path)  # unlike a rename, it never takes another file's place
    finally:
        unfinished.unlink()
