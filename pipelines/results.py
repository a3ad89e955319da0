"""Results for programs, as JSON that every parser reads."""

import json
import math
from pathlib import Path
from typing import Any


def write_json(path: Path, result: Any) -> None:
    """Write a result as JSON. NaN and infinity become null; a value of a type that JSON lacks becomes its text.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "result.json"
    >>> write_json(path, {"auroc": 0.8, "slope": float("nan"), "report": Path("reports/drift.html")})
    >>> json.loads(path.read_text())
    {'auroc': 0.8, 'slope': None, 'report': 'reports/drift.html'}
    """
    path.write_text(json.dumps(_finite(result), indent=2, default=str, allow_nan=False))


def replace_json(path: Path, result: Any) -> None:
    """Write a result as :func:`write_json` does, in one step: a reader sees the former file or the new one, never a part."""
    unfinished = path.with_name(f"{path.name}.unfinished")
    write_json(unfinished, result)
    unfinished.replace(path)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
