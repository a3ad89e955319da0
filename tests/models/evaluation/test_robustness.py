"""Losing readings: which are lost, of whom, and what it costs."""

import numpy as np
import pandas as pd
import pytest

from models.evaluation.robustness import MAX_PATIENTS, MAX_READINGS, Loss, effect, losses, sample
from tests.models.evaluation.made_up import held_out, logistic


def readings(n=3000):
    signals = np.random.default_rng(0).choice(["heart_rate", "spo2", "lactate"], n)
    return pd.DataFrame({"signal": pd.Categorical(signals), "value": np.arange(n)})


def test_a_share_is_lost_at_random_and_the_same_for_the_same_seed():
    kept = Loss("", share=0.3).kept(readings(), seed=1)
    assert kept.mean() == pytest.approx(0.7, abs=0.03)
    assert kept.equals(Loss("", share=0.3).kept(readings(), seed=1))
    assert not kept.equals(Loss("", share=0.3).kept(readings(), seed=2))


def test_what_a_small_share_loses_a_larger_one_loses_too():
    small, large = (Loss("", share=share).kept(readings(), seed=1) for share in (0.1, 0.5))
    assert not (large & ~small).any()


def test_a_signal_goes_as_a_whole_and_others_stay():
    observations = readings()
    left = observations[Loss("", signals=("spo2",)).kept(observations, seed=1)]
    assert set(left["signal"]) == {"heart_rate", "lactate"}
    assert len(left) == (observations["signal"] != "spo2").sum()


def test_shares_each_signal_that_occurs_and_kinds_of_several_together():
    found = losses(["lactate", "heart_rate", "on_oxygen", "spo2", "wbc"])
    assert [loss.what for loss in found[:3]] == ["10 % of all readings", "30 % of all readings", "50 % of all readings"]
    assert {loss.what: set(loss.signals) for loss in found[3:]} == {
        "heart rate": {"heart_rate"},
        "spo2": {"spo2"},
        "on oxygen": {"on_oxygen"},
        "lactate": {"lactate"},
        "wbc": {"wbc"},
        "all laboratory values": {"lactate", "wbc"},
    }


def test_the_sample_does_not_depend_on_order_or_on_who_else_is_there():
    everybody = [f"p{n}" for n in range(100)]
    chosen = sample(everybody, MAX_READINGS / 10)
    assert len(chosen) == 10
    assert sample(everybody[::-1], MAX_READINGS / 10) == chosen
    assert sample(chosen[::-1], 100) == chosen
    assert chosen != everybody[:10]
    assert len(sample([f"p{n}" for n in range(2000)], 100)) == MAX_PATIENTS


def test_nothing_lost_changes_nothing_and_noise_costs():
    ward = held_out(patients=200)
    frame = ward.frame(ward.default)
    risk = frame["probability"].to_numpy()
    same = effect(frame, risk, 0.3, seed=1)
    assert all(value == 0 for name, value in same.items() if "change" in name)
    odds = np.log(risk / (1 - risk)) + np.random.default_rng(0).normal(0, 3, len(risk))
    worse = effect(frame, logistic(odds), 0.3, seed=1)
    assert worse["auroc_change"] < 0
    assert worse["auroc_change_high"] < 0  # paired, so certain
    assert worse["auroc"] == pytest.approx(same["auroc"] + worse["auroc_change"])
    silent = effect(frame, np.zeros(len(risk)), 0.3, seed=1)
    assert silent["alarms_per_patient_day"] == silent["event_recall"] == 0
