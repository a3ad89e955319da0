"""Group commit: each request gets the results of its own observations, and a failure concerns its group only."""

import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest
import sqlalchemy as sa
from prometheus_client.parser import text_string_to_metric_families

from vigil.features.errors import VigilError
from vigil.serving.identity.identities import Identities
from vigil.serving.observability.metrics import Metrics
from vigil.serving.records.journal import Journal
from vigil.serving.records.journal_tables import OBSERVATIONS
from vigil.serving.stream.group_commit import GroupCommit, OverloadedError

NOW = datetime.now(UTC)


class Gate:
    """A journal whose groups wait until the test opens it, or fail if the test sets an error."""

    def __init__(self, journal):
        self.journal, self.groups = journal, []
        self.entered, self.open = threading.Event(), threading.Event()
        self.error = None

    def append(self, group, declared):
        self.entered.set()
        assert self.open.wait(20)
        if self.error:
            raise self.error

        def counted():
            observations = group()
            self.groups.append(len(observations))
            return observations

        return self.journal.append(counted, declared)


def observation(subject, number, value=None):
    at = pd.Timestamp(NOW - timedelta(minutes=number + 1)).as_unit("us")
    fields = {
        "subject_id": subject,
        "signal": "heart_rate",
        "value": 60.0 + number % 100 if value is None else value,
        "unit": None,
    }
    return {**fields, "observed_at": at, "device_id": None, "source": None, "message_id": f"{subject}-{number}"}


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
def metrics():
    return Metrics()


@pytest.fixture
def group_commit(gate, identities, metrics):
    group_commit = GroupCommit(gate, identities, metrics)
    yield group_commit
    gate.open.set()
    group_commit.stop()


def submit(group_commit, subject, numbers, **more):
    observations = [observation(subject, number) for number in numbers]
    return group_commit.submit(observations, {subject: f"identifier of {subject}"}, **more)


def statuses(answer):
    return [receipt.status for receipt in answer.result(20)]


def stored_subjects(journal):
    with journal._engine.connect() as connection:
        return connection.execute(sa.select(OBSERVATIONS.c.subject_id)).scalars().all()


def test_requests_that_arrive_while_a_group_is_written_become_one_group(group_commit, gate):
    first = submit(group_commit, "p0", range(2))
    assert gate.entered.wait(20)
    rest = [submit(group_commit, f"p{n}", range(n)) for n in range(1, 6)]
    assert not first.done()  # nothing is acknowledged before it is on the disk
    gate.open.set()
    assert [len(statuses(answer)) for answer in (first, *rest)] == [2, 1, 2, 3, 4, 5]
    assert gate.groups == [2, 15]


def test_each_request_gets_its_own_receipts(group_commit, gate, journal, identities):
    gate.open.set()

    def send(n):
        wrong = [observation(f"p{n}", 100, value=9_999.0)] * (n % 3)
        sent = [*(observation(f"p{n}", number) for number in range(n % 7)), *wrong, observation(f"p{n}", 0, value=60.0)]
        return statuses(group_commit.submit(sent, {f"p{n}": f"identifier of p{n}"}))

    with ThreadPoolExecutor(16) as pool:
        results = list(pool.map(send, range(100)))
    for n, own in enumerate(results):
        last = "duplicate" if n % 7 else "accepted"
        assert own == ["accepted"] * (n % 7) + ["quarantined"] * (n % 3) + [last], n
    assert identities.find([f"p{n}" for n in range(100)]) == {f"p{n}": f"identifier of p{n}" for n in range(100)}
    assert len(stored_subjects(journal)) == sum(max(n % 7, 1) for n in range(100))


def test_group_that_cannot_be_written_fails_alone(group_commit, gate):
    gate.error = OSError("full")
    failed = submit(group_commit, "p0", range(2))
    assert gate.entered.wait(20)
    gate.open.set()
    with pytest.raises(OSError, match="full"):
        failed.result(20)
    gate.error = None
    assert statuses(submit(group_commit, "p0", range(2))) == ["accepted", "accepted"]  # as if it had not been tried


