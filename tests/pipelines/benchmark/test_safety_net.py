"""What the safety net costs a ward, minute by minute."""

import pytest

from pipelines.challenges import BenchmarkError, safety_net
from pipelines.challenges.run import run
from pipelines.sources.simulated import SimulatedWard


@pytest.fixture
def found(monkeypatch):
    monkeypatch.setattr(safety_net, "SimulatedWard", lambda **named: SimulatedWard(patients=36, **named))
    return run("net", None, None)


def test_rates_are_of_the_days_that_were_watched_whenever_the_score_was_looked_at(found):
    assert set(found.metrics) == {"chart at rounds", "chart each minute", "net each minute"}
    days = {values["patient_days"] for values in found.metrics.values()}
    assert len(days) == 1
    for values in found.metrics.values():
        assert values["alarms_per_patient_day"] == pytest.approx(values["alarms"] / values["patient_days"])
        assert values["alarms_per_patient_day_low"] <= values["alarms_per_patient_day"] <= values["alarms_per_patient_day_high"]


def test_artefacts_ring_the_chart_and_not_the_net(found):
    alarms = {name: values["alarms"] for name, values in found.metrics.items()}
    assert alarms["chart each minute"] > 5 * alarms["net each minute"]
    assert alarms["net each minute"] > 0


def test_the_simulated_ward_needs_no_set_and_the_challenges_do(tmp_path):
    with pytest.raises(BenchmarkError, match="--train, --test: net runs on the simulated ward; leave them out"):
        run("net", tmp_path, None)
    with pytest.raises(BenchmarkError, match="--train is missing: cinc2019 needs the set to train on"):
        run("cinc2019", None, None)
    with pytest.raises(BenchmarkError, match="--only: cinc2012 fits all its models; leave it out"):
        run("cinc2012", tmp_path, tmp_path, "all_signals")
