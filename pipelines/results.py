"""Results for programs, as JSON that every parser reads."""

import json
import math
from pathlib import Path
from typing import Any


def write_json(path: Path, result: Any) -> None:
    """Write a result; what is undefined (NaN) becomes null, and what JSON does not know its text."""
    path.write_text(json.dumps(_plain(result), indent=2, default=str, allow_nan=False))


def replace_json(path: Path, result: Any) -> None:
    """The same in the place of what was there, at once: who reads meanwhile reads one or the other, never half of it."""
    unfinished = path.with_name(f"{path.name}.unfinished")
    write_json(unfinished, result)
    unfinished.replace(path)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
