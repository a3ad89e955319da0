"""What a signal is, apart from the table of them, so that an installed package can declare one before the table is complete."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Literal

Kind = Literal["vital", "support", "bedside", "laboratory"]
Side = Literal["below", "above"]


@dataclass(frozen=True, slots=True)
class Signal:
    """One measured quantity.

    Attributes:
        name: Vigil's name, without the unit.
        kind: ``vital``: measured by a wearable, a home device or a ward monitor. ``support``: treatment that the patient
            receives, or an assessment of the patient. ``bedside``: what nurses chart beyond the vital signs.
            ``laboratory``: laboratory results.
        loinc: LOINC code of the quantity, or None for quantities that sources derive from others.
        unit: UCUM unit of every value of this signal.
        low, high: Plausible range in ``unit``, both ends included.
        usual: About the middle of an adult's reference interval. Of several values of one time, those farther from it count as
            the worse (:mod:`vigil.features.ties`); nothing else uses it. Laboratory values: ABIM Laboratory Test Reference
            Ranges, 2024.
        steps_per_unit: 1 / resolution. A stored value is always a whole number of these steps.
        carry_hours: How long a score at the bedside may use a value. Our choice: the longest interval between checks in RCP
            2017, chart 4. A source may declare a shorter time (:mod:`vigil.features.declarations`). Protocols that look back
            carry a value for :data:`vigil.features.derived.SCORE_CARRY_HOURS`.
        coded: Whether the value is a code and not a quantity. Only whole numbers are then valid, and none is rounded.
        limit_of: Of a bound (:data:`vigil.features.signals.BOUNDS`): the signal that is bounded. The value is then the limit.
    """

    name: str
    kind: Kind
    loinc: str | None
    unit: str
    low: float
    high: float
    usual: float
    steps_per_unit: int = 100
    coded: bool = False
    carry_hours: float = 12
    limit_of: str | None = None

    @property
    def resolution(self) -> float:
        """Smallest difference between two stored values, in ``unit``."""
        return 1 / self.steps_per_unit


@dataclass(frozen=True, slots=True)
class AddedSignal:
    """A signal of an installed package, by an entry point ``vigil.signals`` that has its name.

    Attributes:
        signal: its row of the table.
        loinc, mdc: codes that mean it, beside ``signal.loinc``.
        units: other UCUM units of its values, by the exact factor into ``signal.unit``.
        is_bounded: whether devices or laboratories report bounds of it, such as ``<0.1``.

    >>> crp = Signal("crp", "laboratory", "1988-5", "mg/L", 0.1, 700, 3, steps_per_unit=10)
    >>> AddedSignal(crp, units={"mg/dL": Fraction(10)}).signal.resolution
    0.1
    """

    signal: Signal
    loinc: tuple[str, ...] = ()
    mdc: tuple[str, ...] = ()
    units: Mapping[str, Fraction] = field(default_factory=dict)
    is_bounded: bool = False
