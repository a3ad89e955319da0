"""Gate: the result of one promotion gate."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Gate:
    """The result of one gate.

    Attributes:
        name: name of the gate.
        passed: whether the challenger passed it.
        found, expected: the actual and the required result in words, for one line.
        remedy: what to do if the challenger did not pass.
        figures: the evidence, as numbers.
    """

    name: str
    passed: bool
    found: str
    expected: str
    remedy: str
    figures: Mapping[str, Any]
