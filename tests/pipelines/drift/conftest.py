"""A ward of a week, full from the first day on, with a fault put in: what drift is tried on without waiting for six weeks."""

import pytest

from models.registry import Registry
from pipelines.drift.assessment import References
from pipelines.drift.drill.replay import replay_of
from pipelines.sources.simulated import SimulatedWard, ward


@pytest.fixture(scope="session")
def champion(home):
    return Registry(home).load("deterioration")


@pytest.fixture(scope="session")
def references(home, champion):
    return References.of(Registry(home), champion)


class Week(SimulatedWard):
    """Made once: about forty patients at once."""

    def __init__(self):
        super().__init__(patients=90, seed=11)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(ward, "ADMISSION_DAYS", 7)
            self.made = list(super().batches())

    def batches(self):
        return iter(self.made)


@pytest.fixture(scope="session")
def week():
    return Week()


@pytest.fixture(scope="session")
def replay(week):
    return replay_of(week)
