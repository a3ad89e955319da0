"""Units and codes: their constants, exact conversion, and what names a signal. Single values are in
:mod:`vigil.features.cases`."""

from decimal import ROUND_HALF_EVEN, Decimal, localcontext
from fractions import Fraction

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vigil.features.codes import LOINC, MDC, MDC_UNITS, accepted_codes, resolve_codes
from vigil.features.declarations import OWN_UNITS
from vigil.features.observations import check
from vigil.features.signals import SIGNALS
from vigil.features.units import CONVERSIONS, CUSTOMARY, canonical_unit, find_conversion, understood_units

T = pd.Timestamp("2026-03-01T08:00:00Z")


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


def test_every_signal_may_be_declared_to_come_in_its_own_unit():
    frame = pd.DataFrame(
        {"subject_id": "a", "observed_at": T, "signal": list(SIGNALS), "value": [s.high for s in SIGNALS.values()]}
    )
    assert check(frame, declared=OWN_UNITS).quarantined.empty
