"""Identities: stored once, found again when the home is opened again, and in no error."""

import sqlite3

import pytest

from vigil.serving.identity.identities import FILE, Identities
from vigil.serving.records.database import DatabaseError


def test_identities_are_found_again(tmp_path):
    identities = Identities(tmp_path)
    identities.store({"aaa": "12", "bbb": "13~1"})
    assert identities.find(["bbb", "aaa", "unknown"]) == {"aaa": "12", "bbb": "13~1"}
    assert Identities(tmp_path).find(["bbb"]) == {"bbb": "13~1"}
    assert identities.find([]) == {}
    assert identities.subjects() == {"aaa", "bbb"}


def test_identities_do_not_change_when_stored_again(tmp_path):
    identities = Identities(tmp_path)
    identities.store({"aaa": "12"})
    identities.store({"aaa": "another", "bbb": "13"})
    identities.store({})
    assert identities.find(["aaa", "bbb"]) == {"aaa": "12", "bbb": "13"}


def test_identities_of_a_whole_cohort_are_stored_at_once(tmp_path):
    cohort = {f"subject-{number}": f"patient-{number}" for number in range(40_000)}
    identities = Identities(tmp_path)
    identities.store(cohort)
    assert identities.find(cohort) == cohort


def test_identities_can_be_deleted(tmp_path):
    identities = Identities(tmp_path)
    identities.store({"aaa": "12", "bbb": "13"})
    assert identities.delete(["aaa", "unknown"]) == 1
    assert identities.find(["aaa", "bbb"]) == {"bbb": "13"}
    assert identities.find_or_empty(["aaa", "bbb"]) == {"aaa": "", "bbb": "13"}


def test_identities_that_cannot_be_written_are_not_named_in_the_error(tmp_path, monkeypatch):
    monkeypatch.setattr("vigil.serving.records.database.WAIT_SECONDS", 0)
    identities = Identities(tmp_path)
    with sqlite3.connect(tmp_path / FILE, isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(DatabaseError, match=f"{FILE}: cannot be used") as error:
            identities.store({"aaa": "canary-12"})
        other.execute("ROLLBACK")
    assert "canary" not in str(error.value)
    assert error.value.__cause__ is None
    identities.store({"aaa": "12"})
    assert identities.find(["aaa"]) == {"aaa": "12"}
