"""Feature values: right against an obvious reference, blind to the future, and free of other patients."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.build import build_features
from features.catalogue import DECLARED, VIEWS
from features.observations import TIME, ObservationError, check
from features.windows import WindowFeature
from tests.features.reference import window_statistic

T0 = pd.Timestamp("2026-03-01T08:00:00Z").as_unit("us")
HOUR = pd.Timedelta(hours=1)
WINDOW_FEATURES = [entry for view in DECLARED.values() for entry in view if isinstance(entry, WindowFeature)]


def observations(*readings, subject_id="a"):
    """From (hours after T0, signal, value[, hours by which it was recorded later])."""
    frame = pd.DataFrame(
        [
            (subject_id, T0 + hours * HOUR, signal, float(value), T0 + (hours + sum(late)) * HOUR)
            for hours, signal, value, *late in readings
        ],
        columns=["subject_id", "observed_at", "signal", "value", "recorded_at"],
    )
    checked = check(frame.astype({"observed_at": "datetime64[us, UTC]", "recorded_at": "datetime64[us, UTC]"}))
    assert checked.quarantined.empty
    return checked.accepted


def index(*hours, subject_id="a", **patient):
    facts = {"age": 70.0, "sex": 0.0, "unit_admitted_at": T0 - 2 * HOUR, "hospital_admitted_at": T0 - 5 * HOUR, **patient}
    frame = pd.DataFrame([{"subject_id": subject_id, "index_time": T0 + h * HOUR, **facts} for h in hours])
    for column in ("index_time", "unit_admitted_at", "hospital_admitted_at"):
        frame[column] = pd.to_datetime(frame[column], utc=True).astype(TIME)
    return frame


@st.composite
def series(draw):
    """Irregular readings of one patient: ties, gaps, late messages, edges of windows hit exactly."""
    minute = st.integers(-30 * 60, 8 * 60)
    readings = draw(
        st.lists(
            st.tuples(
                minute | st.sampled_from([0, 60, -60, -360, -1440, 360 - 1440, 60 * 6]),
                st.sampled_from(["heart_rate", "body_temperature", "systolic_bp", "lactate"]),
                st.integers(0, 400),
                st.sampled_from([0, 0, 0, 1, 59, 60, 61, 600]),
            ),
            max_size=40,
            unique_by=lambda reading: (reading[0], reading[1], reading[2]),
        )
    )
    base = {"heart_rate": 60, "body_temperature": 36, "systolic_bp": 100, "lactate": 1}
    return [(m / 60, signal, base[signal] + step / 100, late / 60) for m, signal, step, late in readings]


@settings(max_examples=40, deadline=None)
@given(series())
def test_every_window_statistic_equals_the_obvious_one(readings):
    accepted = observations(*readings)
    grid = index(0, 1, 2.5, 6)
    built = build_features(accepted, grid)
    by_signal = {
        signal: [(row.observed_at, row.recorded_at, row.value) for row in rows.itertuples()]
        for signal, rows in accepted.groupby("signal")
    }
    for feature in WINDOW_FEATURES:
        of_signal = by_signal.get(feature.signal, [])
        expected = [window_statistic(of_signal, t, feature) for t in grid["index_time"]]
        np.testing.assert_allclose(built[feature.name], expected, rtol=1e-6, atol=1e-5, err_msg=feature.name)


@settings(max_examples=30, deadline=None)
@given(series(), st.integers(-60, 360))
def test_what_happens_or_is_recorded_after_t_changes_nothing_at_t(readings, minute):
    accepted = observations(*readings)
    t = T0 + minute / 60 * HOUR
    known = accepted[(accepted["observed_at"] <= t) & (accepted["recorded_at"] <= t)]
    with_future = build_features(accepted, index(minute / 60))
    without = build_features(known, index(minute / 60))
    pd.testing.assert_frame_equal(with_future, without, check_exact=True)


@settings(max_examples=20, deadline=None)
@given(series(), st.randoms())
def test_order_of_input_and_other_patients_do_not_matter(readings, random):
    accepted = observations(*readings)
    alone = build_features(accepted, index(0, 3))
    shuffled = accepted.sample(frac=1, random_state=random.randrange(1000)) if len(accepted) else accepted
    others = [observations((h, "heart_rate", 150), (h, "lactate", 9), subject_id=s) for h in (-1, 2) for s in ("0", "z")]
    grid = pd.concat([index(3, 0), index(0, 3, subject_id="0"), index(1, subject_id="z")])
    together = build_features(pd.concat([*others, shuffled]), grid)
    pd.testing.assert_frame_equal(together[together["subject_id"] == "a"].reset_index(drop=True), alone, check_exact=True)


def test_a_window_is_open_at_its_start_and_closed_at_its_end():
    accepted = observations((-6, "heart_rate", 60), (-1, "heart_rate", 70), (0, "heart_rate", 80))
    row = build_features(accepted, index(0)).iloc[0]
    assert row["heart_rate_count_1h"] == 1  # the reading exactly one hour ago is outside
    assert row["heart_rate_mean_1h"] == 80
    assert row["heart_rate_count_6h"] == 2
    assert row["heart_rate_min_24h"] == 60


def test_a_late_reading_touches_exactly_the_rows_it_may():
    punctual = [(h, "heart_rate", 70 + h) for h in range(8)]
    grid = index(*range(12))
    before = build_features(observations(*punctual), grid)
    after = build_features(observations(*punctual, (1.5, "heart_rate", 150, 3)), grid)  # observed at 1.5 h, recorded at 4.5 h
    changed = (before["heart_rate_count_6h"] != after["heart_rate_count_6h"]).to_numpy()
    assert list(np.flatnonzero(changed)) == [5, 6, 7]  # t >= 4.5 h, and t - 6 h < 1.5 h
    rows = before.drop(columns=["subject_id", "index_time"]).to_numpy()
    rows_after = after.drop(columns=["subject_id", "index_time"]).to_numpy()
    untouched = [t for t in range(12) if t < 4.5]
    np.testing.assert_array_equal(rows[untouched], rows_after[untouched])


def test_readings_of_the_same_instant_have_one_order():
    """Two devices, one instant: the larger value is the later one, in whatever order they arrive."""
    both = observations((0, "heart_rate", 90), (0, "heart_rate", 70), (-1, "heart_rate", 80))
    for order in ([0, 1, 2], [2, 1, 0], [1, 2, 0]):
        row = build_features(both.iloc[order], index(0)).iloc[0]
        assert (row["heart_rate_last_24h"], row["heart_rate_change_24h"]) == (90, 10)


def test_scores_come_from_the_last_reading_and_are_not_carried_past_a_day():
    accepted = observations((-2, "heart_rate", 60), (-1, "heart_rate", 131), (0, "systolic_bp", 100))
    rows = build_features(accepted, index(0, 22.9, 23, 24))
    assert list(rows["news2_heart_rate"].fillna(-1)) == [3, 3, -1, -1]
    assert rows["news2"].iloc[0] == 3 + 2
    assert rows["news2_highest"].iloc[0] == 5 + 3 + 3 + 2 + 3 + 3  # four missing parts and oxygen at their worst
    assert rows["shock_index"].iloc[0] == np.float32(1.31)
    assert np.isnan(rows["shock_index"].iloc[2])
    assert list(rows["vitals_known"]) == [2, 2, 1, 0]
    assert rows["hours_since_reading"].iloc[1] == np.float32(22.9)


def test_patient_features():
    row = build_features(observations(), index(3, hospital_admitted_at=pd.NaT)).iloc[0]
    assert (row["age"], row["sex"], row["hours_in_unit"]) == (70, 0, 5)
    assert np.isnan(row["hours_in_hospital_before"])


def test_a_patient_without_readings_has_a_row_of_unknowns():
    row = build_features(observations(), index(0)).iloc[0]
    assert row["heart_rate_count_24h"] == 0
    assert np.isnan(row["heart_rate_last_24h"])
    assert (row["news2"], row["news2_highest"]) == (0, 20)


def test_the_frame_has_every_declared_feature_once_in_float32():
    built = build_features(observations(), index(0))
    declared = [feature.name for view in VIEWS.values() for feature in view]
    assert list(built.columns) == ["subject_id", "index_time", *declared]
    assert len(set(declared)) == len(declared) >= 100
    assert set(built[declared].dtypes) == {np.dtype("float32")}


def test_a_reading_of_somebody_without_index_is_refused():
    with pytest.raises(ObservationError, match="1 rows of subjects without an index row"):
        build_features(observations((0, "heart_rate", 70), subject_id="stranger"), index(0))


def test_the_same_index_time_twice_is_refused():
    with pytest.raises(ObservationError, match="same subject_id and index_time twice"):
        build_features(observations(), index(1, 1))
