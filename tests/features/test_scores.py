"""Scores at every edge of their charts, typed here from the publications (see features/scores.py), not from the code."""

from functools import partial
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.batch import build_features
from features.scores import (
    MEWS_BANDS,
    NEWS2_BANDS,
    QSOFA_BANDS,
    SOFA_BANDS,
    points,
    score,
    shock_index,
    sirs,
    spo2_fio2,
)
from tests.features.test_build import index, observations

# Bands as printed, (lowest, highest, points); None is open. Steps between printed values: 1, temperature 0.1.
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
# Points by code. Consciousness: alert, new confusion, voice, pain, unresponsive; MEWS has no confusion.
CODED = {
    "news2": {"on_oxygen": [0, 2], "consciousness": [0, 3, 3, 3, 3]},
    "mews": {"consciousness": [0, 0, 1, 2, 3]},
    "qsofa": {"consciousness": [0, 1, 1, 1, 1]},
}
# Inequalities, (value, points): at each limit and one step of the signal's resolution to its sides.
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
        # 214 and 89 are the limits of 3 and 4 points, which ask for ventilation.
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
        (name, part, edge, worth)
        for name, chart in PRINTED.items()
        for part, bands in chart.items()
        for low, high, worth in bands
        for edge in (low, high)
        if edge is not None
    ),
    *((name, part, *code) for name, chart in CODED.items() for part, worth in chart.items() for code in enumerate(worth)),
    *((name, part, *limit) for name, chart in LIMITS.items() for part, limits in chart.items() for limit in limits),
]
MIDPOINTS = [
    (name, part, round((high + low) / 2, 2), below, above)
    for name, chart in PRINTED.items()
    for part, bands in chart.items()
    for (_, high, below), (low, _, above) in pairwise(bands)
]
# Every band of every part of a score is among these.
VALUES = {
    name: {part: [float(value) for *at, value, _ in EDGES if at == [name, part]] for of, part, *_ in EDGES if of == name}
    for name in HIGHEST
}

# No point, and every point, in all scores.
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
SCORES = {"sirs": sirs, **{name: partial(score, name, chart) for name, chart in CHARTS.items()}}


def scored(name, patient=HEALTHY, **values):
    known = {part: np.array([value]) for part, value in {**patient, **values}.items()}
    return {found: value.item() for found, value in SCORES[name](known).items()}


def interval(name, patient=HEALTHY, **values):
    found = scored(name, patient, **values)
    return found[name], found[f"{name}_highest"]


def built(*readings):
    """Features at hour 0 from (hour, signal, value)."""
    return build_features(observations(*readings), index(0)).iloc[0]


@pytest.mark.parametrize(("name", "part", "value", "expected"), EDGES)
def test_each_edge(name, part, value, expected):
    assert interval(name, **{part: value}) == (expected, expected)
    if name in CHARTS:
        assert points(CHARTS[name][part], np.array([value])).item() == expected


@pytest.mark.parametrize(("name", "part", "value", "below", "above"), MIDPOINTS)
def test_between_printed_values_the_midpoint_rounds_up(name, part, value, below, above):
    assert points(CHARTS[name][part], np.array([value - 0.01, value])).tolist() == [below, above]


def test_points_keep_the_shape_and_what_is_missing():
    found = points(NEWS2_BANDS["spo2"], np.array([[91.0, np.nan], [95.0, 97.0]]))
    np.testing.assert_array_equal(found, [[3, np.nan], [1, 0]])


@pytest.mark.parametrize("name", SCORES)
def test_the_healthy_score_nothing_the_sickest_the_maximum_and_the_unknown_anything(name):
    assert interval(name) == (0, 0)
    assert interval(name, SICKEST) == (HIGHEST[name], HIGHEST[name])
    assert interval(name, UNKNOWN) == (0, HIGHEST[name])


def test_a_missing_part_counts_nothing_and_widens_the_interval():
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
def test_either_alternative_meets_a_criterion_and_only_both_rule_it_out(respiratory_rate, paco2, expected):
    assert interval("sirs", respiratory_rate=respiratory_rate, paco2=paco2) == expected


