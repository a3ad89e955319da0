"""A home carries its version: a later one says what it would do, does it, and an earlier one leaves it alone."""

import json
import sqlite3
from contextlib import closing

import pytest
from typer.testing import CliRunner

from features.pseudonyms import CHECK_FILE, open_pseudonyms
from pipelines.cli.main import app
from pipelines.operations.upgrade import FILE, NewerHomeError, check, upgrade
from serving.records.journal import Journal


@pytest.fixture
def old(tmp_path):
    """A home of a version that kept neither its version, nor a check value, nor who is pregnant."""
    open_pseudonyms(tmp_path)
    (tmp_path / CHECK_FILE).unlink()
    Journal(tmp_path).engine.dispose()
    with closing(sqlite3.connect(tmp_path / "journal.db")) as connection, connection:
        connection.execute("ALTER TABLE patients DROP COLUMN pregnant")
        connection.execute("DROP TABLE latest")
    return tmp_path


def tree(home):
    return {path.name: path.read_bytes() for path in home.iterdir() if path.suffix not in {".db-shm", ".db-wal"}}


def test_what_would_be_done_is_said_and_not_done(old):
    before = tree(old)
    found = check(old)
    assert found.made_by is None
    assert found.changes == (
        "journal.db: add table latest",
        "journal.db: add column patients.pregnant",
        "pseudonym.check: keep a check value of the key",
        f"version.json: say that version {found.version} used the home",
    )
    assert tree(old) == before
    result = CliRunner().invoke(app, ["upgrade", "--check", "--home", str(old)])
    assert result.exit_code == 1
    assert all(change in result.output for change in found.changes)


def test_what_was_said_is_done_and_then_nothing_is_left(old):
    upgrade(old)
    assert check(old).changes == ()
    assert (old / CHECK_FILE).exists()
    assert json.loads((old / FILE).read_text())["version"] == check(old).version
    assert CliRunner().invoke(app, ["upgrade", "--check", "--home", str(old)]).exit_code == 0


def test_the_home_of_a_later_version_is_left_alone(old):
    upgrade(old)
    (old / FILE).write_text(json.dumps({"version": "99.0.0"}))
    before = tree(old)
    for command in (["upgrade"], ["serve"], ["ingest"]):
        result = CliRunner().invoke(app, [*command, "--home", str(old)])
        assert result.exit_code == 2
        assert "used by version 99.0.0, and this is" in result.output
    with pytest.raises(NewerHomeError):
        upgrade(old)
    assert tree(old) == before


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"version": "new"}'])
def test_a_version_that_cannot_be_read_is_said(tmp_path, text):
    (tmp_path / FILE).write_text(text)
    result = CliRunner().invoke(app, ["upgrade", "--home", str(tmp_path)])
    assert result.exit_code == 2
    assert "version.json: cannot be read; expected the version that used the home" in result.output


def test_a_home_that_is_not_there_is_said(tmp_path):
    result = CliRunner().invoke(app, ["upgrade", "--home", str(tmp_path / "nowhere")])
    assert result.exit_code == 2
    assert "not there; expected a home" in result.output
