"""What a caller may see and do: wards, patients, and how often."""

import math
from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest

from vigil.serving.auth.access import Access, OtherWardError, TooManyRefusalsError
from vigil.serving.auth.tokens import Caller
from vigil.serving.records.journal import Journal
from vigil.serving.records.registration import Registration
from vigil.serving.records.timestamps import utc

ALL = Caller("all", frozenset(), None, math.inf)
WARD_A = Caller("a", frozenset(), frozenset({"A"}), math.inf)


class Clock:
    """A clock that a test sets."""

    def __init__(self):
        self.time = datetime.now(UTC) - timedelta(hours=3)

    def __call__(self):
        return self.time


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def journal(tmp_path, clock):
    return Journal(tmp_path, clock)


@pytest.fixture
def access(journal):
    return Access(journal, requests_per_second=5)


def observe(journal, clock, subject):
    at = pd.Timestamp(utc(clock.time))
    row = {"subject_id": subject, "signal": "heart_rate", "value": 80.0, "unit": None, "observed_at": at}
    journal.append(lambda: [row | {"device_id": None, "source": None, "message_id": f"{subject} {at}"}])


def test_access_without_wards_sees_everyone(access, journal):
    journal.register([Registration("p1", "A")])
    assert access.invisible_subjects(ALL, ["p1", "unknown"]) == set()
    access.require_visible(ALL, ["p1", "unknown"])
    access.require_movable(ALL, ["p1", "unknown"])


def test_access_to_wards_sees_their_present_subjects_only(access, journal):
    journal.register([Registration("p1", "A"), Registration("p2", "B"), Registration("p3", "A")])
    journal.register([Registration("p3", "B")])
    assert access.invisible_subjects(WARD_A, ["p1", "p2", "p3", "unknown"]) == {"p2", "p3", "unknown"}
    access.require_visible(WARD_A, ["p1"])
    for subject in ("p2", "p3", "unknown"):
        with pytest.raises(OtherWardError) as raised:
            access.require_visible(WARD_A, ["p1", subject])
        assert subject not in str(raised.value)


def test_access_may_move_unassigned_subjects_and_its_own(access, journal, clock):
    journal.register([Registration("p1", "A"), Registration("p2", "B")])
    observe(journal, clock, "p2")
    observe(journal, clock, "unassigned")
    access.require_movable(WARD_A, ["p1", "unassigned", "unknown"])
    with pytest.raises(OtherWardError):
        access.require_movable(WARD_A, ["p1", "p2"])


def test_access_reservation_without_observation_lasts_an_hour(access, journal, clock):
    journal.register([Registration("reserved", "B")])  # three hours ago
    access.require_movable(WARD_A, ["reserved"])
    clock.time = datetime.now(UTC) - timedelta(minutes=59)
    journal.register([Registration("reserved", "B")])
    with pytest.raises(OtherWardError):
        access.require_movable(WARD_A, ["reserved"])


def test_access_refusals_are_limited_for_each_caller(access, journal):
    journal.register([Registration("p1", "A"), Registration("p2", "B")])
    another = Caller("another", frozenset(), frozenset({"A"}), math.inf)
    for _ in range(10):
        with pytest.raises(OtherWardError):
            access.require_visible(WARD_A, ["p2"])
    for refused in (access.require_visible, access.require_movable):
        with pytest.raises(TooManyRefusalsError):
            refused(WARD_A, ["p1"])  # even a request that would be allowed
    access.require_visible(another, ["p1"])
    access.require_visible(ALL, ["p1", "p2"])


def test_access_rate_limit_counts_each_caller_alone(access):
    answers = [access.is_within_rate(WARD_A) for _ in range(12)]
    assert answers[:5] == [True] * 5
    assert False in answers
    assert access.is_within_rate(ALL)
