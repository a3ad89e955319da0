"""Features from observations: equal to a simple reference, independent of the future and of other patients."""

import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.reference import window_statistic
from vigil.features import batch
from vigil.features.batch import _with_needs, build_features, group_observations, plan_computation
from vigil.features.catalogue import DECLARED, STANDARD, VIEWS, list_features
from vigil.features.declarations import OWN_UNITS
from vigil.features.derived import MEASUREMENT_ERROR
from vigil.features.kernel import compute_window_statistics
from vigil.features.kernel.plan import order_by_signal, plan_kernel
from vigil.features.observations import TIME, ObservationError, check
from vigil.features.signals import SIGNALS, STORED
from vigil.features.windows import WindowFeature

T0 = pd.Timestamp("2026-03-01T08:00:00Z").as_unit("us")
HOUR = pd.Timedelta(hours=1)
# Declared features, and those that only derived features need.
DECLARATIONS = dict.fromkeys(_with_needs(itertools.chain.from_iterable(DECLARED.values())))
WINDOW_FEATURES = [declaration for declaration in DECLARATIONS if isinstance(declaration, WindowFeature)]


def observations(*rows, subject_id="a"):
    """Return checked observations from (hours after T0, signal, value[, delay of the recording in hours])."""
    frame = pd.DataFrame(
        [
            (subject_id, T0 + hours * HOUR, signal, float(value), T0 + (hours + sum(delay)) * HOUR)
            for hours, signal, value, *delay in rows
        ],
        columns=["subject_id", "observed_at", "signal", "value", "recorded_at"],
    )
    checked = check(
        frame.astype({"observed_at": "datetime64[us, UTC]", "recorded_at": "datetime64[us, UTC]"}), declared=OWN_UNITS
    )
    assert checked.quarantined.empty
    return checked.accepted


def index(*hours, subject_id="a", **patient):
    """Return index times at the given hours after T0."""
    characteristics = {
        "age": 70.0,
        "sex": 0.0,
        "unit_admitted_at": T0 - 2 * HOUR,
        "hospital_admitted_at": T0 - 5 * HOUR,
        **patient,
    }
    frame = pd.DataFrame([{"subject_id": subject_id, "index_time": T0 + h * HOUR, **characteristics} for h in hours])
    for column in ("index_time", "unit_admitted_at", "hospital_admitted_at"):
        frame[column] = pd.to_datetime(frame[column], utc=True).astype(TIME)
    return frame


@st.composite
def rows_of_one_patient(draw, days=1):
    """Draw irregular observations of one patient: any signals, ties, gaps, late arrivals, and exact edges of windows."""
    minute = st.integers(-30 * 60 * days, 8 * 60)
    signals = draw(st.lists(st.sampled_from(list(SIGNALS)), min_size=1, max_size=5, unique=True))
    rows = draw(
        st.lists(
            st.tuples(
                minute | st.sampled_from([0, 60, -60, -360, -1440, 360 - 1440, 60 * 6]),
                st.sampled_from(signals),
                st.integers(0, 40),
                st.sampled_from([0, 0, 0, 1, 59, 60, 61, 600]),
            ),
            max_size=40,
            unique_by=lambda row: (row[0], row[1], plausible_value(SIGNALS[row[1]], row[2])),
        )
    )
    return [(m / 60, signal, plausible_value(SIGNALS[signal], step), late / 60) for m, signal, step, late in rows]


def plausible_value(signal, step):
    """Return one of 41 plausible values of a signal, or a code if the signal is coded."""
    if signal.coded:
        return signal.low + step % (signal.high - signal.low + 1)
    return round((signal.low + (signal.high - signal.low) * step / 40) * signal.steps_per_unit) / signal.steps_per_unit


@settings(max_examples=40, deadline=None)
@given(rows_of_one_patient())
def test_window_statistics_equal_the_reference(rows):
    accepted = observations(*rows)
    grid = index(0, 1, 2.5, 6)
    columns = window_columns(accepted, grid)
    by_signal = {
        signal: [(row.observed_at, row.recorded_at, row.value) for row in rows.itertuples()]
        for signal, rows in accepted.groupby("signal")
    }
    for feature in WINDOW_FEATURES:
        of_signal = by_signal.get(feature.signal, [])
        expected = [window_statistic(of_signal, t, feature) for t in grid["index_time"]]
        tolerance = 1e-6 * STORED[feature.signal].high
        np.testing.assert_allclose(columns[feature.name], expected, rtol=1e-6, atol=tolerance, err_msg=feature.name)


