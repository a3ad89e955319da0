"""The process that a job runs in: no telemetry, no notices of libraries. Nothing else changes ``os.environ``."""

import logging
import os
import warnings
from pathlib import Path
from string import Template
from typing import Final

_NO_TELEMETRY: Final = {
    "DO_NOT_TRACK": "true",
    "BENTOML_DO_NOT_TRACK": "True",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "FEAST_USAGE": "False",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "GIT_PYTHON_REFRESH": "quiet",  # MLflow looks for git, which a hospital's server need not have
}

DEBUG: Final = "VIGIL_DEBUG"
LOOPBACK: Final = "127.0.0.1"  # the only address of a server without TLS
DEFAULT_PORT: Final = 3000
_URL: Final = "VIGIL_URL"


def is_debugging() -> bool:
    """Return whether ``VIGIL_DEBUG`` asks for tracebacks."""
    return bool(os.environ.get(DEBUG))


def prepare_process() -> None:
    """Switch telemetry off, make new files private, and silence notices of libraries. Servers inherit all of it."""
    os.umask(0o077)  # a home holds patients' data
    os.environ.update(_NO_TELEMETRY)
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", message="IProgress not found")  # a notebook without widgets works as well
    logging.getLogger("bentoml").setLevel(logging.ERROR)


def expand_variables(text: str) -> str:
    """Return a text in which the values of environment variables stand for their names, such as ``$PASSWORD``.

    Raises:
        KeyError: there is no variable of a name.
        ValueError: a dollar sign stands before no name.
    """
    return Template(text).substitute(os.environ)


def server_environment(home_path: Path, task: str, url: str = "") -> dict[str, str]:
    """Return the environment of a prediction server for a home and a task; other variables are passed on unchanged.

    ``url`` is the address that the server listens on, which counts unless ``VIGIL_URL`` says how others reach it.
    """
    home_path = home_path.resolve()
    ours = {"VIGIL_HOME": str(home_path), "VIGIL_TASK": task, "BENTOML_HOME": str(home_path / "bentoml")}
    return {_URL: url, **os.environ, **_NO_TELEMETRY, **ours}


def server_url(url: str) -> str:
    """Return the address under which others reach a server that listens on ``url``."""
    return os.environ.get(_URL, url).rstrip("/")
