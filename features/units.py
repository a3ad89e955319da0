"""Units of measure: which units of a signal are understood, and their exact conversion into the signal's own unit.

Units are UCUM codes (https://ucum.org). Spellings that UCUM calls the same are understood, as are the usual ones that are not
UCUM. A conversion is rational arithmetic, rounded once to the signal's resolution. Nothing is chosen by plausibility: a value
whose unit is unknown is not believed.

Constants. 1 in = 2.54 cm and 1 lb = 0.45359237 kg exactly (international yard and pound, 1959). 1 mm[Hg] = 133.322 Pa (UCUM).
Amounts of substance become masses by the molar mass, computed from the abridged standard atomic weights (Prohaska et al., Pure
Appl Chem 2022;94:573-600). Haemoglobin: 16 114.5 g/mol, a quarter of the tetramer (ICSH, J Clin Pathol 1996;49:271-274).
"""

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from vigil.features.signals import ADDED, SIGNALS, STORED

_ATOMIC_WEIGHT: Final = {
    "H": "1.008",
    "C": "12.011",
    "N": "14.007",
    "O": "15.999",
    "Na": "22.990",
    "Mg": "24.305",
    "P": "30.974",
    "Cl": "35.45",
    "K": "39.098",
    "Ca": "40.078",
}


def molar_mass(formula: str) -> Fraction:
    """Return the molar mass of a formula, g/mol.

    >>> float(molar_mass("C6H12O6"))
    180.156
    """
    parts = re.findall(r"([A-Z][a-z]?)(\d*)", formula)
    return sum((Fraction(_ATOMIC_WEIGHT[atom]) * int(count or 1) for atom, count in parts), Fraction(0))


@dataclass(frozen=True, slots=True)
class Conversion:
    """How a value becomes one of the signal's own unit: ``(value + offset) * factor``."""

    factor: Fraction
    offset: Fraction = Fraction(0)

    def convert(self, value: float, steps_per_unit: int) -> float:
        """Return a value in the signal's own unit, rounded once to its resolution.

        The value counts as the shortest decimal number that stands for it, which is what a sender wrote.

        >>> CONVERSIONS["body_temperature"]["[degF]"].convert(98.6, 100)
        37.0
        """
        return round((Fraction(repr(value)) + self.offset) * self.factor * steps_per_unit) / steps_per_unit


UNCHANGED: Final = Conversion(Fraction(1))
_PERCENT_OF_FRACTION: Final = Conversion(Fraction(100))
_MMHG_OF_KPA: Final = Conversion(Fraction(1000) / Fraction("133.322"))


def _mass(formula_or_mass: str | Fraction, grams_to_own: int, moles: Fraction) -> Conversion:
    mass = molar_mass(formula_or_mass) if isinstance(formula_or_mass, str) else formula_or_mass
    return Conversion(mass * moles * grams_to_own)


_MILLI: Final = Fraction(1, 1000)
_MICRO: Final = Fraction(1, 1_000_000)
_MG_PER_DL: Final = 100  # mg/dL in 1 g/L
_HAEMOGLOBIN: Final = Fraction("16114.5")


def _in_mg_per_dl(formula: str) -> dict[str, Conversion]:
    """Return the conversions of an analyte of one formula into mg/dL."""
    return {
        "mmol/L": _mass(formula, _MG_PER_DL, _MILLI),
        "umol/L": _mass(formula, _MG_PER_DL, _MICRO),
        "mg/L": Conversion(Fraction(1, 10)),
        "g/L": Conversion(Fraction(100)),
    }


def _in_mmol_per_l(formula: str, charge: int) -> dict[str, Conversion]:
    """Return the conversions of an ion of one formula into mmol/L; ``charge`` 0: equivalents are not used of it."""
    mass = {"mg/dL": Conversion(Fraction(10) / molar_mass(formula)), "mg/L": Conversion(1 / molar_mass(formula))}
    return mass | ({"meq/L": Conversion(Fraction(1, charge))} if charge else {})


