"""Robustness: which observations are lost, the sample of subjects, and the cost."""

import numpy as np
import pandas as pd
import pytest

from tests.support.synthetic_risks import held_out, logistic
from vigil.models.evaluation.robustness import MAX_PATIENTS, MAX_READINGS, Loss, list_losses, measure_loss, sample_subjects


def readings(n=3000):
    signals = np.random.default_rng(0).choice(["heart_rate", "spo2", "lactate"], n)
    return pd.DataFrame({"signal": pd.Categorical(signals), "value": np.arange(n)})


def test_loss_of_a_share_is_random_and_repeats_with_the_seed():
    remaining = Loss("", share=0.3).remaining(readings(), seed=1)
    assert remaining.mean() == pytest.approx(0.7, abs=0.03)
    assert remaining.equals(Loss("", share=0.3).remaining(readings(), seed=1))
    assert not remaining.equals(Loss("", share=0.3).remaining(readings(), seed=2))


def test_loss_of_a_larger_share_includes_that_of_a_smaller():
    small, large = (Loss("", share=share).remaining(readings(), seed=1) for share in (0.1, 0.5))
    assert not (large & ~small).any()


def test_loss_of_a_signal_removes_all_of_it_and_no_other():
    observations = readings()
    left = observations[Loss("", signals=("spo2",)).remaining(observations, seed=1)]
    assert set(left["signal"]) == {"heart_rate", "lactate"}
    assert len(left) == (observations["signal"] != "spo2").sum()


def test_losses_are_shares_each_signal_and_kinds_of_signals():
    result = list_losses(["lactate", "heart_rate", "on_oxygen", "spo2", "wbc"])
    assert [loss.what for loss in result[:3]] == ["10 % of all readings", "30 % of all readings", "50 % of all readings"]
    assert {loss.what: set(loss.signals) for loss in result[3:]} == {
        "heart rate": {"heart_rate"},
        "SpO2": {"spo2"},
        "supplemental oxygen": {"on_oxygen"},
        "lactate": {"lactate"},
        "white cells": {"wbc"},
        "all laboratory values": {"lactate", "wbc"},
    }


def test_sample_does_not_depend_on_order_or_other_subjects():
    subjects = [f"p{n}" for n in range(100)]
    chosen = sample_subjects(subjects, MAX_READINGS / 10)
    assert len(chosen) == 10
    assert sample_subjects(subjects[::-1], MAX_READINGS / 10) == chosen
    assert sample_subjects(chosen[::-1], 100) == chosen
    assert chosen != subjects[:10]
    assert len(sample_subjects([f"p{n}" for n in range(2000)], 100)) == MAX_PATIENTS


def test_effect_is_zero_without_a_loss_and_negative_with_noise():
    ward = held_out(patients=200)
    frame = ward.frame(ward.default)
    risk = frame["probability"].to_numpy()
    same = measure_loss(frame, risk, 0.3, seed=1)
    assert all(value == 0 for name, value in same.items() if "change" in name)
    odds = np.log(risk / (1 - risk)) + np.random.default_rng(0).normal(0, 3, len(risk))
    worse = measure_loss(frame, logistic(odds), 0.3, seed=1)
    assert worse["auroc_change"] < 0
    assert worse["auroc_change_high"] < 0  # paired, so certain
    assert worse["auroc"] == pytest.approx(same["auroc"] + worse["auroc_change"])
    silent = measure_loss(frame, np.zeros(len(risk)), 0.3, seed=1)
    assert silent["alarms_per_patient_day"] == silent["event_recall"] == 0
