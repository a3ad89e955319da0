"""Alarm budgets and NEWS2 rules, by hand: equal alarms, or equal recall."""

import numpy as np
import pandas as pd
import pytest

from tests.support.synthetic_risks import held_out
from tests.unit.models.alarms.test_timeline import watched
from vigil.models.alarms.budget import BUDGETS, compare_with_rule, evaluate_budgets, summarise_alarms
from vigil.models.alarms.timeline import AlarmTimeline


def ten_patients():
    """Return timelines of a model and of NEWS2 for five patients with an onset at 12 h and five without.

    NEWS2 reaches 5 at 6 h in four patients of each kind. The model ranks all with an onset first, then four of the others.
    """
    frames, news2 = [], []
    for n in range(10):
        septic = n < 5
        risk = (0.9 - n / 100 if septic else 0.5) if n != 9 else 0.1
        frames.append(watched([0] * 6 + [risk] + [0] * 5, onset=12 if septic else None, subject_id=str(n)))
        news2 += [0] * 6 + [4 if n in {4, 9} else 5] + [0] * 5
    watch = AlarmTimeline.from_frame(pd.concat(frames))
    return watch, watch.with_score(np.array(news2, dtype=float))


def test_rule_sounds_at_whole_points():
    _, news2 = ten_patients()
    assert news2.count(5).figures()["event_recall"] == 4 / 5
    assert news2.count(5).figures()["alarm_precision"] == 4 / 8
    assert news2.count(6).figures()["alarms_per_patient_day"] == 0


def test_against_rule_by_hand():
    result = compare_with_rule(*ten_patients(), 5, seed=1)
    assert result["rule_recall"] == 4 / 5
    assert result["rule_alarms_per_patient_day"] == pytest.approx(8 / 5)
    # Eight alarms allow the five onsets. The next four patients have equal risks, so including them would make nine.
    assert result["recall_at_same_alarms"] == 1
    assert result["precision_at_same_alarms"] == 1
    assert result["recall_gain"] == pytest.approx(1 / 5)
    assert result["recall_gain_low"] <= 1 / 5 <= result["recall_gain_high"]
    # Four of five onsets cost the model four alarms instead of eight.
    assert result["share_of_alarms_at_same_recall"] == 0.5
    assert result["threshold_at_same_recall"] == pytest.approx(0.87)


def test_against_rule_without_alarms_has_no_share():
    result = compare_with_rule(*ten_patients(), 20, seed=1)
    assert result["rule_recall"] == 0
    assert np.isnan(result["share_of_alarms_at_same_recall"])


def test_at_budgets_stays_within_each_budget_and_recall_grows():
    ward = held_out()
    table = evaluate_budgets(AlarmTimeline.from_frame(ward.frame(ward.default)), seed=1)
    assert table["budget"].tolist() == list(BUDGETS)
    assert (table["alarms_per_patient_day"] <= table["budget"]).all()
    assert (table["event_recall"].diff().dropna() >= 0).all()
    for metric in ("event_recall", "alarm_precision", "alarms_per_patient_day"):
        assert table[metric].between(table[f"{metric}_low"], table[f"{metric}_high"]).all()
    assert (table["lead_time_q25"] <= table["lead_time_hours"]).all()
    assert (table["lead_time_hours"] <= table["lead_time_q75"]).all()


def test_summary_without_alarms():
    result = summarise_alarms(AlarmTimeline.from_frame(watched([0.1] * 10, onset=9)).count(0.5), seed=1)
    assert (result["events"], result["alarms"], result["event_recall"]) == (1, 0, 0)
    assert np.isnan(result["lead_time_q25"])
