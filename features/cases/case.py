"""One case of the field."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vigil.features.declarations import UNDECLARED, Declarations


@dataclass(frozen=True, slots=True)
class Case:
    """One case.

    Attributes:
        sent: Rows as they are sent, in their order. ``subject_id`` and ``observed_at`` may be left out.
        outcome: What is right, in the words of :func:`vigil.features.cases.page.find_outcome`.
        because: Why that is right, in a short sentence.
        declared: What sources have declared.
    """

    sent: tuple[Mapping[str, Any], ...]
    outcome: tuple[str, ...]
    because: str
    declared: Declarations = UNDECLARED
