"""Provenance: what code makes models and predictions, by its commit, its digest, and the versions of the libraries."""

import functools
import hashlib
import platform
import shutil
import subprocess
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

    The digest is of each file of :data:`_PREDICTING` with its path, and of the installed packages with signals or features.
    """
    root, digest = Path(__file__).resolve().parents[1], hashlib.sha256()
    for package in _PREDICTING:
        for path in sorted((root / package).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                content = path.read_bytes()
                digest.update(f"{path.relative_to(root).as_posix()} {len(content)}\n".encode())
                digest.update(content)
    digest.update(fingerprint_packages().encode())
    return f"{installed_version('vigil')} sha256:{digest.hexdigest()}"
