"""Upgrade: it lists its changes, makes them once, and leaves the home of a later version unchanged."""

import json

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from vigil.features.pseudonyms import CHECK_FILE, open_pseudonyms
from vigil.pipelines.cli.main import app
from vigil.pipelines.home import Home
from vigil.pipelines.operations.upgrade import FILE, NewerHomeError, plan_upgrade, upgrade
from vigil.serving.records.migrations import titles
from vigil.serving.records.migrations.journal import rev_0001_baseline


@pytest.fixture
def old(tmp_path):
    """A home of a version that stored neither its version, nor a check value of the key, nor pregnancies."""
    open_pseudonyms(tmp_path)
    (tmp_path / CHECK_FILE).unlink()
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'journal.db'}")
    rev_0001_baseline._METADATA.create_all(engine)
    with engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE patients DROP COLUMN pregnant")
        connection.exec_driver_sql("DROP TABLE latest")
    engine.dispose()
    return tmp_path


def tree(home):
    return {path.name: path.read_bytes() for path in home.iterdir() if path.suffix not in {".db-shm", ".db-wal"}}


def test_plan_upgrade_lists_changes_and_makes_none(old):
    before = tree(old)
    planned = plan_upgrade(Home(old))
    assert planned.made_by is None
    assert planned.changes == (
        *(f"journal.db: {title}" for title in titles("journal", "base")),
        "pseudonym.check: keep a check value of the key",
        f"version.json: say that version {planned.version} used the home",
    )
    assert tree(old) == before
    result = CliRunner().invoke(app, ["upgrade", "--check", "--home", str(old)])
    assert result.exit_code == 1
    assert all(change in result.output for change in planned.changes)


def test_upgrade_makes_the_planned_changes_once(old):
    upgrade(Home(old))
    planned = plan_upgrade(Home(old))
    assert planned.changes == ()
    assert (old / CHECK_FILE).exists()
    assert json.loads((old / FILE).read_text())["version"] == planned.version
    assert CliRunner().invoke(app, ["upgrade", "--check", "--home", str(old)]).exit_code == 0


def test_commands_leave_the_home_of_a_later_version_unchanged(old):
    upgrade(Home(old))
    (old / FILE).write_text(json.dumps({"version": "99.0.0"}))
    before = tree(old)
    for command in (["upgrade"], ["serve"], ["ingest"]):
        result = CliRunner().invoke(app, [*command, "--home", str(old)])
        assert result.exit_code == 2
        assert "used by version 99.0.0, and this is" in result.output
    with pytest.raises(NewerHomeError):
        upgrade(Home(old))
    assert tree(old) == before


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"version": "new"}'])
def test_upgrade_refuses_a_version_file_that_cannot_be_read(tmp_path, text):
    (tmp_path / FILE).write_text(text)
    result = CliRunner().invoke(app, ["upgrade", "--home", str(tmp_path)])
    assert result.exit_code == 2
    assert "version.json: cannot be read; expected the version that used the home" in result.output


def test_upgrade_refuses_a_missing_home(tmp_path):
    result = CliRunner().invoke(app, ["upgrade", "--home", str(tmp_path / "nowhere")])
    assert result.exit_code == 2
    assert "not there; expected a home" in result.output