@pytest.mark.parametrize("name", SCORES)
@settings(deadline=None)
@given(data=st.data())
def test_the_interval_holds_whatever_the_missing_parts_turn_out_to_be_and_is_no_wider(name, data):
    patient = data.draw(st.fixed_dictionaries({part: st.sampled_from(values) for part, values in VALUES[name].items()}))
    missing = data.draw(st.sets(st.sampled_from(list(patient))))
    full, full_highest = interval(name, patient)
    lowest, highest = interval(name, patient, **dict.fromkeys(missing, np.nan))
    assert lowest <= full == full_highest <= highest
    assert interval(name, patient, **{part: HEALTHY[part] for part in missing}) == (lowest, lowest)
    assert interval(name, patient, **{part: SICKEST[part] for part in missing}) == (highest, highest)


@pytest.mark.parametrize("name", CHARTS)
@settings(deadline=None)
@given(data=st.data())
def test_a_score_is_the_sum_of_its_parts(name, data):
    some = {part: st.sampled_from([*values, np.nan]) for part, values in VALUES[name].items()}
    patient = data.draw(st.fixed_dictionaries(some))
    found = scored(name, patient)
    parts = {part: found[f"{name}_{part}"] for part in patient}
    assert found[name] == np.nansum(list(parts.values()))
    assert [part for part in parts if np.isnan(parts[part])] == [part for part in patient if np.isnan(patient[part])]


def test_shock_index():
    found = shock_index(np.array([90.0, np.nan, 90.0]), np.array([120.0, 100.0, np.nan]))
    np.testing.assert_array_equal(found, [0.75, np.nan, np.nan])


@pytest.mark.parametrize(
    ("spo2", "fio2", "on_oxygen", "expected"),
    [
        (92, 40, 1, 230),
        (92, 40, np.nan, 230),
        (92, 40, 0, 92 / 0.21),  # weaned since
        (84, np.nan, 0, 400),  # room air, 21 %
        (84, np.nan, 1, np.nan),
        (84, np.nan, np.nan, np.nan),
        (np.nan, 40, 1, np.nan),
        (np.nan, np.nan, 0, np.nan),
    ],
)
def test_spo2_fio2_takes_room_air_only_where_no_oxygen_is_known(spo2, fio2, on_oxygen, expected):
    found = spo2_fio2(np.array([float(spo2)]), np.array([float(fio2)]), np.array([float(on_oxygen)]))
    np.testing.assert_allclose(found, [expected], rtol=1e-12)


def test_scores_of_a_patient_of_whom_all_is_known():
    row = built(
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
    parts = {"spo2_fio2": 2, "platelets": 2, "bilirubin_total": 1, "mean_bp": 1, "creatinine": 3}
    assert {part: row[f"sofa_{part}"] for part in parts} == parts
    assert (row["pulse_pressure"], row["spo2_fio2"]) == (42, 235)


def test_vitals_speak_for_a_day_and_blood_for_three_and_pressure_counts_at_its_lowest():
    row = built(
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
    found = {name: (row[name], row[f"{name}_highest"]) for name in ("mews", "qsofa", "sirs", "sofa")}
    assert found == {"mews": (2, 2 + 3 + 3 + 2 + 3), "qsofa": (1, 3), "sirs": (2, 4), "sofa": (4, 4 + 2 + 4)}
    assert row[["pulse_pressure", "spo2_fio2", "sofa_spo2_fio2", "sofa_bilirubin_total"]].isna().all()


@pytest.mark.parametrize(("spo2", "respiration"), [(98, 1), (98.01, np.nan)])
def test_above_98_spo2_says_nothing_of_the_lung(spo2, respiration):
    row = built((0, "spo2", spo2), (0, "on_oxygen", 0))
    others = 4 + 4 + 1 + 4
    np.testing.assert_equal(row["sofa_spo2_fio2"], np.float32(respiration))
    assert (row["sofa"], row["sofa_highest"]) == ((0, 2 + others) if np.isnan(respiration) else (1, 1 + others))
    assert row["spo2_fio2"] == np.float32(spo2 / 0.21)


@pytest.mark.parametrize(("fio2_at", "expected"), [(-1, 90 / 0.6), (-8, 90 / 0.21)])
def test_room_air_is_what_was_said_last(fio2_at, expected):
    """FiO2 of 60 % before or after somebody charted that no oxygen is given."""
    row = build_features(observations((fio2_at, "fio2", 60), (-4, "on_oxygen", 0), (0, "spo2", 90)), index(0)).iloc[0]
    np.testing.assert_allclose(row["spo2_fio2"], expected, rtol=1e-6)
