"""What many tests share: a small ward taken through the whole chain once, its server, and the open cohorts if they are here."""

import os
import time
from pathlib import Path

import pytest

from models.training import candidate_models
from pipelines.environment import settle
from pipelines.jobs.run import run
from pipelines.operations.backup import backup
from pipelines.operations.server import running_server
from pipelines.sources.simulated import SimulatedWard
from serving.records.ward_settings import FILE as WARDS

COHORTS = Path(__file__).parents[2] / "shared" / "data"


def pytest_collection_modifyitems(items):
    """Tests that share what takes long to make share a process: those of the one ward, and those of a module."""
    for item in items:
        item.add_marker(pytest.mark.xdist_group("chain" if "chain" in item.fixturenames else item.nodeid.partition("::")[0]))


@pytest.fixture(scope="session", autouse=True)
def _settled():
    settle()


@pytest.fixture(scope="session")
def _few_trees():
    """Models of fewer trees than a hospital would want, in whatever is trained in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(candidate_models, "HOURLY", {**candidate_models.HOURLY, "n_estimators": 80, "learning_rate": 0.1})
        yield


@pytest.fixture(scope="session")
def chain(tmp_path_factory, _few_trees):
    """The main job on a small ward: (outcome, home)."""
    home = tmp_path_factory.mktemp("ward") / "home"
    outcome = run(SimulatedWard(patients=220, patients_per_batch=60), home)
    backup(home, home.parent / "backup")  # before any test asks this home for something
    return outcome, home


@pytest.fixture(scope="session")
def home(chain):
    return chain[1]


@pytest.fixture(scope="session")
def ward_backup(chain):
    """A backup of that home as the main job left it: what tests begin with that change theirs."""
    return chain[1].parent / "backup"


@pytest.fixture(scope="session")
def server(home):
    """URL of a prediction server on that ward's champion."""
    with running_server(home, "deterioration") as url:
        yield url


@pytest.fixture(scope="module")
def easily_alarmed(home):
    """Name of a ward where every risk is an alarm."""
    wards = home / WARDS
    before = wards.read_bytes() if wards.exists() else None
    wards.write_text("[wards.easily_alarmed]\nthreshold = 0.0001\nalarms_per_patient_day = 100\n")
    time.sleep(2.5)  # the rescorer looks once a second
    yield "easily_alarmed"
    if before is None:
        wards.unlink()
    else:
        wards.write_bytes(before)


def _at_hand(*parts):
    """A part of the open cohorts; where it is not here, the test is skipped, or fails if it was promised."""
    path = COHORTS.joinpath(*parts)
    if not path.exists():
        if os.environ.get("VIGIL_COHORTS_REQUIRED"):
            pytest.fail(f"the open cohorts are required here, and {'/'.join(parts)} is not at hand")
        pytest.skip(f"{'/'.join(parts)} of the open cohorts is not at hand")
    return path


@pytest.fixture(scope="session")
def cinc2019_zip():
    return _at_hand("cinc2019", "training_setA.zip")


@pytest.fixture(scope="session", params=["set-a.tar.gz", "set-b.tar.gz"])
def cinc2012_set(request):
    """Each of the two sets of the 2012 challenge, as distributed."""
    return _at_hand("cinc2012", request.param)


@pytest.fixture(scope="session")
def eicu_demo():
    return _at_hand("eicu_demo")


@pytest.fixture(scope="session")
def ahe2009():
    return _at_hand("ahe2009")
