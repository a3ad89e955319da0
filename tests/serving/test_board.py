"""The board: what a rescoring says is put up whole or not at all, and what people say of an alarm is kept."""

import os
import sqlite3

import pandas as pd
import pytest

from models.alarms.policy import Episode, State
from serving.records.database import DatabaseError, instant, microsecond
from serving.records.ward_state import RISKS, AlreadyDoneError, Board, OvertakenError, Page, alarm_id

T = pd.Timestamp("2026-02-01T12:00:00Z").as_unit("us")
US = microsecond(T)
HOUR = 3_600_000_000


@pytest.fixture
def board(tmp_path):
    return Board(tmp_path)


def put(board, page, read_until):
    """After whatever is up."""
    board.publish(page, read_until, T, follows=board.progress()[0])


def risk(patient, ward="A", hour=0, **changes):
    sound = {"patient": patient, "ward": ward, "index_time": US + hour * HOUR, "prediction_id": f"{patient}-{hour}"}
    sound |= {"basis": "model", "probability": 0.3, "band": "medium", "news2": 2, "news2_highest": 5, "latest_reading_at": US}
    sound |= {"model_name": "m", "model_version": "1", "feature_service": "s", "threshold": 0.5}
    sound |= {
        "decided_by": "model",
        "reasons": [],
        "findings": [],
        "unusual": [],
        "net_score": 2,
        "urgent_since": None,
        "dipped_at": None,
    } | changes
    assert set(sound) == set(RISKS.columns.keys())
    return sound


def alarm(patient, ward="A", hour=0, **changes):
    opened_at = US + hour * HOUR
    sound = {"alarm_id": f"{patient}-{hour}", "patient": patient, "ward": ward, "opened_at": opened_at, "sounded": 1}
    sound |= {"last_sounded_at": opened_at, "ended_at": None, "basis": "model", "probability": 0.6, "news2": 3}
    return (
        sound
        | {"prediction_id": "x", "model_name": "m", "model_version": "1", "feature_service": "s", "status": "open"}
        | changes
    )


def event(ward="A", patient="p1", kind="risk", hour=0):
    return {"at": US + hour * HOUR, "ward": ward, "patient": patient, "kind": kind, "body": {"news2": 1}}


def test_the_latest_risk_takes_the_place_of_the_one_before(board):
    put(board, Page(risks=[risk("p1"), risk("p2", "B")]), 1)
    put(board, Page(risks=[risk("p1", hour=1, probability=0.9)]), 2)
    assert board.risks(ward="A") == [risk("p1", hour=1, probability=0.9)]
    assert board.risks(ward="B") == [risk("p2", "B")]
    assert (board.size("A"), board.size("B"), board.size("C")) == (1, 1, 0)
    put(board, Page(gone=["p1"]), 3)
    assert board.risks() == [risk("p2", "B")]


def test_it_says_how_far_the_journal_was_read_and_when_the_rescorer_lived(board, tmp_path):
    assert board.progress() == (0, None)
    put(board, Page(), 42)
    board.beat(instant(US + HOUR))
    assert Board(tmp_path).progress() == (42, instant(US + HOUR))


def test_a_page_is_put_up_whole_or_not_at_all(board):
    put(board, Page(risks=[risk("p1")], opened=[alarm("p1")]), 1)
    twice = Page(risks=[risk("p1", hour=1)], opened=[alarm("p1", hour=1)], events=[event()])
    with pytest.raises(Exception, match="UNIQUE"):  # an episode is under way, so none can open
        put(board, twice, 2)
    assert board.risks() == [risk("p1")]
    assert board.progress()[0] == 1
    assert board.kept()[1] == 0
    assert len(board.alarms()) == 1


def test_what_does_not_follow_what_is_up_changes_nothing(board):
    put(board, Page(risks=[risk("p1")]), 5)
    with pytest.raises(OvertakenError):  # whoever read the journal from the beginning is not the only rescorer
        board.publish(Page(risks=[risk("p1", hour=1)], events=[event()]), 7, T, follows=0)
    assert (board.risks(), board.progress()[0], board.kept()[1]) == ([risk("p1")], 5, 0)


