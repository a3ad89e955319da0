"""What may enter, what is quarantined and why; nothing is lost between the two."""

import re
from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.observations import COLUMNS, REASONS, ObservationError, check
from features.signals import SIGNALS

T = pd.Timestamp("2026-03-01T08:00:00Z")


def reading(**changes):
    return {"subject_id": "a", "observed_at": T, "signal": "heart_rate", "value": 80.0, **changes}


def reasons(*readings):
    frame = pd.DataFrame(readings)
    checked = check(frame)
    assert len(checked.accepted) + len(checked.quarantined) == len(frame)
    return checked.quarantined["reason"].tolist()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"subject_id": None}, "missing_subject"),
        ({"subject_id": ""}, "missing_subject"),
        ({"observed_at": None}, "missing_time"),
        ({"observed_at": "yesterday"}, "missing_time"),
        ({"observed_at": "9999-12-31T00:00:00Z"}, "missing_time"),
        ({"observed_at": "0001-01-01T00:00:00Z"}, "missing_time"),
        ({"observed_at": datetime(9999, 12, 31, tzinfo=UTC)}, "missing_time"),
        ({"recorded_at": T - pd.Timedelta(seconds=1)}, "recorded_before_observed"),
        ({"signal": "heartrate"}, "unknown_signal"),
        ({"signal": None}, "unknown_signal"),
        ({"unit": "bpm"}, "unknown_unit"),
        ({"value": float("nan")}, "not_a_number"),
        ({"value": float("inf")}, "not_a_number"),
        ({"value": "eighty"}, "not_a_number"),
        ({"value": None}, "not_a_number"),
        ({"signal": "on_oxygen", "value": 0.4}, "not_a_code"),
        ({"signal": "consciousness", "value": 0.5}, "not_a_code"),
        ({"value": 0}, "implausible"),
        ({"value": 301}, "implausible"),
        ({"value": 1e300}, "implausible"),
        ({"value": 2**63}, "implausible"),
        ({"value": "1" + "0" * 400}, "not_a_number"),
        ({"unit": "beats per fortnight"}, "unknown_unit"),
        ({"unit": ""}, "unknown_unit"),
    ],
)
def test_each_reason(changes, reason):
    assert reason in REASONS
    assert reasons(reading(**changes)) == [reason]


def test_nothing_is_recorded_after_the_present():
    frame = pd.DataFrame([reading(), reading(observed_at=T + pd.Timedelta(seconds=1))])
    assert check(frame, now=T).quarantined["reason"].tolist() == ["in_the_future"]
    assert check(frame).quarantined.empty  # a cohort that is replayed has no present


def test_a_whole_number_beyond_any_float_is_no_number():
    frame = pd.DataFrame({**reading(), "value": pd.Series([10**400, 80, "eighty"], dtype=object)})
    checked = check(frame)
    assert checked.quarantined["reason"].tolist() == ["not_a_number", "not_a_number"]
    assert checked.accepted["value"].tolist() == [80]


def test_an_impossible_year_does_not_spoil_the_others():
    checked = check(pd.DataFrame([reading(observed_at="2300-01-01T00:00:00Z"), reading(observed_at="2026-03-01T08:00:00Z")]))
    assert checked.accepted["observed_at"].tolist() == [T]


def test_a_good_reading_passes_with_or_without_its_unit():
    assert reasons(reading(), reading(subject_id="b", unit="/min")) == []


@pytest.mark.parametrize("name", SIGNALS)
def test_plausible_ranges_include_their_ends(name):
    signal = SIGNALS[name]
    ends = [
        reading(signal=name, value=end, observed_at=T + pd.Timedelta(hours=n))
        for n, end in enumerate((signal.low, signal.high))
    ]
    assert reasons(*ends) == []
    beyond = [reading(signal=name, value=end) for end in (signal.low - signal.resolution, signal.high + signal.resolution)]
    assert reasons(*beyond) == ["implausible"] * 2


def test_the_quarantine_keeps_the_row_as_it_came():
    checked = check(pd.DataFrame([reading(value="eighty", ward="7b")]))
    assert checked.quarantined[["value", "ward", "reason"]].iloc[0].tolist() == ["eighty", "7b", "not_a_number"]
    assert checked.accepted.empty


