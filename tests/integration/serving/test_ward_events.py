"""Events of a ward: from an event on, or from what is left of them, and no longer than the token is valid."""

import asyncio
import json
import logging
import re
import time
from datetime import timedelta

import httpx
import pytest
import sqlalchemy as sa

from tests.support.in_process_server import WELL, observations_body, running_in_process
from vigil.serving.api.routes.ward_events import MAX_STREAMS, first_message
from vigil.serving.auth.local_tokens import create_local_token
from vigil.serving.records.database import DatabaseError
from vigil.serving.records.ward_tables import EVENTS

FOLLOWED = {"ward": "A", "seconds": 0}


def admit(server, patient, ward):
    """Let one event happen in a ward."""
    client = server.caller()
    client.post("/v1/patients", json={"patients": [{"patient_id": patient, "ward": ward}]}).raise_for_status()
    client.post("/v1/observations", json=observations_body(patient, WELL)).raise_for_status()
    server.rescore()


@pytest.fixture
def server(tmp_path):
    """Five events of ward A, and one of ward B between them."""
    with running_in_process(tmp_path) as server:
        for patient, ward in (("a-1", "A"), ("a-2", "A"), ("b-1", "B"), ("a-3", "A"), ("a-4", "A"), ("a-5", "A")):
            admit(server, patient, ward)
        assert server.components.ward_state.event_range("A") == (0, 5)
        assert server.components.ward_state.event_range("B") == (0, 1)
        yield server


def follow(server, last, ward="A"):
    """Return number and kind of the events after one, and the whole answer."""
    headers = {} if last is None else {"Last-Event-ID": str(last)}
    text = server.caller().get("/v1/ward/events", params=FOLLOWED | {"ward": ward}, headers=headers).text
    return [(int(number), kind) for number, kind in re.findall(r"^id: (\d+)\nevent: (\w+)$", text, re.MULTILINE)], text


def risks(*numbers):
    return [(number, "risk") for number in numbers]


