"""Provenance: what code makes models and predictions, by its commit, its digest, and the versions of the libraries."""

import functools
import hashlib
import platform
import shutil
import subprocess
from collections.abc import Iterable
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Final

from vigil.features.installed import fingerprint_packages
from vigil.features.installed import versions as package_versions

# A model may differ between versions of these.
_LIBRARIES: Final = ("vigil", "numpy", "pandas", "scipy", "numba", "scikit-learn", "lightgbm", "feast", "mlflow")

_PREDICTING: Final = ("features", "models", "serving")  # the packages that a prediction depends on


def current_commit() -> str:
    """Return the short hash of the commit of this code; its version where it is installed without its history."""
    git = shutil.which("git")
    if git is not None:
        command = [git, "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
        result = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - a fixed command
        if result.returncode == 0:
            return result.stdout.strip()
    return installed_version("vigil")


def library_versions() -> dict[str, str]:
    """Return the version of Python, and of each library and each package with signals or features, by name."""
    return {"python": platform.python_version(), **{name: installed_version(name) for name in _LIBRARIES}, **package_versions()}


@functools.cache
def describe_code() -> str:
    """Return the version of Vigil and the SHA-256 of the code that predicts, such as ``1.2.0 sha256:...``.

    The code is that of :data:`_PREDICTING`, and of the installed packages with signals or features.
    """
    files = digest_files(Path(__file__).resolve().parents[1], _PREDICTING)
    digest = hashlib.sha256(f"{files} {fingerprint_packages()}".encode()).hexdigest()
    return f"{installed_version('vigil')} sha256:{digest}"


def digest_files(root: Path, folders: Iterable[str]) -> str:
    """Return the SHA-256 of every file of some folders, each with its path; what Python caches is left out."""
    digest = hashlib.sha256()
    for folder in folders:
        for path in sorted((root / folder).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                content = path.read_bytes()
                digest.update(f"{path.relative_to(root).as_posix()} {len(content)}\n".encode())
                digest.update(content)
    return digest.hexdigest()
