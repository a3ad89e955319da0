"""Cases of single values: units, codes, bounds, and what a source leaves out."""

from collections.abc import Mapping
from typing import Final

from vigil.features.cases.case import Case
from vigil.features.declarations import Declarations, SourceDeclaration


def _values(*cases: tuple[str, object, object, str, str]) -> tuple[Case, ...]:
    """Return cases of one value each: signal, value, unit (None: not sent), outcome, and why."""
    return tuple(
        Case(({"signal": signal, "value": value} | ({} if unit is None else {"unit": unit}),), (outcome,), because)
        for signal, value, unit, outcome, because in cases
    )


_SPO2: Final = {"signal": "spo2", "unit": "%"}
_FIO2: Final = {"signal": "fio2", "unit": "%"}
_HEART_RATE: Final = {"signal": "heart_rate", "value": 80}
_GATEWAY: Final = Declarations(
    SourceDeclaration(units={"potassium": "mmol/L"}),
    {
        "cgm": SourceDeclaration(
            units={"glucose": "mmol/L"}, error_codes={"glucose": (9, 10, 12)}, ranges={"glucose": (2.2, 22.2)}
        )
    },
)


MEASURES: Final[Mapping[str, tuple[Case, ...]]] = {
    "A unit is left out": _values(
        ("respiratory_rate", 26, None, "respiratory_rate 26 /min", "No other unit is in use."),
        ("heart_rate", 80, "", "heart_rate 80 /min", "An empty unit is none."),
        ("glucose", 180, None, "glucose 180 mg/dL", "As mmol/L it would be out of range."),
        ("glucose", 24, None, "missing_unit", "Severe hypoglycaemia in mg/dL, or 432 mg/dL if mmol/L is meant."),
        ("glucose", 40, None, "missing_unit", "Severe hypoglycaemia, or 721 mg/dL."),
        ("glucose", 11.1, None, "missing_unit", "Usual in mmol/L, a coma in mg/dL."),
        ("glucose", 11.1, "", "missing_unit", "An empty unit is none."),
        ("glucose", 5.5, None, "missing_unit", "Usual in mmol/L; no value in mg/dL, and nothing is chosen by plausibility."),
        ("creatinine", 55, None, "missing_unit", "Usual in umol/L."),
        ("creatinine", 1.1, None, "creatinine 1.1 mg/dL", "As umol/L it would be out of range."),
        ("calcium", 2.4, None, "missing_unit", "Usual in mmol/L, far too low in mg/dL."),
        ("bun", 14, None, "missing_unit", "Usual in mg/dL, high in mmol/L."),
        ("magnesium", 0.8, None, "missing_unit", "Usual in mmol/L, low in mg/dL."),
        ("paco2", 5.3, None, "missing_unit", "Usual in kPa, very low in mm[Hg]."),
        ("paco2", 40, None, "paco2 40 mm[Hg]", "As kPa it would be out of range."),
        ("systolic_bp", 22, None, "missing_unit", "A shock in mm[Hg], high in kPa."),
        ("systolic_bp", 120, None, "systolic_bp 120 mm[Hg]", "As kPa it would be out of range."),
        ("lactate", 20, None, "missing_unit", "Very high in mmol/L, nearly usual in mg/dL."),
        ("hemoglobin", 9, None, "missing_unit", "Low in g/dL, usual in mmol/L."),
        ("potassium", 15, None, "missing_unit", "Impossible for long in mmol/L, usual in mg/dL."),
        ("troponin_i", 40, None, "missing_unit", "Very high in ng/mL, raised in ng/L."),
        ("fibrinogen", 6, None, "missing_unit", "Very low in mg/dL, high in g/L."),
        ("body_weight", 180, None, "missing_unit", "Kilograms or pounds."),
        ("body_height", 70, None, "missing_unit", "Centimetres or inches."),
        ("body_height", 178, None, "body_height 178 cm", "As inches it would be out of range."),
        ("fio2", 0.4, None, "missing_unit", "A fraction, or an artefact in %."),
        ("spo2", 97, None, "spo2 97 %", "As a fraction it would be out of range."),
        ("body_temperature", 37, None, "body_temperature 37 Cel", "As degrees Fahrenheit it would be out of range."),
        ("body_temperature", 98.6, None, "missing_unit", "Degrees Fahrenheit most likely, but a unit is not guessed."),
    ),
    "A unit is spelled in another way": _values(
        ("glucose", 100, "mg/dl", "glucose 100 mg/dL", "UCUM has l and L for the litre."),
        ("creatinine", 55, "µmol/L", "creatinine 0.62 mg/dL", "The micro sign is u in UCUM."),
        ("heart_rate", 80, "{Beats}/min", "heart_rate 80 /min", "An annotation in braces has no meaning in UCUM."),
        (
            "respiratory_rate",
            16,
            "{breaths}/min",
            "respiratory_rate 16 /min",
            "An annotation in braces has no meaning in UCUM.",
        ),
        ("heart_rate", 80, "1/min", "heart_rate 80 /min", "UCUM allows both."),
        ("heart_rate", 80, "bpm", "heart_rate 80 /min", "A usual text of devices."),
        ("systolic_bp", 120, "mmHg", "systolic_bp 120 mm[Hg]", "A usual text of devices."),
        ("body_temperature", 37.1, "°C", "body_temperature 37.1 Cel", "A usual text of devices."),
        ("body_temperature", 98.6, "degF", "body_temperature 37 Cel", "A usual text of devices."),
        ("wbc", 7.5, "10^9/L", "wbc 7.5 10*3/uL", "The usual way to write 10*9/L, which is as much as 10*3/uL."),
        ("ph", 7.4, "pH", "ph 7.4 [pH]", "A usual text of laboratories."),
        ("spo2", 97, "{percent}", "unknown_unit", "An annotation alone is the number 1, not %."),
        ("glucose", 110, "MGDL", "unknown_unit", "Not a spelling that could be found in UCUM."),
        ("heart_rate", 80, "beats per fortnight", "unknown_unit", "A unit that is not understood is not believed."),
        ("heart_rate", 80, 7, "unknown_unit", "A unit is a text."),
    ),
    "A value is converted": _values(
        ("body_temperature", 98.6, "[degF]", "body_temperature 37 Cel", "Decimal arithmetic, rounded once."),
        ("glucose", 6.1, "mmol/L", "glucose 109.9 mg/dL", "18.0156 mg/dL in 1 mmol/L."),
        ("glucose", 6.111, "mmol/L", "glucose 110.09 mg/dL", "Rounded to the resolution of the signal."),
        ("glucose", 1.1, "g/L", "glucose 110 mg/dL", "In use in some countries."),
        ("systolic_bp", 16, "kPa", "systolic_bp 120.01 mm[Hg]", "133.322 Pa in 1 mm[Hg]."),
        ("bilirubin_total", 17.1, "umol/L", "bilirubin_total 1 mg/dL", "By its molar mass."),
        ("bun", 5, "mmol/L", "bun 14.01 mg/dL", "A mole of urea holds two of nitrogen."),
        ("calcium", 2.4, "mmol/L", "calcium 9.62 mg/dL", "By its molar mass."),
        ("hemoglobin", 9, "mmol/L", "hemoglobin 14.5 g/dL", "By the molar mass of a quarter of the tetramer."),
        ("hemoglobin", 140, "g/L", "hemoglobin 14 g/dL", "A tenth."),
        ("potassium", 4.1, "meq/L", "potassium 4.1 mmol/L", "One charge."),
        ("lactate", 18, "mg/dL", "lactate 2 mmol/L", "By its molar mass."),
        ("troponin_i", 40, "ng/L", "troponin_i 0.04 ng/mL", "A thousandth."),
        ("body_weight", 180, "lb", "body_weight 81.65 kg", "The pound of 1959."),
        ("body_height", 70, "[in_i]", "body_height 177.8 cm", "The inch of 1959."),
        ("spo2", 0.97, "1", "spo2 97 %", "A fraction that is sent as one."),
    ),
    "Value and unit do not fit": _values(
        ("body_temperature", 98.6, "Cel", "implausible", "The unit counts, even if degrees Fahrenheit would fit."),
        ("body_temperature", 36.9, "[degF]", "implausible", "The unit counts: 2.7 Cel."),
        ("fio2", 0.4, "%", "implausible", "The unit counts, even if a fraction would fit."),
        ("spo2", 0.97, "%", "implausible", "Some exports send a fraction as %; a source has to be corrected, not guessed."),
        ("fio2", 3, "L/min", "unknown_unit", "A flow of oxygen is no inspired fraction."),
        ("heart_rate", 80, "mg/dL", "unknown_unit", "A rate is no concentration."),
        ("glucose", 1e300, "mmol/L", "implausible", "Out of range in every unit."),
        ("heart_rate", 0, "/min", "implausible", "What a sensor without a signal shows."),
        ("heart_rate", 301, "/min", "implausible", "Above the range of the signal."),
    ),
    "Codes and names of signals": _values(
        ("8867-4", 80, None, "heart_rate 80 /min", "LOINC."),
        ("147842", 80, "/min", "heart_rate 80 /min", "MDC."),
        ("147842", 80, "264864", "unknown_unit", "A unit is a UCUM code; a number of MDC is translated by who sends it."),
        ("8310-5", 98.6, "[degF]", "body_temperature 37 Cel", "Code and unit fit each other."),
        ("15074-8", 5, "mmol/L", "glucose 90.08 mg/dL", "The code is that of an amount of substance."),
        ("15074-8", 100, "mg/dL", "codes_disagree", "The code is that of an amount of substance, the unit one of mass."),
        ("15074-8", 120, None, "missing_unit", "The code denies mg/dL, and says no other unit."),
        ("2345-7", 100, "mg/dL", "glucose 100 mg/dL", "The code is that of a mass."),
        ("2345-7", 5, "mmol/L", "codes_disagree", "The code is that of a mass, the unit one of amount of substance."),
        ("2708-6", 97, "%", "ambiguous_code", "Pulse oximetry in vital signs, arterial blood in a laboratory."),
        ("9999-9", 97, "%", "unknown_signal", "No code of a signal."),
        ("heartrate", 80, "/min", "unknown_signal", "Names are not guessed."),
        ("on_oxygen", 0.4, "1", "not_a_code", "Yes or no; a fraction is sent as fio2."),
        ("consciousness", 0.5, "{ACVPU}", "not_a_code", "Between two levels of ACVPU."),
    ),
    "A value is a bound": (
        *_values(
            ("glucose", "<40", "mg/dL", "glucose_below_range 40 mg/dL", "Below a limit is not the limit, and not 0."),
            ("glucose", "<= 2.2", "mmol/L", "glucose_below_range 39.63 mg/dL", "The limit is converted like a value."),
            ("troponin_i", "<10", "ng/L", "troponin_i_below_range 0.01 ng/mL", "Nothing was found up to the limit."),
            ("spo2", ">=99", "%", "spo2_above_range 99 %", "No rule may invent a number."),
            ("glucose", "<5", None, "missing_unit", "A limit has a unit like a value."),
            ("glucose", "Low", None, "undeclared_range", "Low is below what this device can measure, which is not known."),
            ("heart_rate", "<40", "/min", "not_exact", "Devices report no bounds of a heart rate."),
            ("glucose", "100-200", "mg/dL", "not_exact", "An interval is no value and no bound."),
            ("systolic_bp", "120/80", "mm[Hg]", "not_exact", "Two values are two observations."),
        ),
        Case(
            ({"signal": "glucose", "value": "LOW", "source": "cgm"},),
            ("glucose_below_range 39.63 mg/dL",),
            "The source declares what its devices can measure.",
            _GATEWAY,
        ),
    ),
    "A value is no number": _values(
        ("glucose", "abc", None, "not_a_number", "A text."),
        ("body_temperature", "36,6", "Cel", "not_a_number", "No source has declared that a comma is before the decimals."),
        ("glucose", None, None, "not_a_number", "Nothing was measured."),
        ("glucose", float("inf"), "mmol/L", "not_a_number", "Infinite."),
        ("heart_rate", float("nan"), "/min", "not_a_number", "NaN stands for nothing."),
    ),
    "A source declares what it leaves out": tuple(
        Case(({"signal": signal, "value": value, "source": source} | unit,), (outcome,), because, _GATEWAY)
        for signal, value, unit, source, outcome, because in (
            ("glucose", 5.5, {}, "cgm", "glucose 99.09 mg/dL", "The source declares mmol/L."),
            ("glucose", 100, {"unit": "mg/dL"}, "cgm", "glucose 100 mg/dL", "What a reading says itself counts first."),
            ("glucose", 10, {}, "cgm", "device_error", "The source declares 9, 10 and 12 as error codes."),
            ("glucose", 10, {"unit": "mmol/L"}, "cgm", "device_error", "An error code is one with a unit, too."),
            ("glucose", 5.5, {}, "another", "missing_unit", "Another source has declared nothing about glucose."),
            ("potassium", 4.0, {}, "another", "potassium 4 mmol/L", "The default declares mmol/L."),
            ("potassium", 4.0, {}, "cgm", "missing_unit", "A source with a declaration takes nothing from the default."),
        )
    ),
}
