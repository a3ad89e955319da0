"""What is remembered of FHIR clients: versions of resources, names of patients, and what retention takes from both."""

import json
import sqlite3
from contextlib import closing

import pandas as pd
import pytest

from tests.integration.serving.test_migrations import upgrade_to
from tests.support.live_ward import LiveWard
from vigil.pipelines.operations.retention import retention
from vigil.serving.identity.identities import Identities
from vigil.serving.records import connection_tables
from vigil.serving.records.database import open_database
from vigil.serving.records.fhir_names import FhirNames
from vigil.serving.records.fhir_observations import FhirObservations, SentResource
from vigil.serving.records.migrations.connections import rev_0005_exports as migration
from vigil.serving.records.subscriptions import NumberedForSubscription, Subscription, Subscriptions, Wanted
from vigil.serving.records.timestamps import microsecond


def subscription(identity, updated_at, status="active"):
    wanted = Wanted("urn:vigil:topic:alarm", [], None, "tests", None, "https://ehr.example/", None, "empty")
    fields = {name: getattr(wanted, name) for name in Wanted.__dataclass_fields__}
    return Subscription(**fields, id=identity, client="ehr", updated_at=updated_at, status=status, positions={"B4": 7})


@pytest.fixture
def connections(tmp_path):
    return open_database(tmp_path, connection_tables.SCHEMA)


def resource(identity, version=1, updated_at=0, subject="s"):
    return SentResource(identity, subject, version, updated_at, deleted=False, readings=[("m#8480-6", "systolic_bp", 7)])


def test_resource_is_created_once_and_renewed_from_its_present_version_only(connections):
    observations = FhirObservations(connections)
    assert observations.add([resource("a"), resource("b")]) == {"a", "b"}
    assert observations.add([resource("b"), resource("c")]) == {"c"}
    assert [observations.renew(resource("a", version)) for version in (3, 2, 2, 3)] == [False, True, False, True]
    assert observations.find(["a", "x"]) == {"a": resource("a", 3)}


def test_resources_of_the_version_before_are_found_by_the_time_of_observation(tmp_path):
    upgrade_to(tmp_path, connection_tables.SCHEMA, migration.down_revision)
    with closing(sqlite3.connect(tmp_path / "connections.db")) as connection, connection:
        for number in range(migration._STEP + 1):
            readings = json.dumps([[f"m{number}", "heart_rate", number]] if number else [])
            row = (f"o{number:05}", "s", 1, 0, False, readings)
            connection.execute("INSERT INTO fhir_observations VALUES (?, ?, ?, ?, ?, ?)", row)
    observations = FhirObservations(open_database(tmp_path, connection_tables.SCHEMA))
    assert [each.observed_at for each in observations.observed_between(["s"], -1, 10_000)] == [*range(1, migration._STEP + 1)]
    (found,) = observations.observed_between(["s", "t"], 7, 7)
    assert found == SentResource("o00007", "s", 1, 0, deleted=False, readings=[("m7", "heart_rate", 7)])
    assert observations.observed_between(["t"], 7, 7) == []
    assert observations.find(["o00000"])["o00000"].observed_at is None


def test_name_moves_to_another_subject(connections):
    names = FhirNames(connections)
    names.store({"one": "s", "two": "s"}, at=1)
    names.store({"two": "t"}, at=2)
    assert names.find(["one", "two", "three"]) == {"one": "s", "two": "t"}


def test_of_the_present_stay_of_a_subject_the_last_names_are_remembered(connections):
    names = FhirNames(connections)
    names.store({"one": "s"}, at=1)
    names.open_stay("s", {"first", "another"}, at=2)
    names.open_stay("t", {"first"}, at=2)
    names.open_stay("s", {"second"}, at=3)
    assert (names.opened_by("s"), names.opened_by("t"), names.opened_by("u")) == ({"second"}, {"first"}, set())
    names.open_stay("s", set(), at=4)
    assert (names.opened_by("s"), names.find(["one", "second"])) == (set(), {"one": "s"})


