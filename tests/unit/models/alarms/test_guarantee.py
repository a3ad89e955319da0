"""The alarm guarantee: given only with enough evidence, and kept on other patients."""

import numpy as np
import pandas as pd
import pytest

from vigil.features.observations import TIME
from vigil.models.alarms.guarantee import Certificate, check_guarantee, explain_no_guarantee, find_guarantee
from vigil.models.alarms.timeline import AlarmTimeline
from vigil.models.tasks import AlarmTarget

START = pd.Timestamp("2026-01-01T00:00:00Z")


def ward(patients, seed, hours=48, net_score=None):
    """Return the timeline of patients with hourly risks; one in five deteriorates after a rise of twelve hours.

    ``net_score`` is NEWS2 by spot checks in each hour of a stay.
    """
    generator = np.random.default_rng(seed)
    ill = generator.random(patients) < 0.2
    risk = 0.3 * generator.random((patients, hours)) + 0.2 * generator.random((patients, 1))
    risk[:, -12:] += np.outer(ill, np.linspace(0, 0.5, 12))
    time = START + pd.to_timedelta(np.arange(hours), unit="h")
    onset = pd.Series(pd.NaT, index=range(patients), dtype=TIME).mask(ill, time[-1] + pd.Timedelta(hours=1))
    return AlarmTimeline.from_frame(
        pd.DataFrame(
            {
                "subject_id": np.repeat(np.arange(patients), hours),
                "index_time": np.tile(time, patients),
                "onset": onset.repeat(hours).array,
                "onset_known": True,
                "probability": risk.ravel(),
                **({} if net_score is None else dict.fromkeys(("net_score", "net_spot"), np.tile(net_score, patients))),
            }
        )
    )


def test_certify_gives_a_guarantee_that_its_evidence_exceeds():
    certificate = find_guarantee(ward(1500, 1), AlarmTarget(0.5, 0.25))
    assert certificate.alarms_per_patient_day < certificate.alarms_upper <= 0.5
    assert certificate.precision > certificate.precision_lower >= 0.25
    assert (certificate.patients, certificate.max_alarms_per_patient_day, certificate.min_precision) == (1500, 0.5, 0.25)


def test_certify_gives_no_guarantee_without_enough_evidence():
    assert find_guarantee(ward(1500, 1), AlarmTarget(0.5, 0.95)) is None  # no threshold is so precise
    few = [find_guarantee(ward(12, seed), AlarmTarget(0.5, 0.25)) for seed in range(5)]
    assert sum(certificate is None for certificate in few) >= 4  # a dozen patients are too little evidence


def test_certify_gives_guarantees_that_hold_on_other_patients():
    is_held = []
    for seed in range(20):
        certificate = find_guarantee(ward(400, seed), AlarmTarget(0.4, 0.25))
        if certificate is not None:
            is_held.append(check_guarantee(certificate, ward(3000, 1000 + seed))["held"])
    assert len(is_held) >= 15
    assert np.mean(is_held) >= 0.95


def test_check_finds_a_broken_guarantee():
    certificate = Certificate(0.2, 0.5, 0.25, 0.95, 100, 0.3, 0.4, 0.5, 0.4)
    checked = check_guarantee(certificate, ward(500, 3))
    assert checked["alarms_per_patient_day"] > 0.5
    assert checked["held"] is False
    assert 0 <= checked["event_recall"] <= 1


def test_check_estimates_the_alarm_rate_of_the_timeline():
    timeline = ward(300, 4)
    certificate = Certificate(0.6, 0.5, 0.25, 0.95, 100, 0.3, 0.4, 0.5, 0.4)
    checked = check_guarantee(certificate, timeline)
    assert checked["alarms_per_patient_day"] == pytest.approx(timeline.alarms_at(0.6).sum() / timeline.patient_days)


def spot_checks(*hours, score=7.0):
    """Return NEWS2 over two days, high in some hours."""
    scores = np.ones(48)
    scores[list(hours)] = score
    return scores


def test_certify_counts_alarms_of_the_safety_net():
    """One alarm of the net in two days is 0.5 per patient-day. Of 0.9 it leaves the model 0.4."""
    alone, with_net = ward(1500, 1), ward(1500, 1, net_score=spot_checks(20))
    checked = find_guarantee(with_net, AlarmTarget(0.9, 0.05))
    assert checked.alarms_upper <= 0.9
    assert check_guarantee(checked, with_net)["alarms_per_patient_day"] > 0.5
    assert check_guarantee(checked, with_net)["net_alarms_per_patient_day"] == 0.5
    assert check_guarantee(checked, alone)["net_alarms_per_patient_day"] == 0
    assert check_guarantee(checked, alone)["alarms_per_patient_day"] < 0.5


def test_spent_by_net_states_the_alarms_of_the_net_if_it_leaves_none():
    timeline = ward(300, 1, net_score=spot_checks(10, 30))
    assert explain_no_guarantee(timeline, 0.5) == (
        "the safety net alone sounds 1.00 of 0.5 alarms per patient-day, so none are left for the model"
    )
    assert explain_no_guarantee(timeline, 1.0).startswith("the safety net alone sounds 1.00 of 1 ")
    assert explain_no_guarantee(timeline, 1.01) == explain_no_guarantee(ward(300, 1), 0.5) == ""
    assert find_guarantee(timeline, AlarmTarget(0.5, 0.0)) is None


def test_certify_gives_no_guarantee_to_a_model_that_never_sounds():
    """The net alone sounds 0.5 and would keep the guarantee; the model has no threshold that does."""
    assert find_guarantee(ward(1500, 1, net_score=spot_checks(20)), AlarmTarget(0.55, 0.0)) is None
