"""The journal: what is acknowledged is stored, once, in an order that never changes; what cannot be used is quarantined."""

import json
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from vigil.features.kernel.plan import UNBOUNDED
from vigil.features.observations import check
from vigil.serving.records.database import DatabaseError
from vigil.serving.records.journal import Journal
from vigil.serving.records.journal_rows import Receipt, digest_origin
from vigil.serving.records.journal_tables import OBSERVATIONS, QUARANTINE, REGISTRATIONS, REPETITIONS
from vigil.serving.records.registration import Registration
from vigil.serving.records.timestamps import SKEW, instant, microsecond

NOW = datetime(2026, 2, 1, 12, tzinfo=UTC)
ACCEPTED, DUPLICATE = Receipt("accepted"), Receipt("duplicate")


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


def observation(message_id="m1", value=80.0, **changes):
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


def append(journal, observations):
    return journal.append(lambda: observations)


def rows(journal, table=OBSERVATIONS):
    with journal._engine.connect() as connection:
        return [dict(row) for row in connection.execute(sa.select(table).order_by(table.c.seq)).mappings()]


def reasons(journal):
    return [row["reason"] for row in rows(journal, QUARANTINE)]


def test_observation_is_stored_as_it_was_sent(journal):
    assert append(journal, [observation(value=80.004)]) == [ACCEPTED]
    (row,) = rows(journal)
    assert len(row["origin"]) == 8
    assert {name: value for name, value in row.items() if name not in {"seq", "message", "origin"}} == {
        "subject_id": "p1",
        "signal": "heart_rate",
        "version": None,
        "superseded_at": None,
        "observed_at": microsecond(pd.Timestamp(NOW - timedelta(minutes=1))),
        "value": 80.0,  # on the signal's resolution
        "recorded_at": microsecond(pd.Timestamp(NOW)),
        "device_id": "d1",
        "source": "g1",
    }


def test_group_has_one_time_that_no_other_group_shares(journal):
    append(journal, [observation("m1"), observation("m2", signal="spo2", value=97)])
    append(journal, [observation("m3", value=81)])  # the clock stands still
    journal.register([registration()])
    times = [row["recorded_at"] for row in rows(journal)]
    now = microsecond(pd.Timestamp(NOW))
    assert times == [now, now, now + 1]
    assert rows(journal, REGISTRATIONS)[0]["recorded_at"] == journal.latest() == now + 2
    assert microsecond(journal.tick()) == journal.latest() == now + 3


def registration(**changes):
    return Registration(**{"subject_id": "p1", "ward": "A", "age": 70.0, "sex": 1.0, **changes})


def test_group_times_ascend_when_the_clock_goes_back_and_after_a_restart(clock, tmp_path):
    seen = []
    for step, shift in enumerate([0, 10, -40, -40, 5, 20]):
        clock.time = NOW + timedelta(seconds=shift)
        again = Journal(tmp_path, clock)  # a new process knows the last time
        append(again, [observation(f"m{step}", 80.0 + step)])
        seen.append(again.latest())
        assert instant(seen[-1]) >= clock.time
    assert seen == sorted(set(seen))
    assert seen[-1] == microsecond(pd.Timestamp(NOW + timedelta(seconds=20)))  # the clock is right again


def test_groups_after_a_clock_far_ahead_stay_in_order_and_it_is_logged_once(clock, tmp_path, caplog):
    journal = Journal(tmp_path, clock)
    clock.time = NOW + timedelta(days=1)  # it was wrong for a while
    append(journal, [observation("m0", 80.0)])
    wrong = journal.latest()
    clock.time = NOW
    assert append(journal, [observation("m1", 81.0), observation("m2", 82.0)]) == [ACCEPTED] * 2
    journal.register([registration()])
    assert journal.latest() == wrong + 2
    assert caplog.text.count("recorded 86400 s ahead of the clock") == 1  # logged once


def test_settle_clock_records_groups_ahead_again_in_the_same_order(clock, tmp_path):
    journal = Journal(tmp_path, clock)
    append(journal, [observation("m0", 80.0)])
    right = journal.latest()
    clock.time = NOW + timedelta(hours=2)
    append(journal, [observation("m1", 81.0), observation("m2", 82.0)])
    clock.time = NOW + timedelta(seconds=10)
    append(journal, [observation("m3", 83.0)])
    journal.register([registration()])
    order = [(row["value"], row["observed_at"]) for row in rows(journal)]
    assert journal.settle_clock() == right
    after = rows(journal)
    assert [(row["value"], row["observed_at"]) for row in after] == order
    now = microsecond(pd.Timestamp(clock.time))
    assert [row["recorded_at"] for row in after] == [right, now - 2, now - 2, now - 1]  # a group stays one
    assert [row["recorded_at"] for row in rows(journal, REGISTRATIONS)] == [now]
    assert journal.latest() == now
    assert journal.settle_clock() is None  # all is in order
    clock.time += timedelta(seconds=1)
    append(journal, [observation("m4", 84.0)])
    assert journal.latest() == microsecond(pd.Timestamp(clock.time))


