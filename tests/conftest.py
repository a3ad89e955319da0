"""Fixtures of all tests: the open cohorts if they are present, and those of the modules named below."""

import os

import pytest
from filelock import FileLock
from hypothesis import HealthCheck, settings

from tests.support import ROOT
from tests.support.compiled_kernel import start_compiling
from vigil.pipelines.environment import prepare_process

pytest_plugins = ["tests.support.trained_ward", "tests.support.servers"]
COHORTS = ROOT.parent / "shared" / "data"

# How long the first inputs take tells of the machine, not of the tests.
settings.register_profile("vigil", suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("vigil")


def pytest_configure(config):
    if config.getoption("numprocesses", None) and not hasattr(config, "workerinput"):  # it distributes tests to others
        config.kernel_compiler, config.kernel_lock = start_compiling()


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node):
    """Tell each test process which file is locked while the kernel is compiled."""
    node.workerinput["kernel_lock"] = str(node.config.kernel_lock)


def pytest_unconfigure(config):
    if compiler := getattr(config, "kernel_compiler", None):
        compiler.wait()
        config.kernel_lock.unlink(missing_ok=True)


@pytest.fixture(scope="session", autouse=True)
def _quiet_process(request):
    prepare_process()
    if lock := getattr(request.config, "workerinput", {}).get("kernel_lock"):
        with FileLock(lock):  # the kernel is being compiled
            pass


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


@pytest.fixture(scope="session")
def mimic4_demo_meds():
    return _open_cohort("mimic4_demo_meds")


@pytest.fixture(scope="session")
def cgm_sets():
    """Folder of the sets of glucose monitors."""
    return _open_cohort("cgm")
