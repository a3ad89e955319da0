"""The check of observations: which are accepted, which are quarantined and why. No row is lost.

What becomes of single readings is in the table of :mod:`vigil.features.cases`.
"""

import re
from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vigil.features.observations import COLUMNS, REASONS, ObservationError, check
from vigil.features.signals import SIGNALS

T = pd.Timestamp("2026-03-01T08:00:00Z")


def row(**changes):
    """Return a valid observation with some changes."""
    return {"subject_id": "a", "observed_at": T, "signal": "heart_rate", "value": 80.0, **changes}


def reasons(*rows):
    """Return the reasons of the quarantined rows."""
    frame = pd.DataFrame(rows)
    checked = check(frame)
    derived = (checked.accepted["signal"] == "on_oxygen").sum() - (frame["signal"] == "on_oxygen").sum()
    assert len(checked.accepted) + len(checked.quarantined) - max(derived, 0) == len(frame)
    return checked.quarantined["reason"].tolist()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"observed_at": datetime(9999, 12, 31, tzinfo=UTC)}, "missing_time"),
        ({"recorded_at": T - pd.Timedelta(seconds=1)}, "recorded_before_observed"),
        ({"signal": None}, "unknown_signal"),
        ({"value": 1e300}, "implausible"),
        ({"value": 2**63}, "implausible"),
        ({"value": "1" + "0" * 400}, "not_a_number"),
    ],
)
def test_check_quarantines_what_no_table_can_show_with_its_reason(changes, reason):
    assert reason in REASONS
    assert reasons(row(**changes)) == [reason]


def test_check_quarantines_observations_recorded_after_now():
    frame = pd.DataFrame([row(), row(observed_at=T + pd.Timedelta(seconds=1))])
    assert check(frame, now=T).quarantined["reason"].tolist() == ["in_the_future"]
    assert check(frame).quarantined.empty  # no check against the present


def test_check_quarantines_an_integer_too_large_for_a_float():
    frame = pd.DataFrame({**row(), "value": pd.Series([10**400, 80, "eighty"], dtype=object)})
    checked = check(frame)
    assert checked.quarantined["reason"].tolist() == ["not_a_number", "not_a_number"]
    assert checked.accepted["value"].tolist() == [80]


def test_check_accepts_other_rows_beside_one_with_an_impossible_year():
    checked = check(pd.DataFrame([row(observed_at="2300-01-01T00:00:00Z"), row(observed_at="2026-03-01T08:00:00Z")]))
    assert checked.accepted["observed_at"].tolist() == [T]


def test_check_accepts_valid_observations_with_or_without_unit():
    assert reasons(row(), row(subject_id="b", unit="/min")) == []


@pytest.mark.parametrize("name", SIGNALS)
def test_check_accepts_both_ends_of_the_plausible_range(name):
    signal = SIGNALS[name]
    ends = [
        row(signal=name, unit=signal.unit, value=end, observed_at=T + pd.Timedelta(hours=n))
        for n, end in enumerate((signal.low, signal.high))
    ]
    assert reasons(*ends) == []
    beyond = [
        row(signal=name, unit=signal.unit, value=end)
        for end in (signal.low - signal.resolution, signal.high + signal.resolution)
    ]
    assert reasons(*beyond) == ["implausible"] * 2


def test_quarantine_keeps_the_row_unchanged():
    checked = check(pd.DataFrame([row(value="eighty", ward="7b")]))
    assert checked.quarantined[["value", "ward", "reason"]].iloc[0].tolist() == ["eighty", "7b", "not_a_number"]
    assert checked.accepted.empty


def test_duplicate_message_counts_once_by_its_first_delivery():
    first = row(message_id="m1", recorded_at=T + pd.Timedelta(minutes=1))
    duplicate = row(message_id="m1", recorded_at=T + pd.Timedelta(minutes=9))
    checked = check(pd.DataFrame([duplicate, first]))
    assert checked.accepted["recorded_at"].tolist() == [T + pd.Timedelta(minutes=1)]
    assert checked.quarantined["reason"].tolist() == ["duplicate_message"]


def test_message_ids_of_two_gateways_may_be_equal():
    same = {"message_id": "1", "value": 80}
    assert reasons(row(source="gateway-1", **same), row(source="gateway-2", subject_id="b", **same)) == []
    assert reasons(row(source="gateway-1", **same), row(source="gateway-1", **same, subject_id="b")) == []


def test_message_may_carry_observations_of_several_times():
    times = [T, T + pd.Timedelta(minutes=1)]
    assert reasons(*[row(message_id="1", source="g", observed_at=time) for time in times]) == []


def test_duplicate_observation_under_two_message_ids_counts_once():
    assert reasons(row(message_id="m1"), row(message_id="m2")) == ["duplicate_reading"]


def test_different_values_at_the_same_time_are_no_duplicates():
    assert reasons(row(value=80), row(value=90)) == []


