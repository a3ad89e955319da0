"""Behaviour of a home's model: simulated arrivals under models with known answers, and the domain of use on measured rows."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from tests.support.synthetic_behaviour import VIEWS, ward
from vigil.features.batch import build_features
from vigil.features.scores import NEWS2_BANDS, NEWS2_HIGH, compute_score
from vigil.models.domain import DomainOfUse
from vigil.pipelines.jobs.behaviour import examine_arrivals, examine_domain, read_observations, required_views
from vigil.pipelines.sources.simulated.arrivals import simulate_arrivals

FEATURES = ["age", "heart_rate_last_24h", "heart_rate_count_24h", "spo2_last_24h", "spo2_count_24h"]


class Model:
    """As much of a risk model as an assessment needs; it gives every patient the same risk."""

    features = FEATURES

    def __init__(self, risk, domain=None):
        self._risk, self.domain_ = risk, domain

    def risk(self, rows):
        return np.full(len(rows), self._risk)

    def band(self, probability):
        return "high" if probability >= 0.3 else "medium" if probability >= 0.1 else "low"


@pytest.mark.parametrize(("risk", "is_low", "is_high"), [(0.01, True, False), (0.2, False, False), (0.9, False, True)])
def test_arrivals_count_answers_of_the_model_alone_and_with_the_safety_net(risk, is_low, is_high):
    result = examine_arrivals(Model(risk), seed=5, number=200)
    observations, _ = simulate_arrivals(200, 5)
    sets = observations.astype({"subject_id": object, "signal": object}).pivot_table("value", "subject_id", "signal")
    chart = compute_score("news2", NEWS2_BANDS, {signal: sets[signal].to_numpy() for signal in NEWS2_BANDS})["news2"]
    emergencies = int((chart >= NEWS2_HIGH).sum())
    assert emergencies > 20
    assert result == {
        "arrivals": 200,
        "emergencies": emergencies,
        "low_by_model": emergencies if is_low else 0,
        "without_alarm_by_model": 0 if is_high else emergencies,
        "low": 0,
        "without_alarm": 0,
        "outside": 0,
    }


def test_arrivals_outside_the_domain_of_use_are_counted_and_still_sound_an_alarm():
    rows = build_features(*ward(patients=20), VIEWS)
    children = DomainOfUse.fit(rows[FEATURES].assign(age=np.float32(7.0)), rows["subject_id"], seed=0)
    result = examine_arrivals(Model(0.01, children), seed=5, number=60)
    assert result["outside"] == result["emergencies"] > 0
    assert (result["low"], result["without_alarm"]) == (0, 0)


def test_domain_of_use_is_judged_on_rows_with_an_observation():
    rows = build_features(*ward(patients=20), VIEWS)
    domain = DomainOfUse.fit(rows[FEATURES], rows["subject_id"], seed=0)
    number, _ = pd.factorize(rows["subject_id"])
    frame = rows.assign(label=(number % 2).astype(float))
    both = pd.concat([frame, frame], ignore_index=True)
    unmeasured = np.arange(len(both)) >= len(frame)
    both.loc[unmeasured, [*FEATURES[1:], "hours_since_reading"]] = np.nan
    subject = pd.Series([str(name) for name in [*number, *number]])
    result = examine_domain(Model(0.2, domain), both, np.full(len(both), 0.2), subject, seed=1)
    assert (result["held_out"]["rows"], result["held_out"]["patients"]) == (len(rows), 20)
    assert result["held_out"]["rows_outside"] == domain.outside(rows).sum()
    assert result["summary"] == domain.summary
    assert result["vignettes"]["shown"] == 94
    assert result["vignettes"]["outside"] <= sum(result["vignettes"]["reasons"].values())


def test_model_without_a_domain_of_use_has_no_result():
    model = SimpleNamespace(features=FEATURES)
    assert examine_domain(model, pd.DataFrame(), np.empty(0), pd.Series(dtype=str), seed=1) is None


def test_required_views_are_those_of_the_model_and_of_a_full_answer():
    assert required_views(Model(0.1)) == ("vital_signs", "scores", "patient", "safety_net")


def test_read_observations_selects_patients_and_leaves_devices_out():
    def part(subject):
        return pd.DataFrame(
            {"subject_id": [subject], "observed_at": 0, "signal": "spo2", "value": 97.0, "recorded_at": 0, "device_id": "d"}
        )

    cohort = SimpleNamespace(iterate=lambda _: ((part(subject),) for subject in ("a", "b", "c")))
    result = read_observations(cohort, ["c", "a"])
    assert result["subject_id"].tolist() == ["a", "c"]
    assert "device_id" not in result
