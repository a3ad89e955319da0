"""Proposing the unit of values that have none, for people who know the device. Nothing is taken by a proposal."""

import math
from collections.abc import Sequence
from typing import Final

from vigil.features.signals import SIGNALS
from vigil.features.units import find_conversion, understood_units

_LEAST_READINGS: Final = 10  # from which a unit is proposed; ours
_NEAR: Final = math.log(2.5)  # of a median to the usual value; twice as near as that of any other unit


def propose_unit(signal: str, values: Sequence[float]) -> tuple[str, str] | None:
    """Return a unit that values without a unit fit, and how well; None: too few, or no unit stands out.

    >>> propose_unit("glucose", [5.1, 6.3, 7.8, 5.5, 11.2, 4.9, 6.0, 7.1, 8.4, 5.8])
    ('mmol/L', '10 of 10 values fit mmol/L')
    """
    if signal not in SIGNALS or len(values) < _LEAST_READINGS:
        return None
    distance = {unit: _distance(signal, values, unit) for unit in understood_units(signal)}
    best, *others = sorted(distance, key=distance.__getitem__)
    if distance[best] > _NEAR or any(distance[other] < 2 * distance[best] for other in others):
        return None
    fit = sum(SIGNALS[signal].low <= value <= SIGNALS[signal].high for value in _converted(signal, values, best))
    return best, f"{fit} of {len(values)} values fit {best}"


def _distance(signal: str, values: Sequence[float], unit: str) -> float:
    """Return how far the middle value is from the usual one, as the logarithm of their ratio."""
    converted = sorted(_converted(signal, values, unit))
    middle, usual = converted[len(converted) // 2], SIGNALS[signal].usual
    return abs(math.log(middle / usual)) if middle > 0 and usual > 0 else math.inf


def _converted(signal: str, values: Sequence[float], unit: str) -> list[float]:
    conversion = find_conversion(signal, unit)
    assert conversion is not None  # it is one of those that are understood
    return [conversion.convert(value, SIGNALS[signal].steps_per_unit) for value in values]
