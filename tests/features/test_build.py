"""Feature values: right against an obvious reference, blind to the future, and free of other patients."""

import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.batch import _with_needs, build_features, computation, readings_of
from features.catalogue import DECLARED, STANDARD, VIEWS, of
from features.derived import MEASUREMENT_ERROR
from features.kernel import window_statistics
from features.kernel.plan import in_order, plan_of
from features.observations import TIME, ObservationError, check
from features.signals import SIGNALS
from features.windows import WindowFeature
from tests.features.reference import window_statistic

T0 = pd.Timestamp("2026-03-01T08:00:00Z").as_unit("us")
HOUR = pd.Timedelta(hours=1)
# Those that are features of their own, and those from which others are derived.
ENTRIES = dict.fromkeys(_with_needs(itertools.chain.from_iterable(DECLARED.values())))
WINDOW_FEATURES = [entry for entry in ENTRIES if isinstance(entry, WindowFeature)]


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
def series(draw, days=1):
    """Irregular readings of one patient: any signals, ties, gaps, late messages, edges of windows hit exactly."""
    minute = st.integers(-30 * 60 * days, 8 * 60)
    signals = draw(st.lists(st.sampled_from(list(SIGNALS)), min_size=1, max_size=5, unique=True))
    readings = draw(
        st.lists(
            st.tuples(
                minute | st.sampled_from([0, 60, -60, -360, -1440, 360 - 1440, 60 * 6]),
                st.sampled_from(signals),
                st.integers(0, 40),
                st.sampled_from([0, 0, 0, 1, 59, 60, 61, 600]),
            ),
            max_size=40,
            unique_by=lambda reading: (reading[0], reading[1], within(SIGNALS[reading[1]], reading[2])),
        )
    )
    return [(m / 60, signal, within(SIGNALS[signal], step), late / 60) for m, signal, step, late in readings]


def within(signal, step):
    """A plausible value, one of 41; of a coded signal a code."""
    if signal.coded:
        return signal.low + step % (signal.high - signal.low + 1)
    return round((signal.low + (signal.high - signal.low) * step / 40) * signal.steps_per_unit) / signal.steps_per_unit


@settings(max_examples=40, deadline=None)
@given(series())
def test_every_window_statistic_equals_the_obvious_one(readings):
    accepted = observations(*readings)
    grid = index(0, 1, 2.5, 6)
    found = window_columns(accepted, grid)
    by_signal = {
        signal: [(row.observed_at, row.recorded_at, row.value) for row in rows.itertuples()]
        for signal, rows in accepted.groupby("signal")
    }
    for feature in WINDOW_FEATURES:
        of_signal = by_signal.get(feature.signal, [])
        expected = [window_statistic(of_signal, t, feature) for t in grid["index_time"]]
        tolerance = 1e-6 * SIGNALS[feature.signal].high
        np.testing.assert_allclose(found[feature.name], expected, rtol=1e-6, atol=tolerance, err_msg=feature.name)


def window_columns(accepted, grid):
    """What the kernel returns, under the names of the window features, declared or only needed."""
    features = in_order(WINDOW_FEATURES)
    _, planned = plan_of(features, computation().signals)
    out = np.empty((len(features), len(grid)))
    times = grid["index_time"].to_numpy("datetime64[us]").astype(np.int64)
    window_statistics(planned, readings_of(accepted, pd.Index(["a"])), times, np.array([0, len(times)]), out)
    return {feature.name: out[column] for column, feature in enumerate(features)}


@settings(max_examples=30, deadline=None)
@given(series(), st.integers(-60, 360))
def test_what_happens_or_is_recorded_after_t_changes_nothing_at_t(readings, minute):
    accepted = observations(*readings)
    t = T0 + minute / 60 * HOUR
    known = accepted[(accepted["observed_at"] <= t) & (accepted["recorded_at"] <= t)]
    with_future = build_features(accepted, index(minute / 60), VIEWS)
    without = build_features(known, index(minute / 60), VIEWS)
    pd.testing.assert_frame_equal(with_future, without, check_exact=True)


@settings(max_examples=20, deadline=None)
@given(series(), st.randoms())
def test_order_of_input_and_other_patients_do_not_matter(readings, random):
    accepted = observations(*readings)
    alone = build_features(accepted, index(0, 3), VIEWS)
    shuffled = accepted.sample(frac=1, random_state=random.randrange(1000)) if len(accepted) else accepted
    others = [observations((h, "heart_rate", 150), (h, "lactate", 9), subject_id=s) for h in (-1, 2) for s in ("0", "z")]
    grid = pd.concat([index(3, 0), index(0, 3, subject_id="0"), index(1, subject_id="z")])
    together = build_features(pd.concat([*others, shuffled]), grid, VIEWS)
    pd.testing.assert_frame_equal(together[together["subject_id"] == "a"].reset_index(drop=True), alone, check_exact=True)