class RefusedError(VigilError):
    """What a check raises."""


def test_request_refused_by_its_check_is_refused_alone(group_commit, gate, journal, identities, metrics, tmp_path):
    checked_at = []

    def refuse():
        checked_at.append(journal.latest())
        raise RefusedError("not yours")

    first = submit(group_commit, "p0", [0])
    assert gate.entered.wait(20)
    admitted = submit(group_commit, "p1", range(2), check=lambda: checked_at.append(journal.latest()))
    refused = submit(group_commit, "p2", range(3), check=refuse)
    also_admitted = submit(group_commit, "p3", range(1))
    gate.open.set()
    with pytest.raises(RefusedError, match="not yours"):
        refused.result(20)
    assert [statuses(answer) for answer in (first, admitted, also_admitted)] == [["accepted"], ["accepted"] * 2, ["accepted"]]
    assert gate.groups == [1, 3]  # one group, without the observations of the refused request
    assert len(checked_at) == 2
    assert checked_at[0] == checked_at[1] < journal.latest()  # before anything of the group was written
    assert sorted(stored_subjects(journal)) == ["p0", "p1", "p1", "p3"]
    assert identities.subjects() == {"p0", "p1", "p3"}
    group_commit.stop()
    samples = [s for family in text_string_to_metric_families(metrics.render(tmp_path).decode()) for s in family.samples]
    assert [sample.value for sample in samples if sample.name == "vigil_readings_total"] == [4.0]


def test_group_of_refused_requests_only_stores_nothing(group_commit, gate, journal):
    def refuse():
        raise RefusedError("not yours")

    gate.open.set()
    with pytest.raises(RefusedError):
        submit(group_commit, "p0", [0], check=refuse).result(20)
    assert journal.latest() is None
    assert statuses(submit(group_commit, "p0", [0])) == ["accepted"]


def test_cancelled_request_does_not_hinder_the_others(group_commit, gate):
    """A request that timed out, or whose caller hung up, is cancelled while its observations are written."""
    first, cancelled, rest = (submit(group_commit, f"p{n}", [n]) for n in range(3))
    assert gate.entered.wait(20)
    cancelled.cancel()
    first.cancel()
    gate.open.set()
    assert statuses(rest) == ["accepted"]
    assert statuses(submit(group_commit, "p4", [0])) == ["accepted"]


def test_no_observation_is_stored_without_the_identity_of_its_subject(group_commit, gate, journal, tmp_path, monkeypatch):
    monkeypatch.setattr("vigil.serving.records.database.WAIT_SECONDS", 0)
    group_commit._identities = Identities(tmp_path)
    gate.open.set()
    other = sqlite3.connect(tmp_path / "identities.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(Exception, match=r"identities\.db"):
        submit(group_commit, "p0", [0]).result(20)
    other.execute("ROLLBACK")
    other.close()
    assert journal.latest() is None
    assert statuses(submit(group_commit, "p0", [0])) == ["accepted"]
    assert group_commit._identities.find(["p0"]) == {"p0": "identifier of p0"}


def test_overload_is_refused_at_once_and_the_rest_is_stored(group_commit, gate):
    first = submit(group_commit, "p0", [0])
    assert gate.entered.wait(20)
    waiting = [submit(group_commit, "p1", [n]) for n in range(1_000)]
    with pytest.raises(OverloadedError):
        submit(group_commit, "p2", [0])
    gate.open.set()
    assert statuses(first) == ["accepted"]
    assert {status for answer in waiting for status in statuses(answer)} == {"accepted"}


def test_stop_writes_what_is_waiting(gate, identities, journal):
    group_commit = GroupCommit(gate, identities, Metrics())
    answers = [submit(group_commit, f"p{n}", [n]) for n in range(20)]
    gate.open.set()
    group_commit.stop()
    assert {status for answer in answers for status in statuses(answer)} == {"accepted"}
    assert journal.latest() is not None