def window_columns(accepted, grid):
    """Return the output of the kernel by the names of all window features, declared or only needed."""
    features = order_by_signal(WINDOW_FEATURES)
    _, planned = plan_kernel(features, plan_computation().signals)
    out = np.empty((len(features), len(grid)))
    times = grid["index_time"].to_numpy("datetime64[us]").astype(np.int64)
    compute_window_statistics(planned, group_observations(accepted, pd.Index(["a"])), times, np.array([0, len(times)]), out)
    return {feature.name: out[column] for column, feature in enumerate(features)}


@settings(max_examples=30, deadline=None)
@given(rows_of_one_patient(), st.integers(-60, 360))
def test_features_at_t_ignore_observations_observed_or_recorded_after_t(rows, minute):
    accepted = observations(*rows)
    t = T0 + minute / 60 * HOUR
    known = accepted[(accepted["observed_at"] <= t) & (accepted["recorded_at"] <= t)]
    with_future = build_features(accepted, index(minute / 60), VIEWS)
    without = build_features(known, index(minute / 60), VIEWS)
    pd.testing.assert_frame_equal(with_future, without, check_exact=True)


@settings(max_examples=20, deadline=None)
@given(rows_of_one_patient(), st.randoms())
def test_features_do_not_depend_on_input_order_or_other_patients(rows, random):
    accepted = observations(*rows)
    alone = build_features(accepted, index(0, 3), VIEWS)
    shuffled = accepted.sample(frac=1, random_state=random.randrange(1000)) if len(accepted) else accepted
    others = [observations((h, "heart_rate", 150), (h, "lactate", 9), subject_id=s) for h in (-1, 2) for s in ("0", "z")]
    grid = pd.concat([index(3, 0), index(0, 3, subject_id="0"), index(1, subject_id="z")])
    together = build_features(pd.concat([*others, shuffled]), grid, VIEWS)
    pd.testing.assert_frame_equal(together[together["subject_id"] == "a"].reset_index(drop=True), alone, check_exact=True)


def test_window_is_open_at_its_start_and_closed_at_its_end():
    accepted = observations((-6, "heart_rate", 60), (-1, "heart_rate", 70), (0, "heart_rate", 80))
    row = build_features(accepted, index(0)).iloc[0]
    assert row["heart_rate_count_1h"] == 1  # the observation exactly one hour ago is outside
    assert row["heart_rate_mean_1h"] == 80
    assert row["heart_rate_count_6h"] == 2
    assert row["heart_rate_min_24h"] == 60


@settings(max_examples=40, deadline=None)
@given(
    rows_of_one_patient(),
    st.integers(-20 * 60, 5 * 60),
    st.integers(0, 12 * 60),
    st.sampled_from(["heart_rate", "spo2", "lactate"]),
)
def test_late_observation_changes_only_rows_after_its_recording_within_its_window(rows, minute, late, signal):
    """It changes rows with t >= recorded_at and t - w < observed_at <= t, in features of its signal, and no others."""
    hours = np.arange(-20, 30, 1.5)
    observed, recorded = minute / 60, (minute + late) / 60
    punctual = observations(*rows)
    with_late = observations(*rows, (observed, signal, plausible_value(SIGNALS[signal], 7) + 0.01, late / 60))
    before, after = (window_columns(known, index(*hours)) for known in (punctual, with_late))
    for feature in WINDOW_FEATURES:
        window = feature.window if isinstance(feature.window, int) else np.inf
        may_change = (hours >= recorded - 1e-9) & (observed <= hours) & (hours - window < observed) & (feature.signal == signal)
        np.testing.assert_array_equal(before[feature.name][~may_change], after[feature.name][~may_change], err_msg=feature.name)
        if feature.statistic == "count" and isinstance(feature.window, int):
            np.testing.assert_array_equal(after[feature.name] - before[feature.name], may_change, err_msg=feature.name)


