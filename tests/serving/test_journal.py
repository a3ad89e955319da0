"""The journal: what is acknowledged is there, once, in an order that never changes; what cannot be used is put aside."""

import json
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sa

from serving.records.database import DatabaseError, instant, microsecond
from serving.records.journal import PATIENTS, QUARANTINE, READINGS, REPEATED, Journal, Received
from serving.records.timestamps import SKEW

NOW = datetime(2026, 2, 1, 12, tzinfo=UTC)
ACCEPTED, DUPLICATE = Received("accepted"), Received("duplicate")


class Clock:
    """A clock that a test sets."""

    def __init__(self):
        self.time = NOW

    def __call__(self):
        return self.time


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def journal(tmp_path, clock):
    return Journal(tmp_path, clock)


def reading(message_id="m1", value=80.0, **changes):
    sound = {
        "subject_id": "p1",
        "signal": "heart_rate",
        "value": value,
        "unit": None,
        "observed_at": NOW - timedelta(minutes=1),
    }
    sound |= {"device_id": "d1", "source": "g1", "message_id": message_id} | changes
    time = sound["observed_at"]
    return sound | {"observed_at": None if time is None else pd.Timestamp(time).as_unit("us")}


def rows(journal, table=READINGS):
    with journal.engine.connect() as connection:
        return [dict(row) for row in connection.execute(sa.select(table).order_by(table.c.seq)).mappings()]


def reasons(journal):
    return [row["reason"] for row in rows(journal, QUARANTINE)]


def test_a_reading_is_kept_as_it_was_said(journal):
    assert journal.append([reading(value=80.004)]) == [ACCEPTED]
    (row,) = rows(journal)
    assert row["message"]
    assert {name: value for name, value in row.items() if name not in {"seq", "message"}} == {
        "patient": "p1",
        "signal": "heart_rate",
        "observed_at": microsecond(pd.Timestamp(NOW - timedelta(minutes=1))),
        "value": 80.0,  # on the signal's resolution
        "recorded_at": microsecond(pd.Timestamp(NOW)),
        "device_id": "d1",
        "source": "g1",
    }


def test_what_comes_together_is_one_group_and_no_two_groups_share_a_time(journal):
    journal.append([reading("m1"), reading("m2", signal="spo2", value=97)])
    journal.append([reading("m3", value=81)])  # the clock stands still
    journal.register([facts()])
    times = [row["recorded_at"] for row in rows(journal)]
    now = microsecond(pd.Timestamp(NOW))
    assert times == [now, now, now + 1]
    assert rows(journal, PATIENTS)[0]["recorded_at"] == journal.latest() == now + 2
    assert microsecond(journal.tick()) == journal.latest() == now + 3


def facts(**changes):
    known = {"patient": "p1", "ward": "A", "age": 70.0, "sex": 1.0, "unit_admitted_at": None, "hospital_admitted_at": None}
    return known | {"discharged": False} | changes


def test_the_order_stays_when_the_clock_goes_back_and_when_the_home_is_opened_again(clock, tmp_path):
    seen = []
    for step, shift in enumerate([0, 10, -40, -40, 5, 20]):
        clock.time = NOW + timedelta(seconds=shift)
        again = Journal(tmp_path, clock)  # who begins anew knows the last time
        again.append([reading(f"m{step}", 80.0 + step)])
        seen.append(again.latest())
        assert instant(seen[-1]) >= clock.time
    assert seen == sorted(set(seen))
    assert seen[-1] == microsecond(pd.Timestamp(NOW + timedelta(seconds=20)))  # the clock is right again


def test_what_comes_after_a_clock_was_far_ahead_is_kept_in_order_and_that_is_said(clock, tmp_path, caplog):
    journal = Journal(tmp_path, clock)
    clock.time = NOW + timedelta(days=1)  # it was wrong once
    journal.append([reading("m0", 80.0)])
    wrong = journal.latest()
    clock.time = NOW
    assert journal.append([reading("m1", 81.0), reading("m2", 82.0)]) == [ACCEPTED] * 2
    journal.register([facts()])
    assert journal.latest() == wrong + 2
    assert caplog.text.count("recorded 86400 s ahead of the clock") == 1  # said once


def test_what_was_recorded_while_the_clock_was_ahead_is_recorded_anew_in_the_same_order(clock, tmp_path):
    journal = Journal(tmp_path, clock)
    journal.append([reading("m0", 80.0)])
    right = journal.latest()
    clock.time = NOW + timedelta(hours=2)
    journal.append([reading("m1", 81.0), reading("m2", 82.0)])
    clock.time = NOW + timedelta(seconds=10)
    journal.append([reading("m3", 83.0)])
    journal.register([facts()])
    order = [(row["value"], row["observed_at"]) for row in rows(journal)]
    assert journal.settle() == right
    kept = rows(journal)
    assert [(row["value"], row["observed_at"]) for row in kept] == order
    now = microsecond(pd.Timestamp(clock.time))
    assert [row["recorded_at"] for row in kept] == [right, now - 2, now - 2, now - 1]  # what was a group is one still
    assert [row["recorded_at"] for row in rows(journal, PATIENTS)] == [now]
    assert journal.latest() == now
    assert journal.settle() is None  # all is in order
    clock.time += timedelta(seconds=1)
    journal.append([reading("m4", 84.0)])
    assert journal.latest() == microsecond(pd.Timestamp(clock.time))


