"""Corrections and retractions: what counts at each time, equal to a slow reference, in batch and online computation."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.batch import build_features, encode_observations
from features.catalogue import STANDARD, list_features
from features.observations import ObservationError, check
from features.online import SubjectFeatures
from pipelines.jobs.verify_features import online_features
from tests.unit.features.test_build import HOUR, T0, index

NAMES = ["heart_rate_last_24h", "heart_rate_mean_24h", "heart_rate_count_24h", "heart_rate_count_so_far"]


def history(*rows):
    """Return a frame from (hours of recording, message, status, version, value[, hours of observation])."""
    columns = ["recorded", "message_id", "status", "version", "value", "observed"]
    frame = pd.DataFrame([(*row, row[0])[:6] if len(row) == 5 else row for row in rows], columns=columns)
    frame["recorded_at"] = T0 + frame.pop("recorded") * HOUR
    frame["observed_at"] = T0 + frame.pop("observed") * HOUR
    return frame.assign(subject_id="a", signal="heart_rate", unit="/min", source="g")


def counting(rows, hours):
    """Return the heart rates that count at each of some hours, by features and by what was accepted."""
    checked = check(rows)
    assert len(checked.accepted) + len(checked.retractions) + len(checked.quarantined) == len(rows)
    features = build_features(checked.accepted, index(*hours), ["vital_signs"])
    return [
        (float(last), int(count)) for last, count in features[["heart_rate_last_24h", "heart_rate_count_24h"]].to_numpy()
    ], checked


def test_a_correction_counts_from_its_recording_on_and_the_original_until_then():
    rows = history((0, "m1", "final", None, 80, 0), (2, "m1", "corrected", None, 88, 0))
    values, checked = counting(rows, [0, 1, 2, 3])
    assert values == [(80, 1), (80, 1), (88, 1), (88, 1)]
    assert checked.accepted["superseded_at"].tolist() == [T0 + 2 * HOUR, pd.NaT]


def test_a_retraction_removes_and_a_new_message_counts_again():
    rows = history((0, "m1", "final", None, 80, 0), (1, "m1", "retracted", None, None, 0), (3, "m2", "final", None, 80, 0))
    values, checked = counting(rows, [0, 1, 2, 3])
    assert values[0] == values[3] == (80, 1)
    assert [count for _, count in values] == [1, 0, 0, 1]
    assert checked.retractions["message_id"].tolist() == ["m1"]


def test_the_same_message_counts_again_by_a_newer_version_only():
    rows = history((0, "m1", "final", 1, 80, 0), (1, "m1", "retracted", 2, None, 0), (2, "m1", "final", 1, 80, 0))
    values, checked = counting(rows, [0, 1, 2])
    assert [count for _, count in values] == [1, 0, 0]
    assert checked.quarantined["reason"].tolist() == ["superseded"]
    values, _ = counting(
        history(*[(0, "m1", "final", 1, 80, 0), (1, "m1", "retracted", 2, None, 0), (2, "m1", "final", 3, 80, 0)]), [1, 2]
    )
    assert [count for _, count in values] == [0, 1]


def test_an_older_version_that_arrives_after_a_newer_one_changes_nothing():
    for newer in (("corrected", 88), ("retracted", None)):
        rows = history((0, "m1", newer[0], 3, newer[1], 0), (1, "m1", "corrected", 2, 84, 0), (2, "m1", "final", 1, 80, 0))
        values, checked = counting(rows, [0, 1, 2])
        assert len(set(map(str, values))) == 1
        assert checked.quarantined["reason"].tolist() == ["superseded", "superseded"]


def test_a_correction_may_change_the_time():
    rows = history((5, "m1", "final", None, 80, 5), (6, "m1", "corrected", None, 80, 2), (6, "m2", "final", None, 90, 4))
    values, _ = counting(rows, [5, 6])
    assert values == [(80, 1), (90, 2)]


def test_a_message_with_several_times_is_corrected_by_time():
    rows = history(
        (3, "m1", "final", None, 80, 1), (3, "m1", "final", None, 82, 2), (4, "m1", "corrected", None, 99, 2),
        (5, "m1", "retracted", None, None, 1),
    )  # fmt: skip
    values, _ = counting(rows, [3, 4, 5])
    assert values == [(82, 2), (99, 2), (99, 1)]


def test_a_repeated_correction_counts_once():
    rows = history((0, "m1", "final", None, 80, 0), *[(hour, "m1", "corrected", None, 88, 0) for hour in (1, 2)])
    values, checked = counting(rows, [1, 2])
    assert values == [(88, 1), (88, 1)]
    assert checked.quarantined["reason"].tolist() == ["duplicate_message"]


def test_an_unusable_correction_is_quarantined_and_changes_nothing():
    rows = history((0, "m1", "final", None, 80, 0), (1, "m1", "corrected", None, 800, 0))
    values, checked = counting(rows, [0, 2])
    assert values == [(80, 1), (80, 1)]
    assert checked.quarantined["reason"].tolist() == ["implausible"]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [({"status": "amended"}, "unknown_status"), ({"version": 0}, "unknown_version"), ({"version": "two"}, "unknown_version")],
)
def test_unknown_status_and_version_are_quarantined(changes, reason):
    assert check(history((0, "m1", "final", None, 80, 0)).assign(**changes)).quarantined["reason"].tolist() == [reason]


def test_oxygen_that_follows_from_a_fraction_follows_its_corrections():
    rows = history((0, "m1", "final", None, 60, 0), (1, "m1", "corrected", None, 21, 0), (2, "m1", "retracted", None, None, 0))
    accepted = check(rows.assign(signal="fio2", unit="%")).accepted
    oxygen = build_features(accepted, index(0, 1, 2), ["support"])["on_oxygen_last_24h"].tolist()
    assert oxygen[:2] == [1, 0]
    assert np.isnan(oxygen[2])


def test_online_computation_refuses_observations_that_count_for_a_time_only():
    accepted = check(history((0, "m1", "final", None, 80, 0), (2, "m1", "corrected", None, 88, 0))).accepted
    with pytest.raises(ObservationError, match="superseded_at"):
        SubjectFeatures().add(accepted)
    SubjectFeatures().insert(*encode_observations(accepted[accepted["superseded_at"].isna()]))


ACTIONS = st.lists(
    st.tuples(
        st.integers(0, 30),  # hour of recording
        st.sampled_from(["m1", "m2", "m3", None]),
        st.sampled_from(["final", "final", "corrected", "retracted"]),
        st.sampled_from([None, None, 1, 2, 3, 4]),
        st.sampled_from([60, 80, 100]),
        st.integers(-5, 0),  # hours from the recording back to the observation
    ),
    max_size=14,
)


def known_at(rows, hour):
    """Return (observed, recorded, value) of what counts at an hour: rows one after the other, in plain Python."""
    known = {}  # identity: (version, value or None, observed, recorded)
    originals = {}
    for _, message, status, version, _, observed in rows:
        if status == "final" and (version or 1) == 1:
            originals.setdefault(message, set()).add(observed)
    counted = []  # what counts, in order
    for recorded, message, status, version, value, observed in sorted(rows, key=lambda row: row[0]):
        if recorded > hour:
            break
        several = message is None or len(originals.get(message, ())) > 1
        identity = (message, observed) if several else message
        number, *standing = known.get(identity, (0, None, None))
        said = (None, None) if status == "retracted" else (value, observed)
        same = number > 0 and tuple(standing) == said
        by_arrival = 1 if status == "final" else number if same and number > 1 else max(number, 1) + 1
        new = by_arrival if version is None else version
        if new <= number:
            continue
        counted = [one for one in counted if one[0] != identity]
        known[identity] = (new, *said)
        if status != "retracted" and not any(one[1:3] == said for one in counted):
            counted.append((identity, value, observed, recorded))
    return sorted((observed, recorded, value) for _, value, observed, recorded in counted if observed <= hour)


@settings(max_examples=300, deadline=None)
@given(ACTIONS)
def test_what_counts_equals_the_reference_at_every_hour(actions):
    rows = [
        (recorded, message, status, version, value, recorded + back)
        for recorded, message, status, version, value, back in actions
    ]
    if not rows:
        return
    frame = history(*[(*row[:4], None if row[2] == "retracted" else row[4], row[5]) for row in rows])
    accepted = check(frame).accepted
    for hour in range(0, 31, 3):
        at = T0 + hour * HOUR
        ends = accepted["superseded_at"]
        now = accepted[(accepted["observed_at"] <= at) & (accepted["recorded_at"] <= at) & (ends.isna() | (ends > at))]
        found = sorted(
            (int((row.observed_at - T0) / HOUR), int((row.recorded_at - T0) / HOUR), int(row.value)) for row in now.itertuples()
        )
        assert found == known_at(rows, hour), hour


@settings(max_examples=25, deadline=None)
@given(ACTIONS)
def test_batch_equals_online_bit_for_bit_over_any_history(actions):
    rows = [
        (recorded, message, status, version, value, recorded + back)
        for recorded, message, status, version, value, back in actions
    ]
    frame = history(
        *[(*row[:4], None if row[2] == "retracted" else row[4], row[5]) for row in rows] or [(0, "m", "final", None, 80)]
    )
    accepted = check(frame).accepted
    grid = index(*range(-1, 200, 5))
    batch = build_features(accepted, grid)[list(list_features(*STANDARD))].to_numpy()
    online = np.concatenate(list(online_features(accepted, grid, STANDARD)))
    np.testing.assert_array_equal(batch, online)
