"""Who is behind a pseudonym: kept once, known to whoever opens the home again, and in no error."""

import sqlite3

import pytest

from serving.identity.identities import FILE, Identities
from serving.records.database import DatabaseError


def test_who_was_kept_is_known_again(tmp_path):
    identities = Identities(tmp_path)
    identities.keep({"aaa": "12", "bbb": "13~1"})
    assert identities.of(["bbb", "aaa", "nobody"]) == {"aaa": "12", "bbb": "13~1"}
    assert Identities(tmp_path).of(["bbb"]) == {"bbb": "13~1"}
    assert identities.of([]) == {}


def test_keeping_again_changes_nothing(tmp_path):
    identities = Identities(tmp_path)
    identities.keep({"aaa": "12"})
    identities.keep({"aaa": "another", "bbb": "13"})
    identities.keep({})
    assert identities.of(["aaa", "bbb"]) == {"aaa": "12", "bbb": "13"}


def test_a_whole_cohort_at_once(tmp_path):
    cohort = {f"pseudonym-{number}": f"patient-{number}" for number in range(40_000)}
    identities = Identities(tmp_path)
    identities.keep(cohort)
    assert identities.of(cohort) == cohort


def test_what_cannot_be_written_is_said_without_naming_anybody(tmp_path, monkeypatch):
    monkeypatch.setattr("serving.records.database._WAIT_SECONDS", 0)
    identities = Identities(tmp_path)
    with sqlite3.connect(tmp_path / FILE, isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(DatabaseError, match=f"{FILE}: cannot be used") as error:
            identities.keep({"aaa": "canary-12"})
        other.execute("ROLLBACK")
    assert "canary" not in str(error.value)
    assert error.value.__cause__ is None
    identities.keep({"aaa": "12"})
    assert identities.of(["aaa"]) == {"aaa": "12"}