def test_many_writers_make_groups_of_different_times(journal):
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda n: journal.append([reading(f"m{n}", 50.0 + n), reading(f"n{n}", 110.0 + n)]), range(40)))
    assert results == [[ACCEPTED, ACCEPTED]] * 40
    kept = pd.DataFrame(rows(journal))
    assert len(kept) == 80
    assert (kept.groupby("recorded_at").size() == 2).all()
    assert kept["recorded_at"].is_monotonic_increasing  # numbers and times say the same order


def test_a_message_sent_again_counts_once(journal, clock):
    assert journal.append([reading(), reading("m2", signal="spo2", value=97)]) == [ACCEPTED, ACCEPTED]
    clock.time += timedelta(hours=1)
    assert journal.append([reading("m2", signal="spo2", value=97), reading(), reading("m3", 99)]) == [
        *(DUPLICATE, DUPLICATE, ACCEPTED)
    ]
    assert journal.append([reading("m4", 60), reading("m4", 60)]) == [ACCEPTED, DUPLICATE]  # within a group, too
    assert len(rows(journal)) == 4
    assert reasons(journal) == []


def test_what_came_again_is_counted_by_patient_signal_and_where_it_came_from(journal, clock):
    oxygen = reading("m2", signal="spo2", value=97, device_id=None, source=None)
    journal.append([reading(), oxygen])
    assert rows(journal, REPEATED) == []
    clock.time += timedelta(minutes=5)
    journal.append([oxygen, reading(), reading("m3", 81), reading(), oxygen, reading("m4", 81, source="g2"), reading(value=99)])
    at = microsecond(pd.Timestamp(clock.time))
    again = [tuple(row.values())[1:] for row in rows(journal, REPEATED)]
    assert again == [  # what contradicts itself is in the quarantine
        (at, "p1", "spo2", None, None, 2),
        (at, "p1", "heart_rate", "d1", "g1", 2),
        (at, "p1", "heart_rate", "d1", "g2", 1),
    ]
    assert reasons(journal) == ["duplicate_message"]
    journal.append([reading("m5", 82), reading("m5", 82)])  # within a group, too
    assert [(row["recorded_at"], row["times"]) for row in rows(journal, REPEATED)[3:]] == [(at + 1, 1)]


def test_a_journal_of_before_counts_from_now_on(journal, tmp_path, clock):
    journal.append([reading()])
    REPEATED.drop(journal.engine)
    journal = Journal(tmp_path, clock)
    assert journal.append([reading()]) == [DUPLICATE]
    assert len(rows(journal)) == len(rows(journal, REPEATED)) == 1


def test_the_same_reading_under_another_name_counts_once(journal):
    assert journal.append([reading("m1"), reading("m2")]) == [ACCEPTED, DUPLICATE]
    assert journal.append([reading("m3", source="g2"), reading("m4", value=80.001)]) == [DUPLICATE, DUPLICATE]
    assert len(rows(journal)) == 1


def test_another_gateway_may_use_the_same_name(journal):
    other = [reading(value=81, source="g2"), reading(value=82, source=None), reading(value=83, subject_id="p2")]
    assert journal.append([reading(), *other]) == [ACCEPTED] * 4


def test_a_message_that_says_something_else_than_before_is_put_aside(journal):
    assert journal.append([reading("m1", 80), reading("m1", 90)]) == [ACCEPTED, Received("quarantined", "duplicate_message")]
    assert journal.append([reading("m1", 100)]) == [Received("quarantined", "duplicate_message")]
    assert [row["value"] for row in rows(journal)] == [80]
    assert [json.loads(row["reading"])["value"] for row in rows(journal, QUARANTINE)] == [90, 100]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"observed_at": None}, "missing_time"),
        ({"observed_at": NOW + timedelta(seconds=6)}, "recorded_before_observed"),
        ({"signal": "mood"}, "unknown_signal"),
        ({"unit": "Cel"}, "unknown_unit"),
        ({"value": float("nan")}, "not_a_number"),
        ({"value": float("inf")}, "not_a_number"),
        ({"signal": "on_oxygen", "value": 0.5}, "not_a_code"),
        ({"value": 31337.25}, "implausible"),
    ],
)
def test_what_cannot_be_used_is_put_aside_with_the_reason_and_the_rest_is_kept(journal, changes, reason):
    sent = {"value": "as it came", "observed_at": "then"}
    bad = reading("m2", **changes) | {"sent": sent}
    good = reading("m3", 81) | {"sent": sent}
    assert journal.append([reading("m1"), bad, good]) == [ACCEPTED, Received("quarantined", reason), ACCEPTED]
    (aside,) = rows(journal, QUARANTINE)
    assert (aside["patient"], aside["reason"]) == ("p1", reason)
    kept = json.loads(aside["reading"])
    assert (kept["value"], kept["observed_at"], kept["message_id"]) == ("as it came", "then", "m2")
    assert "subject_id" not in kept
    assert [row["value"] for row in rows(journal)] == [80, 81]
    assert journal.append([bad]) == [Received("quarantined", reason)]  # as often as it comes


