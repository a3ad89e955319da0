"""Feature services that models were trained on: lists of feature names, stored as files that never change.

The first line of a file holds a digest of the other lines. Each other line holds one feature name, in the order in which the
model reads the features.
"""

import hashlib
from collections.abc import Sequence
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Final

from vigil.features.errors import VigilError

_MARK: Final = "# "


class ServiceError(VigilError):
    """A stored service was changed, or its name is already taken."""


def load_services(folder: Traversable | None = None) -> dict[str, tuple[str, ...]]:
    """Read the feature names of every stored service.

    Args:
        folder: of the files. The default is Vigil's own.

    >>> load_services()["deterioration_v3"][:2]
    ('heart_rate_count_1h', 'heart_rate_mean_1h')

    Raises:
        ServiceError: A file was changed after it was stored.
    """
    folder = folder or resources.files(__package__)
    files = sorted((file for file in folder.iterdir() if file.name.endswith(".txt")), key=lambda file: file.name)
    return {file.name.removesuffix(".txt"): _read_names(file) for file in files}


def store_service(name: str, features: Sequence[str], folder: Path | None = None) -> Path:
    """Store a new service. Do this before a model is trained on it.

    Args:
        name: Name with a version, such as ``deterioration_v4``.
        features: Feature names, in order.
        folder: Folder of the file. The default is the folder of the other services.

    Returns:
        The path of the new file.

    Raises:
        ServiceError: A service of this name exists.
    """
    path = (folder or Path(__file__).parent) / f"{name}.txt"
    if path.exists():
        raise ServiceError(f"{path}: a stored service never changes; give the new list a new version, such as <name>_v2")
    text = "".join(f"{feature}\n" for feature in features)
    path.write_text(f"{_MARK}{_digest(text)}\n{text}")
    return path


def _read_names(file: Traversable) -> tuple[str, ...]:
    first_line, _, text = file.read_text(encoding="utf-8").partition("\n")
    if first_line != f"{_MARK}{_digest(text)}":
        raise ServiceError(
            f"features/services/{file.name}: changed since it was stored, but models were trained on it; restore the file, and "
            "store the changed list under a new name"
        )
    return tuple(text.split())


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
