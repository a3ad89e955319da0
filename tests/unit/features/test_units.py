"""Units: what is converted, how exactly, and what is not believed."""

from decimal import ROUND_HALF_EVEN, Decimal, localcontext
from fractions import Fraction

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.codes import LOINC, MDC, MDC_UNITS, accepted_codes, resolve_codes
from features.declarations import OWN_UNITS, UNDECLARED, Declarations, SourceDeclaration
from features.observations import check
from features.signals import SIGNALS
from features.units import CONVERSIONS, CUSTOMARY, canonical_unit, find_conversion, understood_units

T = pd.Timestamp("2026-03-01T08:00:00Z")


def outcome(signal, value, unit=None, source=None, declared=UNDECLARED):
    """Return the value in the signal's own unit, or the reason of quarantine."""
    frame = pd.DataFrame(
        {"subject_id": "a", "observed_at": [T], "signal": signal, "value": [value], "unit": [unit], "source": [source]}
    )
    checked = check(frame, declared=declared)
    return checked.quarantined["reason"][0] if len(checked.quarantined) else checked.accepted["value"][0]


@pytest.mark.parametrize(
    ("signal", "value", "unit", "expected"),
    [
        # spellings that UCUM calls the same, and those that devices send
        ("glucose", 100, "mg/dl", 100.0),
        ("heart_rate", 80, "{Beats}/min", 80.0),
        ("respiratory_rate", 16, "{breaths}/min", 16.0),
        ("heart_rate", 80, "1/min", 80.0),
        ("heart_rate", 80, "bpm", 80.0),
        ("systolic_bp", 120, "mmHg", 120.0),
        ("body_temperature", 37.1, "°C", 37.1),
        ("creatinine", 55, "µmol/L", 0.62),
        ("wbc", 7.5, "10^9/L", 7.5),
        ("heart_rate", 80, "", 80.0),  # no unit
        # conversions: the value is a decimal number, and is rounded once
        ("body_temperature", 98.6, "[degF]", 37.0),
        ("body_temperature", 98.6, "degF", 37.0),
        ("glucose", 6.1, "mmol/L", 109.9),
        ("glucose", 6.111, "mmol/L", 110.09),
        ("glucose", 1.1, "g/L", 110.0),
        ("systolic_bp", 16, "kPa", 120.01),
        ("bilirubin_total", 17.1, "umol/L", 1.0),
        ("bun", 5, "mmol/L", 14.01),
        ("calcium", 2.4, "mmol/L", 9.62),
        ("hemoglobin", 9, "mmol/L", 14.5),
        ("hemoglobin", 140, "g/L", 14.0),
        ("potassium", 4.1, "meq/L", 4.1),
        ("lactate", 18, "mg/dL", 2.0),
        ("troponin_i", 40, "ng/L", 0.04),
        ("body_weight", 180, "lb", 81.65),
        ("body_height", 70, "[in_i]", 177.8),
        ("fio2", 0.4, "1", 40.0),
        ("spo2", 0.97, "1", 97.0),
        ("ph", 7.4, "pH", 7.4),
        # the sender's unit counts, whatever the value looks like
        ("body_temperature", 98.6, "Cel", "implausible"),
        ("body_temperature", 36.9, "[degF]", "implausible"),
        ("fio2", 0.4, "%", "implausible"),
        ("spo2", 0.97, "%", "implausible"),
        ("spo2", 97, "{percent}", "unknown_unit"),  # an annotation alone is the number 1
        ("fio2", 3, "L/min", "unknown_unit"),
        ("heart_rate", 80, "mg/dL", "unknown_unit"),
        ("heart_rate", 80, 7, "unknown_unit"),
        # without a unit: believed only where no other unit could be meant
        ("glucose", 24, None, "missing_unit"),
        ("glucose", 11.1, None, "missing_unit"),
        ("glucose", 5.5, None, "missing_unit"),
        ("glucose", 40, None, "missing_unit"),  # severe hypoglycaemia, or 721 mg/dL
        ("glucose", 180, None, 180.0),
        ("creatinine", 55, None, "missing_unit"),
        ("creatinine", 1.1, None, 1.1),
        ("calcium", 2.4, None, "missing_unit"),
        ("bun", 14, None, "missing_unit"),
        ("magnesium", 0.8, None, "missing_unit"),
        ("paco2", 5.3, None, "missing_unit"),
        ("paco2", 40, None, 40.0),
        ("systolic_bp", 22, None, "missing_unit"),
        ("systolic_bp", 120, None, 120.0),
        ("lactate", 20, None, "missing_unit"),
        ("hemoglobin", 9, None, "missing_unit"),
        ("potassium", 15, None, "missing_unit"),
        ("troponin_i", 40, None, "missing_unit"),
        ("body_weight", 180, None, "missing_unit"),
        ("body_height", 70, None, "missing_unit"),
        ("body_height", 178, None, 178.0),
        ("fibrinogen", 6, None, "missing_unit"),
        ("fio2", 0.4, None, "missing_unit"),
        ("body_temperature", 98.6, None, "missing_unit"),
        ("body_temperature", 37, None, 37.0),
        ("spo2", 97, None, 97.0),
        ("respiratory_rate", 26, None, 26.0),
        ("glucose", "abc", None, "not_a_number"),
        ("glucose", None, None, "not_a_number"),
        ("glucose", 1e300, "mmol/L", "implausible"),
        ("glucose", float("inf"), "mmol/L", "not_a_number"),
        # codes
        ("8867-4", 80, None, 80.0),
        ("147842", 80, "/min", 80.0),
        ("8310-5", 98.6, "[degF]", 37.0),
        ("15074-8", 5, "mmol/L", 90.08),
        ("15074-8", 100, "mg/dL", "codes_disagree"),
        ("15074-8", 120, None, "missing_unit"),  # not in mg/dL, says the code
        ("2345-7", 100, "mg/dL", 100.0),
        ("2345-7", 5, "mmol/L", "codes_disagree"),
        ("2708-6", 97, "%", "ambiguous_code"),
        ("9999-9", 97, "%", "unknown_signal"),
    ],
)
def test_value_counts_in_its_unit_or_not_at_all(signal, value, unit, expected):
    assert outcome(signal, value, unit) == expected