def test_stream_ends_with_its_token(server):
    token = create_local_token(server.home, subject="s", scopes=("ward:read",), wards=None, lifetime=timedelta(seconds=2))
    began = time.monotonic()
    answer = server.stranger().get("/v1/ward/events", params={"ward": "A"}, headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code == 200
    assert time.monotonic() - began < 3


def test_streams_of_one_caller_are_limited_until_one_ends(server):
    headers = server.caller(["ward:read"]).headers
    client = httpx.AsyncClient(transport=httpx.ASGITransport(server.app), base_url="http://test", headers=dict(headers))

    async def open_streams(number):
        params = FOLLOWED | {"seconds": 1}
        return await asyncio.gather(*(client.get("/v1/ward/events", params=params) for _ in range(number)))

    async def open_twice():
        return await open_streams(MAX_STREAMS + 2), await open_streams(MAX_STREAMS)

    many, as_many_as_allowed = asyncio.run(open_twice())
    refused = [answer for answer in many if answer.status_code == 429]
    assert [answer.json()["code"] for answer in refused] == ["too_many_streams"] * 2
    assert refused[0].headers["retry-after"]
    assert {answer.status_code for answer in as_many_as_allowed} == {200}
    assert not server.components.streams._open


def test_unreadable_ward_state_ends_the_stream_only(server, monkeypatch, caplog):
    def unreadable(*_):
        raise DatabaseError("ward_state.db: cannot be used")

    monkeypatch.setattr(server.components.ward_state, "events", unreadable)
    with caplog.at_level(logging.ERROR), monkeypatch.context() as patched:
        patched.setattr(logging.getLogger("vigil"), "propagate", True)
        answer = server.caller().get("/v1/ward/events", params={"ward": "A"}, headers={"Last-Event-ID": "1"})
    assert (answer.status_code, answer.text) == (200, ": listening\n\n")
    assert "a stream of events ends: DatabaseError" in caplog.text


def delete_events(server, condition):
    """Delete events as retention does."""
    with server.components.ward_state._engine.begin() as connection:
        connection.execute(EVENTS.delete().where(condition))


def test_reset_is_sent_where_missed_events_were_deleted(server):
    delete_events(server, (EVENTS.c.ward == "A") & (EVENTS.c.number <= 3))
    assert follow(server, 3)[0] == risks(4, 5)
    for last in (1, 2):
        events, text = follow(server, last)
        assert events == [(3, "reset"), *risks(4, 5)]
        data = json.loads(re.findall(r"^data: (.*)$", text, re.MULTILINE)[0])
        assert (data["ward"], data.keys()) == ("A", {"ward", "at"})
    assert follow(server, 0)[0] == risks(4, 5)  # every stored event
    assert follow(server, 5)[0] == []
    assert follow(server, 0, "B")[0] == risks(1)


def test_last_event_is_known_although_all_events_were_deleted(server):
    delete_events(server, sa.true())
    assert follow(server, 5)[0] == []
    assert follow(server, 4)[0] == [(5, "reset")]
    assert follow(server, 5)[0] == []


def test_reset_is_sent_to_a_client_that_knows_events_a_restored_home_does_not(server):
    assert follow(server, 6)[0] == [(0, "reset"), *risks(1, 2, 3, 4, 5)]
    assert follow(server, 2**62)[0] == [(0, "reset"), *risks(1, 2, 3, 4, 5)]
    assert follow(server, 3)[0] == risks(4, 5)


def test_last_event_id_without_a_number_is_no_error(server):
    """A browser does not connect again after an error."""
    assert follow(server, "")[1] == follow(server, " ")[1] == follow(server, None)[1] == ": listening\nid: 5\n\n"
    assert follow(server, "garbage")[0] == [(0, "reset"), *risks(1, 2, 3, 4, 5)]
    headers = [("Last-Event-ID", "3"), ("Last-Event-ID", "4")]
    answer = server.caller().get("/v1/ward/events", params=FOLLOWED, headers=headers)
    assert answer.status_code == 422
    assert answer.json()["errors"] == [{"field": "last-event-id", "rule": "repeated", "expected": "only once"}]


@pytest.mark.parametrize(
    ("last", "after", "kind"),
    [
        (None, 9, "id: 9\n\n"),
        ("", 9, "id: 9\n\n"),
        (" \t", 9, "id: 9\n\n"),
        ("0", 0, "\n"),
        ("2", 2, "\n"),
        (" 007 ", 7, "\n"),
        ("9", 9, "\n"),
        *[
            (text, 2, "reset")
            for text in ("1", "10", "x", "-1", "+3", "3.0", "3e0", "0x3", "3, 4", "³", "٣", "9" * 400, "null")
        ],
    ],
)
def test_stream_starts_after_an_event_that_is_stored_or_resets(last, after, kind):
    start, message = first_message("A", last, (2, 9))
    assert start == after
    assert message == kind or (kind == "reset" and message.startswith(f"\nid: {after}\nevent: reset\n"))


def test_last_event_id_counts_within_the_ward(server):
    """A caller restricted to a ward must not learn from its numbers what happens in the others."""
    before = follow(server, None)[1]
    assert before == ": listening\nid: 5\n\n"
    for number in range(3):
        admit(server, f"b-{number + 2}", "B")
    admit(server, "c-1", "C")
    assert follow(server, None)[1] == before
    assert follow(server, 5)[0] == []
    assert follow(server, 0, "B")[0] == risks(1, 2, 3, 4)
    assert follow(server, 0, "C")[0] == risks(1)
    admit(server, "a-6", "A")
    assert follow(server, 5)[0] == risks(6)
    assert follow(server, 5, "B")[0] == [(0, "reset"), *risks(1, 2, 3, 4)]
    assert follow(server, None, "D")[1] == ": listening\nid: 0\n\n"
