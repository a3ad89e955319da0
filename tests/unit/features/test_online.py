"""Online features of one patient: bit-identical to batch features, from recent observations, in any order of arrival."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.features.test_build import HOUR, T0, index, observations, rows_of_one_patient
from vigil.features.batch import KEYS, build_features, encode_observations, plan_computation
from vigil.features.catalogue import STANDARD, VIEWS, list_features
from vigil.features.online import SubjectFeatures, features_of_each

PATIENT = {"age": 70.0, "sex": 0.0, "unit_admitted_at": T0 - 2 * HOUR, "hospital_admitted_at": T0 - 5 * HOUR}
NAMES = list(list_features(*STANDARD))


def microseconds(hours):
    return int((T0 + hours * HOUR).value // 1000)


def assert_same(online, batch):
    """Compare an array of online features with a frame of batch features, bit for bit."""
    np.testing.assert_array_equal(online, batch.drop(columns=KEYS).to_numpy())


@settings(max_examples=60, deadline=None)
@given(
    rows_of_one_patient(days=8),
    st.lists(st.booleans(), min_size=6, max_size=6),
    st.sampled_from([STANDARD, tuple(VIEWS), ("stay",), ("patient", "pressure")]),
)
def test_online_features_equal_batch_features_whatever_was_forgotten(rows, forget, views):
    accepted = observations(*rows).sort_values("recorded_at", ignore_index=True)
    hours = [-150, -60, 0, 1, 2.5, 6]
    batch = build_features(accepted, index(*hours), views)
    patient = SubjectFeatures(**PATIENT, views=views)
    added = 0
    for row, (hour, forgets) in enumerate(zip(hours, forget, strict=True)):
        known = int((accepted["recorded_at"] <= T0 + hour * HOUR).sum())
        patient.add(accepted[added:known])
        added = known
        assert_same(patient.at(np.array([microseconds(hour)])), batch.iloc[[row]])
        if forgets:
            patient.forget(microseconds(hour))


@settings(max_examples=20, deadline=None)
@given(rows_of_one_patient(), st.randoms())
def test_online_features_do_not_depend_on_the_order_of_arrival(rows, random):
    accepted = observations(*rows)
    patient = SubjectFeatures(**PATIENT)
    for row in random.sample(range(len(accepted)), len(accepted)):
        patient.add(accepted.iloc[[row]])
    times = np.array([microseconds(hour) for hour in (0, 3)])
    assert_same(patient.at(times), build_features(accepted, index(0, 3)))


@pytest.mark.parametrize("values", [(27, 20), (20, 27), (45, 210, 72)])
def test_of_values_at_one_time_the_worse_is_the_latest_in_whatever_order_they_arrive(values):
    accepted = observations(*[(0.0, "heart_rate", value) for value in values])
    patient = SubjectFeatures(**PATIENT)
    for row in range(len(accepted)):
        patient.add(accepted.iloc[[row]])
    assert_same(patient.at(np.array([microseconds(1)])), build_features(accepted, index(1)))


def test_forget_keeps_the_first_day_and_the_longest_window():
    minutes = np.arange(0, 8 * 1440)
    accepted = observations(*[(minute / 60, "heart_rate", 60 + minute % 37) for minute in minutes])
    patient = SubjectFeatures(**PATIENT)
    patient.add(accepted)
    end = 8 * 24
    patient.forget(microseconds(end))
    assert len(patient) == 1440 + 1439  # the first day and the last one, whose window is open at its start
    assert_same(patient.at(np.array([microseconds(end)])), build_features(accepted, index(end)))


def test_forget_removes_earlier_what_no_requested_view_needs():
    accepted = observations(*[(hour, signal, 40) for hour in range(100) for signal in ("etco2", "urine_output")])
    counts = {}
    for views in (("support",), ("support", "stay")):
        patient = SubjectFeatures(**PATIENT, views=views)
        patient.add(accepted)
        patient.forget(microseconds(99))
        counts[views] = len(patient)
        assert_same(patient.at(np.array([microseconds(99)])), build_features(accepted, index(99), views))
    # The first day of both signals stays. The view support needs a day of etco2 and the latest urine output. Stay needs
    # 72 h of both.
    assert list(counts.values()) == [24 + 24 + 24 + 1, 2 * (24 + 72)]


def test_late_observation_before_the_first_one_moves_the_first_day():
    rows = [(hour, "heart_rate", 60 + hour) for hour in range(80)]
    patient = SubjectFeatures(**PATIENT)
    patient.add(observations(*rows))
    patient.forget(microseconds(80))
    late = (-10, "heart_rate", 150, 91)
    patient.add(observations(late))
    for hour in (80, 81):
        assert_same(patient.at(np.array([microseconds(hour)])), build_features(observations(*rows, late), index(hour)))


def test_forget_keeps_the_latest_observation():
    patient = SubjectFeatures(**PATIENT)
    patient.add(observations((0, "heart_rate", 60), (30, "heart_rate", 70), (31, "heart_rate", 80)))
    patient.forget(microseconds(400))
    features = dict(zip(NAMES, patient.at(np.array([microseconds(400)]))[0], strict=True))
    assert len(patient) == 2  # that of the first day, and the latest
    assert (features["heart_rate_age_so_far"], features["heart_rate_count_so_far"]) == (369, 3)


def test_duplicate_observation_counts_once_by_its_first_delivery():
    first_delivery = observations((0, "heart_rate", 60), (0, "heart_rate", 70), (1, "heart_rate", 60, 2))
    patient = SubjectFeatures(**PATIENT)
    patient.add(first_delivery)
    patient.add(first_delivery)
    patient.add(observations((0, "heart_rate", 70, 3)))  # a duplicate, recorded later
    patient.add(observations((1, "heart_rate", 60, 0.5)))  # an earlier delivery arrives afterwards
    assert len(patient) == 3
    expected = observations((0, "heart_rate", 60), (0, "heart_rate", 70), (1, "heart_rate", 60, 0.5))
    assert_same(patient.at(np.array([microseconds(1), microseconds(2)])), build_features(expected, index(1, 2)))


def test_admission_time_without_time_zone_is_refused():
    with pytest.raises(ValueError, match="admission time without a time zone"):
        SubjectFeatures(unit_admitted_at=pd.Timestamp("2026-03-01"))


def test_times_that_do_not_ascend_are_refused():
    with pytest.raises(ValueError, match="not in order; expected ascending times"):
        SubjectFeatures().at(np.array([microseconds(2), microseconds(1)]))


def test_times_before_the_last_forget_are_refused():
    patient = SubjectFeatures(**PATIENT)
    patient.forget(microseconds(5))
    patient.forget(microseconds(3))
    with pytest.raises(ValueError, match="observations were forgotten up to a later time"):
        patient.at(np.array([microseconds(4)]))


def test_patient_without_observations_has_the_batch_features_of_one():
    features = dict(zip(NAMES, SubjectFeatures().at(np.array([microseconds(0)]))[0], strict=True))
    expected = build_features(
        observations(), index(0, age=np.nan, sex=np.nan, unit_admitted_at=pd.NaT, hospital_admitted_at=pd.NaT)
    )
    assert_same(np.array([list(features.values())]), expected)
    assert np.isnan(features["hours_in_unit"])


def test_series_may_grow_beyond_its_initial_capacity_in_any_chunks():
    rows = [(minute / 60, "spo2", 90 + minute % 10) for minute in range(1000)]
    accepted = observations(*rows)
    patient = SubjectFeatures(**PATIENT)
    for first in range(0, 1000, 90):
        patient.insert(*(column[first : first + 90] for column in encode_observations(accepted)))
    assert len(patient) == 1000
    assert len(plan_computation().signals) > 30
    assert_same(patient.at(np.array([microseconds(17)])), build_features(accepted, index(17)))


@settings(max_examples=20, deadline=None)
@given(st.lists(rows_of_one_patient(), min_size=1, max_size=4), st.sampled_from([STANDARD, ("stay",), ("patient", "pressure")]))
def test_features_of_several_patients_at_once_are_those_of_each(patients, views):
    each = []
    for age, rows in enumerate(patients):
        patient = SubjectFeatures(**PATIENT | {"age": 50.0 + age}, views=views)
        patient.add(observations(*rows))
        each.append(patient)
    times = np.array([microseconds(number) for number in range(len(each))])
    together = features_of_each(each, times)
    for row, patient in enumerate(each):
        np.testing.assert_array_equal(together[row : row + 1], patient.at(times[row : row + 1]))
