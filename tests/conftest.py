"""Shared fixtures: a small ward taken through all jobs once, its server, and the open cohorts if they are present."""

import os
import time
from pathlib import Path

import pytest

from models.training import candidate_models
from pipelines.environment import prepare_process
from pipelines.home import Home
from pipelines.jobs.run import run
from pipelines.operations.backup import backup
from pipelines.operations.server import running_server
from pipelines.sources.simulated import SimulatedWard
from serving.records.ward_settings import FILE as WARDS

COHORTS = Path(__file__).parents[2] / "shared" / "data"
SLOW_FIXTURES = {"chain", "_few_trees", "cinc2019_zip", "cinc2012_set", "eicu_demo", "ahe2009"}  # and all that use them


def pytest_collection_modifyitems(items):
    """Run tests that share slow fixtures in one process: those of the one ward, and those of a module."""
    for item in items:
        if SLOW_FIXTURES.intersection(item.fixturenames):
            item.add_marker(pytest.mark.system)
        item.add_marker(pytest.mark.xdist_group("chain" if "chain" in item.fixturenames else item.nodeid.partition("::")[0]))


@pytest.fixture(scope="session", autouse=True)
def _quiet_process():
    prepare_process()


@pytest.fixture(scope="session")
def _few_trees():
    """Train with fewer trees than a hospital would want, in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(candidate_models, "HOURLY", {**candidate_models.HOURLY, "n_estimators": 80, "learning_rate": 0.1})
        yield


@pytest.fixture(scope="session")
def chain(tmp_path_factory, _few_trees):
    """The main job on a small ward: (its result, the path of the home)."""
    home = tmp_path_factory.mktemp("ward") / "home"
    result = run(SimulatedWard(patients=220, patients_per_batch=60), Home(home))
    backup(Home(home), home.parent / "backup")  # before any test changes this home
    return result, home


@pytest.fixture(scope="session")
def home(chain):
    """Path of the home of that ward."""
    return chain[1]


@pytest.fixture(scope="session")
def ward_backup(chain):
    """A backup of that home as the main job left it, for tests that restore a home of their own and change it."""
    return chain[1].parent / "backup"


@pytest.fixture(scope="session")
def server(home):
    """URL of a prediction server on that ward's champion."""
    with running_server(Home(home), "deterioration") as url:
        yield url


@pytest.fixture(scope="module")
def easily_alarmed(home):
    """Name of a ward in which every risk sounds an alarm."""
    wards = home / WARDS
    before = wards.read_bytes() if wards.exists() else None
    wards.write_text("[wards.easily_alarmed]\nthreshold = 0.0001\nalarms_per_patient_day = 100\n")
    time.sleep(2.5)  # the rescorer reads the settings once a second
    yield "easily_alarmed"
    if before is None:
        wards.unlink()
    else:
        wards.write_bytes(before)


def _open_cohort(*parts):
    """Return the path of an open cohort. Without it the test is skipped, or fails if VIGIL_COHORTS_REQUIRED is set."""
    path = COHORTS.joinpath(*parts)
    if not path.exists():
        if os.environ.get("VIGIL_COHORTS_REQUIRED"):
            pytest.fail(f"the open cohorts are required here, and {'/'.join(parts)} is missing")
        pytest.skip(f"{'/'.join(parts)} of the open cohorts is missing")
    return path


@pytest.fixture(scope="session")
def cinc2019_zip():
    return _open_cohort("cinc2019", "training_setA.zip")


@pytest.fixture(scope="session", params=["set-a.tar.gz", "set-b.tar.gz"])
def cinc2012_set(request):
    """Each of the two sets of the 2012 challenge, as distributed."""
    return _open_cohort("cinc2012", request.param)


@pytest.fixture(scope="session")
def eicu_demo():
    return _open_cohort("eicu_demo")


@pytest.fixture(scope="session")
def ahe2009():
    return _open_cohort("ahe2009")