def test_concurrent_writers_make_groups_of_different_times(journal):
    with ThreadPoolExecutor(8) as pool:
        results = list(
            pool.map(lambda n: append(journal, [observation(f"m{n}", 50.0 + n), observation(f"n{n}", 110.0 + n)]), range(16))
        )
    assert results == [[ACCEPTED, ACCEPTED]] * 16
    stored = pd.DataFrame(rows(journal))
    assert len(stored) == 32
    assert (stored.groupby("recorded_at").size() == 2).all()
    assert stored["recorded_at"].is_monotonic_increasing  # numbers and times ascend together


def test_message_sent_again_counts_once(journal, clock):
    assert append(journal, [observation(), observation("m2", signal="spo2", value=97)]) == [ACCEPTED, ACCEPTED]
    clock.time += timedelta(hours=1)
    assert append(journal, [observation("m2", signal="spo2", value=97), observation(), observation("m3", 99)]) == [
        *(DUPLICATE, DUPLICATE, ACCEPTED)
    ]
    assert append(journal, [observation("m4", 60), observation("m4", 60)]) == [ACCEPTED, DUPLICATE]  # within a group, too
    assert len(rows(journal)) == 4
    assert reasons(journal) == []


def test_repetitions_are_counted_by_subject_signal_device_and_source(journal, clock):
    oxygen = observation("m2", signal="spo2", value=97, device_id=None, source=None)
    append(journal, [observation(), oxygen])
    assert rows(journal, REPETITIONS) == []
    clock.time += timedelta(minutes=5)
    append(
        journal,
        [
            oxygen,
            observation(),
            observation("m3", 81),
            observation(),
            oxygen,
            observation("m4", 81, source="g2"),
            observation(value=99),
        ],
    )
    at = microsecond(pd.Timestamp(clock.time))
    again = [tuple(row.values())[1:] for row in rows(journal, REPETITIONS)]
    assert again == [  # the contradiction is in the quarantine
        (at, "p1", "spo2", None, None, 2),
        (at, "p1", "heart_rate", "d1", "g1", 2),
        (at, "p1", "heart_rate", "d1", "g2", 1),
    ]
    assert reasons(journal) == ["duplicate_message"]
    append(journal, [observation("m5", 82), observation("m5", 82)])  # within a group, too
    assert [(row["recorded_at"], row["times"]) for row in rows(journal, REPETITIONS)[3:]] == [(at + 1, 1)]


def test_same_content_under_another_message_id_counts_once(journal):
    assert append(journal, [observation("m1"), observation("m2")]) == [ACCEPTED, DUPLICATE]
    assert append(journal, [observation("m3", source="g2"), observation("m4", value=80.001)]) == [DUPLICATE, DUPLICATE]
    assert len(rows(journal)) == 1


def test_message_id_may_be_used_by_another_source(journal):
    other = [observation(value=81, source="g2"), observation(value=82, source=None), observation(value=83, subject_id="p2")]
    assert append(journal, [observation(), *other]) == [ACCEPTED] * 4


def test_message_with_another_value_than_before_is_quarantined(journal):
    assert append(journal, [observation("m1", 80), observation("m1", 90)]) == [
        ACCEPTED,
        Receipt("quarantined", "duplicate_message"),
    ]
    assert append(journal, [observation("m1", 100)]) == [Receipt("quarantined", "duplicate_message")]
    assert [row["value"] for row in rows(journal)] == [80]
    assert [json.loads(row["observation"])["value"] for row in rows(journal, QUARANTINE)] == [90, 100]


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
def test_unusable_observation_is_quarantined_with_a_reason_and_the_rest_is_stored(journal, changes, reason):
    sent = {"value": "as sent", "observed_at": "then"}
    bad = observation("m2", **changes) | {"sent": sent}
    good = observation("m3", 81) | {"sent": sent}
    assert append(journal, [observation("m1"), bad, good]) == [ACCEPTED, Receipt("quarantined", reason), ACCEPTED]
    (quarantined,) = rows(journal, QUARANTINE)
    assert (quarantined["subject_id"], quarantined["reason"]) == ("p1", reason)
    original = json.loads(quarantined["observation"])
    assert (original["value"], original["observed_at"], original["message_id"]) == ("as sent", "then", "m2")
    assert "subject_id" not in original
    assert [row["value"] for row in rows(journal)] == [80, 81]
    assert append(journal, [bad]) == [Receipt("quarantined", reason)]  # each time it is sent


