"""One patient online: the features of the batch, bit for bit, from recent readings only and whatever the order of arrival."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.batch import KEYS, as_steps, build_features, computation
from features.catalogue import STANDARD, VIEWS, of
from features.online import PatientFeatures
from tests.features.test_build import HOUR, T0, index, observations, series

PATIENT = {"age": 70.0, "sex": 0.0, "unit_admitted_at": T0 - 2 * HOUR, "hospital_admitted_at": T0 - 5 * HOUR}
NAMES = list(of(*STANDARD))


def microseconds(hours):
    return int((T0 + hours * HOUR).value // 1000)


def same(online, batch):
    np.testing.assert_array_equal(online, batch.drop(columns=KEYS).to_numpy())


@settings(max_examples=60, deadline=None)
@given(
    series(days=8),
    st.lists(st.booleans(), min_size=6, max_size=6),
    st.sampled_from([STANDARD, tuple(VIEWS), ("stay",), ("patient", "pressure")]),
)
def test_hour_by_hour_it_is_the_batch_whatever_was_forgotten(readings, forget, views):
    accepted = observations(*readings).sort_values("recorded_at", ignore_index=True)
    hours = [-150, -60, 0, 1, 2.5, 6]
    batch = build_features(accepted, index(*hours), views)
    patient = PatientFeatures(**PATIENT, views=views)
    done = 0
    for row, (hour, forgets) in enumerate(zip(hours, forget, strict=True)):
        known = int((accepted["recorded_at"] <= T0 + hour * HOUR).sum())
        patient.add(accepted[done:known])
        done = known
        same(patient.at(np.array([microseconds(hour)])), batch.iloc[[row]])
        if forgets:
            patient.forget(microseconds(hour))


@settings(max_examples=20, deadline=None)
@given(series(), st.randoms())
def test_the_order_of_arrival_does_not_matter(readings, random):
    accepted = observations(*readings)
    patient = PatientFeatures(**PATIENT)
    for row in random.sample(range(len(accepted)), len(accepted)):
        patient.add(accepted.iloc[[row]])
    times = np.array([microseconds(hour) for hour in (0, 3)])
    same(patient.at(times), build_features(accepted, index(0, 3)))


def test_a_long_stay_is_remembered_by_its_last_days_and_its_first():
    minutes = np.arange(0, 8 * 1440)
    accepted = observations(*[(minute / 60, "heart_rate", 60 + minute % 37) for minute in minutes])
    patient = PatientFeatures(**PATIENT)
    patient.add(accepted)
    end = 8 * 24
    patient.forget(microseconds(end))
    assert len(patient) == 1440 + 1439  # the first day, and the last: a window is open at its beginning
    same(patient.at(np.array([microseconds(end)])), build_features(accepted, index(end)))


def test_what_is_not_asked_for_is_forgotten_sooner():
    accepted = observations(*[(hour, signal, 40) for hour in range(100) for signal in ("etco2", "urine_output")])
    kept = {}
    for views in (("support",), ("support", "stay")):
        patient = PatientFeatures(**PATIENT, views=views)
        patient.add(accepted)
        patient.forget(microseconds(99))
        kept[views] = len(patient)
        same(patient.at(np.array([microseconds(99)])), build_features(accepted, index(99), views))
    # The first day always stays. A day of etco2 and the last urine for the one, three days of both for the other.
    assert list(kept.values()) == [24 + 24 + 24 + 1, 2 * (24 + 72)]


def test_a_late_reading_from_before_the_first_moves_the_first_day():
    readings = [(hour, "heart_rate", 60 + hour) for hour in range(80)]
    patient = PatientFeatures(**PATIENT)
    patient.add(observations(*readings))
    patient.forget(microseconds(80))
    late = (-10, "heart_rate", 150, 91)
    patient.add(observations(late))
    for hour in (80, 81):
        same(patient.at(np.array([microseconds(hour)])), build_features(observations(*readings, late), index(hour)))


def test_the_last_reading_is_never_forgotten():
    patient = PatientFeatures(**PATIENT)
    patient.add(observations((0, "heart_rate", 60), (30, "heart_rate", 70), (31, "heart_rate", 80)))
    patient.forget(microseconds(400))
    found = dict(zip(NAMES, patient.at(np.array([microseconds(400)]))[0], strict=True))
    assert len(patient) == 2  # the first day's, and the last
    assert (found["heart_rate_age_so_far"], found["heart_rate_count_so_far"]) == (369, 3)


def test_a_reading_delivered_again_counts_once_by_its_first_delivery():
    once = observations((0, "heart_rate", 60), (0, "heart_rate", 70), (1, "heart_rate", 60, 2))
    patient = PatientFeatures(**PATIENT)
    patient.add(once)
    patient.add(once)
    patient.add(observations((0, "heart_rate", 70, 3)))  # again, recorded later
    patient.add(observations((1, "heart_rate", 60, 0.5)))  # and one of which an earlier delivery turns up
    assert len(patient) == 3
    expected = observations((0, "heart_rate", 60), (0, "heart_rate", 70), (1, "heart_rate", 60, 0.5))
    same(patient.at(np.array([microseconds(1), microseconds(2)])), build_features(expected, index(1, 2)))


def test_admission_without_a_zone_is_refused():
    with pytest.raises(ValueError, match="admission without a time zone"):
        PatientFeatures(unit_admitted_at=pd.Timestamp("2026-03-01"))


def test_times_must_ascend():
    with pytest.raises(ValueError, match="expected them to ascend"):
        PatientFeatures().at(np.array([microseconds(2), microseconds(1)]))


def test_what_was_forgotten_cannot_be_asked_for():
    patient = PatientFeatures(**PATIENT)
    patient.forget(microseconds(5))
    patient.forget(microseconds(3))
    with pytest.raises(ValueError, match="as of a time whose readings were forgotten already"):
        patient.at(np.array([microseconds(4)]))


def test_a_patient_of_whom_nothing_is_known_has_a_row_of_unknowns():
    found = dict(zip(NAMES, PatientFeatures().at(np.array([microseconds(0)]))[0], strict=True))
    expected = build_features(
        observations(), index(0, age=np.nan, sex=np.nan, unit_admitted_at=pd.NaT, hospital_admitted_at=pd.NaT)
    )
    same(np.array([list(found.values())]), expected)
    assert np.isnan(found["hours_in_unit"])


def test_a_series_grows_beyond_its_room_in_any_piece():
    readings = [(minute / 60, "spo2", 90 + minute % 10) for minute in range(1000)]
    accepted = observations(*readings)
    patient = PatientFeatures(**PATIENT)
    for first in range(0, 1000, 90):
        patient.insert(*(column[first : first + 90] for column in as_steps(accepted)))
    assert len(patient) == 1000
    assert len(computation().signals) > 30
    same(patient.at(np.array([microseconds(17)])), build_features(accepted, index(17)))
