"""Feature services that models were trained on: lists of names, kept as files that never change.

A file holds a digest and a name a line, in the order in which they are asked for.
"""

import hashlib
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Final

from features.errors import VigilError

_MARK: Final = "# "


class ServiceError(VigilError):
    """A stored service was changed, or is there already."""


def stored() -> dict[str, tuple[str, ...]]:
    """Read every stored service.

    Raises:
        ServiceError: a file is not as it was kept.
    """
    files = sorted(file.name for file in resources.files(__package__).iterdir() if file.name.endswith(".txt"))
    return {name.removesuffix(".txt"): _names(name) for name in files}


def keep(name: str, features: Sequence[str], folder: Path | None = None) -> Path:
    """Keep a new service, before a model is trained on it.

    Args:
        name: with its version, such as ``deterioration_v4``.
        features: their names, in order.
        folder: where; default: beside the others.

    Raises:
        ServiceError: there is one of that name.
    """
    path = (folder or Path(__file__).parent) / f"{name}.txt"
    if path.exists():
        raise ServiceError(f"{path}: a stored service never changes; give the new one a version of its own")
    text = "".join(f"{feature}\n" for feature in features)
    path.write_text(f"{_MARK}{_digest(text)}\n{text}")
    return path


def _names(file: str) -> tuple[str, ...]:
    first, _, text = resources.files(__package__).joinpath(file).read_text(encoding="utf-8").partition("\n")
    if first != f"{_MARK}{_digest(text)}":
        raise ServiceError(
            f"features/services/{file}: was changed since it was kept, and models were trained on it; restore it, and keep a "
            "changed list under a name of its own"
        )
    return tuple(text.split())


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