def test_a_locked_board_changes_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("serving.records.database._WAIT_SECONDS", 0)
    board = Board(tmp_path)
    with sqlite3.connect(tmp_path / "board.db", isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(DatabaseError, match=r"board\.db: cannot be used"):
            put(board, Page(risks=[risk("p1")]), 1)
        other.execute("ROLLBACK")
    other.close()
    assert board.risks() == []


def test_alarms_are_found_by_ward_patient_and_status_newest_first(board):
    page = Page(opened=[alarm("p1", hour=1, ended_at=US + 2 * HOUR), alarm("p1", hour=3), alarm("p2", "B", hour=2)])
    put(board, page, 1)
    board.act("p1-1", "acknowledged", "nurse", None, T)

    def names(**asked):
        return [row["alarm_id"] for row in board.alarms(**asked)]

    assert names() == ["p1-3", "p2-2", "p1-1"]
    assert names(wards=["A"]) == ["p1-3", "p1-1"]
    assert names(wards=[]) == []
    assert names(patient="p2") == ["p2-2"]
    assert names(status="open", wards=["A", "B"]) == ["p1-3", "p2-2"]
    assert names(status="acknowledged") == ["p1-1"]
    assert names(most=1) == ["p1-3"]
    assert board.alarm("none") is None


def test_older_alarms_are_reached_page_by_page_and_none_is_skipped(board):
    hours = [0, 1, 1, 1, 2, 3]
    put(board, Page(opened=[alarm(f"p{n}", hour=hour) for n, hour in enumerate(hours)]), 1)
    pages, before = [], None
    while page := board.alarms(before=before, most=2):
        pages.append([row["patient"] for row in page])
        before = instant(page[-1]["opened_at"])
    assert pages == [["p5", "p4"], ["p1", "p2", "p3"], ["p0"]]


def test_what_the_policy_must_remember(board):
    page = Page(
        opened=[
            alarm("p1", hour=1, ended_at=US + 2 * HOUR),
            alarm("p1", hour=5, sounded=0, last_sounded_at=None),  # withheld, after an alarm
            alarm("p2", hour=1, ended_at=US + 2 * HOUR),
            alarm("p3", hour=-90, ended_at=US - 80 * HOUR),  # long ago
            alarm("p4", hour=-90, sounded=3, last_sounded_at=US - 60 * HOUR),  # long ago, and still under way
        ]
    )
    put(board, page, 1)
    assert board.states(instant(US - 48 * HOUR)) == {
        "p1": State(Episode(instant(US + 5 * HOUR), 0), instant(US + HOUR)),
        "p2": State(None, instant(US + HOUR)),
        "p4": State(Episode(instant(US - 90 * HOUR), 3), instant(US - 60 * HOUR)),
    }


def test_what_is_done_about_an_alarm(board):
    put(board, Page(opened=[alarm("p1")]), 1)
    assert board.act("p1-0", "acknowledged", "nurse", None, T)
    assert not board.act("p1-0", "acknowledged", "nurse", None, instant(US + HOUR))
    kept = board.alarm("p1-0")
    assert (kept["status"], kept["acted_by"], kept["acted_at"], kept["reason"]) == ("acknowledged", "nurse", US, None)
    assert board.act("p1-0", "acknowledged", "another", None, T)  # who took care first is kept
    assert not board.act("p1-0", "acknowledged", "nurse", None, T)
    assert board.act("p1-0", "overridden", "doctor", "artefact", instant(US + HOUR))
    assert not board.act("p1-0", "overridden", "doctor", "artefact", T)
    for otherwise in (("overridden", "doctor", "other"), ("overridden", "nurse", "artefact"), ("acknowledged", "nurse", None)):
        with pytest.raises(AlreadyDoneError, match="overridden"):
            board.act("p1-0", *otherwise, T)
    assert not board.act("none", "overridden", "nurse", "other", T)
    kept = board.alarm("p1-0")
    assert (kept["status"], kept["acted_by"], kept["reason"]) == ("overridden", "doctor", "artefact")
    assert [(done["action"], done["by"], done["reason"], done["at"]) for done in kept["actions"]] == [
        ("acknowledged", "nurse", None, US),
        ("acknowledged", "another", None, US),
        ("overridden", "doctor", "artefact", US + HOUR),
    ]
    told = board.events("A", 0, 10)
    assert [(row["kind"], row["at"], row["body"]) for row in told] == [
        ("acknowledged", US, {"alarm_id": "p1-0"}),
        ("acknowledged", US, {"alarm_id": "p1-0"}),
        ("overridden", US + HOUR, {"alarm_id": "p1-0"}),
    ]


def test_what_was_done_goes_with_its_alarm(board):
    put(board, Page(opened=[alarm("p1"), alarm("p2")]), 1)
    for name in ("p1-0", "p2-0"):
        board.act(name, "acknowledged", "nurse", None, T)
    with board.engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM alarms WHERE patient = 'p1'")  # as retention does
        assert connection.exec_driver_sql("SELECT alarm_id FROM actions").scalars().all() == ["p2-0"]


def test_an_alarm_under_way_goes_with_its_patient_and_one_that_ended_stays(board):
    put(board, Page(risks=[risk("p1")], opened=[alarm("p1", hour=-3, ended_at=US), alarm("p1"), alarm("p2")]), 1)
    put(board, Page(risks=[risk("p1", "B")], changed=[{"alarm_id": "p1-0", "ward": "B"}]), 2)
    assert {row["alarm_id"]: row["ward"] for row in board.alarms()} == {"p1--3": "A", "p1-0": "B", "p2-0": "A"}
    assert {ward: list(board.under_way(ward)) for ward in "AB"} == {"A": ["p2"], "B": ["p1"]}


def test_events_are_read_in_order_and_a_number_is_never_given_twice(board):
    put(board, Page(events=[event(patient=f"p{n}", ward="AB"[n % 2]) for n in range(6)]), 1)
    assert [row["patient"] for row in board.events("A", 0, 10)] == ["p0", "p2", "p4"]
    numbers = [row["event_id"] for row in board.events("A", 0, 10)]
    assert [row["patient"] for row in board.events("A", numbers[0], 1)] == ["p2"]
    last = board.kept()[1]
    with board.engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM events WHERE event_id <= 2")  # as retention does
    assert board.kept() == (2, last)
    with board.engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM events")
    assert board.kept() == (last, last)
    put(board, Page(events=[event()]), 2)
    assert board.kept()[1] == last + 1


def test_alarms_that_sounded_are_counted_by_ward_and_time(board):
    page = Page(
        events=[event(kind="alarm"), event(kind="alarm", hour=-30), event(kind="alarm_withheld"), event("B", kind="alarm")]
    )
    put(board, page, 1)
    assert board.sounded("A", instant(US - 24 * HOUR)) == 1
    assert board.sounded("A", instant(US - 48 * HOUR)) == 2
    assert board.sounded("C", instant(0)) == 0


def test_whoever_names_an_episode_again_gives_it_the_same_name():
    first = alarm_id("p1", "deterioration", T.to_pydatetime())
    assert first == alarm_id("p1", "deterioration", T.to_pydatetime())
    others = {
        alarm_id("p2", "deterioration", T),
        alarm_id("p1", "sepsis", T),
        alarm_id("p1", "deterioration", T + pd.Timedelta(1, "us")),
    }
    assert len(others | {first}) == 4
    assert len(first) == 36


def test_damaged_pages_are_no_surprise(tmp_path):
    board = Board(tmp_path)
    board.engine.dispose()
    path = tmp_path / "board.db"
    content = bytearray(path.read_bytes())
    content[4096:] = os.urandom(len(content) - 4096)
    path.write_bytes(content)
    for file in tmp_path.glob("board.db-*"):
        file.unlink()
    with pytest.raises(DatabaseError, match=r"board\.db: cannot be used \(DatabaseError\); is it locked or damaged"):
        board.risks()
