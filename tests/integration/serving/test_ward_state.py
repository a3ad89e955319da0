"""The ward state: an update is committed as a whole or not at all, and everything done about an alarm is stored."""

import os
import sqlite3
from dataclasses import replace

import pandas as pd
import pytest
import sqlalchemy as sa

from vigil.models.alarms.policy import AlarmState, Episode, Hold
from vigil.serving.records.database import DatabaseError
from vigil.serving.records.timestamps import instant, microsecond
from vigil.serving.records.ward_rows import Alarm, AlarmAction, AlarmChange, Event, NumberedEvent, WardRisk, WardUpdate
from vigil.serving.records.ward_state import AlreadyDoneError, OvertakenError, WardState, alarm_id
from vigil.serving.records.ward_tables import ACTIONS, ALARMS, EVENTS, RISKS

T = pd.Timestamp("2026-02-01T12:00:00Z").as_unit("us")
US = microsecond(T)
HOUR = 3_600_000_000


@pytest.fixture
def ward_state(tmp_path):
    return WardState(tmp_path)


def commit(ward_state, update, read_until):
    """Commit an update that follows the present state."""
    ward_state.commit(update, read_until, T, follows=ward_state.progress()[0])


def risk(patient, ward="A", hour=0, **changes):
    values = {"subject_id": patient, "ward": ward, "index_time": US + hour * HOUR, "prediction_id": f"{patient}-{hour}"}
    values |= {"basis": "model", "probability": 0.3, "band": "medium", "news2": 2, "news2_highest": 5, "latest_reading_at": US}
    values |= {"model_name": "m", "model_version": "1", "feature_service": "s", "threshold": 0.5}
    values |= {
        "decided_by": "model",
        "reasons": [],
        "findings": [],
        "unusual": [],
        "net_score": 2,
        "urgent_since": None,
        "dipped_at": None,
        "bounds": [],
        "terms": None,
        "assessment": {"band": "medium", "components": {"spo2": [0, 97.0, 0.5, False]}},
    } | changes
    assert set(values) == set(RISKS.columns.keys())
    return WardRisk(**values)


def alarm(patient, ward="A", hour=0, **changes):
    opened_at = US + hour * HOUR
    values = {"alarm_id": f"{patient}-{hour}", "subject_id": patient, "ward": ward, "opened_at": opened_at, "sounded": 1}
    values |= {"last_sounded_at": opened_at, "ended_at": None, "basis": "model", "probability": 0.6, "news2": 3}
    values |= {"prediction_id": "x", "model_name": "m", "model_version": "1", "feature_service": "s", "status": "open"}
    return Alarm(**values | changes)


def event(ward="A", patient="p1", kind="risk", hour=0):
    return Event(ward, patient, kind, US + hour * HOUR, {"news2": 1})


def count_actions(ward_state):
    with ward_state._engine.connect() as connection:
        return connection.execute(sa.select(sa.func.count()).select_from(ACTIONS)).scalar()


def test_risk_of_a_subject_is_replaced_by_the_next(ward_state):
    commit(ward_state, WardUpdate(risks=[risk("p1"), risk("p2", "B")]), 1)
    commit(ward_state, WardUpdate(risks=[risk("p1", hour=1, probability=0.9)]), 2)
    assert ward_state.risks(ward="A") == [risk("p1", hour=1, probability=0.9)]
    assert ward_state.risks(ward="B") == [risk("p2", "B")]
    assert [ward_state.count_subjects(ward) for ward in "ABC"] == [1, 1, 0]
    commit(ward_state, WardUpdate(removed=["p1"]), 3)
    assert ward_state.risks() == [risk("p2", "B")]


def test_risk_round_trip_keeps_every_field(ward_state):
    complete = risk(
        "p1",
        reasons=["news2_7_or_more"],
        findings=["outside_training"],
        unusual=["combination of values"],
        urgent_since=US - HOUR,
        dipped_at=US - 60_000_000,
        latest_reading_at=None,
        probability=None,
        terms={"by": "dr", "limits": {"spo2": {"low": 85, "high": None}}},
    )
    commit(ward_state, WardUpdate(risks=[complete]), 1)
    assert ward_state.risks() == [complete]


def test_progress_is_stored_with_the_heartbeat(ward_state, tmp_path):
    assert ward_state.progress() == (0, None)
    commit(ward_state, WardUpdate(), 42)
    ward_state.heartbeat(instant(US + HOUR))
    assert WardState(tmp_path).progress() == (42, instant(US + HOUR))