_ENZYME: Final = {"ukat/L": Conversion(Fraction(60))}  # 1 kat = 1 mol/s; 1 U = 1 umol/min
_CELLS: Final = {
    "10*9/L": UNCHANGED,
    "10*6/mL": UNCHANGED,
    "/nL": UNCHANGED,
    "/uL": Conversion(_MILLI),
    "10*6/L": Conversion(_MILLI),
}
_TROPONIN: Final = {
    "ug/L": UNCHANGED,
    "ng/L": Conversion(_MILLI),
    "pg/mL": Conversion(_MILLI),
    "ng/dL": Conversion(Fraction(1, 100)),
}
_PRESSURE: Final = {"kPa": _MMHG_OF_KPA}
_FRACTION: Final = {"1": _PERCENT_OF_FRACTION}

# Units of each signal beside its own. A unit that is missing here is not understood.
CONVERSIONS: Final[Mapping[str, Mapping[str, Conversion]]] = {
    "heart_rate": {"Hz": Conversion(Fraction(60))},
    "respiratory_rate": {"Hz": Conversion(Fraction(60))},
    "spo2": _FRACTION,
    "systolic_bp": _PRESSURE,
    "diastolic_bp": _PRESSURE,
    "mean_bp": _PRESSURE,
    "body_temperature": {
        "[degF]": Conversion(Fraction(5, 9), Fraction(-32)),
        "K": Conversion(Fraction(1), Fraction("-273.15")),
    },
    "glucose": _in_mg_per_dl("C6H12O6"),
    "fio2": _FRACTION,
    "etco2": _PRESSURE,
    "base_excess": {"meq/L": UNCHANGED},
    "bicarbonate": {"meq/L": UNCHANGED},
    "ph": {"1": UNCHANGED},
    "paco2": _PRESSURE,
    "pao2": _PRESSURE,
    "sao2": _FRACTION,
    "ast": _ENZYME,
    "alt": _ENZYME,
    "alkaline_phosphatase": _ENZYME,
    # Urea nitrogen: a mole of urea holds two of nitrogen.
    "bun": {"mmol/L": _mass("N2", _MG_PER_DL, _MILLI), "mg/L": Conversion(Fraction(1, 10))},
    "calcium": _in_mg_per_dl("Ca") | {"meq/L": _mass("Ca", _MG_PER_DL, _MILLI / 2)},
    "chloride": _in_mmol_per_l("Cl", 1),
    "creatinine": _in_mg_per_dl("C4H7N3O"),
    "bilirubin_direct": _in_mg_per_dl("C33H36N4O6"),
    "bilirubin_total": _in_mg_per_dl("C33H36N4O6"),
    "lactate": _in_mmol_per_l("C3H6O3", 0),
    "magnesium": _in_mg_per_dl("Mg") | {"meq/L": _mass("Mg", _MG_PER_DL, _MILLI / 2)},
    "phosphate": _in_mg_per_dl("P"),
    "potassium": _in_mmol_per_l("K", 1),
    "sodium": _in_mmol_per_l("Na", 1),
    "troponin_i": _TROPONIN,
    "troponin_t": _TROPONIN,
    "hematocrit": _FRACTION,
    "hemoglobin": {
        "g/L": Conversion(Fraction(1, 10)),
        "mmol/L": _mass(_HAEMOGLOBIN, 1, Fraction(1, 10_000)),  # g/dL: a tenth of g/L
    },
    "wbc": _CELLS,
    "platelets": _CELLS,
    "fibrinogen": {"g/L": Conversion(Fraction(100)), "mg/L": Conversion(Fraction(1, 10))},
    "albumin": {"g/L": Conversion(Fraction(1, 10))},
    "cholesterol": _in_mg_per_dl("C27H46O"),
    "urine_output": {"L": Conversion(Fraction(1000)), "cm3": UNCHANGED},
    "body_weight": {"g": Conversion(_MILLI), "[lb_av]": Conversion(Fraction("0.45359237"))},
    "body_height": {"m": Conversion(Fraction(100)), "mm": Conversion(Fraction(1, 10)), "[in_i]": Conversion(Fraction("2.54"))},
    **{name: {unit: Conversion(factor) for unit, factor in added.units.items()} for name, added in ADDED.items()},
}
# Units in which a value without a unit may be meant, beside the signal's own: what devices and laboratories send somewhere.
# Other units that can be converted are written wherever they are used.
CUSTOMARY: Final[Mapping[str, tuple[str, ...]]] = {
    **dict.fromkeys(("systolic_bp", "diastolic_bp", "mean_bp", "etco2", "paco2", "pao2"), ("kPa",)),
    **dict.fromkeys(("spo2", "fio2", "sao2", "hematocrit"), ("1",)),
    **dict.fromkeys(("bun", "calcium", "magnesium", "phosphate", "cholesterol"), ("mmol/L",)),
    **dict.fromkeys(("creatinine", "bilirubin_direct", "bilirubin_total"), ("umol/L",)),
    **dict.fromkeys(("lactate", "potassium"), ("mg/dL",)),
    **dict.fromkeys(("troponin_i", "troponin_t"), ("ng/L",)),
    **dict.fromkeys(("wbc", "platelets"), ("/uL",)),
    **dict.fromkeys(("albumin", "fibrinogen"), ("g/L",)),
    "body_temperature": ("[degF]",),
    "body_weight": ("[lb_av]",),
    "body_height": ("[in_i]", "m"),
    "glucose": ("mmol/L", "g/L"),
    "hemoglobin": ("mmol/L", "g/L"),
}