@pytest.mark.parametrize("ahead", [timedelta(microseconds=1), timedelta(seconds=5)])
def test_skew_of_a_device_clock_counts_as_the_time_of_arrival(journal, ahead):
    assert append(journal, [observation(observed_at=NOW + ahead)]) == [ACCEPTED]
    (row,) = rows(journal)
    assert row["observed_at"] == row["recorded_at"] == microsecond(pd.Timestamp(NOW))
    assert timedelta(seconds=5) == SKEW


def test_skew_beyond_its_limit_is_quarantined(journal):
    late = NOW + timedelta(seconds=5, microseconds=1)
    assert append(journal, [observation(observed_at=late)]) == [Receipt("quarantined", "recorded_before_observed")]


def test_observation_ahead_of_the_clock_is_accepted_when_it_is_sent_again_later(journal, clock):
    ahead = [observation(observed_at=NOW + timedelta(minutes=2))]
    assert append(journal, ahead) == [Receipt("quarantined", "recorded_before_observed")]
    clock.time += timedelta(minutes=3)
    assert append(journal, ahead) == [ACCEPTED]
    assert append(journal, ahead) == [DUPLICATE]
    assert reasons(journal) == ["recorded_before_observed"]


def test_skew_does_not_hide_a_message_sent_again(journal, clock):
    """Its time is not the one that was stored; sent again it must be neither another observation nor a contradiction."""
    ahead = observation(observed_at=NOW + timedelta(seconds=3))
    assert append(journal, [ahead]) == [ACCEPTED]
    clock.time += timedelta(seconds=1)
    assert append(journal, [ahead]) == [DUPLICATE]
    clock.time += timedelta(seconds=60)
    assert append(journal, [ahead]) == [DUPLICATE]
    assert len(rows(journal)) == 1


def test_registrations_are_added_and_never_changed(journal):
    journal.register([registration(), registration(subject_id="p2", ward="B")])
    journal.register([registration(ward="B", discharged=True)])
    stored = [(row["subject_id"], row["ward"], row["discharged"]) for row in rows(journal, REGISTRATIONS)]
    assert stored == [("p1", "A", False), ("p2", "B", False), ("p1", "B", True)]


def test_empty_group_stores_nothing(journal):
    assert append(journal, []) == []
    assert journal.latest() is None


def test_failed_write_stores_nothing_and_can_be_tried_again(tmp_path, clock, monkeypatch):
    monkeypatch.setattr("vigil.serving.records.database.WAIT_SECONDS", 0)
    journal = Journal(tmp_path, clock)
    other = sqlite3.connect(tmp_path / "journal.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    for attempt in (
        lambda: append(journal, [observation(), observation("m2", value=9_999)]),
        lambda: journal.register([registration()]),
    ):
        with pytest.raises(DatabaseError, match=r"journal\.db: cannot be used") as raised:
            attempt()
        assert raised.value.__cause__ is None  # the driver's error holds the row
    other.execute("ROLLBACK")
    other.close()
    assert journal.latest() is None
    assert rows(journal) == rows(journal, QUARANTINE) == rows(journal, REPETITIONS) == rows(journal, REGISTRATIONS) == []
    assert append(journal, [observation()]) == [ACCEPTED]


def test_full_disk_in_the_middle_of_a_group_stores_nothing_of_it(journal):
    """SQLite's own limit stands for the disk's."""
    with journal._engine.connect() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar()

    def no_room(connection, _record, _proxy):
        connection.execute(f"PRAGMA max_page_count={pages + 4}")

    sa.event.listen(journal._engine, "checkout", no_room)
    with pytest.raises(DatabaseError, match="cannot be used"):
        append(journal, [observation(f"m{n}", 60 + n / 100) for n in range(3_000)])
    sa.event.remove(journal._engine, "checkout", no_room)
    assert rows(journal) == []
    assert journal.latest() is None


def test_receipts_agree_with_a_slow_obvious_journal(journal):
    """The receipts of many observations, computed one by one with a dictionary."""
    generator = np.random.default_rng(7)
    sent = [
        observation(f"m{generator.integers(30)}", float(generator.integers(60, 63)), subject_id=f"p{generator.integers(3)}")
        for _ in range(200)
    ]
    messages, contents = {}, set()
    expected = []
    for one in sent:
        message, content = (one["subject_id"], one["message_id"]), (one["subject_id"], one["value"])
        if messages.get(message, one["value"]) != one["value"]:
            expected.append(Receipt("quarantined", "duplicate_message"))
            continue
        expected.append(DUPLICATE if content in contents else ACCEPTED)
        if content not in contents:
            messages[message] = one["value"]
            contents.add(content)
    assert [result for first in range(200) for result in append(journal, sent[first : first + 1])] == expected