@given(st.data())
def test_conversion_equals_decimal_arithmetic_rounded_once(data):
    signal = data.draw(st.sampled_from(sorted(CONVERSIONS)))
    unit = data.draw(st.sampled_from(sorted(CONVERSIONS[signal])))
    value = data.draw(st.floats(0, 3000, allow_nan=False).map(lambda number: round(number, 3)))
    conversion, steps = find_conversion(signal, unit), SIGNALS[signal].steps_per_unit
    with localcontext() as context:
        context.prec = 60
        factor = Decimal(conversion.factor.numerator) / Decimal(conversion.factor.denominator)
        offset = Decimal(conversion.offset.numerator) / Decimal(conversion.offset.denominator)
        exact = (Decimal(repr(value)) + offset) * factor * steps
        expected = float(exact.quantize(Decimal(1), rounding=ROUND_HALF_EVEN)) / steps
    converted = conversion.convert(value, steps)
    # A product that lies between two steps to 50 digits is rounded to either by decimal numbers of limited length.
    assert converted == expected or abs(exact - exact.to_integral_value(ROUND_HALF_EVEN)) == Decimal("0.5")


def test_constants_are_those_of_the_sources():
    factors = {
        ("glucose", "mmol/L"): "18.0156",
        ("creatinine", "umol/L"): "0.0113120",
        ("bilirubin_total", "umol/L"): "0.0584673",
        ("bun", "mmol/L"): "2.8014",
        ("calcium", "mmol/L"): "4.0078",
        ("magnesium", "mmol/L"): "2.4305",
        ("phosphate", "mmol/L"): "3.0974",
        ("cholesterol", "mmol/L"): "38.6664",
        ("hemoglobin", "mmol/L"): "1.61145",
        ("body_weight", "[lb_av]"): "0.45359237",
    }
    assert {key: CONVERSIONS[key[0]][key[1]].factor for key in factors} == {k: Fraction(v) for k, v in factors.items()}
    assert float(CONVERSIONS["mean_bp"]["kPa"].factor) == pytest.approx(7.50062, abs=5e-5)


def test_every_unit_is_written_canonically_and_every_customary_unit_is_converted():
    for signal in SIGNALS:
        assert [canonical_unit(unit) for unit in understood_units(signal)] == list(understood_units(signal)), signal
        assert set(CUSTOMARY.get(signal, ())) <= set(understood_units(signal))


@pytest.mark.parametrize(
    ("codings", "category", "expected"),
    [
        ([(LOINC, "2708-6"), (LOINC, "59408-5")], None, ("spo2", "")),
        ([(LOINC, "2708-6")], "vital-signs", ("spo2", "")),
        ([(LOINC, "2708-6")], "laboratory", ("sao2", "")),
        ([(LOINC, "2708-6")], None, (None, "ambiguous_code")),
        ([(MDC, "149546"), (LOINC, "8310-5")], None, (None, "codes_disagree")),
        ([(MDC, "149546")], None, ("heart_rate", "")),
        ([("http://hospital.example", "HR"), (LOINC, "8867-4")], None, ("heart_rate", "")),
        ([("http://hospital.example", "HR")], None, (None, "unknown_signal")),
        ([], None, (None, "unknown_signal")),
    ],
)
def test_codes_name_one_signal_or_none(codings, category, expected):
    assert resolve_codes(codings, category) == expected


def test_every_code_names_one_signal_and_every_mdc_unit_is_a_unit():
    for system in (LOINC, MDC):
        for signal in SIGNALS:
            for code in accepted_codes(system, signal):
                assert resolve_codes([(system, code)]) == (signal, "")
    understood = {unit for signal in SIGNALS for unit in understood_units(signal)}
    assert set(MDC_UNITS.values()) <= understood


def test_a_source_that_declares_its_units_needs_none_in_its_readings():
    declared = Declarations(
        SourceDeclaration(units={"potassium": "mmol/L"}),
        {"cgm": SourceDeclaration(units={"glucose": "mmol/L"}, error_codes={"glucose": (9, 10, 12)})},
    )
    assert outcome("glucose", 5.5, None, "cgm", declared) == 99.09
    assert outcome("glucose", 100, "mg/dL", "cgm", declared) == 100.0  # what is sent counts
    assert outcome("glucose", 10, None, "cgm", declared) == "device_error"
    assert outcome("glucose", 5.5, None, "another", declared) == "missing_unit"
    assert outcome("potassium", 4.0, None, None, declared) == 4.0
    assert outcome("potassium", 4.0, None, "cgm", declared) == "missing_unit"  # its own declaration counts, and none beside it
    assert all(outcome(name, signal.high, None, None, OWN_UNITS) == signal.high for name, signal in SIGNALS.items())