# Spellings that are not UCUM, in small letters.
_SPELLINGS: Final = {
    **dict.fromkeys(
        ("bpm", "beats/min", "beats per minute", "breaths/min", "breaths per minute", "1/min", "rpm", "insp/min"), "/min"
    ),
    **dict.fromkeys(("mmhg", "mm hg", "mm_hg"), "mm[Hg]"),
    **dict.fromkeys(("degc", "°c", "c", "celsius", "degrees celsius"), "Cel"),
    **dict.fromkeys(("degf", "°f", "f", "fahrenheit", "degrees fahrenheit"), "[degF]"),
    **dict.fromkeys(("percent", "pct"), "%"),
    **dict.fromkeys(("l/l", "fraction"), "1"),
    **dict.fromkeys(("lb", "lbs"), "[lb_av]"),
    **dict.fromkeys(("in", "inch", "inches"), "[in_i]"),
    **dict.fromkeys(("mg%", "mg/100ml"), "mg/dL"),
    **dict.fromkeys(("iu/l", "[iu]/l", "u/l"), "U/L"),
    **dict.fromkeys(("k/ul", "10^3/ul", "x10^3/ul", "10e3/ul", "10*3/ul", "thou/ul", "k/mcl"), "10*3/uL"),
    **dict.fromkeys(("10^9/l", "x10^9/l", "10e9/l", "10*9/l"), "10*9/L"),
    **dict.fromkeys(("sec", "seconds"), "s"),
    "ph": "[pH]",
    "mcmol/l": "umol/L",
    "mcg/l": "ug/L",
    "meq/l": "meq/L",
}
_ANNOTATION: Final = re.compile(r"\{[^}]*\}")
_LITRE: Final = re.compile(r"(?<![A-Za-z\[])([mdcunp]?)l(?![A-Za-z\]])")


@functools.lru_cache(maxsize=4096)
def canonical_unit(unit: str) -> str:
    """Return the UCUM code of a unit, as far as it is one that Vigil knows by another spelling.

    Annotations in braces say nothing, and l and L are both the litre. An annotation that stands alone is left: ``{percent}`` is
    not ``%`` but the number 1.

    >>> [canonical_unit(unit) for unit in ("mg/dl", "{Beats}/min", "µmol/L", "bpm", "{percent}")]
    ['mg/dL', '/min', 'umol/L', '/min', '{percent}']
    """
    text = unit.strip().replace("µ", "u").replace("μ", "u")
    text = _ANNOTATION.sub("", text) or text
    text = _SPELLINGS.get(text.lower(), text)
    return _LITRE.sub(r"\1L", text)


def find_conversion(signal: str, unit: str) -> Conversion | None:
    """Return how values of a known signal in a unit become values in its own unit; None: the unit is not understood."""
    canonical = canonical_unit(unit)
    if canonical == STORED[signal].unit:
        return UNCHANGED
    return CONVERSIONS.get(signal, {}).get(canonical)


def competing_conversions(signal: str) -> tuple[Conversion, ...]:
    """Return the conversions of those units in which a value of a known signal without a unit may be meant, too."""
    return tuple(CONVERSIONS[signal][unit] for unit in CUSTOMARY.get(signal, ()))


def understood_units(signal: str) -> tuple[str, ...]:
    """Return the units of a known signal that are understood, its own first.

    >>> understood_units("glucose")
    ('mg/dL', 'mmol/L', 'umol/L', 'mg/L', 'g/L')
    """
    return (SIGNALS[signal].unit, *CONVERSIONS.get(signal, {}))
