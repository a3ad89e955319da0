"""Names of faults: each reading fault of a small ward is the only finding, with its signal and place; a clean ward has none."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from models.monitoring.detectors import Evidence, name_faults
from models.monitoring.faults import FAULTS
from models.monitoring.received import checked
from models.monitoring.signal_reference import days
from pipelines.drift.drill.injection import OF_READINGS, inject
from tests.pipelines.drift.wards import LEVELS, SINCE, UNTIL, evidence, reference, ward


@pytest.fixture(scope="module")
def usual():
    return reference()


@pytest.fixture(scope="module")
def clean():
    return ward()


def test_a_clean_ward_has_no_finding(clean, usual):
    assert name_faults(evidence(clean, usual)) == []


@pytest.mark.parametrize("name", OF_READINGS)
def test_a_gross_fault_is_named_with_signal_and_place(clean, usual, name):
    faulty, hit = inject(clean, name, since=SINCE, strength=1, seed=2)
    found = name_faults(evidence(faulty, usual))
    assert [(one.fault, one.signal, one.where) for one in found] == [(hit.fault, hit.signal, hit.where)]
    assert UNTIL - pd.Timedelta(days=1) <= found[0].since <= UNTIL


@pytest.mark.parametrize("seed", range(4))
def test_a_clock_is_named_whichever_way_it_is_off(clean, usual, seed):
    """Ahead, what it sends is quarantined, zeros that are values among it."""
    faulty, hit = inject(clean, "time_zone", since=SINCE, strength=0.5, seed=seed)
    assert [(one.fault, one.where) for one in name_faults(evidence(faulty, usual))] == [("time_zone", hit.where)]


def test_a_finding_speaks(clean, usual):
    faulty, _ = inject(clean, "fahrenheit", since=SINCE, strength=1, seed=2, where=("gateway-1",))
    (found,) = name_faults(evidence(faulty, usual))
    assert found.sentence().startswith("body temperature at gateway-1 arrives in Fahrenheit, since 2026-03-02")
    assert found.as_dict()["remedy"] == FAULTS["fahrenheit"].remedy


def test_a_pair_that_noise_turned_round_is_not_swapped(clean, usual):
    readings = clean.readings.copy()
    narrow = (readings["subject_id"] == "p03") & (readings["signal"] == "systolic_bp")
    low = (readings["subject_id"] == "p03") & (readings["signal"] == "diastolic_bp")
    readings.loc[narrow, "value"] = 78.0
    readings.loc[low, "value"] = 82.0
    assert "swapped_pressures" not in {
        one.fault for one in name_faults(evidence(dataclasses.replace(clean, readings=readings), usual))
    }


def test_a_movement_is_no_lost_lead(clean, usual):
    readings = clean.readings.copy()
    few = readings[(readings["subject_id"] == "p03") & (readings["signal"] == "spo2")].tail(3).index
    readings.loc[few, "value"] = 0.0
    assert name_faults(evidence(dataclasses.replace(clean, readings=readings), usual)) == []


def test_nothing_came(clean, usual):
    nothing = evidence(dataclasses.replace(clean, readings=clean.readings.iloc[:0]), usual)
    assert isinstance(nothing, Evidence)
    assert name_faults(nothing) == []


def test_two_who_pass_each_other_do_not_wear_each_others_device(clean, usual):
    """One recovers to where another was, who falls ill at the same time, but to where nobody was."""
    readings = clean.readings.copy()
    late = readings["observed_at"] >= SINCE
    courses = {signal: ((level, level), (level, level)) for signal, (level, _) in LEVELS.items()}
    courses |= {"heart_rate": ((100, 82), (82, 116)), "respiratory_rate": ((21, 16), (16, 25))}
    for signal, both in courses.items():
        for patient, (before, after) in zip(("p03", "p08"), both, strict=True):
            his = (readings["subject_id"] == patient) & (readings["signal"] == signal)
            was = readings.loc[his & ~late, "value"].median()
            readings.loc[his, "value"] += late[his].map({True: after, False: before}) - was
    found = name_faults(evidence(dataclasses.replace(clean, readings=readings), usual))
    assert "exchanged" not in {one.fault for one in found}


def test_what_all_patients_do_after_a_meal_is_no_gateways_offset(clean, usual):
    """Those of the other gateway whose glucose is known are too few to tell."""
    glucose = clean.readings["signal"] == "glucose"
    few = glucose & (clean.readings["source"] == "gateway-2") & ~clean.readings["subject_id"].isin(["p01", "p03"])
    readings = clean.readings[~few].copy()
    noon = UNTIL - pd.Timedelta(hours=12)
    after = (readings["signal"] == "glucose") & readings["observed_at"].between(noon, noon + pd.Timedelta(hours=4))
    readings.loc[after, "value"] += 60.0
    found = name_faults(evidence(dataclasses.replace(clean, readings=readings), usual))
    assert {one.fault for one in found} == {"missing"}


def test_five_patients_who_all_recover_are_no_offset(clean, usual):
    """A change of a few that is within what half of them do on any day."""
    five_of_each = [f"p{number:02}" for number in range(10)]
    replay = dataclasses.replace(clean, readings=clean.readings[clean.readings["subject_id"].isin(five_of_each)])
    readings = replay.readings.copy()
    late = (readings["source"] == "gateway-1") & (readings["signal"] == "respiratory_rate") & (readings["observed_at"] >= SINCE)
    readings.loc[late, "value"] -= 2.0
    assert name_faults(evidence(dataclasses.replace(replay, readings=readings), usual)) == []
    readings.loc[late, "value"] -= 3.0
    (found,) = name_faults(evidence(dataclasses.replace(replay, readings=readings), usual))
    assert (found.fault, found.signal, found.where) == ("bias", "respiratory_rate", ("gateway-1",))


def test_a_lead_that_is_off_hides_nothing_elsewhere(clean, usual):
    """Two faults of one signal: at a monitor behind one gateway, and at the other gateway."""
    lead, one = inject(clean, "zeros", since=SINCE, strength=1, seed=2, where=("monitor-00",))
    both, other = inject(lead, "bias", since=SINCE, strength=1, seed=2, where=("gateway-2",))
    if one.signal != other.signal:
        both, other = inject(lead, "rounded", since=SINCE, strength=1, seed=5, where=("gateway-2",))
    found = {(each.fault, each.where) for each in name_faults(evidence(both, usual))}
    assert {(one.fault, one.where), (other.fault, other.where)} <= found


def test_a_late_gateway_hides_no_stuck_sensor_behind_another(clean, usual):
    late, _ = inject(clean, "late", since=SINCE, strength=1, seed=2, where=("gateway-1",))
    both, _ = inject(late, "stuck", since=SINCE, strength=1, seed=2, where=("monitor-03",))  # behind gateway-2
    assert {each.fault for each in name_faults(evidence(both, usual))} == {"late", "stuck"}


@pytest.fixture(scope="module")
def charted():
    """A reference that was charted by the hour, and does not know when its readings came."""
    replay = ward(seed=2, patients=40)
    hourly = replay.readings[(replay.readings["observed_at"].dt.minute == 17).to_numpy()]
    found = days(checked(hourly.assign(recorded_at=hourly["observed_at"])))
    numbers = {name: pd.factorize(found[name])[0] for name in ("subject_id", "device_id", "source")}
    return found.assign(signal=found["signal"].astype(str), **numbers)


def test_a_reference_by_the_hour_makes_no_sensor_stuck_and_no_clock_wrong(clean, charted):
    """A model of a retrospective cohort, in a ward that measures six times as often and whose readings take three minutes."""
    later = clean.readings.assign(recorded_at=clean.readings["recorded_at"] + pd.Timedelta(minutes=3))
    found = {each.fault for each in name_faults(evidence(dataclasses.replace(clean, readings=later), charted))}
    assert not found & {"stuck", "clock_skew", "time_zone", "late"}


def test_a_ward_of_which_nothing_can_be_used_is_named(clean, usual):
    nonsense = clean.readings.assign(value=9999.0)
    found = name_faults(evidence(dataclasses.replace(clean, readings=nonsense), usual))
    assert {(each.fault, each.place) for each in found} == {("unusable", "ward")}
    assert "went into quarantine, most as implausible" in found[0].evidence


def test_what_is_left_where_most_cannot_be_used_is_not_called_noisy(clean, usual):
    readings = clean.readings.copy()
    late = readings["observed_at"] >= SINCE
    his = np.flatnonzero((readings["source"] == "gateway-1") & (readings["signal"] == "heart_rate") & late)
    readings.loc[his, "value"] += np.where(np.arange(len(his)) % 10 < 6, 9000.0, 30.0 * (np.arange(len(his)) % 3 - 1))
    (found,) = name_faults(evidence(dataclasses.replace(clean, readings=readings), usual))
    assert (found.fault, found.signal, found.where) == ("unusable", "heart_rate", ("gateway-1",))


def test_a_patient_in_shock_has_no_other_unit(clean, usual):
    readings = clean.readings.copy()
    his = readings[(readings["subject_id"] == "p03") & (readings["signal"] == "diastolic_bp")].tail(40).index
    readings.loc[his, "value"] = 18.0
    found = name_faults(evidence(dataclasses.replace(clean, readings=readings), usual))
    assert "kilopascal" not in {each.fault for each in found}