def test_retention_forgets_old_resources_and_names_of_patients_who_are_forgotten(tmp_path, connections):
    now = pd.Timestamp.now("UTC").as_unit("us")
    ward = LiveWard(tmp_path, now - pd.Timedelta(days=9), model=False)
    Identities(tmp_path).store({"left": "MRN 1", "stays": "MRN 2"})
    ward.register("left", "stays", age=50.0)
    ward.send("left", "stays", heart_rate=80)
    ward.register("left", discharged=True)
    ward.rescore()
    ward.time = now - pd.Timedelta(hours=2)
    ward.send("stays", heart_rate=80)
    ward.rescore()
    names, observations = FhirNames(connections), FhirObservations(connections)
    names.store({"one": "left", "two": "stays"}, at=microsecond(now))
    for subject in ("left", "stays"):
        names.open_stay(subject, {"stay"}, at=microsecond(now))
    old = microsecond(now - pd.Timedelta(days=9))
    observations.add(
        [resource("old", updated_at=old, subject="left"), resource("new", updated_at=microsecond(now), subject="stays")]
    )
    subscriptions, new = Subscriptions(connections), microsecond(now)
    for identity, at, status in (("a", old, "active"), ("b", old, "off"), ("c", new, "off")):
        assert subscriptions.add(subscription(identity, at, status), most=20)
    told = [NumberedForSubscription(1, "B4", 8, old), NumberedForSubscription(2, "B4", 9, new)]
    assert subscriptions.number(subscriptions.find("a"), told, {"numbered": 2})
    rows = retention(tmp_path, 5).rows
    assert (rows["connections.db subscriptions"], rows["connections.db subscription_events"]) == (1, 1)
    assert [own.id for own in subscriptions.of_client("ehr")] == ["a", "c"]
    assert subscriptions.events("a", 1, 9, 10) == told[1:]
    assert (rows["connections.db fhir_observations"], rows["connections.db fhir_names"]) == (1, 2)
    assert names.find(["one", "two"]) == {"two": "stays"}
    assert (names.opened_by("left"), names.opened_by("stays")) == (set(), {"stay"})
    assert observations.find(["old", "new"]).keys() == {"new"}


def test_progress_is_stored_for_the_version_that_it_was_made_for(connections):
    subscriptions = Subscriptions(connections)
    subscriptions.add(subscription("a", updated_at=1), most=20)
    known = subscriptions.find("a")
    told = [NumberedForSubscription(1, "B4", 8, 1)]
    assert subscriptions.number(known, told, {"numbered": 1})
    assert not subscriptions.number(known, told, {"numbered": 1})  # another process has numbered it
    renewed = subscriptions.renew(known, known, "requested", 2, {"B4": 99})
    assert (renewed.version, renewed.positions) == (2, known.positions)
    assert subscriptions.renew(known, known, "requested", 3, {}) is None
    assert not subscriptions.set_state(known, status="active")
    present = subscriptions.find("a")
    assert subscriptions.set_state(present, status="active", delivered=1)
    assert not subscriptions.set_state(present, delivered=0)  # it has been delivered further
    assert subscriptions.find("a").delivered == 1
    off = subscriptions.renew(subscriptions.find("a"), known, "off", 4, {})
    assert not subscriptions.set_state(off, status="active")
    again = subscriptions.renew(off, known, "requested", 5, {"B4": 99})
    assert (again.positions, again.status) == ({"B4": 99}, "requested")


def test_client_has_so_many_subscriptions_at_most_that_are_not_off(connections):
    subscriptions = Subscriptions(connections)
    statuses = {"a": "off", "b": "active", "c": "active", "d": "active"}
    added = [subscriptions.add(subscription(name, 1, status), most=2) for name, status in statuses.items()]
    assert added == [True, True, True, False]