def test_a_window_is_open_at_its_start_and_closed_at_its_end():
    accepted = observations((-6, "heart_rate", 60), (-1, "heart_rate", 70), (0, "heart_rate", 80))
    row = build_features(accepted, index(0)).iloc[0]
    assert row["heart_rate_count_1h"] == 1  # the reading exactly one hour ago is outside
    assert row["heart_rate_mean_1h"] == 80
    assert row["heart_rate_count_6h"] == 2
    assert row["heart_rate_min_24h"] == 60


@settings(max_examples=40, deadline=None)
@given(series(), st.integers(-20 * 60, 5 * 60), st.integers(0, 12 * 60), st.sampled_from(["heart_rate", "spo2", "lactate"]))
def test_a_late_reading_touches_exactly_the_rows_it_may(readings, minute, late, signal):
    """Those with t >= recorded_at and t - w < observed_at <= t, in features of its signal; none of the others."""
    hours = np.arange(-20, 30, 1.5)
    observed, recorded = minute / 60, (minute + late) / 60
    punctual = observations(*readings)
    with_late = observations(*readings, (observed, signal, within(SIGNALS[signal], 7) + 0.01, late / 60))
    before, after = (window_columns(known, index(*hours)) for known in (punctual, with_late))
    for feature in WINDOW_FEATURES:
        window = feature.window if isinstance(feature.window, int) else np.inf
        may = (hours >= recorded - 1e-9) & (observed <= hours) & (hours - window < observed) & (feature.signal == signal)
        np.testing.assert_array_equal(before[feature.name][~may], after[feature.name][~may], err_msg=feature.name)
        if feature.statistic == "count" and isinstance(feature.window, int):
            np.testing.assert_array_equal(after[feature.name] - before[feature.name], may, err_msg=feature.name)


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


@pytest.mark.parametrize("views", [STANDARD, tuple(VIEWS)])
def test_the_frame_has_every_feature_of_the_views_once_in_float32(views):
    built = build_features(observations(), index(0), views)
    declared = [feature.name for view in views for feature in VIEWS[view]]
    assert list(built.columns) == ["subject_id", "index_time", *declared]
    assert len(set(declared)) == len(declared) >= 100
    assert set(built[declared].dtypes) == {np.dtype("float32")}


def test_a_reading_of_somebody_without_index_is_refused():
    with pytest.raises(ObservationError, match="1 rows of subjects without an index row"):
        build_features(observations((0, "heart_rate", 70), subject_id="stranger"), index(0))


def test_the_same_index_time_twice_is_refused():
    with pytest.raises(ObservationError, match="same subject_id and index_time twice"):
        build_features(observations(), index(1, 1))


def test_the_personal_baseline_by_hand():
    """A first day at 60, a second at 80, and the last hours at 100."""
    readings = [(hour, "heart_rate", 60 if hour < 24 else 80) for hour in range(48)]
    readings += [(48 + minute / 60, "heart_rate", 100) for minute in range(1, 361)]
    row = build_features(observations(*readings), index(54)).iloc[0]
    values = np.array([value for _, _, value in readings])
    usual, spread = values.mean(), values.std(ddof=1)
    assert row["heart_rate_ema_6h"] == 100
    assert row["heart_rate_from_first_day"] == 40
    assert row["heart_rate_from_usual"] == np.float32(100 - usual) > 0
    error = MEASUREMENT_ERROR["heart_rate"]
    np.testing.assert_allclose(row["heart_rate_anomaly"], (100 - usual) / np.hypot(spread, error), rtol=1e-6)
    low = build_features(observations(*readings, (54, "heart_rate", 30)), index(54)).iloc[0]
    assert low["heart_rate_anomaly"] < row["heart_rate_anomaly"]


