"""Beside NEWS2 by hand: as many alarms, or as many onsets."""

import numpy as np
import pandas as pd
import pytest

from models.alarms.budget import BUDGETS, against_rule, at_budgets, summary
from models.alarms.timeline import Watch
from tests.models.evaluation.made_up import held_out
from tests.models.evaluation.test_alarms import watched


def ten_patients():
    """Five with an onset at 12 h, five without. NEWS2 reaches 5 in four of the former and four of the latter, at 6 h; the model
    finds all of the former, and next those four of the latter."""
    frames, news2 = [], []
    for n in range(10):
        septic = n < 5
        risk = (0.9 - n / 100 if septic else 0.5) if n != 9 else 0.1
        frames.append(watched([0] * 6 + [risk] + [0] * 5, onset=12 if septic else None, subject_id=str(n)))
        news2 += [0] * 6 + [4 if n in {4, 9} else 5] + [0] * 5
    watch = Watch.of(pd.concat(frames))
    return watch, watch.scored(np.array(news2, dtype=float))


def test_a_rule_on_whole_points():
    _, news2 = ten_patients()
    assert news2.count(5).figures()["event_recall"] == 4 / 5
    assert news2.count(5).figures()["alarm_precision"] == 4 / 8
    assert news2.count(6).figures()["alarms_per_patient_day"] == 0


def test_a_model_beside_a_rule_by_hand():
    found = against_rule(*ten_patients(), 5, seed=1)
    assert found["rule_recall"] == 4 / 5
    assert found["rule_alarms_per_patient_day"] == pytest.approx(8 / 5)
    # With at most eight alarms: the five onsets; the four equal risks that come next would be nine.
    assert found["recall_at_same_alarms"] == 1
    assert found["precision_at_same_alarms"] == 1
    assert found["recall_gain"] == pytest.approx(1 / 5)
    assert found["recall_gain_low"] <= 1 / 5 <= found["recall_gain_high"]
    # Four of five onsets cost the model four alarms instead of eight.
    assert found["share_of_alarms_at_same_recall"] == 0.5
    assert found["threshold_at_same_recall"] == pytest.approx(0.87)


def test_a_rule_that_never_sounds_is_no_yardstick():
    found = against_rule(*ten_patients(), 20, seed=1)
    assert found["rule_recall"] == 0
    assert np.isnan(found["share_of_alarms_at_same_recall"])


def test_budgets_are_kept_and_recall_grows_with_them():
    ward = held_out()
    table = at_budgets(Watch.of(ward.frame(ward.default)), seed=1)
    assert table["budget"].tolist() == list(BUDGETS)
    assert (table["alarms_per_patient_day"] <= table["budget"]).all()
    assert (table["event_recall"].diff().dropna() >= 0).all()
    for metric in ("event_recall", "alarm_precision", "alarms_per_patient_day"):
        assert table[metric].between(table[f"{metric}_low"], table[f"{metric}_high"]).all()
    assert (table["lead_time_q25"] <= table["lead_time_hours"]).all()
    assert (table["lead_time_hours"] <= table["lead_time_q75"]).all()


def test_a_summary_without_alarms():
    found = summary(Watch.of(watched([0.1] * 10, onset=9)).count(0.5), seed=1)
    assert (found["events"], found["alarms"], found["event_recall"]) == (1, 0, 0)
    assert np.isnan(found["lead_time_q25"])
