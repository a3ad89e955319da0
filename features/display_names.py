"""Names for people: of signals, units and features, as reports, plots and pages show them.

Code and tables name a signal ``systolic_bp`` and its unit ``mm[Hg]``. People read "Systolic blood pressure, mmHg".
"""

import re
from typing import Final

from vigil.features.catalogue import FEATURES
from vigil.features.signals import BOUNDS, SIGNALS, measured_signal
from vigil.features.windows import CONTINUOUS_MINUTES, SUSTAINED_MINUTES, Feature

# Only names that are more than the words of the identifier. Scores, and what features are about, count as signals here.
_SIGNAL_NAMES: Final = {
    "spo2": "SpO2",
    "sao2": "SaO2",
    "fio2": "inspired oxygen (FiO2)",
    "etco2": "end-tidal CO2",
    "ph": "pH",
    "paco2": "PaCO2",
    "pao2": "PaO2",
    "systolic_bp": "systolic blood pressure",
    "diastolic_bp": "diastolic blood pressure",
    "mean_bp": "mean blood pressure",
    "consciousness": "consciousness (ACVPU)",
    "bun": "urea nitrogen",
    "wbc": "white cells",
    "ast": "AST",
    "alt": "ALT",
    "ptt": "PTT",
    "bilirubin_direct": "direct bilirubin",
    "bilirubin_total": "total bilirubin",
    "troponin_i": "troponin I",
    "troponin_t": "troponin T",
    "glasgow_coma_scale": "Glasgow Coma Scale",
    "on_oxygen": "supplemental oxygen",
    "spo2_fio2": "SpO2 / FiO2",
    "measuring": "what is measured",
    "news2": "NEWS2",
    "qsofa": "qSOFA",
    "sirs": "SIRS",
    "sofa": "SOFA",
    "mews": "MEWS",
}
# UCUM codes that people write differently. Numbers that count, and pH, have no unit.
_UNIT_NAMES: Final = {
    "mm[Hg]": "mmHg",
    "Cel": "°C",
    "/min": "per minute",
    "10*3/uL": "10³/µL",
    "kg/m2": "kg/m²",
    "a": "years",
    "[pH]": "",
    "1": "",
    "{count}": "",
    "{score}": "points",
    "{ACVPU}": "points",
}
# What the numbers of a code mean, from 0 on.
_CODES: Final = {
    "on_oxygen": ("no", "yes"),
    "mechanical_ventilation": ("no", "yes"),
    "pregnant": ("no", "yes"),
    "sex": ("female", "male"),
    "consciousness": ("alert", "new confusion", "responds to voice", "responds to pain", "unresponsive"),
}
_CODE_NAMES: Final = {
    name: f"0 {codes[0]}{',' if len(codes) == 2 else ' to'} {len(codes) - 1} {codes[-1]}" for name, codes in _CODES.items()
}
_UNITS_OF_OTHERS: Final = {
    "age": "a",
    "pulse_pressure": "mm[Hg]",
    **dict.fromkeys(("news2", "qsofa", "sirs", "sofa", "mews"), "{score}"),
}

# What a statistic is of a window: {of} is "of the last 6 h", {within} "in the last 6 h"; with another window both are its name.
_STATISTIC_NAMES: Final = {
    "count": "number of readings {within}",
    "mean": "mean {of}",
    "min": "lowest {of}",
    "max": "highest {of}",
    "std": "standard deviation {of}",
    "slope": "slope {of}",
    "last": "latest {of}",
    "age": "hours since the latest reading {of}",
    "change": "latest minus earliest {of}",
    "step": "latest minus the one before, {of}",
    "median": "median {of}",
    "iqr": "interquartile range {of}",
    "diff_std": "spread from reading to reading {of}",
    "ema": "mean {of}, the latest weighing most",
    "hours_above": "hours above {threshold} {within}",
    "hours_below": "hours below {threshold} {within}",
    "sustained": f"median of the latest {SUSTAINED_MINUTES} min {{of}}",
    "recent": f"number of readings in the last {CONTINUOUS_MINUTES} min {{of}}",
}
_DERIVED_NAMES: Final = {
    "_from_first_day": "last 6 h against the first day",
    "_from_usual": "last 6 h against the mean so far",
    "_anomaly": "distance from the mean so far, in standard deviations",
}
_FEATURE_NAMES: Final = {
    "news2_highest": "NEWS2, highest possible",
    "news2_sustained": "NEWS2 of sustained values",
    "news2_sustained_worst": "NEWS2 of sustained values, points of the worst component",
    "news2_sustained_spot": "NEWS2 of sustained values, points of spot checks",
    "mews_highest": "MEWS, highest possible",
    "qsofa_highest": "qSOFA, highest possible",
    "sirs_highest": "SIRS, highest possible",
    "sofa_highest": "SOFA, highest possible",
    "shock_index": "shock index",
    "vitals_known": "vital signs measured in the last 24 h",
    "hours_since_reading": "hours since the latest vital sign",
    "hours_in_unit": "hours in the unit",
    "hours_in_hospital_before": "hours in hospital before the unit",
    "pregnant": "pregnancy",
    "urine_total_72h": "urine, total of the last 72 h",
    "urine_per_kg_72h": "urine per body weight, total of the last 72 h",
    "body_mass_index_72h": "body mass index",
    "pao2_fio2_72h": "PaO2 / FiO2, latest of the last 72 h",
    "pao2_fio2_worst_72h": "PaO2 / FiO2, worst of the last 72 h",
    "bun_creatinine_72h": "urea nitrogen / creatinine, latest of the last 72 h",
    "anion_gap_72h": "anion gap, latest of the last 72 h",
    "shock_index_worst_72h": "shock index, worst of the last 72 h",
    "consciousness_regained_72h": "Glasgow Coma Scale, gain since the lowest of the last 72 h",
}
_COMPONENT: Final = re.compile(r"(news2|sofa)_(?!highest|sustained)(\w+)")
_THRESHOLD: Final = re.compile(r"hours_(?:above|below)_(\d+(?:p\d+)?)_")


