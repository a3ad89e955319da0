"""A ward whose home a test may write to."""

import pytest

from pipelines.backup import backup, restore


@pytest.fixture(scope="session")
def ward_backup(home, tmp_path_factory):
    """A backup of the ward of all tests."""
    folder = tmp_path_factory.mktemp("ward") / "backup"
    backup(home, folder)
    return folder


@pytest.fixture
def own_home(ward_backup, tmp_path):
    """A home like that of all tests, which is this test's own."""
    restore(ward_backup, tmp_path / "own")
    return tmp_path / "own"
