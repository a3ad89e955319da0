"""The alarm promise: made only where the evidence carries it, and kept on patients who were not asked."""

import numpy as np
import pandas as pd
import pytest

from features.observations import TIME
from models.alarms.guarantee import Certificate, certify, check, spent_by_net
from models.alarms.timeline import Watch
from models.tasks import Promise

START = pd.Timestamp("2026-01-01T00:00:00Z")


def ward(patients, seed, hours=48, net_score=None):
    """Patients watched hourly; one in five deteriorates at the end, the risk rising in the twelve hours before.

    ``net_score``: what the safety net sees in each hour of a stay, of spot checks.
    """
    generator = np.random.default_rng(seed)
    ill = generator.random(patients) < 0.2
    risk = 0.3 * generator.random((patients, hours)) + 0.2 * generator.random((patients, 1))
    risk[:, -12:] += np.outer(ill, np.linspace(0, 0.5, 12))
    time = START + pd.to_timedelta(np.arange(hours), unit="h")
    onset = pd.Series(pd.NaT, index=range(patients), dtype=TIME).mask(ill, time[-1] + pd.Timedelta(hours=1))
    return Watch.of(
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


def test_a_promise_is_made_with_room_to_spare():
    found = certify(ward(1500, 1), Promise(0.5, 0.25))
    assert found.alarms_per_patient_day < found.alarms_upper <= 0.5
    assert found.precision > found.precision_lower >= 0.25
    assert (found.patients, found.max_alarms_per_patient_day, found.min_precision) == (1500, 0.5, 0.25)


def test_what_the_evidence_does_not_carry_is_not_promised():
    assert certify(ward(1500, 1), Promise(0.5, 0.95)) is None  # no threshold is so precise
    few = [certify(ward(12, seed), Promise(0.5, 0.25)) for seed in range(5)]
    assert sum(certificate is None for certificate in few) >= 4  # a dozen patients say little


def test_promises_are_kept_on_other_patients():
    kept = []
    for seed in range(20):
        certificate = certify(ward(400, seed), Promise(0.4, 0.25))
        if certificate is not None:
            kept.append(check(certificate, ward(3000, 1000 + seed))["held"])
    assert len(kept) >= 15
    assert np.mean(kept) >= 0.95


def test_a_broken_promise_is_seen():
    certificate = Certificate(0.2, 0.5, 0.25, 0.95, 100, 0.3, 0.4, 0.5, 0.4)
    found = check(certificate, ward(500, 3))
    assert found["alarms_per_patient_day"] > 0.5
    assert found["held"] is False
    assert 0 <= found["event_recall"] <= 1


def test_the_estimate_is_that_of_the_replay():
    watch = ward(300, 4)
    certificate = Certificate(0.6, 0.5, 0.25, 0.95, 100, 0.3, 0.4, 0.5, 0.4)
    found = check(certificate, watch)
    assert found["alarms_per_patient_day"] == pytest.approx(watch.fired(0.6).sum() / watch.patient_days)


def spot_checks(*hours, score=7.0):
    """What the net sees over two days in which NEWS2 is high in some hours."""
    seen = np.ones(48)
    seen[list(hours)] = score
    return seen


def test_the_safety_net_counts_against_the_promise():
    """One alarm of the net in two days is 0.5 a patient-day: of 0.9 it leaves the model 0.4."""
    alone, with_net = ward(1500, 1), ward(1500, 1, net_score=spot_checks(20))
    found = certify(with_net, Promise(0.9, 0.05))
    assert found.alarms_upper <= 0.9
    assert check(found, with_net)["alarms_per_patient_day"] > 0.5
    assert check(found, with_net)["net_alarms_per_patient_day"] == 0.5
    assert check(found, alone)["net_alarms_per_patient_day"] == 0
    assert check(found, alone)["alarms_per_patient_day"] < 0.5


def test_what_the_net_spends_is_said_where_it_leaves_nothing():
    watch = ward(300, 1, net_score=spot_checks(10, 30))
    assert spent_by_net(watch, 0.5) == (
        "the safety net alone sounds 1.00 of 0.5 alarms per patient-day, so none are left for the model"
    )
    assert spent_by_net(watch, 1.0).startswith("the safety net alone sounds 1.00 of 1 ")
    assert spent_by_net(watch, 1.01) == spent_by_net(ward(300, 1), 0.5) == ""
    assert certify(watch, Promise(0.5, 0.0)) is None


def test_nothing_is_promised_of_a_model_that_never_sounds():
    """The net alone, of 0.5, would keep this promise; the parts of it that leave the model something do not."""
    assert certify(ward(1500, 1, net_score=spot_checks(20)), Promise(0.55, 0.0)) is None
