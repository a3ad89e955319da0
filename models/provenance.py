"""Provenance of a training run: the commit of this code and the versions of the libraries that can change a model."""

import platform
import shutil
import subprocess
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Final

from vigil.features.installed import versions as package_versions

# A model may differ between versions of these.
_LIBRARIES: Final = ("vigil", "numpy", "pandas", "scipy", "numba", "scikit-learn", "lightgbm", "feast", "mlflow")


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
