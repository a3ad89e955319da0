"""The signal table: every measured quantity that Vigil knows, with its code, unit, plausible range and resolution.

Validation, the simulator, the ranges of the API, the Feast fields and the documentation are all derived from this table.
Installed packages add signals to it (:mod:`vigil.features.installed`). Vigil's own views hold features of its own signals.

Units are UCUM codes. Signal codes are LOINC codes. The plausible range is wide on purpose. It excludes what a device cannot
measure in a living patient, such as a heart rate of 0 from a detached lead or a temperature of 99 Cel. It includes every value
that is merely alarming. Values are rounded to the resolution when they are checked, so that sums of observations are exact
integers.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from vigil.features.installed import load_additions, refuse
from vigil.features.signal import AddedSignal, Kind, Side, Signal

_TABLE = (
    Signal("heart_rate", "vital", "8867-4", "/min", 20, 300, 75),
    Signal("respiratory_rate", "vital", "9279-1", "/min", 1, 80, 16),
    Signal("spo2", "vital", "59408-5", "%", 20, 100, 98),
    Signal("systolic_bp", "vital", "8480-6", "mm[Hg]", 20, 300, 120),
    Signal("diastolic_bp", "vital", "8462-4", "mm[Hg]", 10, 250, 75),
    Signal("mean_bp", "vital", "8478-0", "mm[Hg]", 15, 280, 90),
    Signal("body_temperature", "vital", "8310-5", "Cel", 25, 45, 37),
    Signal("glucose", "vital", "2339-0", "mg/dL", 10, 1500, 85),
    # The ACVPU scale of NEWS2: A 0 (alert), C 1 (new confusion), V 2 (voice), P 3 (pain), U 4 (unresponsive).
    Signal("consciousness", "support", "80288-4", "{ACVPU}", 0, 4, 0, steps_per_unit=1, coded=True),
    # 1 while the patient receives supplemental oxygen. Sources derive it from oxygen flow (3151-8) or FiO2 (3150-6).
    Signal("on_oxygen", "support", None, "1", 0, 1, 0, steps_per_unit=1, coded=True),
    Signal("fio2", "support", "3150-6", "%", 20, 100, 21),
    Signal("etco2", "support", "19891-1", "mm[Hg]", 1, 150, 40),
    Signal("base_excess", "laboratory", "1925-7", "mmol/L", -50, 60, 0),
    Signal("bicarbonate", "laboratory", "1963-8", "mmol/L", 1, 70, 25),
    Signal("ph", "laboratory", "2744-1", "[pH]", 6.3, 8.2, 7.4, steps_per_unit=1000),
    Signal("paco2", "laboratory", "2019-8", "mm[Hg]", 5, 200, 40),
    Signal("sao2", "laboratory", "2708-6", "%", 15, 100, 98),
    Signal("ast", "laboratory", "1920-8", "U/L", 1, 30000, 25, steps_per_unit=10),
    Signal("bun", "laboratory", "3094-0", "mg/dL", 0.5, 400, 14),
    Signal("alkaline_phosphatase", "laboratory", "6768-6", "U/L", 1, 8000, 75, steps_per_unit=10),
    Signal("calcium", "laboratory", "17861-6", "mg/dL", 1, 25, 9.4),
    Signal("chloride", "laboratory", "2075-0", "mmol/L", 50, 180, 102),
    Signal("creatinine", "laboratory", "2160-0", "mg/dL", 0.05, 60, 0.9),
    Signal("bilirubin_direct", "laboratory", "1968-7", "mg/dL", 0.01, 60, 0.2),
    Signal("bilirubin_total", "laboratory", "1975-2", "mg/dL", 0.01, 90, 0.7),
    Signal("lactate", "laboratory", "2524-7", "mmol/L", 0.05, 50, 1.2),
    Signal("magnesium", "laboratory", "19123-9", "mg/dL", 0.1, 20, 2),
    Signal("phosphate", "laboratory", "2777-1", "mg/dL", 0.1, 40, 3.8),
    Signal("potassium", "laboratory", "2823-3", "mmol/L", 0.5, 30, 4.3),
    Signal("troponin_i", "laboratory", "10839-9", "ng/mL", 0.001, 500, 0.01, steps_per_unit=1000),
    Signal("hematocrit", "laboratory", "20570-8", "%", 3, 80, 44),
    Signal("hemoglobin", "laboratory", "718-7", "g/dL", 1, 30, 15),
    Signal("ptt", "laboratory", "14979-9", "s", 5, 300, 30),
    Signal("wbc", "laboratory", "6690-2", "10*3/uL", 0.01, 700, 7),
    Signal("fibrinogen", "laboratory", "3255-7", "mg/dL", 5, 3000, 300),
    Signal("platelets", "laboratory", "777-3", "10*3/uL", 1, 3000, 250),
    Signal("sodium", "laboratory", "2951-2", "mmol/L", 90, 200, 140),
    Signal("albumin", "laboratory", "1751-7", "g/dL", 0.5, 8, 4.5),
    Signal("alt", "laboratory", "1742-6", "U/L", 1, 30000, 25, steps_per_unit=10),
    Signal("cholesterol", "laboratory", "2093-3", "mg/dL", 10, 1500, 180),
    Signal("pao2", "laboratory", "2703-7", "mm[Hg]", 10, 700, 90),
    Signal("troponin_t", "laboratory", "6598-7", "ng/mL", 0.001, 100, 0.01, steps_per_unit=1000),
    Signal("glasgow_coma_scale", "bedside", "9269-2", "{score}", 3, 15, 15, steps_per_unit=1, coded=True),
    Signal("urine_output", "bedside", "9187-6", "mL", 0, 12000, 60, steps_per_unit=10),
    Signal("body_weight", "bedside", "29463-7", "kg", 20, 400, 75),
    Signal("body_height", "bedside", "8302-2", "cm", 50, 250, 170),
    # 1 while the patient is ventilated. Some sources chart only the times of ventilation; between them the state is unknown.
    Signal("mechanical_ventilation", "bedside", None, "1", 0, 1, 0, steps_per_unit=1, coded=True),
)

BUILT_IN: Final[Mapping[str, Signal]] = {signal.name: signal for signal in _TABLE}

# Signals whose devices and laboratories report a bound where they cannot give a value: glucose sensors and thermometers say Low
# or High, assays say < or >.
_BUILT_IN_BOUNDED: Final = (
    "spo2", "body_temperature", "glucose", "creatinine", "bilirubin_direct", "bilirubin_total", "lactate", "troponin_i", "ptt",
    "troponin_t",
)  # fmt: skip


def bound_name(signal: str, side: Side) -> str:
    """Return the name of the signal whose values are bounds of another signal.

    >>> bound_name("glucose", "below")
    'glucose_below_range'
    """
    return f"{signal}_{side}_range"


def _bounds_of(signal: Signal) -> tuple[Signal, ...]:
    """Return the two signals that hold the bounds of a signal; no code names them."""
    return tuple(replace(signal, name=bound_name(signal.name, side), loinc=None, limit_of=signal.name) for side in _SIDES)


def _check_added(added: Mapping[str, AddedSignal]) -> Mapping[str, AddedSignal]:
    """Return the signals of installed packages.

    Raises:
        PackageError: one has a name that is taken, or contradicts itself.
    """
    taken = {*BUILT_IN, *(bound_name(name, side) for name in BUILT_IN for side in _SIDES)}
    for name, addition in added.items():
        signal = addition.signal
        rules = (
            (name in taken, "Vigil has a signal of this name; expected another one"),
            (signal.name != name, f"its signal is called {signal.name}; expected the name of the entry point"),
            (not (name.isidentifier() and name.islower()), "expected a name of small letters, digits and underscores"),
            (not signal.unit, "has no unit; expected a UCUM code"),
            (not signal.low < signal.high, "its plausible range is empty; expected low < high"),
            (not signal.low <= signal.usual <= signal.high, "its usual value is implausible; expected one from low to high"),
            (signal.steps_per_unit < 1, "steps_per_unit is below 1; expected the whole number 1 / resolution"),
            (signal.limit_of is not None, "limit_of is for bounds; expected is_bounded = True"),
            (any(factor <= 0 for factor in addition.units.values()), "a factor of its units is not above 0"),
        )
        for is_broken, rule in rules:
            if is_broken:
                refuse(f"signal {name} of an installed package", rule)
    return added


_SIDES: Final[tuple[Side, ...]] = ("below", "above")
ADDED: Final = _check_added(load_additions("vigil.signals", AddedSignal))
SIGNALS: dict[str, Signal] = {**BUILT_IN, **{name: added.signal for name, added in ADDED.items()}}
_BOUNDED: Final = (*_BUILT_IN_BOUNDED, *(name for name, added in ADDED.items() if added.is_bounded))

# Bounds are signals of their own, so that no statistic of the signal itself holds a limit.
BOUNDS: dict[str, Signal] = {bound.name: bound for name in _BOUNDED for bound in _bounds_of(SIGNALS[name])}
STORED: dict[str, Signal] = {**SIGNALS, **BOUNDS}  # every signal that a checked observation may be of
STORED_NAMES: Final = tuple(sorted(STORED))  # arrays number signals by this order


def bounded_signals() -> tuple[str, ...]:
    """Return the signals that have bounds, in table order."""
    return _BOUNDED


def measured_signal(name: str) -> str:
    """Return the signal that a bound is of; any other signal is returned unchanged.

    >>> measured_signal("glucose_below_range"), measured_signal("glucose")
    ('glucose', 'glucose')
    """
    return BOUNDS[name].limit_of or name if name in BOUNDS else name


def signal_with_bounds(name: str) -> tuple[str, ...]:
    """Return a signal and those that hold its bounds, if any.

    >>> signal_with_bounds("glucose"), signal_with_bounds("heart_rate")
    (('glucose', 'glucose_below_range', 'glucose_above_range'), ('heart_rate',))
    """
    return (name, *(bound for bound, signal in BOUNDS.items() if signal.limit_of == name))


def signal_names(*kinds: Kind) -> tuple[str, ...]:
    """Return the names of all signals of the given kinds, in table order, then those of installed packages.

    >>> signal_names("support")
    ('consciousness', 'on_oxygen', 'fio2', 'etco2')
    """
    return tuple(signal.name for signal in SIGNALS.values() if signal.kind in kinds)
