"""Bounds that call for action by themselves: a glucose sensor that reports Low has no number, and the patient is in danger.

A bound is critical if all that it leaves possible is critical. Limits:

- Glucose: level 2 of hypoglycaemia (below 54 mg/dL or 3.0 mmol/L) and of hyperglycaemia (above 250 mg/dL or 13.9 mmol/L).
  Battelino T, et al. Clinical targets for continuous glucose monitoring data interpretation: recommendations from the
  international consensus on time in range. Diabetes Care 2019;42:1593-1603.
- SpO2 and body temperature: the bands of 3 points of NEWS2 (RCP 2017, chart 1), where NEWS2 applies. High temperatures have
  at most 2 points, so a thermometer's High is shown and not critical.
- Bounds of laboratory results are shown and never critical: most say that nothing was found.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import pandas as pd

from vigil.features.derived import SCORE_CARRY_HOURS
from vigil.features.kernel.plan import HOUR_US
from vigil.features.scores import NEWS2_BANDS
from vigil.features.signal import Side
from vigil.features.signals import BOUNDS, SIGNALS, bound_name, measured_signal

# At or beyond which a limit is critical, in the signal's unit. 3.0 mmol/L is 54.05 mg/dL.
CRITICAL_LIMITS: Final[dict[str, float]] = {
    bound_name("glucose", "below"): 54.05,
    bound_name("glucose", "above"): 250,
    bound_name("spo2", "below"): 91,
    bound_name("body_temperature", "below"): 35,
}
STANDS_US: Final = SCORE_CARRY_HOURS * HOUR_US  # as long as a value counts in the scores


@dataclass(frozen=True, slots=True)
class Bound:
    """One bound: the signal is at or beyond a limit.

    Attributes:
        name: of the signal that holds the bound, such as ``glucose_below_range``.
        limit: in the signal's own unit.
        observed_at: microseconds UTC.
    """

    name: str
    limit: float
    observed_at: int
    set_by: Literal["device"] = "device"

    @property
    def signal(self) -> str:
        """The signal that is bounded."""
        return measured_signal(self.name)

    @property
    def side(self) -> Side:
        """Whether the values that are possible lie below the limit or above it."""
        return "below" if self.name == bound_name(self.signal, "below") else "above"

    @property
    def unit(self) -> str:
        """UCUM unit of the limit."""
        return BOUNDS[self.name].unit

    @property
    def is_critical(self) -> bool:
        """Whether all that the bound leaves possible is critical."""
        return is_critical(self.name, self.limit)

    @property
    def text(self) -> str:
        """The bound in words.

        >>> Bound("glucose_below_range", 40.0, 0).text
        'at or below 40 mg/dL'
        """
        return f"at or {self.side} {self.limit:g} {SIGNALS[self.signal].unit}"


def is_critical(name: str, value: float) -> bool:
    """Return whether a value is critical on the side of a bound.

    Args:
        name: of the signal that holds the bound.
        value: a limit, or an exact value of the signal.

    >>> is_critical("glucose_below_range", 40), is_critical("glucose_below_range", 65), is_critical("lactate_above_range", 15)
    (True, False, False)
    """
    limit = CRITICAL_LIMITS.get(name)
    return limit is not None and (value <= limit if name == bound_name(measured_signal(name), "below") else value >= limit)


def standing_bounds(bounds: Iterable[Bound], values: Iterable[tuple[str, int, float]], at: int) -> tuple[Bound, ...]:
    """Return the bounds that stand at a time, one for a signal: the latest, if nothing has taken its place since.

    A later exact value takes its place, unless the bound is critical and that value is, too, on the same side. A bound stands
    for 24 hours at most.

    Args:
        bounds: of one subject, of those observed together the one that was recorded last last.
        values: exact values of the subject: signal, observed_at and value.
        at: the time, microseconds.

    >>> low = Bound("glucose_below_range", 40.0, observed_at=10)
    >>> [len(standing_bounds([low], [("glucose", 20, value)], at=30)) for value in (45.0, 90.0)]
    [1, 0]
    """
    latest: dict[str, Bound] = {}
    for bound in bounds:
        if at - STANDS_US < bound.observed_at and (
            bound.signal not in latest or bound.observed_at >= latest[bound.signal].observed_at
        ):
            latest[bound.signal] = bound
    for signal, observed_at, value in values:
        stands = latest.get(signal)
        if stands is None or observed_at <= stands.observed_at or (stands.is_critical and is_critical(stands.name, value)):
            continue
        del latest[signal]
    return tuple(latest.values())


def bounds_among(observations: pd.DataFrame, at: pd.Timestamp) -> tuple[Bound, ...]:
    """Return the bounds that stand at a time, of checked observations of one subject up to it."""
    observed_at = observations["observed_at"].to_numpy("datetime64[us]").astype(np.int64).tolist()
    rows = list(zip(observations["signal"].tolist(), observed_at, observations["value"].tolist(), strict=True))
    bounds = sorted((Bound(name, value, time) for name, time, value in rows if name in BOUNDS), key=lambda b: b.observed_at)
    return standing_bounds(bounds, [row for row in rows if row[0] not in BOUNDS], at.value // 1_000)


def applies(bound: Bound, *, news2: bool) -> bool:
    """Return whether a critical bound is critical for a patient: those by NEWS2's chart are where NEWS2 applies."""
    return bound.is_critical and (news2 or bound.signal not in NEWS2_BANDS)
