"""Injection: a fault changes what it hits, from its beginning on, and nothing else."""

import numpy as np
import pandas as pd
import pytest

from tests.support.drifting_ward import SINCE, UNTIL, ward
from vigil.models.monitoring.faults import FAULTS
from vigil.pipelines.drift.drill.injection import PATIENT_FAULTS, READING_FAULTS, FaultError, inject
from vigil.pipelines.drift.drill.replay import Replay

KEYS = ["subject_id", "device_id", "source", "signal", "observed_at", "value", "recorded_at"]


@pytest.fixture(scope="module")
def clean():
    return ward(patients=12)


def test_injection_exists_for_every_fault():
    assert {*READING_FAULTS, *PATIENT_FAULTS} == set(FAULTS)


@pytest.mark.parametrize("name", READING_FAULTS)
@pytest.mark.parametrize("strength", [0.0, 1.0])
def test_injection_changes_only_what_it_hits_from_its_beginning_on(clean, name, strength):
    faulty, hit = inject(clean, name, since=SINCE, strength=strength, seed=3)
    assert faulty.readings["recorded_at"].is_monotonic_increasing
    assert (hit.fault, hit.since) == (name, SINCE)

    def others(readings):
        column = "source" if READING_FAULTS[name].scope == "gateway" else "device_id"
        mine = readings[column].isin(hit.where) & (readings["observed_at"] >= SINCE - pd.Timedelta(hours=9))
        if hit.signal is not None:
            mine &= readings["signal"].isin([hit.signal, *READING_FAULTS[name].along])
        return readings[~mine][KEYS].astype({"signal": str}).sort_values(KEYS, ignore_index=True)

    pd.testing.assert_frame_equal(others(faulty.readings), others(clean.readings), check_dtype=False)
    same = faulty.readings[KEYS].reset_index(drop=True).equals(clean.readings[KEYS].reset_index(drop=True))
    assert not same


def test_injection_is_deterministic_for_a_seed(clean):
    one, two = (inject(clean, "noise", since=SINCE, strength=0.5, seed=5) for _ in range(2))
    assert one[1] == two[1]
    pd.testing.assert_frame_equal(one[0].readings, two[0].readings)


def test_injection_hits_a_given_location(clean):
    assert inject(clean, "bias", since=SINCE, strength=1, seed=1, where=("gateway-2",))[1].where == ("gateway-2",)


def test_swapped_devices_belong_to_patients_who_can_be_told_apart(clean):
    _, hit = inject(clean, "exchanged", since=SINCE, strength=1, seed=1)
    before = clean.readings[(clean.readings["observed_at"] < SINCE) & (clean.readings["signal"] == "heart_rate")]
    first, second = (before.loc[before["device_id"] == device, "value"].median() for device in hit.where)
    assert abs(first - second) > 5


def test_swapped_devices_change_values_and_keep_identifiers(clean):
    faulty, hit = inject(clean, "exchanged", since=SINCE, strength=1, seed=1)

    def values(replay, device):
        rows = replay.readings[(replay.readings["device_id"] == device) & (replay.readings["observed_at"] >= SINCE)]
        assert len(set(rows["subject_id"])) == 1
        return rows[rows["signal"] == "heart_rate"].sort_values("observed_at")["value"].to_numpy()

    np.testing.assert_array_equal(values(faulty, hit.where[0]), values(clean, hit.where[1]))
    np.testing.assert_array_equal(values(faulty, hit.where[1]), values(clean, hit.where[0]))


def test_injected_offset_does_not_round_values(clean):
    faulty, _ = inject(clean, "bias", since=SINCE, strength=0, seed=1, where=("gateway-1",))
    rows = faulty.readings[(faulty.readings["observed_at"] >= SINCE) & (faulty.readings["source"] == "gateway-1")]
    assert 0.2 < (rows.loc[rows["signal"] == "heart_rate", "value"] % 2 == 0).mean() < 0.8


@pytest.mark.parametrize(
    ("name", "strength", "where", "message"),
    [
        ("flood", 0, (), "no such fault"),
        ("bias", 2, (), "expected 0"),
        ("case_mix", 0, ("gateway-1",), "leave the location out"),
        ("version_mismatch", 0, (), "there are none"),
        ("concept", 0, (), "there are none"),
        ("bias", 0, ("gateway-9",), "no gateway delivers"),
        ("exchanged", 0, ("monitor-01",), "expected two"),
    ],
)
def test_injection_refuses_what_it_cannot_hit_with_a_reason(clean, name, strength, where, message):
    with pytest.raises(FaultError, match=message):
        inject(clean, name, since=SINCE, strength=strength, seed=1, where=where)


def test_injection_refuses_a_signal_without_readings(clean):
    without = Replay(clean.readings[clean.readings["signal"] != "glucose"], clean.stays, clean.outcomes)
    with pytest.raises(FaultError, match="glucose"):
        inject(without, "millimole", since=SINCE, strength=1, seed=1)


def logged(clean):
    log = pd.DataFrame({"subject_id": clean.stays["subject_id"], "index_time": UNTIL, "probability": 0.1})
    return Replay(clean.readings, clean.stays, clean.outcomes, log.assign(model_version="1", feature_service="s"))


def test_injected_version_mismatch_is_in_the_log(clean):
    faulty, _ = inject(logged(clean), "version_mismatch", since=SINCE, strength=1, seed=1)
    assert faulty.log[["model_version", "feature_service"]].isin(["not 1", "not s"]).any(axis=None)


def test_injected_prevalence_leaves_out_patients_without_an_event(clean):
    start = clean.stays["start"].min()
    faulty, _ = inject(logged(clean), "prevalence", since=start, strength=0, seed=1)
    assert set(clean.outcomes["subject_id"]) < set(faulty.stays["subject_id"]) < set(clean.stays["subject_id"])
    assert set(faulty.log["subject_id"]) == set(faulty.stays["subject_id"])


def test_injected_concept_moves_as_many_events_to_other_patients(clean):
    faulty, _ = inject(logged(clean), "concept", since=clean.stays["start"].min(), strength=1, seed=1)
    assert len(faulty.outcomes) == len(clean.outcomes)
    assert not set(faulty.outcomes["subject_id"]) & set(clean.outcomes["subject_id"])