def count_now(journal, until=UNBOUNDED):
    with journal.snapshot() as snapshot:
        rows = snapshot.observations(0, until)
    return sorted(zip(rows["signal"], rows["value"], strict=True))


def test_correction_and_retraction_count_from_their_time_on(journal, clock):
    def later(**changes):
        clock.time += timedelta(minutes=1)
        receipts = append(journal, [observation("m1", **changes)])
        return receipts[0], journal.latest()

    assert append(journal, [observation("m1", 80.0)]) == [ACCEPTED]
    times = [journal.latest()]
    for change in ({"value": 88.0, "status": "corrected"}, {"value": None, "status": "retracted"}):
        receipt, time = later(**change, version=None)
        assert receipt == ACCEPTED
        times.append(time)
        assert later(**change, version=None)[0] == DUPLICATE  # sent again
    assert later(value=80.0, status="final", version=None)[0] == Receipt("duplicate", "superseded")
    assert later(value=84.0, status="corrected", version=2)[0] == Receipt("duplicate", "superseded")
    assert [count_now(journal, time) for time in times] == [[("heart_rate", 80.0)], [("heart_rate", 88.0)], []]
    assert append(journal, [observation("m2", 80.0)]) == [ACCEPTED]  # another message says it again
    assert count_now(journal) == [("heart_rate", 80.0)]
    assert later(value=90.0, status="final", version=9)[0] == ACCEPTED
    assert count_now(journal) == [("heart_rate", 80.0), ("heart_rate", 90.0)]


def test_retraction_that_arrives_before_its_observation_holds(journal):
    assert append(journal, [observation("m1", None, status="retracted", version=2)]) == [ACCEPTED]
    assert append(journal, [observation("m1", 80.0)]) == [Receipt("duplicate", "superseded")]
    assert count_now(journal) == []
    assert append(journal, [observation("m1", 80.0, source="g2")]) == [ACCEPTED]  # another gateway's message


def test_original_and_its_correction_in_one_group(journal):
    group = [observation("m1", 80.0, status="final", version=None), observation("m1", 88.0, status="corrected", version=None)]
    assert append(journal, group) == [ACCEPTED, ACCEPTED]
    assert count_now(journal) == [("heart_rate", 88.0)]


def test_unusable_correction_is_quarantined_and_changes_nothing(journal):
    append(journal, [observation("m1", 80.0)])
    assert append(journal, [observation("m1", 800.0, status="corrected", version=None)]) == [
        Receipt("quarantined", "implausible")
    ]
    assert count_now(journal) == [("heart_rate", 80.0)]
    assert reasons(journal) == ["implausible"]


def test_oxygen_derived_from_a_fraction_follows_its_corrections(journal):
    fio2 = {"signal": "fio2", "unit": "%"}
    append(journal, [observation("m1", 60.0, **fio2)])
    assert count_now(journal) == [("fio2", 60.0), ("on_oxygen", 1.0)]
    append(journal, [observation("m1", 21.0, **fio2, status="corrected", version=None)])
    assert count_now(journal) == [("fio2", 21.0), ("on_oxygen", 0.0)]
    append(journal, [observation("m1", None, **fio2, status="retracted", version=None)])
    assert count_now(journal) == []


def test_versions_are_of_one_observation_by_whatever_code_they_name_the_signal(journal):
    append(journal, [observation("m1", 80.0)])
    assert append(journal, [observation("m1", 88.0, signal="8867-4", status="corrected", version=None)]) == [ACCEPTED]
    assert count_now(journal) == [("heart_rate", 88.0)]
    append(journal, [observation("m2", 70.0, signal="8889-8")])
    assert append(journal, [observation("m2", 71.0)]) == [Receipt("quarantined", "duplicate_message")]
    assert append(journal, [observation("m2", None, signal="8893-0", status="retracted", version=None)]) == [ACCEPTED]
    assert count_now(journal) == [("heart_rate", 88.0)]


def test_a_bound_that_was_said_by_another_message_is_still_corrected_to_a_value(journal):
    glucose = {"signal": "glucose", "unit": "mg/dL", "status": "corrected", "version": None}
    append(journal, [observation("m2", 40.0, comparator=">", **glucose)])
    append(journal, [observation("m1", 40.0, comparator=">", **glucose)])
    assert append(journal, [observation("m1", 40.0, comparator=None, **glucose)]) == [ACCEPTED]
    assert count_now(journal) == [("glucose", 40.0), ("glucose_above_range", 40.0)]


