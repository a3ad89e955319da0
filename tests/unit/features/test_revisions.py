"""Corrections and retractions: what counts at each time, equal to a slow reference, in batch and online computation."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.features.test_build import HOUR, T0, index
from vigil.features.batch import build_features, encode_observations
from vigil.features.catalogue import STANDARD, list_features
from vigil.features.observations import ObservationError, check
from vigil.features.online import SubjectFeatures
from vigil.pipelines.jobs.verify_features import online_features

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
    """Return (observed, recorded, value) of what counts at an hour: group after group, in plain Python."""
    known = []  # versions, each {message, time (None: of the message), number, said, counts}
    for recorded in sorted({row[0] for row in rows if row[0] <= hour}):
        group = [row for row in rows if row[0] == recorded]
        revised = {row[1] for row in rows if row[0] <= recorded and is_revision(row)}
        for row in sorted(group, key=lambda row: row[1] not in revised):
            take(known, row, group, row[1] in revised)
        for one in known:
            if one["fresh"] and one["counts"]:
                is_repeat = any(other["counts"] and not other["fresh"] and other["said"] == one["said"] for other in known)
                one["counts"] = not is_repeat
                if is_repeat and one["number"] == 1:
                    one["number"] = 0  # forgotten
            one["fresh"] = False
        known = [one for one in known if one["number"]]
    counted = [(one["said"][1], one["recorded"], one["said"][0]) for one in known if one["counts"]]
    return sorted(row for row in counted if row[0] <= hour)


def is_revision(row):
    return row[2] != "final" or (row[3] or 1) > 1


def take(known, row, group, is_version):
    """Add what a row says to what is known."""
    recorded, message, status, version, value, observed = row
    said = None if status == "retracted" else (value, observed)
    same_message = [one for one in known if one["message"] == message]
    times = {one["original"] for one in same_message if one["original"] is not None}
    times |= {other[5] for other in group if other[1] == message and not is_revision(other)}
    several = len(times) > 1 or any(one["by_time"] for one in same_message)
    if message is None or several or not is_version:
        before = [one for one in same_message if (one["said"] and one["said"][1] == observed) or one["at"] == observed]
    else:
        before = same_message
    number, last = max([(one["number"], one["said"]) for one in before], key=lambda one: one[0], default=(0, None))
    if message is None and not is_version:
        number, last = 0, None
    same = number > 0 and last == said
    by_arrival = 1 if status == "final" else number if same and number > 1 else max(number, 1) + 1
    new = by_arrival if version is None else version
    if new <= number:
        return
    for one in before:
        one["counts"] = one["counts"] and message is None and not is_version
    original = observed if not is_revision(row) else None
    known.append(
        {"message": message, "at": observed, "number": new, "said": said, "counts": said is not None, "fresh": True}
        | {"recorded": recorded, "original": original, "by_time": several and original is None}
    )


@settings(max_examples=100, deadline=None)
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
