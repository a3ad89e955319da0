"""Scores at every edge of their charts. Expected values were taken from the publications named in features/scores.py."""

from functools import partial
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.features.test_build import index, observations
from vigil.features.batch import build_features
from vigil.features.scores import (
    MEWS_BANDS,
    NEWS2_BANDS,
    QSOFA_BANDS,
    SOFA_BANDS,
    assign_points,
    compute_score,
    compute_shock_index,
    compute_sirs,
    compute_spo2_fio2,
)

# Bands as printed: (lowest, highest, points). None is an open end. Printed values are 1 apart, those of temperature 0.1.
PRINTED = {
    "news2": {
        "respiratory_rate": [(None, 8, 3), (9, 11, 1), (12, 20, 0), (21, 24, 2), (25, None, 3)],
        "spo2": [(None, 91, 3), (92, 93, 2), (94, 95, 1), (96, None, 0)],
        "systolic_bp": [(None, 90, 3), (91, 100, 2), (101, 110, 1), (111, 219, 0), (220, None, 3)],
        "heart_rate": [(None, 40, 3), (41, 50, 1), (51, 90, 0), (91, 110, 1), (111, 130, 2), (131, None, 3)],
        "body_temperature": [(None, 35.0, 3), (35.1, 36.0, 1), (36.1, 38.0, 0), (38.1, 39.0, 1), (39.1, None, 2)],
    },
    "mews": {
        "systolic_bp": [(None, 70, 3), (71, 80, 2), (81, 100, 1), (101, 199, 0), (200, None, 2)],
        "heart_rate": [(None, 40, 2), (41, 50, 1), (51, 100, 0), (101, 110, 1), (111, 129, 2), (130, None, 3)],
        "respiratory_rate": [(None, 8, 2), (9, 14, 0), (15, 20, 1), (21, 29, 2), (30, None, 3)],
        "body_temperature": [(None, 34.9, 2), (35.0, 38.4, 0), (38.5, None, 2)],
    },
}
# Points by code. Codes of consciousness: alert, new confusion, voice, pain, unresponsive. MEWS has no confusion.
CODED = {
    "news2": {"on_oxygen": [0, 2], "consciousness": [0, 3, 3, 3, 3]},
    "mews": {"consciousness": [0, 0, 1, 2, 3]},
    "qsofa": {"consciousness": [0, 1, 1, 1, 1]},
}
# Inequalities: (value, points) at each limit and one step of the signal's resolution below and above it.
LIMITS = {
    "qsofa": {
        "respiratory_rate": [(21.99, 0), (22, 1), (22.01, 1)],
        "systolic_bp": [(99.99, 1), (100, 1), (100.01, 0)],
    },
    "sirs": {
        "body_temperature": [(35.99, 1), (36, 0), (36.01, 0), (37.99, 0), (38, 0), (38.01, 1)],
        "heart_rate": [(89.99, 0), (90, 0), (90.01, 1)],
        "respiratory_rate": [(19.99, 0), (20, 0), (20.01, 1)],
        "paco2": [(31.99, 1), (32, 0), (32.01, 0)],
        "wbc": [(3.99, 1), (4, 0), (4.01, 0), (11.99, 0), (12, 0), (12.01, 1)],
    },
    "sofa": {
        # 214 and 89 are the limits of 3 and 4 points, which require ventilation.
        "spo2_fio2": [(512, 0), (511.99, 1), (357, 1), (356.99, 2), (213.99, 2), (88.99, 2)],
        "platelets": [(150, 0), (149.99, 1), (100, 1), (99.99, 2), (50, 2), (49.99, 3), (20, 3), (19.99, 4)],
        "bilirubin_total": [(1.19, 0), (1.2, 1), (1.99, 1), (2.0, 2), (5.99, 2), (6.0, 3), (11.99, 3), (12.0, 4)],
        "mean_bp": [(70, 0), (69.99, 1)],
        "creatinine": [(1.19, 0), (1.2, 1), (1.99, 1), (2.0, 2), (3.49, 2), (3.5, 3), (4.99, 3), (5.0, 4)],
    },
}
HIGHEST = {"news2": 20, "mews": 14, "qsofa": 3, "sirs": 4, "sofa": 2 + 4 + 4 + 1 + 4}

