"""Codes of other systems for signals: which LOINC and MDC codes are accepted for each signal, and what they say of its unit.

A door that receives codes asks :func:`resolve_codes`. LOINC: https://loinc.org. MDC: ISO/IEEE 11073-10101.

SpO2 and SaO2 share the code 2708-6: vital-sign profiles send it beside 59408-5 for the pulse oximeter, laboratories for blood.
So 2708-6 alone decides nothing. It takes the category of the observation, ``vital-signs`` or ``laboratory``.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from vigil.features.installed import refuse
from vigil.features.signals import ADDED, BUILT_IN, SIGNALS

LOINC: Final = "http://loinc.org"
MDC: Final = "urn:iso:std:iso:11073:10101"
SATURATION: Final = "2708-6"

_LOINC_OF: Final[Mapping[str, tuple[str, ...]]] = {  # beside the code in the signal table
    "heart_rate": ("8889-8", "8893-0"),  # by pulse oximetry; peripheral artery by palpation
    "body_temperature": ("8331-1", "8332-9", "8328-7", "8333-0"),  # oral, rectal, axillary, tympanic
    "glucose": ("2345-7", "41653-7", "99504-3", "15074-8", "14749-6"),
}
_MDC_OF: Final[Mapping[str, tuple[str, ...]]] = {
    "heart_rate": ("147842", "149530", "149546"),  # ECG, pulse oximeter, non-invasive pressure
    "respiratory_rate": ("151562",),
    "spo2": ("150456",),
    "systolic_bp": ("150021",),
    "diastolic_bp": ("150022",),
    "mean_bp": ("150023",),
    "body_temperature": ("150364",),
    "glucose": ("160184",),
    "etco2": ("151708",),
}
# Units as MDC numbers them.
MDC_UNITS: Final[Mapping[str, str]] = {
    "262688": "%",
    "263441": "cm",
    "263875": "kg",
    "263904": "[lb_av]",
    "264274": "mg/dL",
    "264864": "/min",
    "264928": "/min",
    "265987": "kPa",
    "266016": "mm[Hg]",
    "266560": "[degF]",
    "266866": "mmol/L",
    "268192": "Cel",
}
# Codes that name the kind of quantity: an amount of substance, or a mass. A unit of the other kind contradicts the code.
_UNITS_OF_CODE: Final[Mapping[str, tuple[str, ...]]] = {
    **dict.fromkeys(("15074-8", "14749-6"), ("mmol/L", "umol/L")),
    **dict.fromkeys(("2339-0", "2345-7", "41653-7", "99504-3"), ("mg/dL", "mg/L", "g/L")),
}

_BUILT_IN: Final = {
    **{(LOINC, signal.loinc): name for name, signal in BUILT_IN.items() if signal.loinc not in (None, SATURATION)},
    **{(LOINC, code): name for name, codes in _LOINC_OF.items() for code in codes},
    **{(MDC, code): name for name, codes in _MDC_OF.items() for code in codes},
}


def _with_added(codes: Mapping[tuple[str, str], str]) -> Mapping[tuple[str, str], str]:
    """Return which signal each code means, with the codes of installed packages.

    Raises:
        PackageError: a code means another signal already.
    """
    all_codes = dict(codes)
    for name, added in ADDED.items():
        loinc = (added.signal.loinc, *added.loinc)
        for pair in (*((LOINC, code) for code in loinc if code), *((MDC, code) for code in added.mdc)):
            if pair[1] == SATURATION or all_codes.setdefault(pair, name) != name:
                refuse(
                    f"signal {name} of an installed package",
                    f"{pair[1]} of {pair[0]} means {all_codes.get(pair, 'spo2 or sao2')} already; expected a code of its own",
                )
    return all_codes


_SIGNAL_OF: Final = _with_added(_BUILT_IN)


def resolve_codes(codings: Iterable[tuple[str, str]], category: str | None = None) -> tuple[str | None, str]:
    """Return the signal that codes of one observation name, and why there is none.

    Args:
        codings: pairs of system and code. Codes that Vigil does not know are ignored beside one that it knows.
        category: ``vital-signs`` or ``laboratory``; decides what 2708-6 alone means.

    Returns:
        The signal and an empty text, or None and a reason: ``unknown_signal``, ``codes_disagree``, ``ambiguous_code``.

    >>> resolve_codes([(LOINC, "2708-6"), (LOINC, "59408-5")])
    ('spo2', '')
    >>> resolve_codes([(LOINC, "2708-6")])
    (None, 'ambiguous_code')
    """
    pairs = set(codings)
    signals = {_SIGNAL_OF[pair] for pair in pairs if pair in _SIGNAL_OF}
    if (LOINC, SATURATION) in pairs and "spo2" not in signals:
        by_category = {"vital-signs": "spo2", "laboratory": "sao2"}
        if category not in by_category:
            return None, "ambiguous_code"
        signals.add(by_category[category])
    if len(signals) > 1:
        return None, "codes_disagree"
    return (signals.pop(), "") if signals else (None, "unknown_signal")


def accepted_codes(system: str, signal: str) -> tuple[str, ...]:
    """Return the codes of a system that mean a signal.

    >>> accepted_codes(LOINC, "heart_rate")
    ('8867-4', '8889-8', '8893-0')
    """
    return tuple(code for (of, code), name in _SIGNAL_OF.items() if of == system and name == signal)


def accepted_names() -> list[str]:
    """Return what a signal may be called: names of the signal table, then codes of other systems."""
    return [*SIGNALS, *(code for _, code in _SIGNAL_OF)]


def contradicts_code(code: str, unit: str) -> bool:
    """Return whether a LOINC code names another kind of quantity than a unit (a UCUM code as Vigil writes it).

    >>> contradicts_code("15074-8", "mg/dL"), contradicts_code("15074-8", "mmol/L")
    (True, False)
    """
    return code in _UNITS_OF_CODE and unit not in _UNITS_OF_CODE[code]


def codes_of_kind(codes: Iterable[str]) -> str | None:
    """Return the LOINC code that says most of the unit; empty: none says anything; None: they contradict each other.

    >>> codes_of_kind(["2345-7", "15074-8"]) is None, codes_of_kind(["15074-8", "14749-6"]), codes_of_kind(["8867-4"])
    (True, '15074-8', '')
    """
    kinds = {code: _UNITS_OF_CODE[code] for code in codes if code in _UNITS_OF_CODE}
    if len(set(kinds.values())) > 1:
        return None
    return next(iter(kinds), "")