def test_observations_at_the_same_time_are_ordered_by_value():
    """Of two values observed at the same time the larger one is the later, in any order of arrival."""
    both = observations((0, "heart_rate", 90), (0, "heart_rate", 70), (-1, "heart_rate", 80))
    for order in ([0, 1, 2], [2, 1, 0], [1, 2, 0]):
        row = build_features(both.iloc[order], index(0)).iloc[0]
        assert (row["heart_rate_last_24h"], row["heart_rate_change_24h"]) == (90, 10)


def test_scores_use_the_latest_observation_for_at_most_a_day():
    accepted = observations((-2, "heart_rate", 60), (-1, "heart_rate", 131), (0, "systolic_bp", 100))
    rows = build_features(accepted, index(0, 22.9, 23, 24))
    assert list(rows["news2_heart_rate"].fillna(-1)) == [3, 3, -1, -1]
    assert rows["news2"].iloc[0] == 3 + 2
    assert rows["news2_highest"].iloc[0] == 5 + 3 + 3 + 2 + 3 + 3  # four missing components and oxygen at their maximum
    assert rows["shock_index"].iloc[0] == np.float32(1.31)
    assert np.isnan(rows["shock_index"].iloc[2])
    assert list(rows["vitals_known"]) == [2, 2, 1, 0]
    assert rows["hours_since_reading"].iloc[1] == np.float32(22.9)


def test_patient_features_use_admission_times():
    row = build_features(observations(), index(3, hospital_admitted_at=pd.NaT)).iloc[0]
    assert (row["age"], row["sex"], row["hours_in_unit"]) == (70, 0, 5)
    assert np.isnan(row["hours_in_hospital_before"])


def test_patient_without_observations_has_missing_features_and_zero_counts():
    row = build_features(observations(), index(0)).iloc[0]
    assert row["heart_rate_count_24h"] == 0
    assert np.isnan(row["heart_rate_last_24h"])
    assert (row["news2"], row["news2_highest"]) == (0, 20)


@pytest.mark.parametrize("views", [STANDARD, tuple(VIEWS)])
def test_frame_has_every_feature_of_the_views_once_in_float32(views):
    built = build_features(observations(), index(0), views)
    declared = [feature.name for view in views for feature in VIEWS[view]]
    assert list(built.columns) == ["subject_id", "index_time", *declared]
    assert len(set(declared)) == len(declared) >= 100
    assert set(built[declared].dtypes) == {np.dtype("float32")}


def test_observation_of_a_subject_without_index_row_is_refused():
    with pytest.raises(ObservationError, match="1 rows of subjects without an index row"):
        build_features(observations((0, "heart_rate", 70), subject_id="stranger"), index(0))


def test_duplicate_index_time_is_refused():
    with pytest.raises(ObservationError, match="same subject_id and index_time twice"):
        build_features(observations(), index(1, 1))


def test_personal_baseline_equals_values_computed_by_hand():
    """The heart rate is 60 on the first day, 80 on the second, and 100 in the last hours."""
    rows = [(hour, "heart_rate", 60 if hour < 24 else 80) for hour in range(48)]
    rows += [(48 + minute / 60, "heart_rate", 100) for minute in range(1, 361)]
    row = build_features(observations(*rows), index(54)).iloc[0]
    values = np.array([value for _, _, value in rows])
    usual, spread = values.mean(), values.std(ddof=1)
    assert row["heart_rate_ema_6h"] == 100
    assert row["heart_rate_from_first_day"] == 40
    assert row["heart_rate_from_usual"] == np.float32(100 - usual) > 0
    error = MEASUREMENT_ERROR["heart_rate"]
    np.testing.assert_allclose(row["heart_rate_anomaly"], (100 - usual) / np.hypot(spread, error), rtol=1e-6)
    low = build_features(observations(*rows, (54, "heart_rate", 30)), index(54)).iloc[0]
    assert low["heart_rate_anomaly"] < row["heart_rate_anomaly"]


def test_organ_measures_equal_values_computed_by_hand():
    rows = [
        *((hour, "urine_output", amount) for hour, amount in ((1, 200), (5, 100), (9, 300))),
        (1, "body_weight", 80), (1, "body_height", 200), (2, "pao2", 70), (8, "pao2", 90), (2, "fio2", 100), (8, "fio2", 40),
        (3, "bun", 30), (3, "creatinine", 1.5), (4, "sodium", 140), (4, "chloride", 100), (4, "bicarbonate", 24),
        (2, "heart_rate", 120), (3, "heart_rate", 90), (2, "systolic_bp", 100), (3, "systolic_bp", 80),
        (2, "glasgow_coma_scale", 6), (7, "glasgow_coma_scale", 14),
    ]  # fmt: skip
    built = build_features(observations(*rows), index(10, 90), ["organs"])
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
    assert built.iloc[1, 2:].isna().all()  # no value is carried beyond the window