EDGES = [
    *(
        (name, component, edge, points)
        for name, chart in PRINTED.items()
        for component, bands in chart.items()
        for low, high, points in bands
        for edge in (low, high)
        if edge is not None
    ),
    *(
        (name, component, *code)
        for name, chart in CODED.items()
        for component, points in chart.items()
        for code in enumerate(points)
    ),
    *((name, component, *limit) for name, chart in LIMITS.items() for component, limits in chart.items() for limit in limits),
]
MIDPOINTS = [
    (name, component, round((high + low) / 2, 2), below, above)
    for name, chart in PRINTED.items()
    for component, bands in chart.items()
    for (_, high, below), (low, _, above) in pairwise(bands)
]
# Values from every band of every component of a score.
VALUES = {
    name: {
        component: [float(value) for *key, value, _ in EDGES if key == [name, component]]
        for score_name, component, *_ in EDGES
        if score_name == name
    }
    for name in HIGHEST
}

# Patients with no points and with the maximum in all scores.
HEALTHY = {
    "respiratory_rate": 14.0,
    "spo2": 97.0,
    "on_oxygen": 0.0,
    "systolic_bp": 120.0,
    "mean_bp": 90.0,
    "heart_rate": 70.0,
    "consciousness": 0.0,
    "body_temperature": 37.0,
    "paco2": 40.0,
    "wbc": 8.0,
    "spo2_fio2": 520.0,
    "platelets": 250.0,
    "bilirubin_total": 0.5,
    "creatinine": 0.8,
}
SICKEST = {
    "respiratory_rate": 35.0,
    "spo2": 85.0,
    "on_oxygen": 1.0,
    "systolic_bp": 60.0,
    "mean_bp": 45.0,
    "heart_rate": 140.0,
    "consciousness": 4.0,
    "body_temperature": 34.0,
    "paco2": 25.0,
    "wbc": 20.0,
    "spo2_fio2": 85.0,
    "platelets": 10.0,
    "bilirubin_total": 15.0,
    "creatinine": 6.0,
}
UNKNOWN = dict.fromkeys(HEALTHY, np.nan)
CHARTS = {"news2": NEWS2_BANDS, "mews": MEWS_BANDS, "qsofa": QSOFA_BANDS, "sofa": SOFA_BANDS}
SCORES = {"sirs": compute_sirs, **{name: partial(compute_score, name, chart) for name, chart in CHARTS.items()}}


def compute(name, patient=HEALTHY, **values):
    """Return the named score of one patient with some changed values."""
    arrays = {component: np.array([value]) for component, value in {**patient, **values}.items()}
    return {feature: value.item() for feature, value in SCORES[name](arrays).items()}


def interval(name, patient=HEALTHY, **values):
    """Return the lowest and the highest possible score of one patient."""
    result = compute(name, patient, **values)
    return result[name], result[f"{name}_highest"]


def features_at_0(*rows):
    """Return the features at hour 0 from (hour, signal, value)."""
    return build_features(observations(*rows), index(0)).iloc[0]


@pytest.mark.parametrize(("name", "component", "value", "expected"), EDGES)
def test_score_at_each_edge_of_its_bands(name, component, value, expected):
    assert interval(name, **{component: value}) == (expected, expected)
    if name in CHARTS:
        assert assign_points(CHARTS[name][component], np.array([value])).item() == expected


@pytest.mark.parametrize(("name", "component", "value", "below", "above"), MIDPOINTS)
def test_assign_points_rounds_the_midpoint_between_printed_values_up(name, component, value, below, above):
    assert assign_points(CHARTS[name][component], np.array([value - 0.01, value])).tolist() == [below, above]


