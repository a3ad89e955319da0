"""Hold a server against its own OpenAPI document with schemathesis; ``schemathesis.toml`` says with which checks."""

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def check_schema(url: str, token: str, *, examples: int, seconds: int, seed: int, folder: Path) -> tuple[bool, str]:
    """Whether the server keeps to its document, and what schemathesis says.

    Args:
        examples: of each operation and phase.
        seconds: after which generating ends.
        folder: to run in.
    """
    command = [
        *(sys.executable, "-c", "from schemathesis.cli import schemathesis; schemathesis()"),
        *("--config-file", str(HERE / "schemathesis.toml"), "run", f"{url}/v1/openapi.json"),
        *("--header", f"Authorization: Bearer {token}", "--seed", str(seed)),
        *("--max-examples", str(examples), "--max-time", str(seconds), "--continue-on-failure"),
    ]
    environment = {**os.environ, "SCHEMATHESIS_HOOKS": "tests.soak.instants", "PYTHONPATH": str(HERE.parents[1])}
    run = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    return run.returncode == 0, run.stdout + run.stderr