def name_signal(name: str) -> str:
    """Return the name of a signal in a sentence; of a bound it says of which signal and side.

    >>> name_signal("spo2"), name_signal("heart_rate"), name_signal("systolic_bp")
    ('SpO2', 'heart rate', 'systolic blood pressure')
    """
    if name in BOUNDS:
        side = "below" if "_below_" in name else "above"
        return f"{name_signal(measured_signal(name))} {side} the measuring range"
    return _SIGNAL_NAMES.get(name, name.replace("_", " "))


def name_unit(unit: str) -> str:
    """Return a UCUM code as people write the unit.

    >>> name_unit("mm[Hg]"), name_unit("Cel"), name_unit("10*3/uL"), name_unit("mm[Hg]/h")
    ('mmHg', '°C', '10³/µL', 'mmHg per hour')
    """
    whole, slash, _ = unit.rpartition("/h")
    if slash and unit.endswith("/h"):
        return f"{name_unit(whole)} per hour".strip()
    return _UNIT_NAMES.get(unit, unit)


def name_feature(name: str) -> str:
    """Return the name of a feature in a sentence, without its unit.

    >>> name_feature("heart_rate_max_6h"), name_feature("spo2_hours_below_92_24h"), name_feature("news2_spo2")
    ('heart rate, highest of the last 6 h', 'SpO2, hours below 92 % in the last 24 h', 'NEWS2 points for SpO2')
    """
    if name in _FEATURE_NAMES:
        return _FEATURE_NAMES[name]
    feature = FEATURES.get(name)
    if feature is None:
        return name_signal(name)
    if feature.statistic in _STATISTIC_NAMES:
        return f"{name_signal(feature.signal)}, {_name_statistic(feature)}"
    for suffix, words in _DERIVED_NAMES.items():
        if name.endswith(suffix):
            return f"{name_signal(feature.signal)}, {words}"
    if component := _COMPONENT.fullmatch(name):
        return f"{name_signal(component[1])} points for {name_signal(component[2])}"
    return name_signal(name)


def label_signal(name: str) -> str:
    """Return the name of a signal with its unit, as on an axis or in a heading.

    >>> label_signal("spo2"), label_signal("systolic_bp"), label_signal("ph"), label_signal("age")
    ('SpO2, %', 'Systolic blood pressure, mmHg', 'pH', 'Age, years')
    """
    return _label(name_signal(name), unit_of_signal(name))


def label_feature(name: str) -> str:
    """Return the name of a feature with its unit, as on an axis or in a heading.

    >>> label_feature("heart_rate_max_6h"), label_feature("systolic_bp_slope_6h")
    ('Heart rate, highest of the last 6 h, per minute', 'Systolic blood pressure, slope of the last 6 h, mmHg per hour')
    """
    feature = FEATURES.get(name)
    shown = name_feature(name)
    if feature is None or feature.unit in {"h", "{score}"}:  # the name says hours, or points, already
        return capitalise(shown)
    return _label(shown, _CODE_NAMES.get(name) or name_unit(feature.unit))


def unit_of_signal(name: str) -> str:
    """Return the unit of a signal as people write it; for a code what its numbers mean; empty: there is none.

    >>> unit_of_signal("heart_rate"), unit_of_signal("on_oxygen"), unit_of_signal("shock_index")
    ('per minute', '0 no, 1 yes', '')
    """
    if name in _CODE_NAMES:
        return _CODE_NAMES[name]
    measured = SIGNALS.get(measured_signal(name))
    return name_unit(measured.unit if measured else _UNITS_OF_OTHERS.get(name, ""))


def show_value(name: str, value: float) -> str:
    """Return a value of a signal with its unit, or the meaning of a code.

    >>> show_value("spo2", 91.0), show_value("body_temperature", 38.4), show_value("on_oxygen", 1.0), show_value("ph", 7.31)
    ('91 %', '38.4 °C', 'yes', '7.31')
    """
    codes = _CODES.get(name, ())
    if value in range(len(codes)):
        return codes[int(value)]
    return f"{value:.4g} {unit_of_signal(name)}".strip()


def capitalise(text: str) -> str:
    """Return a text with a capital first letter, unless its first word has a capital already.

    >>> capitalise("heart rate"), capitalise("pH")
    ('Heart rate', 'pH')
    """
    return text[:1].upper() + text[1:] if text.partition(" ")[0].islower() else text


def _label(name: str, unit: str) -> str:
    return capitalise(f"{name}, {unit}" if unit else name)


def _name_statistic(feature: Feature) -> str:
    window = "last hour" if feature.window == "last 1 h" else feature.window
    of, within = {"so far": ("so far", "so far"), "first day": ("of the first day", "on the first day")}.get(
        window, (f"of the {window}", f"in the {window}")
    )
    found = _THRESHOLD.search(feature.name)
    unit = name_unit(SIGNALS[measured_signal(feature.signal)].unit)
    threshold = f"{found[1].replace('p', '.')} {unit}".strip() if found else ""
    return _STATISTIC_NAMES[feature.statistic].format(of=of, within=within, threshold=threshold)
