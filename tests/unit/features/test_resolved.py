"""Observations that were resolved before: checking them again changes nothing, and each content counts once at a time."""

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vigil.features.declarations import OWN_UNITS
from vigil.features.observations import KEY, check
from vigil.features.resolved import check_resolved

START = pd.Timestamp("2026-01-31T08:00:00Z")
ROWS = st.fixed_dictionaries(
    {
        "subject_id": st.sampled_from(["a", "b"]),
        "signal": st.sampled_from(["heart_rate", "fio2", "on_oxygen", "glucose_below_range"]),
        "value": st.sampled_from([0.0, 1.0, 21.0, 40.0, 88.123]),
        "observed": st.integers(0, 2),
        "delay": st.integers(0, 3),
        "message_id": st.sampled_from(["m1", "m2", None]),
        "status": st.sampled_from(["final", "corrected", "retracted"]),
    }
)


def frame_of(rows):
    frame = pd.DataFrame(rows)
    observed = START + pd.to_timedelta(frame.pop("observed"), unit="min")
    delay = pd.to_timedelta(frame.pop("delay"), unit="min")
    return frame.assign(observed_at=observed, recorded_at=observed + delay, device_id="d", source="s")


@settings(max_examples=15, deadline=None)
@given(st.lists(ROWS, min_size=1, max_size=25), st.randoms(use_true_random=False))
def test_check_resolved_accepts_what_check_accepted_as_it_was(rows, random):
    accepted = check(frame_of(rows), declared=OWN_UNITS).accepted
    order = list(range(len(accepted)))
    random.shuffle(order)
    again = check_resolved(accepted.iloc[order])
    assert again.quarantined.empty
    # Rows that differ in nothing but when they were superseded keep the order in which they arrive.
    columns = [*KEY, "value"]
    pd.testing.assert_frame_equal(again.accepted[columns], accepted[columns], check_dtype=False)
    one, other = (table.sort_values([*columns, "superseded_at", "message_id"]) for table in (again.accepted, accepted))
    pd.testing.assert_frame_equal(one.reset_index(drop=True), other.reset_index(drop=True), check_dtype=False)


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([80.0, 81.0]), st.integers(0, 4), st.none() | st.integers(0, 4)), min_size=1, max_size=8)
)
def test_check_resolved_lets_a_content_count_once_at_a_time(rows):
    recorded = [START + pd.Timedelta(minutes=at) for _, at, _ in rows]
    until = [pd.NaT if end is None else START + pd.Timedelta(minutes=end) for _, _, end in rows]
    frame = pd.DataFrame(
        {
            "subject_id": "a",
            "signal": "heart_rate",
            "value": [value for value, _, _ in rows],
            "observed_at": START,
            "recorded_at": pd.Series(recorded),
            "superseded_at": pd.Series(until, dtype="datetime64[us, UTC]"),
        }
    )
    checked = check_resolved(frame)
    reasons = checked.quarantined["reason"].value_counts().to_dict()
    wrong = [(value, at, end) for value, at, end in rows if end is not None and end < at]
    assert reasons.get("superseded", 0) == len(wrong)
    for minute in range(5):  # what counts at a time, one by one
        at = START + pd.Timedelta(minutes=minute)
        own = checked.accepted
        counts = own[(own["recorded_at"] <= at) & ~(own["superseded_at"] <= at)]
        assert not counts["value"].duplicated().any()
        usable = [row for row in rows if row not in wrong]
        assert set(counts["value"]) <= {
            value for value, begin, end in usable if begin <= minute and (end is None or minute < end)
        }
    for value in {value for value, _, _ in rows}:  # nothing is lost of a content that has one row
        own_rows = [row for row in rows if row[0] == value]
        if len(own_rows) == 1 and own_rows[0] not in wrong:
            assert (checked.accepted["value"] == value).sum() == 1


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"value": 900.0}, "implausible"),
        ({"signal": "mood"}, "unknown_signal"),
        ({"recorded_at": START - pd.Timedelta(minutes=1)}, "recorded_before_observed"),
        ({"recorded_at": START + pd.Timedelta(days=9)}, "in_the_future"),
    ],
)
def test_check_resolved_quarantines_what_cannot_be_used(change, reason):
    row = {"subject_id": "a", "signal": "heart_rate", "value": 80.0, "observed_at": START, "recorded_at": START}
    checked = check_resolved(pd.DataFrame([row | change]), now=START + pd.Timedelta(days=1))
    assert checked.accepted.empty
    assert checked.quarantined["reason"].tolist() == [reason]