def test_reread_from_only_moves_progress_back(ward_state):
    commit(ward_state, WardUpdate(), 42)
    ward_state.reread_from(50)
    assert ward_state.progress() == (42, T)
    ward_state.reread_from(7)
    assert ward_state.progress() == (7, T)


def test_commit_is_whole_or_nothing(ward_state):
    commit(ward_state, WardUpdate(risks=[risk("p1")], opened=[alarm("p1")]), 1)
    twice = WardUpdate(risks=[risk("p1", hour=1)], opened=[alarm("p1", hour=1)], events=[event()])
    with pytest.raises(Exception, match="UNIQUE"):  # an episode is open, so no other can open
        commit(ward_state, twice, 2)
    assert ward_state.risks() == [risk("p1")]
    assert ward_state.progress()[0] == 1
    assert ward_state.event_range("A") == (0, 0)
    assert len(ward_state.alarms()) == 1


def test_commit_that_does_not_follow_the_present_state_changes_nothing(ward_state):
    commit(ward_state, WardUpdate(risks=[risk("p1")]), 5)
    with pytest.raises(OvertakenError):  # a second rescorer read the journal from the beginning
        ward_state.commit(WardUpdate(risks=[risk("p1", hour=1)], events=[event()]), 7, T, follows=0)
    assert (ward_state.risks(), ward_state.progress()[0], ward_state.event_range("A")) == ([risk("p1")], 5, (0, 0))


