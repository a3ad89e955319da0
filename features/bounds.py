"""Bounds: what a device or a laboratory reports where it cannot give a value, such as ``<40`` or ``Low``.

A bound says that the value is at or beyond a limit. It is not a number of its signal. It is stored as an observation of a
signal of its own (:data:`vigil.features.signals.BOUNDS`), whose value is the limit. ``<`` and ``<=`` are stored alike, as the
weaker of the two, which always holds: at or below the limit.

``Low`` and ``High`` name the ends of the device's measuring range. They can be used where the source declares that range.
"""

import re
from typing import Final

import numpy as np
import pandas as pd

from vigil.features.declarations import SourceDeclaration
from vigil.features.signal import Side
from vigil.features.signals import BOUNDS, bound_name

LOW: Final = "low"
HIGH: Final = "high"
SIDES: Final[dict[str, Side]] = {
    "<": "below", "<=": "below", "≤": "below", LOW: "below", ">": "above", ">=": "above", "≥": "above", HIGH: "above",
}  # fmt: skip
WORDS: Final = {"low": LOW, "lo": LOW, "high": HIGH, "hi": HIGH}
INEXACT: Final = "inexact"  # takes the place of the comparator of a text that is neither a number nor a bound

_BOUND: Final = re.compile(r"(<=|>=|<|>|≤|≥)\s*(-?\d+(?:\.\d+)?)")
_LIKE_A_NUMBER: Final = re.compile(r"[<>=≤≥~^]|\d\s*[-+:/]")


def read_text(text: str) -> tuple[float, str | None]:
    """Return the limit and the comparator of a text that is no number.

    Returns:
        The limit, NaN where there is none, and a key of :data:`SIDES`; :data:`INEXACT` for what looks like a number but is not
        exact, such as ``100-200``; None for any other text.

    >>> read_text("<= 40"), read_text("HI"), read_text("100-200"), read_text("eighty")
    ((40.0, '<='), (nan, 'high'), (nan, 'inexact'), (nan, None))
    """
    stripped = text.strip()
    if bound := _BOUND.fullmatch(stripped):
        return float(bound[2]), bound[1]
    if (word := WORDS.get(stripped.lower())) is not None:
        return np.nan, word
    return np.nan, INEXACT if _LIKE_A_NUMBER.search(stripped) else None


def join_comparators(of_text: str | None, sent: object) -> str | None:
    """Return the comparator of a value that has one in its text, or in a field of its own; two say nothing exact."""
    own = None if sent is None or sent is pd.NA or sent != sent or sent == "" else str(sent)  # noqa: PLR0124 - NaN
    if own is None or of_text is None:
        return own if of_text is None else of_text
    return INEXACT


def read_bounds(
    values: "pd.Series[float]", numbers: "pd.Series[float]", comparator: "pd.Series[str] | None"
) -> tuple["pd.Series[float]", "pd.Series[str] | None"]:
    """Return numbers with the limits of bounds, and the comparator of each; None: every value is a number, or nothing.

    Args:
        values: as sent.
        numbers: the values that are numbers, NaN for the others.
        comparator: as sent beside the values; None: there is no such column.
    """
    sent = comparator if comparator is not None and comparator.notna().any() else None
    is_text = numbers.isna() & values.map(lambda value: isinstance(value, str)) if values.dtype.kind not in "fiub" else None
    if sent is None and (is_text is None or not is_text.any()):
        return numbers, None
    limits = numbers.to_numpy(np.float64, copy=True)
    comparators = np.full(len(values), None, dtype=object)
    for row in np.flatnonzero(is_text) if is_text is not None else ():
        limits[row], comparators[row] = read_text(str(values.iloc[row]))
    if sent is not None:
        for row in np.flatnonzero(sent.notna()):
            comparators[row] = join_comparators(comparators[row], sent.iloc[row])
    return pd.Series(limits, index=values.index), pd.Series(comparators, index=values.index)


def find_limit(signal: str, comparator: str, declaration: SourceDeclaration) -> tuple[float | None, str]:
    """Return the limit that a word stands for (None: the value is the limit), and why there is no bound.

    Args:
        signal: a known signal.
        comparator: as :func:`read_text` returns it, or as sent.
        declaration: of the source.

    Returns:
        The reason is empty, ``not_exact`` or ``undeclared_range``.

    >>> find_limit("glucose", "low", SourceDeclaration(ranges={"glucose": (40, 400)}))
    (40, '')
    >>> find_limit("glucose", "low", SourceDeclaration()), find_limit("heart_rate", "<", SourceDeclaration())
    ((None, 'undeclared_range'), (None, 'not_exact'))
    """
    side = SIDES.get(comparator)
    if side is None or bound_name(signal, side) not in BOUNDS:
        return None, "not_exact"
    if comparator not in (LOW, HIGH):
        return None, ""
    if signal not in declaration.ranges:
        return None, "undeclared_range"
    return declaration.ranges[signal][comparator == HIGH], ""