def test_personal_baseline_of_a_single_observation_is_zero():
    row = build_features(observations((0, "spo2", 91)), index(0)).iloc[0]
    assert (row["spo2_from_first_day"], row["spo2_from_usual"], row["spo2_anomaly"]) == (0, 0, 0)
    assert row["spo2_count_so_far"] == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"subject_id": [None]}, "a subject_id is missing"),
        ({"age": ["Mr X, 71"]}, "age has a value that is not a finite number"),
        ({"sex": [np.inf]}, "sex has a value that is not a finite number"),
        (
            {"index_time": [pd.Timestamp("2026-03-01T08:00")]},
            "index_time has no time zone or is no time; expected the dtype datetime64",
        ),
        ({"unit_admitted_at": ["yesterday"]}, "unit_admitted_at has no time zone or is no time"),
    ],
)
def test_malformed_index_is_refused_without_quoting_patient_data(change, message):
    with pytest.raises(ObservationError, match=message) as refused:
        build_features(observations(), index(0).assign(**change))
    assert "Mr X" not in str(refused.value)


def test_index_without_a_column_names_the_missing_column():
    with pytest.raises(ObservationError, match="index: missing column age; expected subject_id, index_time, age, sex"):
        build_features(observations(), index(0).drop(columns="age"))


@pytest.mark.parametrize(("value", "signal"), [(np.nan, "heart_rate"), (np.inf, "heart_rate"), (1e300, "spo2"), (80, "pulse")])
def test_unchecked_observation_is_refused(value, signal):
    unchecked = observations((0, "heart_rate", 80)).assign(value=value, signal=signal)
    with pytest.raises(ObservationError, match=r"expected .*; check the observations first: features.observations.check"):
        build_features(unchecked, index(0))


def test_blocks_of_subjects_do_not_mix(monkeypatch):
    stays = [(f"p{number:02}", number % 7) for number in range(30)]
    rows = pd.concat([observations((-1, "heart_rate", 60 + n), subject_id=name) for n, (name, _) in enumerate(stays)])
    grid = pd.concat([index(*range(hours + 1), subject_id=name) for name, hours in stays])
    whole = build_features(rows, grid)
    monkeypatch.setattr(batch, "_BLOCK_ROWS", 5)
    pd.testing.assert_frame_equal(build_features(rows, grid), whole, check_exact=True)
    assert whole.groupby("subject_id")["heart_rate_last_24h"].first().tolist() == list(range(60, 90))


@settings(max_examples=15, deadline=None)
@given(rows_of_one_patient(days=4))
def test_view_is_bit_identical_whatever_other_views_are_computed(rows):
    """A view does not need the views that contain its inputs, and does not depend on other views."""
    accepted, grid = observations(*rows), index(0, 3)
    whole = build_features(accepted, grid, VIEWS)
    for views in (STANDARD, *([view] for view in VIEWS)):
        alone = build_features(accepted, grid, views)
        pd.testing.assert_frame_equal(alone, whole[alone.columns], check_exact=True)


def test_standard_views_are_computed_by_default():
    assert list(build_features(observations(), index(0)).columns[2:]) == list(list_features(*STANDARD))


def test_columns_are_in_catalogue_order_whatever_the_order_of_views():
    accepted = observations((0, "heart_rate", 80), (-1, "sodium", 140))
    one, other = (build_features(accepted, index(0), views) for views in (["stay", "patient"], ["patient", "stay", "patient"]))
    assert list(one.columns[2:]) == [*list_features("patient"), *list_features("stay")]
    pd.testing.assert_frame_equal(one, other, check_exact=True)
    assert one["sodium_last_72h"].iloc[0] == 140


def test_undeclared_view_is_refused():
    with pytest.raises(ValueError, match="'stays' is not in list"):
        build_features(observations(), index(0), ["stays"])
