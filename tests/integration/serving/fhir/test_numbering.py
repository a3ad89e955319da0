"""Numbers of events in a subscription: whatever happens in between, each event has one, and what was deleted leaves a gap."""

import random

import pandas as pd
import pytest

from vigil.serving.auth.tokens import Caller
from vigil.serving.fhir.subscriptions.numbering import Numbering
from vigil.serving.fhir.subscriptions.telling import Telling
from vigil.serving.records import connection_tables
from vigil.serving.records.database import open_database, writing
from vigil.serving.records.journal import Journal
from vigil.serving.records.subscriptions import Subscription, Subscriptions
from vigil.serving.records.ward_rows import Event, WardUpdate
from vigil.serving.records.ward_state import WardState
from vigil.serving.records.ward_tables import EVENTS

WARDS = ("A", "B", "C")
OWNER = Caller("ehr", frozenset(), frozenset("AB"), 0.0, {"RiskAssessment": frozenset("rs")})
AT = pd.Timestamp("2026-02-01T12:00:00Z")


class Home:
    """A home whose events a test makes and deletes."""

    def __init__(self, folder):
        self.ward_state = WardState(folder)
        self.subscriptions = Subscriptions(open_database(folder, connection_tables.SCHEMA))
        self.telling = Telling(lambda _: OWNER, self.ward_state, Journal(folder), None, None, "deterioration")
        self.position = 0

    def happen(self, *wards, kind="risk"):
        events = [Event(ward, "subject", kind, 0, {}) for ward in wards]
        self.ward_state.commit(WardUpdate(events=events), self.position + 1, AT, follows=self.position)
        self.position += 1

    def delete(self, condition=None):
        with writing(self.ward_state._engine) as connection:
            connection.execute(EVENTS.delete() if condition is None else EVENTS.delete().where(condition))

    def subscribe(self, filters=()):
        wanted = {
            "topic": "urn:vigil:topic:risk-changed",
            "filters": filters,
            "wards": None,
            "reason": "tests",
            "ends_at": None,
        }
        wanted |= {"endpoint": "https://ehr.example/", "sealed_header": None, "content": "empty"}
        positions = self.ward_state.last_events()
        own = Subscription(**wanted, id="s", client="ehr", updated_at=0, status="active", positions=positions)
        assert self.subscriptions.add(own, most=20)

    def number(self):
        while Numbering(self.subscriptions, self.telling).step(self.subscriptions.live()):
            pass

    def numbered(self):
        """Return ward and number of each event of the subscription; None of a gap."""
        events = self.subscriptions.events("s", 1, 10**6, 10**6)
        assert [each.number for each in events] == list(range(1, len(events) + 1))
        assert self.subscriptions.find("s").numbered == len(events)
        return [None if each.ward is None else (each.ward, each.ward_number) for each in events]


@pytest.fixture
def home(tmp_path):
    return Home(tmp_path)


def test_subscription_begins_with_what_happens_after_it(home):
    home.happen("A", "B")
    home.subscribe()
    home.happen("B", "A", "C", "A")
    home.number()
    assert home.numbered() == [("B", 2), ("A", 2), ("A", 3)]
    home.number()
    assert len(home.numbered()) == 3


def test_filter_of_a_ward_and_kinds_of_other_topics_take_no_number(home):
    home.subscribe([("ward", ["B"])])
    home.happen("A", "B")
    home.happen("B", kind="signal_stopped")
    home.happen("B")
    home.number()
    assert home.numbered() == [("B", 1), ("B", 3)]


def test_ward_whose_new_events_are_all_gone_leaves_a_gap(home):
    home.subscribe()
    home.happen("A", "C")
    home.delete()
    home.number()
    assert home.numbered() == [None]  # of ward C the owner learns nothing
    home.happen("A")
    home.number()
    assert home.numbered() == [None, ("A", 2)]


def test_home_that_was_restored_from_a_backup_leaves_a_gap_and_goes_on(tmp_path, home):
    home.subscribe()
    home.happen("A", "A", "A")
    home.number()
    (tmp_path / "older").mkdir()
    older = Home(tmp_path / "older")
    older.subscriptions = home.subscriptions
    older.happen("A")
    older.number()
    older.happen("A")
    older.number()
    assert older.numbered() == [("A", 1), ("A", 2), ("A", 3), None, ("A", 2)]


@pytest.mark.parametrize("seed", range(6))
def test_every_event_has_one_number_whatever_retention_takes(home, seed, monkeypatch):
    monkeypatch.setattr("vigil.serving.fhir.subscriptions.numbering._MAX_EVENTS", 7)
    chance = random.Random(seed)
    home.subscribe()
    happened, deleted, known = set(), set(), set()
    for _ in range(60):
        action = chance.choice(["happen", "happen", "happen", "number", "delete"])
        if action == "happen":
            home.happen(*chance.choices(WARDS, k=chance.randint(1, 9)))
        elif action == "number":
            home.number()
            known = {each for each in home.numbered() if each is not None}
        else:
            ward, last = chance.choice(WARDS), home.ward_state.last_events()
            before = chance.randint(0, last.get(ward, 0))
            deleted |= {(ward, number) for number in range(1, before + 1)} - known
            home.delete((EVENTS.c.ward == ward) & (EVENTS.c.number <= before))
        happened = {(ward, number) for ward, last in home.ward_state.last_events().items() for number in range(1, last + 1)}
    home.number()
    numbered = home.numbered()
    events = [each for each in numbered if each is not None]
    assert len(events) == len(set(events))
    visible = {(ward, number) for ward, number in happened if ward != "C"}
    unseen = visible - set(events)
    assert unseen <= deleted
    assert (None in numbered) is bool(unseen)
    for ward in "AB":
        assert [number for own, number in events if own == ward] == sorted(number for own, number in events if own == ward)