def test_assign_points_keeps_shape_and_missing_values():
    result = assign_points(NEWS2_BANDS["spo2"], np.array([[91.0, np.nan], [95.0, 97.0]]))
    np.testing.assert_array_equal(result, [[3, np.nan], [1, 0]])


@pytest.mark.parametrize("name", SCORES)
def test_score_is_zero_if_healthy_maximal_if_sickest_and_any_if_unknown(name):
    assert interval(name) == (0, 0)
    assert interval(name, SICKEST) == (HIGHEST[name], HIGHEST[name])
    assert interval(name, UNKNOWN) == (0, HIGHEST[name])


def test_score_counts_a_missing_component_0_and_widens_the_interval():
    assert interval("news2", heart_rate=120.0) == (2, 2)
    assert interval("news2", heart_rate=120.0, spo2=np.nan, on_oxygen=np.nan) == (2, 2 + 3 + 2)


@pytest.mark.parametrize(
    ("respiratory_rate", "paco2", "expected"),
    [
        (14, 40, (0, 0)),
        (25, 25, (1, 1)),
        (25, np.nan, (1, 1)),
        (np.nan, 25, (1, 1)),
        (14, np.nan, (0, 1)),
        (np.nan, 40, (0, 1)),
        (np.nan, np.nan, (0, 1)),
    ],
)
def test_sirs_criterion_is_met_by_either_alternative_and_ruled_out_by_both(respiratory_rate, paco2, expected):
    assert interval("sirs", respiratory_rate=respiratory_rate, paco2=paco2) == expected


@pytest.mark.parametrize("name", SCORES)
@settings(deadline=None)
@given(data=st.data())
def test_score_interval_contains_the_full_score_and_is_as_narrow_as_possible(name, data):
    patient = data.draw(
        st.fixed_dictionaries({component: st.sampled_from(values) for component, values in VALUES[name].items()})
    )
    missing = data.draw(st.sets(st.sampled_from(list(patient))))
    full, full_highest = interval(name, patient)
    lowest, highest = interval(name, patient, **dict.fromkeys(missing, np.nan))
    assert lowest <= full == full_highest <= highest
    assert interval(name, patient, **{component: HEALTHY[component] for component in missing}) == (lowest, lowest)
    assert interval(name, patient, **{component: SICKEST[component] for component in missing}) == (highest, highest)


@pytest.mark.parametrize("name", CHARTS)
@settings(deadline=None)
@given(data=st.data())
def test_score_is_the_sum_of_its_components(name, data):
    strategies = {component: st.sampled_from([*values, np.nan]) for component, values in VALUES[name].items()}
    patient = data.draw(st.fixed_dictionaries(strategies))
    result = compute(name, patient)
    components = {component: result[f"{name}_{component}"] for component in patient}
    assert result[name] == np.nansum(list(components.values()))
    assert [component for component in components if np.isnan(components[component])] == [
        component for component in patient if np.isnan(patient[component])
    ]


def test_shock_index_is_heart_rate_by_systolic_pressure():
    result = compute_shock_index(np.array([90.0, np.nan, 90.0]), np.array([120.0, 100.0, np.nan]))
    np.testing.assert_array_equal(result, [0.75, np.nan, np.nan])


@pytest.mark.parametrize(
    ("spo2", "fio2", "on_oxygen", "expected"),
    [
        (92, 40, 1, 230),
        (92, 40, np.nan, 230),
        (92, 40, 0, 92 / 0.21),  # weaned from oxygen since
        (84, np.nan, 0, 400),  # room air, 21 %
        (84, np.nan, 1, np.nan),
        (84, np.nan, np.nan, np.nan),
        (np.nan, 40, 1, np.nan),
        (np.nan, np.nan, 0, np.nan),
    ],
)
def test_spo2_fio2_uses_room_air_only_if_no_oxygen_is_given(spo2, fio2, on_oxygen, expected):
    result = compute_spo2_fio2(np.array([float(spo2)]), np.array([float(fio2)]), np.array([float(on_oxygen)]))
    np.testing.assert_allclose(result, [expected], rtol=1e-12)


