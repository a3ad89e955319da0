"""Readings of requests that come together: each gets its own results, and what fails fails for its group only."""

import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest
import sqlalchemy as sa

from serving.identity.identities import Identities
from serving.records.journal import READINGS, Journal
from serving.service import METRICS
from serving.stream.group_commit import Intake, OverloadedError

NOW = datetime.now(UTC)


class Gate:
    """In the place of the journal: a group waits until the test lets it pass, or fails if the test says so."""

    def __init__(self, journal):
        self.journal, self.groups = journal, []
        self.entered, self.open = threading.Event(), threading.Event()
        self.error = None

    def append(self, readings, first):
        self.groups.append(len(readings))
        self.entered.set()
        assert self.open.wait(20)
        if self.error:
            raise self.error
        return self.journal.append(readings, first)


def reading(patient, number, value=None):
    at = pd.Timestamp(NOW - timedelta(minutes=number + 1)).as_unit("us")
    about = {
        "subject_id": patient,
        "signal": "heart_rate",
        "value": 60.0 + number % 100 if value is None else value,
        "unit": None,
    }
    return {**about, "observed_at": at, "device_id": None, "source": None, "message_id": f"{patient}-{number}"}


@pytest.fixture
def journal(tmp_path):
    return Journal(tmp_path)


@pytest.fixture
def identities(tmp_path):
    return Identities(tmp_path)


@pytest.fixture
def gate(journal):
    return Gate(journal)


@pytest.fixture
def intake(gate, identities):
    intake = Intake(gate, identities, METRICS)
    yield intake
    gate.open.set()
    intake.stop()


def submit(intake, patient, numbers, **more):
    return intake.submit([reading(patient, number, **more) for number in numbers], {patient: f"identifier of {patient}"})


def statuses(answer):
    return [result.status for result in answer.result(20)]


def test_what_comes_while_a_group_is_written_becomes_one_group(intake, gate):
    first = submit(intake, "p0", range(2))
    assert gate.entered.wait(20)
    rest = [submit(intake, f"p{n}", range(n)) for n in range(1, 6)]
    assert not first.done()  # nothing is acknowledged that is not on the disk
    gate.open.set()
    assert [len(statuses(answer)) for answer in (first, *rest)] == [2, 1, 2, 3, 4, 5]
    assert gate.groups == [2, 15]


def test_everybody_gets_his_own_results(intake, gate, journal, identities):
    gate.open.set()

    def send(n):
        wrong = [reading(f"p{n}", 100, value=9_999.0)] * (n % 3)
        sent = [*(reading(f"p{n}", number) for number in range(n % 7)), *wrong, reading(f"p{n}", 0, value=60.0)]
        return statuses(intake.submit(sent, {f"p{n}": f"identifier of p{n}"}))

    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(send, range(100)))
    for n, results in enumerate(found):
        last = "duplicate" if n % 7 else "accepted"
        assert results == ["accepted"] * (n % 7) + ["quarantined"] * (n % 3) + [last], n
    assert identities.of([f"p{n}" for n in range(100)]) == {f"p{n}": f"identifier of p{n}" for n in range(100)}
    with journal.engine.connect() as connection:
        kept = connection.execute(sa.select(READINGS.c.patient)).scalars().all()
    assert len(kept) == sum(max(n % 7, 1) for n in range(100))


def test_a_group_that_cannot_be_written_fails_and_no_other(intake, gate):
    gate.error = OSError("full")
    failed = submit(intake, "p0", range(2))
    assert gate.entered.wait(20)
    gate.open.set()
    with pytest.raises(OSError, match="full"):
        failed.result(20)
    gate.error = None
    assert statuses(submit(intake, "p0", range(2))) == ["accepted", "accepted"]  # as if it had not been tried


def test_who_no_longer_waits_hinders_nobody(intake, gate):
    """A request that timed out, or whose caller hung up, is cancelled while its readings are written."""
    first, gone, rest = (submit(intake, f"p{n}", [n]) for n in range(3))
    assert gate.entered.wait(20)
    gone.cancel()
    first.cancel()
    gate.open.set()
    assert statuses(rest) == ["accepted"]
    assert statuses(submit(intake, "p4", [0])) == ["accepted"]


def test_no_reading_is_kept_of_whom_nobody_knows(intake, gate, journal, tmp_path, monkeypatch):
    monkeypatch.setattr("serving.records.database._WAIT_SECONDS", 0)
    intake._identities = Identities(tmp_path)
    gate.open.set()
    other = sqlite3.connect(tmp_path / "identities.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(Exception, match=r"identities\.db"):
        submit(intake, "p0", [0]).result(20)
    other.execute("ROLLBACK")
    other.close()
    assert journal.latest() is None
    assert statuses(submit(intake, "p0", [0])) == ["accepted"]
    assert intake._identities.of(["p0"]) == {"p0": "identifier of p0"}


def test_more_than_can_be_written_is_refused_at_once_and_the_rest_is_kept(intake, gate):
    first = submit(intake, "p0", [0])
    assert gate.entered.wait(20)
    waiting = [submit(intake, "p1", [n]) for n in range(1_000)]
    with pytest.raises(OverloadedError):
        submit(intake, "p2", [0])
    gate.open.set()
    assert statuses(first) == ["accepted"]
    assert {status for answer in waiting for status in statuses(answer)} == {"accepted"}


def test_what_waits_is_written_before_the_end(gate, identities, journal):
    intake = Intake(gate, identities, METRICS)
    answers = [submit(intake, f"p{n}", [n]) for n in range(20)]
    gate.open.set()
    intake.stop()
    assert {status for answer in answers for status in statuses(answer)} == {"accepted"}
    assert journal.latest() is not None