def test_measures_of_organs_by_hand():
    readings = [
        *((hour, "urine_output", amount) for hour, amount in ((1, 200), (5, 100), (9, 300))),
        (1, "body_weight", 80), (1, "body_height", 200), (2, "pao2", 70), (8, "pao2", 90), (2, "fio2", 100), (8, "fio2", 40),
        (3, "bun", 30), (3, "creatinine", 1.5), (4, "sodium", 140), (4, "chloride", 100), (4, "bicarbonate", 24),
        (2, "heart_rate", 120), (3, "heart_rate", 90), (2, "systolic_bp", 100), (3, "systolic_bp", 80),
        (2, "glasgow_coma_scale", 6), (7, "glasgow_coma_scale", 14),
    ]  # fmt: skip
    built = build_features(observations(*readings), index(10, 90), ["organs"])
    assert built.iloc[0, 2:].to_dict() == pytest.approx(
        {
            "urine_total_72h": 600,
            "urine_per_kg_72h": 7.5,
            "body_mass_index_72h": 20,
            "pao2_fio2_72h": 225,
            "pao2_fio2_worst_72h": 70,
            "bun_creatinine_72h": 20,
            "anion_gap_72h": 16,
            "shock_index_worst_72h": 1.5,
            "consciousness_regained_72h": 8,
        }
    )
    assert built.iloc[1, 2:].isna().all()  # nothing is carried past the window


def test_one_reading_is_its_own_baseline():
    row = build_features(observations((0, "spo2", 91)), index(0)).iloc[0]
    assert (row["spo2_from_first_day"], row["spo2_from_usual"], row["spo2_anomaly"]) == (0, 0, 0)
    assert row["spo2_count_so_far"] == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"subject_id": [None]}, "a subject_id is missing"),
        ({"age": ["Mr X, 71"]}, "age is not of finite numbers"),
        ({"sex": [np.inf]}, "sex is not of finite numbers"),
        ({"index_time": [pd.Timestamp("2026-03-01T08:00")]}, "index_time is not of instants; expected times with a zone"),
        ({"unit_admitted_at": ["yesterday"]}, "unit_admitted_at is not of instants"),
    ],
)
def test_an_index_that_could_be_misread_is_refused_without_quoting_it(change, message):
    with pytest.raises(ObservationError, match=message) as refused:
        build_features(observations(), index(0).assign(**change))
    assert "Mr X" not in str(refused.value)


def test_an_index_without_a_column_says_which():
    with pytest.raises(ObservationError, match="index: missing column age; expected subject_id, index_time, age, sex"):
        build_features(observations(), index(0).drop(columns="age"))


@pytest.mark.parametrize(("value", "signal"), [(np.nan, "heart_rate"), (np.inf, "heart_rate"), (1e300, "spo2"), (80, "pulse")])
def test_a_reading_that_was_not_checked_is_refused(value, signal):
    unchecked = observations((0, "heart_rate", 80)).assign(value=value, signal=signal)
    with pytest.raises(ObservationError, match=r"expected .*; check the readings first: features.observations.check"):
        build_features(unchecked, index(0))


def test_many_subjects_are_computed_in_blocks_without_mixing(monkeypatch):
    stays = [(f"p{number:02}", number % 7) for number in range(30)]
    readings = pd.concat([observations((-1, "heart_rate", 60 + n), subject_id=name) for n, (name, _) in enumerate(stays)])
    grid = pd.concat([index(*range(hours + 1), subject_id=name) for name, hours in stays])
    whole = build_features(readings, grid)
    monkeypatch.setattr("features.batch._BLOCK_ROWS", 5)
    pd.testing.assert_frame_equal(build_features(readings, grid), whole, check_exact=True)
    assert whole.groupby("subject_id")["heart_rate_last_24h"].first().tolist() == list(range(60, 90))


@settings(max_examples=15, deadline=None)
@given(series(days=4))
def test_a_view_is_the_same_whatever_else_is_computed(readings):
    """Bit for bit: without the views that hold what it is made of, and with all the others."""
    accepted, grid = observations(*readings), index(0, 3)
    whole = build_features(accepted, grid, VIEWS)
    for views in (STANDARD, *([view] for view in VIEWS)):
        alone = build_features(accepted, grid, views)
        pd.testing.assert_frame_equal(alone, whole[alone.columns], check_exact=True)


def test_the_standard_views_are_computed_unless_others_are_asked_for():
    assert list(build_features(observations(), index(0)).columns[2:]) == list(of(*STANDARD))


def test_columns_are_in_the_order_of_the_catalogue_whatever_the_order_of_the_views():
    accepted = observations((0, "heart_rate", 80), (-1, "sodium", 140))
    one, other = (build_features(accepted, index(0), views) for views in (["stay", "patient"], ["patient", "stay", "patient"]))
    assert list(one.columns[2:]) == [*of("patient"), *of("stay")]
    pd.testing.assert_frame_equal(one, other, check_exact=True)
    assert one["sodium_last_72h"].iloc[0] == 140


def test_a_view_that_is_not_declared_is_refused():
    with pytest.raises(ValueError, match="'stays' is not in list"):
        build_features(observations(), index(0), ["stays"])