def test_scores_of_a_patient_with_all_values_known():
    row = features_at_0(
        (0, "respiratory_rate", 22),  # NEWS2 2, MEWS 2, qSOFA 1, SIRS 1
        (0, "spo2", 94),  # NEWS2 1
        (0, "on_oxygen", 1),  # NEWS2 2
        (0, "fio2", 40),  # SOFA 2
        (0, "systolic_bp", 100),  # NEWS2 2, MEWS 1, qSOFA 1
        (0, "diastolic_bp", 58),
        (0, "mean_bp", 69.99),  # SOFA 1
        (0, "heart_rate", 112),  # NEWS2 2, MEWS 2, SIRS 1
        (0, "consciousness", 2),  # NEWS2 3, MEWS 1, qSOFA 1
        (0, "body_temperature", 38.45),  # NEWS2 1, MEWS 2, SIRS 1
        (0, "paco2", 40),
        (0, "wbc", 12),
        (0, "platelets", 99.99),  # SOFA 2
        (0, "bilirubin_total", 1.2),  # SOFA 1
        (0, "creatinine", 3.5),  # SOFA 3
    )
    for name, expected in {"news2": 13, "mews": 8, "qsofa": 3, "sirs": 3, "sofa": 9}.items():
        assert (row[name], row[f"{name}_highest"]) == (expected, expected), name
    components = {"spo2_fio2": 2, "platelets": 2, "bilirubin_total": 1, "mean_bp": 1, "creatinine": 3}
    assert {component: row[f"sofa_{component}"] for component in components} == components
    assert (row["pulse_pressure"], row["spo2_fio2"]) == (42, 235)


def test_scores_carry_vital_signs_24h_and_laboratory_72h_and_use_the_lowest_pressure():
    row = features_at_0(
        (-72, "bilirubin_total", 7),  # too old
        (-71.9, "platelets", 40),  # SOFA 3
        (-71.9, "wbc", 3.9),  # SIRS 1
        (-30, "creatinine", 4),
        (-2, "creatinine", 1),  # the latest counts: SOFA 0
        (-24, "heart_rate", 140),  # too old
        (-23.9, "mean_bp", 60),  # SOFA 1
        (0, "mean_bp", 80),
        (-23.9, "respiratory_rate", 22),  # MEWS 2, qSOFA 1, SIRS 1
    )
    intervals = {name: (row[name], row[f"{name}_highest"]) for name in ("mews", "qsofa", "sirs", "sofa")}
    assert intervals == {"mews": (2, 2 + 3 + 3 + 2 + 3), "qsofa": (1, 3), "sirs": (2, 4), "sofa": (4, 4 + 2 + 4)}
    assert row[["pulse_pressure", "spo2_fio2", "sofa_spo2_fio2", "sofa_bilirubin_total"]].isna().all()


@pytest.mark.parametrize(("spo2", "respiration"), [(98, 1), (98.01, np.nan)])
def test_sofa_ignores_spo2_above_98(spo2, respiration):
    row = features_at_0((0, "spo2", spo2), (0, "on_oxygen", 0))
    others = 4 + 4 + 1 + 4
    np.testing.assert_equal(row["sofa_spo2_fio2"], np.float32(respiration))
    assert (row["sofa"], row["sofa_highest"]) == ((0, 2 + others) if np.isnan(respiration) else (1, 1 + others))
    assert row["spo2_fio2"] == np.float32(spo2 / 0.21)


@pytest.mark.parametrize(("fio2_at", "expected"), [(-1, 90 / 0.6), (-8, 90 / 0.21)])
def test_spo2_fio2_uses_the_latest_of_fio2_and_room_air(fio2_at, expected):
    """FiO2 of 60 % was measured after, or before, a nurse charted that no oxygen is given."""
    row = build_features(observations((fio2_at, "fio2", 60), (-4, "on_oxygen", 0), (0, "spo2", 90)), index(0)).iloc[0]
    np.testing.assert_allclose(row["spo2_fio2"], expected, rtol=1e-6)