def test_message_may_carry_several_signals():
    cuff = [("systolic_bp", 120), ("diastolic_bp", 80), ("mean_bp", 93)]
    assert reasons(*[row(signal=signal, value=value, message_id="m1") for signal, value in cuff]) == []


def test_missing_message_ids_are_no_duplicates():
    assert reasons(row(message_id=None), row(message_id=None, value=81)) == []


@given(st.sampled_from([name for name, signal in SIGNALS.items() if not signal.coded]), st.floats(0, 1))
def test_accepted_values_are_rounded_to_the_resolution(name, position):
    signal = SIGNALS[name]
    accepted = check(
        pd.DataFrame([row(signal=name, unit=signal.unit, value=signal.low + position * (signal.high - signal.low))])
    ).accepted
    steps = accepted["value"].iloc[0] * signal.steps_per_unit
    assert abs(steps - round(steps)) < 1e-6
    assert round(steps) / signal.steps_per_unit == accepted["value"].iloc[0]


def test_accepted_times_are_utc_microseconds_from_any_time_zone():
    zoned = check(pd.DataFrame([row(observed_at="2026-03-01T10:00:00+02:00")])).accepted
    assert zoned["observed_at"].iloc[0] == T
    assert zoned.dtypes[["observed_at", "recorded_at"]].astype(str).tolist() == ["datetime64[us, UTC]"] * 2


def test_check_adds_missing_optional_columns():
    accepted = check(pd.DataFrame([row()])).accepted
    assert set(accepted.columns) == set(COLUMNS)
    assert accepted["recorded_at"].equals(accepted["observed_at"])


def test_check_refuses_a_frame_with_a_time_without_time_zone():
    with pytest.raises(ObservationError, match="time without a time zone"):
        check(pd.DataFrame([row(observed_at="2026-03-01T08:00:00")]))
    with pytest.raises(ObservationError, match="time without a time zone"):
        check(pd.DataFrame([row(observed_at=pd.Timestamp("2026-03-01T08:00:00"))]))


def test_check_names_a_missing_column():
    with pytest.raises(ObservationError, match=r"missing column signal, value; expected .* got subject_id, observed_at"):
        check(pd.DataFrame([row()])[["subject_id", "observed_at"]])


def test_check_accepts_an_empty_frame():
    empty = check(pd.DataFrame([row()]).iloc[:0])
    assert empty.accepted.empty
    assert empty.quarantined.empty


def test_signal_table_is_consistent():
    for name, signal in SIGNALS.items():
        assert name == signal.name == name.lower()
        assert signal.low < signal.high
        assert signal.unit
        assert signal.loinc is None or re.fullmatch(r"\d{3,5}-\d", signal.loinc)


def test_rounded_value_is_the_nearest_float():
    accepted = check(pd.DataFrame([row(signal="body_temperature", value=36.6000001)])).accepted
    assert accepted["value"].iloc[0] == np.float64(36.6)


def test_charted_oxygen_that_had_followed_from_a_fraction_before_is_a_duplicate_with_a_reason():
    later = T + pd.Timedelta(minutes=5)
    rows = [row(signal="fio2", value=40.0, unit="%", recorded_at=T), row(signal="on_oxygen", value=1.0, recorded_at=later)]
    checked = check(pd.DataFrame(rows))
    assert checked.accepted["signal"].tolist() == ["fio2", "on_oxygen"]
    assert checked.accepted["recorded_at"].tolist() == [T, T]
    assert checked.quarantined[["signal", "reason"]].to_numpy().tolist() == [["on_oxygen", "duplicate_reading"]]


def test_check_gives_the_same_observations_in_the_same_order_for_categories_and_texts():
    signals = ["spo2", "on_oxygen", "fio2", "heart_rate", "fio2"]
    values = [97.0, 0.0, 40.0, 80.0, 21.0]
    subjects = ["b", "a", "b", "a", "a"]
    rows = [
        row(signal=s, value=v, subject_id=p, unit=SIGNALS[s].unit) for s, v, p in zip(signals, values, subjects, strict=True)
    ]
    texts = pd.DataFrame(rows)
    categories = texts.assign(signal=pd.Categorical(texts["signal"], categories=["spo2", "fio2", "heart_rate", "on_oxygen"]))
    without_oxygen = categories[categories["signal"] != "on_oxygen"]
    without_oxygen = without_oxygen.assign(signal=without_oxygen["signal"].cat.remove_unused_categories())
    expected = check(texts).accepted
    keys = expected[["subject_id", "signal"]].agg(" ".join, axis=1).tolist()
    assert keys == ["a fio2", "a heart_rate", "a on_oxygen", "b fio2", "b on_oxygen", "b spo2"]
    for frame in (categories, without_oxygen):  # the oxygen of a follows from its fraction, too
        accepted = check(frame).accepted
        pd.testing.assert_frame_equal(accepted.astype({"signal": expected["signal"].dtype}), expected)
