"""Thresholds from a ward's own risks, against counting alarms by hand."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from pipelines.jobs.ward_thresholds import proposal
from serving.records.ward_settings import SafetyNet, Ward

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


def sounds(hours, threshold):
    """Alarms by hand: at or above the threshold, and none of the patient in the eight hours before."""
    count, last = 0, {}
    for row in hours.itertuples():
        before = last.get(row.subject_id)
        if row.probability >= threshold and (before is None or row.index_time - before >= pd.Timedelta(hours=8)):
            count, last[row.subject_id] = count + 1, row.index_time
    return count


@pytest.mark.parametrize("budget", [0.2, 0.5, 1.0])
def test_the_proposal_is_the_lowest_threshold_that_keeps_the_budget(budget):
    hours = hours_of(patients=20, hours=48)
    found = proposal("B4", hours, Ward(alarms_per_patient_day=budget), CHAMPION, promised=0.5)
    days = 20 * 48 / 24
    assert (found.patients, found.patient_days, found.threshold) == (20, days, 0.2)
    assert found.alarms == pytest.approx(sounds(hours, 0.2) / days)
    assert sounds(hours, found.proposed) <= budget * days
    lower = hours["probability"][hours["probability"] < found.proposed].max()
    assert sounds(hours, lower) > budget * days


def test_the_promise_of_the_task_is_the_budget_of_a_ward_that_sets_none_and_its_own_threshold_counts():
    hours = hours_of(patients=20, hours=48)
    found = proposal("", hours, Ward(threshold=0.1), CHAMPION, promised=0.3)
    assert (found.budget, found.threshold) == (0.3, 0.1)
    assert found.alarms == pytest.approx(sounds(hours, 0.1) / 40)


def test_alarms_are_counted_by_the_wards_own_silence_and_its_own_limit_of_news2():
    hours = hours_of(patients=1, hours=48).assign(probability=0.01, net_score=8.0, net_spot=8.0)
    assert proposal("B4", hours, Ward(), CHAMPION, promised=0.5).alarms == 6 / 2  # every 8 of 48 hours
    assert proposal("B4", hours, Ward(silence_hours=4), CHAMPION, promised=0.5).alarms == 12 / 2
    relaxed = SafetyNet(alarm_from=9, because="a ward of patients for comfort care")
    assert proposal("B4", hours, Ward(safety_net=relaxed), CHAMPION, promised=0.5).alarms == 0


def test_nothing_is_proposed_from_a_few_patient_days():
    assert proposal("B4", hours_of(patients=4, hours=24), Ward(), CHAMPION, promised=0.5).proposed is None
