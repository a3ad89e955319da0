"""What is remembered of FHIR clients: versions of resources, names of patients, and what retention takes from both."""

import pandas as pd
import pytest

from tests.support.live_ward import LiveWard
from vigil.pipelines.operations.retention import retention
from vigil.serving.identity.identities import Identities
from vigil.serving.records import connection_tables
from vigil.serving.records.database import open_database
from vigil.serving.records.fhir_names import FhirNames
from vigil.serving.records.fhir_observations import FhirObservations, SentResource
from vigil.serving.records.timestamps import microsecond


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


def test_name_moves_to_another_subject(connections):
    names = FhirNames(connections)
    names.store({"one": "s", "two": "s"}, at=1)
    names.store({"two": "t"}, at=2)
    assert names.find(["one", "two", "three"]) == {"one": "s", "two": "t"}


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
    old = microsecond(now - pd.Timedelta(days=9))
    observations.add(
        [resource("old", updated_at=old, subject="left"), resource("new", updated_at=microsecond(now), subject="stays")]
    )
    rows = retention(tmp_path, 5).rows
    assert (rows["connections.db fhir_observations"], rows["connections.db fhir_names"]) == (1, 1)
    assert names.find(["one", "two"]) == {"two": "stays"}
    assert observations.find(["old", "new"]).keys() == {"new"}
