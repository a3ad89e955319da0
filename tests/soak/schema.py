"""Check a server against its own OpenAPI document with schemathesis. ``schemathesis.toml`` names the checks."""

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def check_schema(url: str, token: str, *, examples: int, seconds: int, seed: int, folder: Path) -> tuple[bool, str]:
    """Check a server against its OpenAPI document.

    Args:
        url: of the server.
        token: of a caller with all scopes.
        examples: number of examples for each operation and phase.
        seconds: time after which no further example is generated.
        seed: of the generated examples.
        folder: working directory of schemathesis.

    Returns:
        Whether the server follows its document, and the output of schemathesis.
    """
    command = [
        *(sys.executable, "-c", "from schemathesis.cli import schemathesis; schemathesis()"),
        *("--config-file", str(HERE / "schemathesis.toml"), "run", f"{url}/v1/openapi.json"),
        *("--header", f"Authorization: Bearer {token}", "--seed", str(seed)),
        *("--max-examples", str(examples), "--max-time", str(seconds), "--continue-on-failure"),
    ]
    environment = {**os.environ, "SCHEMATHESIS_HOOKS": "tests.soak.datetimes", "PYTHONPATH": str(HERE.parents[1])}
    run = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    return run.returncode == 0, run.stdout + run.stderr
