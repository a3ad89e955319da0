"""Thresholds proposed from a ward's own risks, compared with alarms counted by hand."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from vigil.pipelines.jobs.ward_thresholds import _propose
from vigil.serving.records.ward_settings import SafetyNetSettings, WardSettings

CHAMPION = SimpleNamespace(model=SimpleNamespace(thresholds_={"medium": 0.05, "high": 0.2}))
START = pd.Timestamp("2026-03-01", tz="UTC").as_unit("us")


def hours_of(patients, hours, seed=0):
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        [
            {"subject_id": f"p{patient}", "index_time": START + pd.Timedelta(hours=hour), "probability": risk}
            for patient in range(patients)
            for hour, risk in enumerate(rng.beta(1, 12, hours))
        ]
    )


def count_alarms(hours, threshold):
    """Count alarms by hand: at or above the threshold, without an alarm of the patient in the eight hours before."""
    count, last = 0, {}
    for row in hours.itertuples():
        before = last.get(row.subject_id)
        if row.probability >= threshold and (before is None or row.index_time - before >= pd.Timedelta(hours=8)):
            count, last[row.subject_id] = count + 1, row.index_time
    return count


@pytest.mark.parametrize("budget", [0.2, 0.5, 1.0])
def test_proposed_threshold_is_the_lowest_that_keeps_the_budget(budget):
    hours = hours_of(patients=20, hours=48)
    proposal = _propose("B4", hours, WardSettings(alarms_per_patient_day=budget), CHAMPION, default_budget=0.5)
    days = 20 * 48 / 24
    assert (proposal.patients, proposal.patient_days, proposal.threshold) == (20, days, 0.2)
    assert proposal.alarms == pytest.approx(count_alarms(hours, 0.2) / days)
    assert count_alarms(hours, proposal.proposed) <= budget * days
    lower = hours["probability"][hours["probability"] < proposal.proposed].max()
    assert count_alarms(hours, lower) > budget * days


def test_proposal_uses_the_ward_threshold_and_the_default_budget_of_the_task():
    hours = hours_of(patients=20, hours=48)
    proposal = _propose("", hours, WardSettings(threshold=0.1), CHAMPION, default_budget=0.3)
    assert (proposal.budget, proposal.threshold) == (0.3, 0.1)
    assert proposal.alarms == pytest.approx(count_alarms(hours, 0.1) / 40)


def test_proposal_counts_alarms_by_the_refractory_period_and_news2_limit_of_the_ward():
    hours = hours_of(patients=1, hours=48).assign(probability=0.01, net_score=8.0, net_spot=8.0)
    assert _propose("B4", hours, WardSettings(), CHAMPION, default_budget=0.5).alarms == 6 / 2  # every 8 of 48 hours
    assert _propose("B4", hours, WardSettings(refractory_hours=4), CHAMPION, default_budget=0.5).alarms == 12 / 2
    relaxed = SafetyNetSettings(alarm_from=9, because="a ward of patients for comfort care")
    assert _propose("B4", hours, WardSettings(safety_net=relaxed), CHAMPION, default_budget=0.5).alarms == 0


def test_proposal_is_none_from_few_patient_days():
    assert _propose("B4", hours_of(patients=4, hours=24), WardSettings(), CHAMPION, default_budget=0.5).proposed is None
