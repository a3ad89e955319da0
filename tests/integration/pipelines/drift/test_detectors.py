"""Detectors: each fault of readings in a small ward is the only finding, with signal and location; a clean ward has none."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from tests.support.drifting_ward import LEVELS, SINCE, UNTIL, evidence, reference, ward
from vigil.features.observations import TIME
from vigil.models.monitoring.detectors import Evidence, detect_faults
from vigil.models.monitoring.faults import FAULTS
from vigil.models.monitoring.received import check_received
from vigil.models.monitoring.signal_reference import profile_days
from vigil.pipelines.drift.drill.injection import READING_FAULTS, inject


@pytest.fixture(scope="module")
def usual():
    return reference()


@pytest.fixture(scope="module")
def clean():
    return ward()


def test_detectors_find_nothing_in_a_clean_ward(clean, usual):
    assert detect_faults(evidence(clean, usual)) == []


@pytest.mark.parametrize("name", READING_FAULTS)
def test_detectors_find_an_obvious_fault_with_signal_and_location(clean, usual, name):
    faulty, hit = inject(clean, name, since=SINCE, strength=1, seed=2)
    findings = detect_faults(evidence(faulty, usual))
    assert [(finding.fault, finding.signal, finding.where) for finding in findings] == [(hit.fault, hit.signal, hit.where)]
    assert UNTIL - pd.Timedelta(days=1) <= findings[0].since <= UNTIL


@pytest.mark.parametrize("seed", range(4))
def test_clock_detector_finds_errors_in_both_directions(clean, usual, seed):
    """Readings of a clock that is ahead are quarantined, also zeros that are valid values."""
    faulty, hit = inject(clean, "time_zone", since=SINCE, strength=0.5, seed=seed)
    assert [(finding.fault, finding.where) for finding in detect_faults(evidence(faulty, usual))] == [("time_zone", hit.where)]


def test_finding_sentence_names_signal_location_and_time(clean, usual):
    faulty, _ = inject(clean, "fahrenheit", since=SINCE, strength=1, seed=2, where=("gateway-1",))
    (finding,) = detect_faults(evidence(faulty, usual))
    assert finding.sentence().startswith("body temperature at gateway-1 arrives in Fahrenheit, since 2026-03-02")
    assert finding.record().remedy == FAULTS["fahrenheit"].remedy


def test_swapped_pressures_detector_ignores_pairs_reversed_by_noise(clean, usual):
    readings = clean.readings.copy()
    narrow = (readings["subject_id"] == "p03") & (readings["signal"] == "systolic_bp")
    low = (readings["subject_id"] == "p03") & (readings["signal"] == "diastolic_bp")
    readings.loc[narrow, "value"] = 78.0
    readings.loc[low, "value"] = 82.0
    assert "swapped_pressures" not in {
        finding.fault for finding in detect_faults(evidence(dataclasses.replace(clean, readings=readings), usual))
    }


def test_zeros_detector_ignores_a_movement(clean, usual):
    readings = clean.readings.copy()
    few = readings[(readings["subject_id"] == "p03") & (readings["signal"] == "spo2")].tail(3).index
    readings.loc[few, "value"] = 0.0
    assert detect_faults(evidence(dataclasses.replace(clean, readings=readings), usual)) == []


def test_detectors_find_nothing_without_readings(clean, usual):
    nothing = evidence(dataclasses.replace(clean, readings=clean.readings.iloc[:0]), usual)
    assert isinstance(nothing, Evidence)
    assert detect_faults(nothing) == []


def test_swapped_devices_detector_ignores_two_courses_that_cross(clean, usual):
    """One patient recovers to where another was, who falls ill at the same time, but to a level that no patient had."""
    readings = clean.readings.copy()
    late = readings["observed_at"] >= SINCE
    courses = {signal: ((level, level), (level, level)) for signal, (level, _) in LEVELS.items()}
    courses |= {"heart_rate": ((100, 82), (82, 116)), "respiratory_rate": ((21, 16), (16, 25))}
    for signal, both in courses.items():
        for patient, (before, after) in zip(("p03", "p08"), both, strict=True):
            course = (readings["subject_id"] == patient) & (readings["signal"] == signal)
            level_before = readings.loc[course & ~late, "value"].median()
            readings.loc[course, "value"] += late[course].map({True: after, False: before}) - level_before
    findings = detect_faults(evidence(dataclasses.replace(clean, readings=readings), usual))
    assert "exchanged" not in {finding.fault for finding in findings}


def test_offset_detector_ignores_a_change_of_all_patients_after_a_meal(clean, usual):
    """Too few patients of the other gateway have a glucose to tell."""
    glucose = clean.readings["signal"] == "glucose"
    few = glucose & (clean.readings["source"] == "gateway-2") & ~clean.readings["subject_id"].isin(["p01", "p03"])
    readings = clean.readings[~few].copy()
    noon = UNTIL - pd.Timedelta(hours=12)
    after = (readings["signal"] == "glucose") & readings["observed_at"].between(noon, noon + pd.Timedelta(hours=4))
    readings.loc[after, "value"] += 60.0
    findings = detect_faults(evidence(dataclasses.replace(clean, readings=readings), usual))
    assert {finding.fault for finding in findings} == {"missing"}


def test_offset_detector_needs_a_larger_change_of_few_patients(clean, usual):
    """Five patients who all recover change by no more than half of them do on any day."""
    five_of_each = [f"p{number:02}" for number in range(10)]
    replay = dataclasses.replace(clean, readings=clean.readings[clean.readings["subject_id"].isin(five_of_each)])
    readings = replay.readings.copy()
    late = (readings["source"] == "gateway-1") & (readings["signal"] == "respiratory_rate") & (readings["observed_at"] >= SINCE)
    readings.loc[late, "value"] -= 2.0
    assert detect_faults(evidence(dataclasses.replace(replay, readings=readings), usual)) == []
    readings.loc[late, "value"] -= 3.0
    (finding,) = detect_faults(evidence(dataclasses.replace(replay, readings=readings), usual))
    assert (finding.fault, finding.signal, finding.where) == ("bias", "respiratory_rate", ("gateway-1",))


def test_zeros_at_one_monitor_hide_no_fault_of_another_gateway(clean, usual):
    """Two faults of one signal: at a monitor behind one gateway, and at the other gateway."""
    lead, lead_hit = inject(clean, "zeros", since=SINCE, strength=1, seed=2, where=("monitor-00",))
    both, other_hit = inject(lead, "bias", since=SINCE, strength=1, seed=2, where=("gateway-2",))
    if lead_hit.signal != other_hit.signal:
        both, other_hit = inject(lead, "rounded", since=SINCE, strength=1, seed=5, where=("gateway-2",))
    findings = {(finding.fault, finding.where) for finding in detect_faults(evidence(both, usual))}
    assert {(lead_hit.fault, lead_hit.where), (other_hit.fault, other_hit.where)} <= findings


def test_late_messages_hide_no_stuck_sensor_of_another_gateway(clean, usual):
    late, _ = inject(clean, "late", since=SINCE, strength=1, seed=2, where=("gateway-1",))
    both, _ = inject(late, "stuck", since=SINCE, strength=1, seed=2, where=("monitor-03",))  # behind gateway-2
    assert {finding.fault for finding in detect_faults(evidence(both, usual))} == {"late", "stuck"}


@pytest.fixture(scope="module")
def charted():
    """A reference of hourly charts that does not know when its readings arrived."""
    replay = ward(seed=2, patients=40)
    hourly = replay.readings[(replay.readings["observed_at"].dt.minute == 17).to_numpy()]
    findings = profile_days(check_received(hourly.assign(recorded_at=hourly["observed_at"])))
    numbers = {name: pd.factorize(findings[name])[0] for name in ("subject_id", "device_id", "source")}
    return findings.assign(signal=findings["signal"].astype(str), **numbers)


def test_detectors_find_no_stuck_sensor_and_no_clock_error_by_a_charted_reference(clean, charted):
    """The model is of a retrospective cohort; the ward measures six times as often, and its readings take three minutes."""
    later = clean.readings.assign(recorded_at=clean.readings["recorded_at"] + pd.Timedelta(minutes=3))
    findings = {finding.fault for finding in detect_faults(evidence(dataclasses.replace(clean, readings=later), charted))}
    assert not findings & {"stuck", "clock_skew", "time_zone", "late"}


def test_unusable_detector_finds_a_ward_without_usable_readings(clean, usual):
    nonsense = clean.readings.assign(value=9999.0)
    findings = detect_faults(evidence(dataclasses.replace(clean, readings=nonsense), usual))
    assert {(finding.fault, finding.scope) for finding in findings} == {("unusable", "ward")}
    assert "went into quarantine, most as implausible" in findings[0].evidence


def test_noise_detector_ignores_a_signal_that_is_mostly_unusable(clean, usual):
    readings = clean.readings.copy()
    late = readings["observed_at"] >= SINCE
    rows = np.flatnonzero((readings["source"] == "gateway-1") & (readings["signal"] == "heart_rate") & late)
    readings.loc[rows, "value"] += np.where(np.arange(len(rows)) % 10 < 6, 9000.0, 30.0 * (np.arange(len(rows)) % 3 - 1))
    (finding,) = detect_faults(evidence(dataclasses.replace(clean, readings=readings), usual))
    assert (finding.fault, finding.signal, finding.where) == ("unusable", "heart_rate", ("gateway-1",))


def test_unit_detector_ignores_a_patient_in_shock(clean, usual):
    readings = clean.readings.copy()
    rows = readings[(readings["subject_id"] == "p03") & (readings["signal"] == "diastolic_bp")].tail(40).index
    readings.loc[rows, "value"] = 18.0
    findings = detect_faults(evidence(dataclasses.replace(clean, readings=readings), usual))
    assert "kilopascal" not in {finding.fault for finding in findings}


def few_readings(values, *, signal="body_temperature", device=None, source=None, patient="p90"):
    """Return readings of a patient who was measured a few times in the last hours of the day."""
    times = pd.Series([UNTIL - pd.Timedelta(minutes=30 * (n + 1)) for n in range(len(values))], dtype=TIME)
    frame = pd.DataFrame({"subject_id": patient, "signal": signal, "value": values, "observed_at": times, "recorded_at": times})
    return frame.assign(device_id=device, source=source, message_id=[f"{patient}-{n}" for n in range(len(values))])


@pytest.mark.parametrize(("number", "is_question"), [(2, True), (5, True), (6, False), (20, False)])
def test_few_readings_of_one_patient_are_a_question_and_not_a_fault_of_the_ward(clean, usual, number, is_question):
    readings = pd.concat([clean.readings, few_readings([98.6] * number)], ignore_index=True)
    findings = detect_faults(evidence(dataclasses.replace(clean, readings=readings), usual))
    (finding,) = [finding for finding in findings if finding.fault == "fahrenheit"]
    assert (finding.scope, finding.affected, finding.examined, finding.readings) == ("device", 1, 1, number)
    assert finding.is_question is finding.record().question is is_question
    assert "the whole ward" not in finding.sentence()
    assert finding.sentence().startswith("body temperature at a device without a name arrives in Fahrenheit")
    assert finding.sentence().endswith(f"a question, not a fault: it rests on {number} readings") is is_question


def test_low_glucose_with_its_unit_is_a_low_glucose(clean, usual):
    low = few_readings([25.0] * 8, signal="glucose", device="meter-90", source="gateway-1")
    findings = detect_faults(evidence(dataclasses.replace(clean, readings=pd.concat([clean.readings, low])), usual))
    assert "millimole" not in {finding.fault for finding in findings}


@pytest.mark.parametrize("hours_before", [2, 7, 20])
def test_stuck_sensor_is_dated_within_its_own_interval(clean, usual, hours_before):
    readings = clean.readings.copy()
    begins = UNTIL - pd.Timedelta(hours=hours_before)
    stuck = (readings["subject_id"] == "p03") & (readings["signal"] == "heart_rate") & (readings["observed_at"] >= begins)
    readings.loc[stuck, "value"] = float(readings.loc[stuck, "value"].iloc[0])
    findings = detect_faults(evidence(dataclasses.replace(clean, readings=readings), usual))
    of_patient = [finding for finding in findings if finding.fault == "stuck"]
    if hours_before == 2:  # too short to be told from a steady patient
        assert of_patient == []
        return
    (finding,) = of_patient
    times = readings.loc[(readings["subject_id"] == "p03") & (readings["signal"] == "heart_rate"), "observed_at"].sort_values()
    interval = times.diff().median()
    assert abs(finding.since - readings.loc[stuck, "recorded_at"].min()) <= interval
