"""What tests of a home begin with that they may write to."""

import pytest

from pipelines.backup import backup


@pytest.fixture(scope="session")
def ward_backup(home, tmp_path_factory):
    """A backup of the ward of all tests."""
    folder = tmp_path_factory.mktemp("ward") / "backup"
    backup(home, folder)
    return folder
