"""What many tests share: a small ward taken through the whole chain once, its server, and the open cohorts if they are here."""

import os
from pathlib import Path

import pytest

from pipelines.environment import settle
from pipelines.run import run
from pipelines.server import running_server
from pipelines.sources.simulated import SimulatedWard

COHORTS = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="session", autouse=True)
def _settled():
    settle()


@pytest.fixture(scope="session")
def chain(tmp_path_factory):
    """The main job on a small ward: (outcome, home)."""
    home = tmp_path_factory.mktemp("ward") / "home"
    return run(SimulatedWard(patients=220, patients_per_batch=60), home), home


@pytest.fixture(scope="session")
def home(chain):
    return chain[1]


@pytest.fixture(scope="session")
def server(home):
    """URL of a prediction server on that ward's champion."""
    with running_server(home, "deterioration") as url:
        yield url


@pytest.fixture(scope="session")
def cinc2019_zip():
    path = COHORTS / "cinc2019" / "training_setA.zip"
    if not path.exists():
        if os.environ.get("VIGIL_COHORTS_REQUIRED"):
            pytest.fail("the open cohorts are required here, and not at hand")
        pytest.skip("the open cohort cinc2019 is not at hand")
    return path
