"""To follow a ward: from where one was, or from what is left, and no longer than one may."""

import asyncio
import json
import logging
import re
import time
from datetime import timedelta

import httpx
import pytest

from serving.api.routes import ward_events
from serving.api.routes.ward_events import MOST_STREAMS
from serving.auth.local_tokens import local_token
from serving.records.database import DatabaseError
from serving.service import api
from tests.serving.inside import WELL, running_inside, sent

FOLLOWED = {"ward": "A", "seconds": 0}


@pytest.fixture
def inside(tmp_path):
    """Five events of ward A, and one of ward B between them."""
    with running_inside(tmp_path) as inside:
        client = inside.caller()
        for patient, ward in (("a-1", "A"), ("a-2", "A"), ("b-1", "B"), ("a-3", "A"), ("a-4", "A"), ("a-5", "A")):
            client.post("/v1/patients", json={"patients": [{"patient_id": patient, "ward": ward}]}).raise_for_status()
            client.post("/v1/observations", json=sent(patient, WELL)).raise_for_status()
            inside.rescore()
        assert inside.parts.board.kept() == (0, 6)
        yield inside


def followed(inside, last):
    text = inside.caller().get("/v1/ward/events", params=FOLLOWED, headers={"Last-Event-ID": str(last)}).text
    return [(int(number), kind) for number, kind in re.findall(r"^id: (\d+)\nevent: (\w+)$", text, re.MULTILINE)], text


def risks(*numbers):
    return [(number, "risk") for number in numbers]


def test_a_stream_ends_with_its_token(inside):
    token = local_token(inside.home, subject="s", scopes=("ward:read",), wards=None, lifetime=timedelta(seconds=2))
    began = time.monotonic()
    answer = inside.stranger().get("/v1/ward/events", params={"ward": "A"}, headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code == 200
    assert time.monotonic() - began < 3


def test_one_caller_follows_so_many_streams_and_no_more_until_one_ends(inside):
    headers = inside.caller(["ward:read"]).headers
    client = httpx.AsyncClient(transport=httpx.ASGITransport(api), base_url="http://test", headers=dict(headers))

    async def follow(number):
        params = FOLLOWED | {"seconds": 1}
        return await asyncio.gather(*(client.get("/v1/ward/events", params=params) for _ in range(number)))

    async def follow_twice():
        return await follow(MOST_STREAMS + 2), await follow(MOST_STREAMS)

    many, as_many_as_may_be = asyncio.run(follow_twice())
    refused = [answer for answer in many if answer.status_code == 429]
    assert [answer.json()["code"] for answer in refused] == ["too_many_streams"] * 2
    assert refused[0].headers["retry-after"]
    assert {answer.status_code for answer in as_many_as_may_be} == {200}
    assert not ward_events._open


def test_a_board_that_cannot_be_read_ends_the_stream_and_no_more(inside, monkeypatch, caplog):
    def unreadable(*_):
        raise DatabaseError("board.db: cannot be used")

    monkeypatch.setattr(inside.parts.board, "events", unreadable)
    with caplog.at_level(logging.ERROR), monkeypatch.context() as patched:
        patched.setattr(logging.getLogger("vigil"), "propagate", True)
        answer = inside.caller().get("/v1/ward/events", params={"ward": "A"}, headers={"Last-Event-ID": "1"})
    assert (answer.status_code, answer.text) == (200, ": listening\n\n")
    assert "a stream of events ends: DatabaseError" in caplog.text


def drop(inside, condition):
    with inside.parts.board.engine.begin() as connection:
        connection.exec_driver_sql(f"DELETE FROM events WHERE {condition}")  # as retention does


def test_where_events_that_were_missed_are_gone_it_is_said_and_what_is_kept_follows(inside):
    drop(inside, "event_id <= 3")
    assert followed(inside, 3)[0] == risks(4, 5, 6)
    for last in (1, 2):
        found, text = followed(inside, last)
        assert found == [(3, "reset"), *risks(4, 5, 6)]
        data = json.loads(re.findall(r"^data: (.*)$", text, re.MULTILINE)[0])
        assert (data["ward"], data.keys()) == ("A", {"ward", "at"})
    assert followed(inside, 0)[0] == risks(4, 5, 6)  # whatever there is
    assert followed(inside, 6)[0] == []


def test_where_no_event_is_left_who_has_the_last_missed_nothing(inside):
    drop(inside, "true")
    assert followed(inside, 6)[0] == []
    assert followed(inside, 5)[0] == [(6, "reset")]
    assert followed(inside, 6)[0] == []


def test_who_knows_events_that_a_restored_home_does_not_is_told(inside):
    assert followed(inside, 7)[0] == [(0, "reset"), *risks(1, 2, 4, 5, 6)]
    assert followed(inside, 2**62)[0] == [(0, "reset"), *risks(1, 2, 4, 5, 6)]
    assert followed(inside, 4)[0] == risks(5, 6)