def test_corrections_of_a_group_take_little_longer_than_its_originals(journal):
    """One by one, each with queries of its own, they held the write lock for 11 s."""

    def seconds(**changes):
        began = perf_counter()
        rows = [observation(f"m{n}", 60.0 + n % 60, observed_at=NOW - timedelta(seconds=n)) | changes for n in range(1_000)]
        assert append(journal, rows) == [ACCEPTED] * 1_000
        return perf_counter() - began

    seconds(subject_id="p2")
    originals = seconds()
    assert seconds(status="corrected", version=2, value=130.0) < 20 * originals


ORIGINALS = {"m1": 60.0, "m2": 80.0, "m3": 60.0}  # a message is not sent twice with other content and the same version
VERSIONS = st.lists(
    st.tuples(
        st.sampled_from(["m1", "m2", "m3"]),
        st.sampled_from(["final", "final", "corrected", "retracted"]),
        st.sampled_from([None, None, 1, 2, 3, 4]),
        st.sampled_from([60.0, 80.0, 100.0]),
        st.booleans(),  # in the group of the one before
    ),
    min_size=1,
    max_size=12,
)


@settings(max_examples=30, deadline=None)
@given(VERSIONS)
def test_versions_one_by_one_count_as_they_do_in_a_file(actions):
    with TemporaryDirectory() as home:
        clock = Clock()
        journal, sent, groups, times = Journal(Path(home), clock), [], [], []
        for message, status, version, value, joins in actions:
            said = ORIGINALS[message] if status == "final" and version in (None, 1) else value
            row = observation(message, None if status == "retracted" else said, status=status, version=version)
            groups[-1].append(row) if joins and groups else groups.append([row])
        for group in groups:
            clock.time += timedelta(minutes=1)
            append(journal, group)
            times.append(journal.latest())
            sent += [row | {"recorded_at": instant(times[-1])} for row in group]
        checked = check(pd.DataFrame(sent)).accepted
        for time in times:
            ends = checked["superseded_at"]
            now = checked[(checked["recorded_at"] <= instant(time)) & (ends.isna() | (ends > instant(time)))]
            assert count_now(journal, time) == sorted(zip(now["signal"], now["value"], strict=True))


def test_correction_is_found_whatever_the_digest_of_its_message_ends_with(journal):
    names = [f"m{number}" for number in range(2_000)]
    digests = {name: digest_origin(["g1", name, "p1", "heart_rate"]) for name in names}
    ending = [name for name in names if digests[name].endswith(b"\0")]
    assert len(ending) >= 3
    for name in ending:
        append(journal, [observation(name, 80.0)])
        assert append(journal, [observation(name, None, status="retracted", version=None)]) == [ACCEPTED]
        assert append(journal, [observation(name, 80.0)]) == [Receipt("duplicate", "superseded")]
    assert count_now(journal) == []


OXYGEN_MESSAGES = st.lists(
    st.tuples(
        st.sampled_from(["m1", "m2", "m3"]),
        st.sampled_from(["final", "final", "corrected", "retracted"]),
        st.sampled_from([21.0, 60.0, 70.0]),
    ),
    min_size=1,
    max_size=8,
)


@settings(max_examples=30, deadline=None)
@given(OXYGEN_MESSAGES)
def test_oxygen_follows_from_every_fraction_that_counts_as_it_does_in_a_file(actions):
    with TemporaryDirectory() as home:
        clock = Clock()
        journal, sent, times = Journal(Path(home), clock), [], []
        for message, status, value in actions:
            said = {"m1": 60.0, "m2": 70.0, "m3": 21.0}[message] if status == "final" else value
            retracts = status == "retracted"
            row = observation(message, None if retracts else said, signal="fio2", unit="%", status=status, version=None)
            clock.time += timedelta(minutes=1)
            append(journal, [row])
            times.append(journal.latest())
            sent.append(row | {"recorded_at": instant(times[-1])})
        checked = check(pd.DataFrame(sent)).accepted
        for time in times:
            ends = checked["superseded_at"]
            now = checked[(checked["recorded_at"] <= instant(time)) & (ends.isna() | (ends > instant(time)))]
            known = count_now(journal, time)
            assert known == sorted(zip(now["signal"], now["value"], strict=True))
            fractions = {float(value > 21) for signal, value in known if signal == "fio2"}
            assert {value for signal, value in known if signal == "on_oxygen"} == fractions