@pytest.mark.parametrize("ahead", [timedelta(microseconds=1), timedelta(seconds=5)])
def test_a_device_whose_clock_is_a_little_ahead_is_taken_at_its_arrival(journal, ahead):
    assert journal.append([reading(observed_at=NOW + ahead)]) == [ACCEPTED]
    (row,) = rows(journal)
    assert row["observed_at"] == row["recorded_at"] == microsecond(pd.Timestamp(NOW))
    assert timedelta(seconds=5) == SKEW


def test_beyond_the_skew_a_reading_is_of_the_future(journal):
    late = NOW + timedelta(seconds=5, microseconds=1)
    assert journal.append([reading(observed_at=late)]) == [Received("quarantined", "recorded_before_observed")]


def test_a_message_of_a_device_ahead_is_known_again(journal, clock):
    """Its time is not the one that was kept; sent again it must be neither another reading nor a contradiction."""
    ahead = reading(observed_at=NOW + timedelta(seconds=3))
    assert journal.append([ahead]) == [ACCEPTED]
    clock.time += timedelta(seconds=1)
    assert journal.append([ahead]) == [DUPLICATE]
    clock.time += timedelta(seconds=60)
    assert journal.append([ahead]) == [DUPLICATE]
    assert len(rows(journal)) == 1


def test_who_a_patient_is_is_added_to_never_changed(journal):
    journal.register([facts(), facts(patient="p2", ward="B")])
    journal.register([facts(ward="B", discharged=True)])
    kept = [(row["patient"], row["ward"], row["discharged"]) for row in rows(journal, PATIENTS)]
    assert kept == [("p1", "A", False), ("p2", "B", False), ("p1", "B", True)]


def test_nothing_is_nothing(journal):
    assert journal.append([]) == []
    assert journal.latest() is None


def test_where_the_disk_fails_nothing_is_kept_and_the_next_try_is_as_if_it_were_the_first(tmp_path, clock, monkeypatch):
    monkeypatch.setattr("serving.records.database._WAIT_SECONDS", 0)
    journal = Journal(tmp_path, clock)
    other = sqlite3.connect(tmp_path / "journal.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    for attempt in (lambda: journal.append([reading(), reading("m2", value=9_999)]), lambda: journal.register([facts()])):
        with pytest.raises(DatabaseError, match=r"journal\.db: cannot be used") as raised:
            attempt()
        assert raised.value.__cause__ is None  # the driver's error holds the row
    other.execute("ROLLBACK")
    other.close()
    assert journal.latest() is None
    assert rows(journal) == rows(journal, QUARANTINE) == rows(journal, REPEATED) == rows(journal, PATIENTS) == []
    assert journal.append([reading()]) == [ACCEPTED]


def test_a_full_disk_in_the_middle_of_a_group_keeps_nothing_of_it(journal):
    """SQLite's own limit stands for the disk's."""
    with journal.engine.connect() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar()

    def no_room(connection, _record, _proxy):
        connection.execute(f"PRAGMA max_page_count={pages + 4}")

    sa.event.listen(journal.engine, "checkout", no_room)
    with pytest.raises(DatabaseError, match="cannot be used"):
        journal.append([reading(f"m{n}", 60 + n / 100) for n in range(3_000)])
    sa.event.remove(journal.engine, "checkout", no_room)
    assert rows(journal) == []
    assert journal.latest() is None


def test_a_large_group_of_all_sorts_against_a_slow_obvious_journal(journal):
    """What becomes of each of some hundreds of readings, told one by one by a dictionary."""
    generator = np.random.default_rng(7)
    sent = [
        reading(f"m{generator.integers(60)}", float(generator.integers(60, 63)), subject_id=f"p{generator.integers(3)}")
        for _ in range(700)
    ]
    messages, said = {}, set()
    expected = []
    for one in sent:
        message, says = (one["subject_id"], one["message_id"]), (one["subject_id"], one["value"])
        if messages.get(message, one["value"]) != one["value"]:
            expected.append(Received("quarantined", "duplicate_message"))
            continue
        expected.append(DUPLICATE if says in said else ACCEPTED)
        if says not in said:
            messages[message] = one["value"]
            said.add(says)
    assert [result for first in range(700) for result in journal.append(sent[first : first + 1])] == expected
