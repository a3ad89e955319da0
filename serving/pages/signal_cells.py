"""The components of NEWS2 with their values, as the pages of the ward and of a patient show them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from vigil.features.signal import Side
from vigil.models.alarms.critical_bounds import Bound
from vigil.models.alarms.patient_terms import Breach
from vigil.models.bedside import Component


@dataclass(frozen=True, slots=True)
class StandingBound:
    """That a signal is at or beyond a limit, and has been since.

    Attributes:
        signal, side, limit: which.
        hours: how old it is now.
        is_critical: whether it calls for action by itself.
        is_own: whether staff set the limit for the patient, and a value reaches it; else no exact value is known.
    """

    signal: str
    side: Side
    limit: float
    hours: float
    is_critical: bool
    is_own: bool


@dataclass(frozen=True, slots=True)
class SignalCell:
    """One component of NEWS2 with its value.

    Attributes:
        signal: its name.
        value: None: it is not known.
        hours: how old it is now.
        points: None: it does not count.
        is_expired: whether it is too old to count.
        bound: what was reported since instead of a value; None: nothing. NEWS2 goes on counting the value.
    """

    signal: str
    value: float | None
    hours: float | None
    points: int | None
    is_expired: bool
    bound: StandingBound | None = None


def shown_bounds(bounds: Iterable[Bound | Breach], now: int) -> list[StandingBound]:
    """Return bounds and limits reached as pages show them, the critical ones first. ``now``: microseconds."""
    shown = [
        StandingBound(
            one.signal, one.side, one.limit, (now - one.observed_at) / 3.6e9, one.is_critical, is_own=isinstance(one, Breach)
        )
        for one in bounds
    ]
    return sorted(shown, key=lambda one: not one.is_critical)


def signal_cells(
    components: Mapping[str, Component], hours_passed: float, bounds: Sequence[StandingBound] = ()
) -> list[SignalCell]:
    """Return the components of a risk in the order of NEWS2.

    Args:
        components: by signal.
        hours_passed: since the time of the risk.
        bounds: that stand.
    """
    reported = {one.signal: one for one in bounds if not one.is_own}
    cells = []
    for signal, one in components.items():
        hours = None if one.hours is None else one.hours + hours_passed
        bound = reported.get(signal)
        if bound is not None and hours is not None and hours <= bound.hours:
            bound = None  # an exact value came later, which is critical, too
        cells.append(SignalCell(signal, one.value, hours, one.points, one.is_expired, bound))
    return cells
