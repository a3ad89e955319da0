"""Which signal a sent name or code means, and what a sent value and unit are in that signal's own unit."""

import functools
import re
from typing import Final, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vigil.features.bounds import SIDES, find_limit
from vigil.features.codes import LOINC, MDC, contradicts_code, resolve_codes
from vigil.features.declarations import OWN_UNITS, Declarations, SourceDeclaration
from vigil.features.signals import SIGNALS, STORED, bound_name
from vigil.features.units import UNCHANGED, Conversion, canonical_unit, competing_conversions, find_conversion

# Reasons of this module, in the order in which they apply.
MEASURE_REASONS: Final = (
    "unknown_signal",
    "ambiguous_code",
    "not_exact",
    "undeclared_range",
    "unknown_unit",
    "codes_disagree",
    "device_error",
    "missing_unit",
)
_LARGEST: Final = 1e9
_CODE_SYSTEMS: Final = ((re.compile(r"\d{1,7}-\d"), LOINC), (re.compile(r"\d{6}"), MDC))

Float64 = NDArray[np.float64]


class Measures(NamedTuple):
    """Signals and values as they are understood.

    Attributes:
        signal: Name of the signal; as sent where it is unknown. Of a bound the signal that holds it.
        value: Value in the signal's own unit.
        reason: One of :data:`MEASURE_REASONS`, or empty.
    """

    signal: "pd.Series[str]"
    value: "pd.Series[float]"
    reason: NDArray[np.object_]


def in_own_units(
    signal: "pd.Series[str]",
    value: "pd.Series[float]",
    unit: "pd.Series[str] | None",
    source: "pd.Series[str]",
    declared: Declarations,
    comparator: "pd.Series[str] | None" = None,
) -> Measures:
    """Convert values into their signals' own units, and find what cannot be understood.

    Args:
        signal: Names of the signal table, or LOINC or MDC codes.
        value: Numbers, NaN where there is none.
        unit: Unit of each value; missing or empty where none was sent. None: none was sent at all.
        source: Where each value comes from.
        declared: Declarations of the sources.
        comparator: Of each value that is a bound, as :func:`vigil.features.bounds.read_bounds` returns it. None: there are no
            bounds.
    """
    if signal.empty or (unit is None and comparator is None and declared is OWN_UNITS and signal.isin(STORED).all()):
        return Measures(signal, value, np.full(len(signal), "", dtype=object))
    sent = (
        np.full(len(signal), None, dtype=object) if unit is None else unit.astype(object).where(unit.notna(), None).to_numpy()
    )
    of_bounds = np.full(len(signal), None, dtype=object) if comparator is None else comparator.to_numpy(object)
    columns = [pd.factorize(column) for column in (signal, sent, source, of_bounds)]
    kind_of, kinds = pd.factorize(pd.MultiIndex.from_arrays([codes for codes, _ in columns]))
    order = np.argsort(kind_of, kind="stable")
    bounds = np.searchsorted(kind_of[order], np.arange(len(kinds) + 1))
    names, values = signal.astype(object).to_numpy(copy=True), np.array(value, dtype=np.float64)
    reasons = np.full(len(signal), "", dtype=object)
    for kind, positions in enumerate(kinds):
        rows = order[bounds[kind] : bounds[kind + 1]]
        name, text, of, compares = (
            None if position < 0 else uniques[position] for position, (_, uniques) in zip(positions, columns, strict=True)
        )
        names[rows], values[rows], reasons[rows] = _understand(name, text or None, declared.of(of), compares, values[rows])
    return Measures(pd.Series(names, index=signal.index), pd.Series(values, index=value.index), reasons)


def _understand(
    name: object, unit: object, declaration: SourceDeclaration, comparator: str | None, values: Float64
) -> tuple[object, Float64, str | NDArray[np.object_]]:
    """Return signal, values in its own unit, and reasons, of values that were sent alike."""
    signal, reason = _resolve_signal(name)
    if signal is None:
        return name, values, reason
    if comparator is None:
        return signal, *_in_own_unit(name, signal, unit, declaration, values)
    limit, reason = find_limit(signal, comparator, declaration)
    if reason:
        return signal, values, reason
    if limit is not None:  # declared in the unit of the source, whatever code and unit the word came with
        name, unit = signal, declaration.units.get(signal, SIGNALS[signal].unit)
        values = np.full(len(values), limit, dtype=np.float64)
    return bound_name(signal, SIDES[comparator]), *_in_own_unit(name, signal, unit, declaration, values)


def _in_own_unit(
    name: object, signal: str, unit: object, declaration: SourceDeclaration, values: Float64
) -> tuple[Float64, str | NDArray[np.object_]]:
    """Return values of a known signal in its own unit, and reasons."""
    unit = declaration.units.get(signal) if unit is None else unit
    is_error = np.isin(values, declaration.error_codes.get(signal, ()))
    if unit is None:
        # A code of another kind of quantity says that the value is not in the signal's own unit, but not in which.
        is_open = contradicts_code(str(name), STORED[signal].unit) | _fits_other_unit(signal, values)
        return values, np.where(is_error, "device_error", np.where(is_open & np.isfinite(values), "missing_unit", ""))
    conversion, reason = find_conversion(signal, unit) if isinstance(unit, str) else None, ""
    if conversion is None:
        reason = "unknown_unit"
    elif contradicts_code(str(name), canonical_unit(str(unit))):
        reason = "codes_disagree"
    else:
        values = np.where(is_error, values, _convert(conversion, values, STORED[signal].steps_per_unit))
    return values, np.where(is_error, "device_error", reason)


def name_signal(sent: object) -> object:
    """Return the signal that a sent name or code means, or what was sent where it is unknown.

    >>> name_signal("8867-4"), name_signal("heart_rate"), name_signal("mood")
    ('heart_rate', 'heart_rate', 'mood')
    """
    signal, _ = _resolve_signal(sent)
    return sent if signal is None else signal


@functools.lru_cache(maxsize=4096)
def _resolve_signal(name: object) -> tuple[str | None, str]:
    if isinstance(name, str):
        if name in STORED:
            return name, ""
        for pattern, system in _CODE_SYSTEMS:
            if pattern.fullmatch(name):
                return resolve_codes([(system, name)])
    return None, "unknown_signal"


def _fits_other_unit(signal: str, values: Float64) -> NDArray[np.bool_]:
    fits = np.zeros(len(values), dtype=bool)
    for conversion in competing_conversions(signal):
        converted = (values + float(conversion.offset)) * float(conversion.factor)
        fits |= (converted >= SIGNALS[signal].low) & (converted <= SIGNALS[signal].high)
    return fits


def _convert(conversion: Conversion, values: Float64, steps_per_unit: int) -> Float64:
    if conversion == UNCHANGED:
        return values
    unique, position = np.unique(values, return_inverse=True)
    is_small = np.abs(unique) < _LARGEST  # others are implausible in every unit
    unique[is_small] = [conversion.convert(value, steps_per_unit) for value in unique[is_small].tolist()]
    converted: Float64 = unique[position]
    return converted
