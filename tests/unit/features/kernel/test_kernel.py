"""The kernel: exact sums, results independent of the order of arrival, and a refusal where sums could overflow."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vigil.features import kernel, windows
from vigil.features.catalogue import DECLARED
from vigil.features.kernel import KernelOverflowError, ObservationArrays, compute_window_statistics
from vigil.features.kernel.plan import HOUR_US, order_by_signal, plan_kernel
from vigil.features.signals import STORED
from vigil.features.windows import STATISTICS, WindowFeature, declare_statistics

MINUTE_US = HOUR_US // 60
ALL = order_by_signal(
    [WindowFeature("heart_rate", name, 24, 70 if statistic.threshold else None) for name, statistic in STATISTICS.items()]
    + [WindowFeature("heart_rate", name, 3) for name, statistic in STATISTICS.items() if not statistic.threshold]
    + list(declare_statistics(["heart_rate"], "so_far", "count", "mean", "std", "last", "age"))
    + list(declare_statistics(["heart_rate"], "first_day", "count", "mean"))
)


def compute_one_series(observed, steps, times, features=ALL, recorded=None, forgotten=None):
    """Return the statistics of one series of heart rates by name, each with a value for each index time."""
    observed = np.array(observed, dtype=np.int64)
    recorded = observed if recorded is None else np.array(recorded, dtype=np.int64)
    steps = np.array(steps, dtype=np.int64)
    order = np.lexsort((steps, recorded, observed))
    out = np.full((len(features), len(times)), -1.0)
    compute_window_statistics(
        plan_kernel(features)[1],
        ObservationArrays(
            observed[order],
            recorded[order],
            steps[order],
            begin=np.array([[0]]),
            end=np.array([[len(observed)]]),
            forgotten=np.zeros((0, 0, 3), dtype=np.int64) if forgotten is None else np.array([[forgotten]]),
        ),
        np.array(times, dtype=np.int64),
        np.array([0, len(times)]),
        out,
    )
    return {feature.name.removeprefix("heart_rate_"): out[column] for column, feature in enumerate(features)}


def test_constant_series_has_exactly_zero_spread_and_slope():
    result = compute_one_series(np.arange(1, 1441) * MINUTE_US, np.full(1440, 3661), [24 * HOUR_US])
    for name in ("std_24h", "slope_24h", "change_24h", "step_24h", "iqr_24h", "diff_std_24h"):
        assert result[name] == 0.0, name
    for name in ("mean_24h", "median_24h", "ema_24h", "mean_first_day"):
        assert result[name] == 36.61, name


@pytest.mark.parametrize("origin", [0, 1_700_000_000_000_000, 4_000_000_000_000_000])
@pytest.mark.parametrize("per_minute", [1, 60])
def test_slope_of_a_line_is_exact_at_any_time_and_density(origin, per_minute):
    minutes = np.arange(1, 360 * per_minute + 1) * (MINUTE_US // per_minute)
    steps = 5000 + np.arange(len(minutes))
    result = compute_one_series(
        origin + minutes, steps, [origin + 6 * HOUR_US], order_by_signal(declare_statistics(["heart_rate"], 6, "slope"))
    )
    assert result["slope_6h"] == 0.6 * per_minute


def test_slope_of_two_observations_in_the_same_second_is_missing():
    result = compute_one_series([HOUR_US, HOUR_US + 5], [7000, 8000], [HOUR_US + 10])
    assert np.isnan(result["slope_24h"])
    assert result["change_24h"] == 10


def test_statistics_that_are_defined_for_one_observation_and_for_none():
    result = compute_one_series([HOUR_US], [7250], [0, HOUR_US, 26 * HOUR_US])
    assert result["count_24h"].tolist() == [0, 1, 0]
    assert result["count_so_far"].tolist() == [0, 1, 1]
    assert result["age_so_far"].tolist()[1:] == [0, 25]
    defined = {
        "count",
        "mean",
        "min",
        "max",
        "last",
        "age",
        "median",
        "iqr",
        "ema",
        "sustained",
        "recent",
        "hours_above_70",
        "hours_below_70",
    }
    for name, values in result.items():
        assert np.isnan(values[0]) != (name.split("_")[0] == "count"), name
        if name.endswith("_24h"):
            assert np.isnan(values[1]) != (name.removesuffix("_24h") in defined), name
            assert np.isnan(values[2]) != (name == "count_24h"), name


@pytest.mark.parametrize("steps", [2**40, -(2**40)])
def test_observations_that_cannot_be_summed_exactly_are_refused(steps):
    with pytest.raises(
        KernelOverflowError, match=r"1000 observations of one signal of one subject: exact sums allow \d+ of this"
    ):
        compute_one_series(np.arange(1000), np.full(1000, steps), [2000])


def test_three_weeks_of_observations_every_second_are_within_the_exact_range():
    names = {feature.signal for view in DECLARED.values() for feature in view if isinstance(feature, WindowFeature)}
    for name in names:
        signal = STORED[name]
        largest = 2 * max(abs(signal.low), abs(signal.high)) * signal.steps_per_unit
        assert 86_400 * 21 * largest**2 < 2**63, name


def test_output_array_of_another_shape_is_refused():
    observed = np.array([1], dtype=np.int64)
    bounds = np.array([[0]]), np.array([[1]])
    readings = ObservationArrays(observed, observed, observed, *bounds, np.zeros((0, 0, 3), dtype=np.int64))
    with pytest.raises(ValueError, match=r"out: shape \(1, \d+\); expected \(\d+, 1\), features by index times"):
        compute_window_statistics(plan_kernel(ALL)[1], readings, observed, np.array([0, 1]), np.empty((1, len(ALL))))


@st.composite
def late_series(draw):
    """Draw (observed, recorded, steps) with ties, bursts, and delays that may be longer than the windows."""
    n = draw(st.integers(1, 40))
    observed = draw(st.lists(st.integers(0, 40 * 12).map(lambda five: five * 5), min_size=n, max_size=n))
    delays = draw(st.lists(st.sampled_from([0, 0, 0, 1, 7, 60, 200, 1500, 2000]), min_size=n, max_size=n))
    steps = draw(st.lists(st.integers(0, 300), min_size=n, max_size=n))
    observed = np.array(observed) * MINUTE_US
    return observed, observed + np.array(delays) * MINUTE_US, np.array(steps) * 50


@settings(max_examples=200, deadline=None)
@given(late_series(), st.lists(st.integers(0, 60 * 60), min_size=1, max_size=12, unique=True))
def test_late_observations_give_the_statistics_of_the_known_observations_alone(series, minutes):
    """Computing all index times at once equals computing each one from the observations known then, bit for bit."""
    observed, recorded, steps = series
    times = sorted(minute * MINUTE_US for minute in minutes)
    together = compute_one_series(observed, steps, times, recorded=recorded)
    for row, t in enumerate(times):
        known = recorded <= t
        if not known.any():
            continue
        alone = compute_one_series(observed[known], steps[known], [t], recorded=recorded[known])
        for name, values in together.items():
            np.testing.assert_array_equal(values[row], alone[name][0], err_msg=name)


@pytest.mark.parametrize("delay", [0, 40, 300])  # minutes; the longest delay exceeds the window, which then is empty
@pytest.mark.parametrize("largest", [300, 50_000_000])  # sums of squares whose products fit 64 bits, and some that do not
def test_extremes_and_std_at_every_reading_equal_those_of_the_window(delay, largest):
    minutes = np.arange(500)
    steps = np.random.default_rng(2026).integers(-largest, largest, len(minutes))
    statistics = order_by_signal(declare_statistics(["heart_rate"], 3, "min", "max", "std"))
    result = compute_one_series(
        minutes * MINUTE_US, steps, (minutes + 5) * MINUTE_US, statistics, recorded=(minutes + delay) * MINUTE_US
    )
    for row, t in enumerate(minutes + 5):
        window = steps[(minutes > t - 180) & (minutes + delay <= t)]
        expected = (window.min() / 100, window.max() / 100) if len(window) else (np.nan, np.nan)
        np.testing.assert_array_equal((result["min_3h"][row], result["max_3h"][row]), expected)
        std = window.std(ddof=1) / 100 if len(window) > 1 else np.nan
        np.testing.assert_allclose(result["std_3h"][row], std, rtol=1e-12)


@settings(max_examples=50, deadline=None)
@given(late_series(), st.integers(0, 60 * 60))
def test_forgotten_observations_still_count_so_far(series, minute):
    observed, _, steps = series
    t = minute * MINUTE_US + observed.max()
    is_kept = observed > observed.min()  # forget the earliest
    if not is_kept.any():
        return
    removed = steps[~is_kept]
    so_far = order_by_signal(declare_statistics(["heart_rate"], "so_far", "count", "mean", "std"))
    whole = compute_one_series(observed, steps, [t], so_far)
    summed = compute_one_series(
        observed[is_kept], steps[is_kept], [t], so_far, forgotten=[len(removed), removed.sum(), (removed**2).sum()]
    )
    assert {name: value.tolist() for name, value in whole.items()} == {name: value.tolist() for name, value in summed.items()}


def test_subjects_and_signals_do_not_mix():
    signals, planned = plan_kernel(order_by_signal(declare_statistics(["heart_rate", "spo2"], 1, "count", "last")))
    assert signals == ("heart_rate", "spo2")
    observed = np.array([1, 2, 3, 4, 5, 6], dtype=np.int64)
    out = np.empty((4, 3))
    compute_window_statistics(
        planned,
        ObservationArrays(
            observed,
            observed,
            observed * 100,
            begin=np.array([[0, 3], [2, 6]]),  # of each signal, the series of both subjects
            end=np.array([[2, 6], [3, 6]]),
            forgotten=np.zeros((0, 0, 3), dtype=np.int64),
        ),
        np.array([2, 10, 10]),
        np.array([0, 2, 3]),
        out,
    )
    np.testing.assert_array_equal(out.T, [[2, 2, 0, np.nan], [2, 2, 1, 3], [3, 6, 0, np.nan]])


def test_signals_without_a_feature_change_nothing():
    features = order_by_signal(declare_statistics(["heart_rate"], 1, "count", "last"))
    observed = np.array([1, 2, 3], dtype=np.int64)
    results = []
    for signals in (None, ("albumin", "heart_rate", "spo2")):
        series, planned = plan_kernel(features, signals)
        begin = np.zeros((len(series), 1), dtype=np.int64)
        readings = ObservationArrays(observed, observed, observed * 100, begin, begin + 3, np.zeros((0, 0, 3), dtype=np.int64))
        out = np.empty((2, 1))
        compute_window_statistics(planned, readings, np.array([5]), np.array([0, 1]), out)
        results.append(out.tolist())
    assert results[0] == results[1] == [[3], [3]]


def test_late_observations_of_a_subject_without_index_times_are_accepted():
    result = compute_one_series([0, 5, 9], [7000, 7100, 7200], [], recorded=[20, 5, 9])
    assert {len(values) for values in result.values()} == {0}


def test_plan_without_features_accepts_an_empty_output():
    _, planned = plan_kernel((), ("heart_rate",))
    observed, bounds = np.array([1], dtype=np.int64), (np.array([[0]]), np.array([[1]]))
    readings = ObservationArrays(observed, observed, observed, *bounds, np.zeros((0, 0, 3), dtype=np.int64))
    compute_window_statistics(planned, readings, observed, np.array([0, 1]), np.empty((0, 1)))


def test_compiled_kernel_depends_on_all_source_files():
    """Numba's cache on disk tracks the file of the outermost function only. Closure variables are part of its key too."""
    sources = [Path(windows.__file__), *sorted(Path(kernel.__file__).parent.glob("*.py"))]
    digest = hashlib.blake2b(b"".join(source.read_bytes() for source in sources)).hexdigest()
    assert [cell.cell_contents for cell in kernel._compiled().py_func.__closure__] == [digest]
    assert len(sources) == 9


def test_sustained_is_the_median_of_15_minutes_while_observations_are_recent():
    minutes = np.array([0, 60, 121, 122, 123, 124, 125, 400])
    steps = [7000, 8000, 9000, 9100, 9200, 9300, 20000, 15000]
    times = (np.array([60, 124, 125, 139, 214, 216, 400, 1850]) * MINUTE_US).tolist()
    result = compute_one_series(
        minutes * MINUTE_US, steps, times, order_by_signal(declare_statistics(["heart_rate"], 24, "sustained", "recent"))
    )
    # By index time: a single value; four observations, too few for a median; the median of five, the last of them an artefact.
    # The median holds while the latest observation is less than 90 minutes old. Then the latest value is used;
    # then a single value again; after a day, nothing.
    np.testing.assert_array_equal(result["sustained_24h"], [80, 93, 92, 92, 92, 200, 150, np.nan])
    np.testing.assert_array_equal(result["recent_24h"], [2, 5, 6, 6, 1, 0, 1, np.nan])
