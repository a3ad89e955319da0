"""To follow a ward: from where one was, or from what is left, and no longer than one may."""

import json
import re

import pytest

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
