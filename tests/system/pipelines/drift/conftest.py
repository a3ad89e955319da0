"""A ward of one week that is full from the first day, so that drift can be tested without simulating six weeks."""

import pytest

from vigil.models.monitoring.reference import References
from vigil.models.registry import Registry
from vigil.pipelines.drift.drill.replay import build_replay
from vigil.pipelines.sources.simulated import SimulatedWard, ward


@pytest.fixture(scope="module")
def champion(home):
    return Registry(home).load("deterioration")


@pytest.fixture(scope="module")
def references(home, champion):
    return References.load(Registry(home), champion)


class Week(SimulatedWard):
    """About forty patients at a time, simulated once."""

    def __init__(self):
        super().__init__(patients=90, seed=11)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(ward, "ADMISSION_DAYS", 7)
            self.simulated_batches = list(super().batches())

    def batches(self):
        return iter(self.simulated_batches)


@pytest.fixture(scope="session")
def week():
    return Week()


@pytest.fixture(scope="session")
def replay(week):
    return build_replay(week)
