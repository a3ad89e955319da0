"""The components of NEWS2 with their values, as the pages of the ward and of a patient show them."""

from collections.abc import Mapping
from dataclasses import dataclass

from vigil.models.bedside import Component


@dataclass(frozen=True, slots=True)
class SignalCell:
    """One component of NEWS2 with its value.

    Attributes:
        signal: its name.
        value: None: it is not known.
        hours: how old it is now.
        points: None: it does not count.
        is_expired: whether it is too old to count.
    """

    signal: str
    value: float | None
    hours: float | None
    points: int | None
    is_expired: bool


def signal_cells(components: Mapping[str, Component], hours_passed: float) -> list[SignalCell]:
    """Return the components of a risk in the order of NEWS2. ``hours_passed``: since the time of the risk."""
    return [
        SignalCell(signal, one.value, None if one.hours is None else one.hours + hours_passed, one.points, one.is_expired)
        for signal, one in components.items()
    ]
