"""The alarms of the safety net on a ward, minute by minute."""

import pytest

from vigil.pipelines.challenges import BenchmarkError, safety_net
from vigil.pipelines.challenges.run import run
from vigil.pipelines.sources.simulated import SimulatedWard


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.setattr(safety_net, "SimulatedWard", lambda **options: SimulatedWard(patients=36, **options))
    return run("net", [])


def test_alarm_rates_use_the_same_patient_days_however_often_the_score_is_read(benchmark):
    assert set(benchmark.metrics) == {"chart at rounds", "chart each minute", "net each minute"}
    days = {values["patient_days"] for values in benchmark.metrics.values()}
    assert len(days) == 1
    for values in benchmark.metrics.values():
        assert values["alarms_per_patient_day"] == pytest.approx(values["alarms"] / values["patient_days"])
        assert values["alarms_per_patient_day_low"] <= values["alarms_per_patient_day"] <= values["alarms_per_patient_day_high"]


def test_safety_net_does_not_alarm_on_artefacts_as_the_chart_does(benchmark):
    alarms = {name: values["alarms"] for name, values in benchmark.metrics.items()}
    assert alarms["chart each minute"] > 5 * alarms["net each minute"]
    assert alarms["net each minute"] > 0


def test_protocol_on_the_simulated_ward_takes_no_set_and_challenges_need_one(tmp_path):
    with pytest.raises(BenchmarkError, match="--train, --test: net runs on the simulated ward; leave them out"):
        run("net", [tmp_path])
    with pytest.raises(BenchmarkError, match="--train is missing: cinc2019 needs the set to train on"):
        run("cinc2019", [])
    with pytest.raises(BenchmarkError, match="--only: cinc2012 fits all its models; leave it out"):
        run("cinc2012", [tmp_path], [tmp_path], "all_signals")