def test_commit_to_a_locked_database_changes_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("vigil.serving.records.database.WAIT_SECONDS", 0)
    ward_state = WardState(tmp_path)
    with sqlite3.connect(tmp_path / "ward_state.db", isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(DatabaseError, match=r"ward_state\.db: cannot be used"):
            commit(ward_state, WardUpdate(risks=[risk("p1")]), 1)
        other.execute("ROLLBACK")
    other.close()
    assert ward_state.risks() == []


def test_alarms_are_selected_by_ward_subject_and_status_newest_first(ward_state):
    opened = [alarm("p1", hour=1, ended_at=US + 2 * HOUR), alarm("p1", hour=3), alarm("p2", "B", hour=2)]
    commit(ward_state, WardUpdate(opened=opened), 1)
    ward_state.record_action("p1-1", "acknowledged", "nurse", None, T)

    def ids(**selection):
        return [alarm.alarm_id for alarm in ward_state.alarms(**selection)]

    assert ids() == ["p1-3", "p2-2", "p1-1"]
    assert ids(wards=["A"]) == ["p1-3", "p1-1"]
    assert ids(wards=[]) == []
    assert ids(subject="p2") == ["p2-2"]
    assert ids(status="open", wards=["A", "B"]) == ["p1-3", "p2-2"]
    assert ids(status="acknowledged") == ["p1-1"]
    assert ids(limit=1) == ["p1-3"]
    assert ward_state.alarm("none") is None


def test_alarm_round_trip_keeps_every_field(ward_state):
    complete = alarm("p1", cause="news2", emergency=True, reasons=["news2_7_or_more"], ended_at=US + HOUR)
    commit(ward_state, WardUpdate(opened=[complete]), 1)
    assert ward_state.alarms() == [complete]
    assert ward_state.alarm("p1-0") == complete


def test_alarms_before_a_time_page_without_skipping_any(ward_state):
    hours = [0, 1, 1, 1, 2, 3]
    commit(ward_state, WardUpdate(opened=[alarm(f"p{n}", hour=hour) for n, hour in enumerate(hours)]), 1)
    pages, before = [], None
    while page := ward_state.alarms(before=before, limit=2):
        pages.append([alarm.subject_id for alarm in page])
        before = instant(page[-1].opened_at)
    assert pages == [["p5", "p4"], ["p1", "p2", "p3"], ["p0"]]


def test_alarm_states_hold_what_the_policy_must_remember(ward_state):
    update = WardUpdate(
        risks=[
            risk("p4", urgent_since=US - HOUR, dipped_at=US - 60_000_000),
            risk("p5", urgent_since=US - HOUR),
            risk("p6"),
        ],
        opened=[
            alarm("p1", hour=1, ended_at=US + 2 * HOUR),
            alarm("p1", hour=5, sounded=0, last_sounded_at=None),  # withheld, after an alarm
            alarm("p2", hour=1, ended_at=US + 2 * HOUR),
            alarm("p3", hour=-90, ended_at=US - 80 * HOUR),  # long ago
            alarm("p4", hour=-90, sounded=3, last_sounded_at=US - 60 * HOUR, emergency=True),  # long ago, and still open
        ],
    )
    commit(ward_state, update, 1)
    assert ward_state.alarm_states(instant(US - 48 * HOUR)) == {
        "p1": AlarmState(Episode(instant(US + 5 * HOUR), 0), instant(US + HOUR)),
        "p2": AlarmState(None, instant(US + HOUR)),
        "p4": AlarmState(
            Episode(instant(US - 90 * HOUR), 3, True),
            instant(US - 60 * HOUR),
            Hold(instant(US - HOUR), instant(US - 60_000_000)),
        ),
        "p5": AlarmState(hold=Hold(instant(US - HOUR), None)),
    }


def test_actions_of_an_alarm_are_stored_in_order_and_an_override_stands(ward_state):
    commit(ward_state, WardUpdate(opened=[alarm("p1")]), 1)
    assert ward_state.record_action("p1-0", "acknowledged", "nurse", None, T)
    assert not ward_state.record_action("p1-0", "acknowledged", "nurse", None, instant(US + HOUR))
    stored = ward_state.alarm("p1-0")
    assert (stored.status, stored.acted_by, stored.acted_at, stored.reason) == ("acknowledged", "nurse", US, None)
    assert ward_state.record_action("p1-0", "acknowledged", "another", None, T)  # who took care first stays stored
    assert not ward_state.record_action("p1-0", "acknowledged", "nurse", None, T)
    assert ward_state.record_action("p1-0", "overridden", "doctor", "artefact", instant(US + HOUR))
    assert not ward_state.record_action("p1-0", "overridden", "doctor", "artefact", T)
    for another in (("overridden", "doctor", "other"), ("overridden", "nurse", "artefact"), ("acknowledged", "nurse", None)):
        with pytest.raises(AlreadyDoneError, match="overridden"):
            ward_state.record_action("p1-0", *another, T)
    assert not ward_state.record_action("none", "overridden", "nurse", "other", T)
    stored = ward_state.alarm("p1-0")
    assert (stored.status, stored.acted_by, stored.reason) == ("overridden", "doctor", "artefact")
    assert stored.actions == (
        AlarmAction("acknowledged", "nurse", None, US),
        AlarmAction("acknowledged", "another", None, US),
        AlarmAction("overridden", "doctor", "artefact", US + HOUR),
    )
    assert [(event.kind, event.at, event.body) for event in ward_state.events("A", 0, 10)] == [
        ("acknowledged", US, {"alarm_id": "p1-0"}),
        ("acknowledged", US, {"alarm_id": "p1-0"}),
        ("overridden", US + HOUR, {"alarm_id": "p1-0"}),
    ]


def test_delete_before_deletes_actions_with_their_alarm(ward_state):
    ended = US + HOUR
    opened = [alarm("p1", ended_at=ended), alarm("p2", ended_at=ended + HOUR), alarm("p3"), alarm("p4", ended_at=ended)]
    commit(ward_state, WardUpdate(opened=opened, events=[event(), event(hour=2)]), 1)
    for name in ("p1-0", "p2-0", "p3-0"):
        ward_state.record_action(name, "acknowledged", "nurse", None, instant(US + 3 * HOUR))
    ward_state.record_action("p4-0", "overridden", "nurse", "artefact", instant(US + 3 * HOUR))
    deleted = ward_state.delete_before(instant(ended + 1), labels=False)
    assert deleted == {"events": 1, "alarms": 1, "silences": 0}
    assert {alarm.alarm_id: len(alarm.actions) for alarm in ward_state.alarms()} == {"p2-0": 1, "p3-0": 1, "p4-0": 1}
    assert count_actions(ward_state) == 3
    assert ward_state.delete_before(instant(ended + 1), labels=True) == {"events": 0, "alarms": 1, "silences": 0}
    assert {alarm.alarm_id for alarm in ward_state.alarms()} == {"p2-0", "p3-0"}
    assert count_actions(ward_state) == 2


def test_open_alarm_moves_with_its_patient_and_an_ended_one_stays(ward_state):
    commit(ward_state, WardUpdate(risks=[risk("p1")], opened=[alarm("p1", hour=-3, ended_at=US), alarm("p1"), alarm("p2")]), 1)
    commit(ward_state, WardUpdate(risks=[risk("p1", "B")], changed=[AlarmChange("p1-0", {"ward": "B"})]), 2)
    assert {alarm.alarm_id: alarm.ward for alarm in ward_state.alarms()} == {"p1--3": "A", "p1-0": "B", "p2-0": "A"}
    assert {ward: list(ward_state.open_alarms(ward)) for ward in "AB"} == {"A": ["p2"], "B": ["p1"]}


def delete_events(ward_state, condition):
    """Delete events as retention does."""
    with ward_state._engine.begin() as connection:
        connection.execute(EVENTS.delete().where(condition))


def test_events_are_read_in_order_and_no_number_is_given_twice(ward_state):
    commit(ward_state, WardUpdate(events=[event(patient=f"p{n}", ward="AB"[n % 2]) for n in range(6)]), 1)
    events = ward_state.events("A", 0, 10)
    assert events == [NumberedEvent("A", f"p{2 * n}", "risk", US, {"news2": 1}, n + 1) for n in range(3)]
    assert [event.subject_id for event in ward_state.events("A", events[0].number, 1)] == ["p2"]
    assert ward_state.event_range("A") == (0, 3)
    delete_events(ward_state, EVENTS.c.number <= 2)
    assert ward_state.event_range("A") == (2, 3)
    delete_events(ward_state, sa.true())
    assert ward_state.event_range("A") == (3, 3)
    commit(ward_state, WardUpdate(events=[event(), event()]), 2)
    assert ward_state.event_range("A") == (3, 5)
    assert [event.number for event in ward_state.events("A", 0, 10)] == [4, 5]


def test_event_numbers_of_a_ward_do_not_tell_what_happens_in_another(ward_state):
    commit(ward_state, WardUpdate(events=[event("B")], opened=[alarm("p1"), alarm("p2", "B")]), 1)
    before = ward_state.event_range("B"), ward_state.events("B", 0, 10)
    commit(ward_state, WardUpdate(events=[event("A"), event("A", kind="alarm"), event("C")]), 2)
    ward_state.record_action("p1-0", "acknowledged", "nurse", None, T)
    assert (ward_state.event_range("B"), ward_state.events("B", 0, 10)) == before
    delete_events(ward_state, EVENTS.c.ward == "A")
    assert (ward_state.event_range("B"), ward_state.events("B", 0, 10)) == before
    commit(ward_state, WardUpdate(events=[event("A"), event("B"), event("A"), event("B")]), 3)
    assert [event.number for event in ward_state.events("B", 0, 10)] == [1, 2, 3]
    assert [event.number for event in ward_state.events("A", 0, 10)] == [4, 5]
    assert [event.number for event in ward_state.events("C", 0, 10)] == [1]
    assert ward_state.event_range("never seen") == (0, 0)


def test_alarms_that_sounded_are_counted_by_ward_and_time(ward_state):
    update = WardUpdate(
        events=[event(kind="alarm"), event(kind="alarm", hour=-30), event(kind="alarm_withheld"), event("B", kind="alarm")]
    )
    commit(ward_state, update, 1)
    assert ward_state.count_alarms("A", instant(US - 24 * HOUR)) == 1
    assert ward_state.count_alarms("A", instant(US - 48 * HOUR)) == 2
    assert ward_state.count_alarms("C", instant(0)) == 0


def test_stale_subjects_are_those_with_an_earlier_index_time(ward_state):
    commit(ward_state, WardUpdate(risks=[risk("p1"), risk("p2", hour=1)]), 1)
    assert ward_state.stale_subjects(instant(US)) == []
    assert ward_state.stale_subjects(instant(US + 1)) == ["p1"]


def test_subjects_are_those_of_risks_alarms_and_events(ward_state):
    commit(ward_state, WardUpdate(risks=[risk("p1")], opened=[alarm("p2")], events=[event(patient="p3")]), 1)
    assert ward_state.subjects() == {"p1", "p2", "p3"}


def test_alarm_id_is_the_same_for_the_same_episode():
    first = alarm_id("p1", "deterioration", T.to_pydatetime())
    assert first == alarm_id("p1", "deterioration", T.to_pydatetime())
    others = {
        alarm_id("p2", "deterioration", T),
        alarm_id("p1", "sepsis", T),
        alarm_id("p1", "deterioration", T + pd.Timedelta(1, "us")),
    }
    assert len(others | {first}) == 4
    assert len(first) == 36


def test_damaged_database_is_a_clear_error(tmp_path):
    ward_state = WardState(tmp_path)
    ward_state._engine.dispose()
    path = tmp_path / "ward_state.db"
    content = bytearray(path.read_bytes())
    content[4096:] = os.urandom(len(content) - 4096)
    path.write_bytes(content)
    for file in tmp_path.glob("ward_state.db-*"):
        file.unlink()
    with pytest.raises(DatabaseError, match=r"ward_state\.db: cannot be used \(DatabaseError\); is it locked or damaged"):
        ward_state.risks()


def test_every_alarm_column_has_a_field_and_alarms_have_one_more_for_actions():
    assert {*ALARMS.columns.keys(), "actions"} == set(replace(alarm("p1")).__dataclass_fields__)
