"""The process around a job: no telemetry, no chatter. The only place that writes os.environ."""

import logging
import os
import warnings
from pathlib import Path
from typing import Final

_NO_TELEMETRY: Final = {
    "DO_NOT_TRACK": "true",
    "BENTOML_DO_NOT_TRACK": "True",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "FEAST_USAGE": "False",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "GIT_PYTHON_REFRESH": "quiet",  # mlflow looks for git; a hospital's server need not have it
}

DEBUG: Final = "VIGIL_DEBUG"
LOOPBACK: Final = "127.0.0.1"  # without TLS nothing listens anywhere else
DEFAULT_PORT: Final = 3000


def wants_tracebacks() -> bool:
    """Whether whoever runs a job asked to see more of a fault of ours."""
    return bool(os.environ.get(DEBUG))


def settle() -> None:
    """Switch telemetry off, keep what is written to ourselves, and quieten the libraries' notices; inherited by servers."""
    os.umask(0o077)  # a home holds patients' data
    os.environ.update(_NO_TELEMETRY)
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", message="IProgress not found")  # a notebook without widgets is no fault
    logging.getLogger("bentoml").setLevel(logging.ERROR)


def server_environment(home: Path, task: str) -> dict[str, str]:
    """Environment of a prediction server for that home and task; other settings are taken over as they are."""
    home = home.resolve()
    ours = {"VIGIL_HOME": str(home), "VIGIL_TASK": task, "BENTOML_HOME": str(home / "bentoml")}
    return {**os.environ, **_NO_TELEMETRY, **ours}