def test_a_redelivered_message_counts_once_by_its_first_delivery():
    first = reading(message_id="m1", recorded_at=T + pd.Timedelta(minutes=1))
    again = reading(message_id="m1", recorded_at=T + pd.Timedelta(minutes=9))
    checked = check(pd.DataFrame([again, first]))
    assert checked.accepted["recorded_at"].tolist() == [T + pd.Timedelta(minutes=1)]
    assert checked.quarantined["reason"].tolist() == ["duplicate_message"]


def test_two_gateways_may_number_their_messages_alike():
    same = {"message_id": "1", "value": 80}
    assert reasons(reading(source="gateway-1", **same), reading(source="gateway-2", subject_id="b", **same)) == []
    assert reasons(reading(source="gateway-1", **same), reading(source="gateway-1", **same, subject_id="b")) == []


def test_a_message_may_carry_readings_of_several_times():
    times = [T, T + pd.Timedelta(minutes=1)]
    assert reasons(*[reading(message_id="1", source="g", observed_at=time) for time in times]) == []


def test_the_same_reading_under_two_message_ids_counts_once():
    assert reasons(reading(message_id="m1"), reading(message_id="m2")) == ["duplicate_reading"]


def test_two_devices_may_disagree_at_the_same_time():
    assert reasons(reading(value=80), reading(value=90)) == []


def test_a_message_may_carry_several_readings():
    cuff = [("systolic_bp", 120), ("diastolic_bp", 80), ("mean_bp", 93)]
    assert reasons(*[reading(signal=signal, value=value, message_id="m1") for signal, value in cuff]) == []


def test_a_missing_message_id_is_not_a_duplicate_of_another_missing_one():
    assert reasons(reading(message_id=None), reading(message_id=None, value=81)) == []


@given(st.sampled_from([name for name, signal in SIGNALS.items() if not signal.coded]), st.floats(0, 1))
def test_values_lie_on_their_resolution(name, position):
    signal = SIGNALS[name]
    accepted = check(pd.DataFrame([reading(signal=name, value=signal.low + position * (signal.high - signal.low))])).accepted
    steps = accepted["value"].iloc[0] * signal.steps_per_unit
    assert abs(steps - round(steps)) < 1e-6
    assert round(steps) / signal.steps_per_unit == accepted["value"].iloc[0]


def test_times_are_utc_microseconds_whatever_the_zone():
    zoned = check(pd.DataFrame([reading(observed_at="2026-03-01T10:00:00+02:00")])).accepted
    assert zoned["observed_at"].iloc[0] == T
    assert zoned.dtypes[["observed_at", "recorded_at"]].astype(str).tolist() == ["datetime64[us, UTC]"] * 2


def test_what_was_not_said_is_filled_in():
    accepted = check(pd.DataFrame([reading()])).accepted
    assert set(accepted.columns) == set(COLUMNS)
    assert accepted["recorded_at"].equals(accepted["observed_at"])


def test_a_time_without_zone_is_refused_as_a_whole():
    with pytest.raises(ObservationError, match="time without a time zone"):
        check(pd.DataFrame([reading(observed_at="2026-03-01T08:00:00")]))
    with pytest.raises(ObservationError, match="time without a time zone"):
        check(pd.DataFrame([reading(observed_at=pd.Timestamp("2026-03-01T08:00:00"))]))


def test_a_missing_column_is_named():
    with pytest.raises(ObservationError, match=r"missing column signal, value; expected .* got subject_id, observed_at"):
        check(pd.DataFrame([reading()])[["subject_id", "observed_at"]])


def test_an_empty_frame_is_no_error():
    empty = check(pd.DataFrame([reading()]).iloc[:0])
    assert empty.accepted.empty
    assert empty.quarantined.empty


def test_every_signal_is_declared_soundly():
    for name, signal in SIGNALS.items():
        assert name == signal.name == name.lower()
        assert signal.low < signal.high
        assert signal.unit
        assert signal.loinc is None or re.fullmatch(r"\d{3,5}-\d", signal.loinc)


def test_rounding_is_exact_in_binary():
    accepted = check(pd.DataFrame([reading(signal="body_temperature", value=36.6000001)])).accepted
    assert accepted["value"].iloc[0] == np.float64(36.6)
