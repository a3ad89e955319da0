"""FHIR clients that others wrote take the walk of a record system through a real server, and the journal has what they sent."""

import json
import subprocess
import uuid
from datetime import UTC, datetime, timedelta

import pytest

from tests.support.fhir_resources import component, concept, observation, panel
from tests.system.peers.environments import own_environment
from vigil.features.kernel.plan import UNBOUNDED
from vigil.features.pseudonyms import open_pseudonyms
from vigil.serving.records.journal import Journal

SYSTEM = "urn:peers:patients"
CLIENTS = [("fhirpy", "fhirpy_walk.py"), ("fhirclient", "fhirclient_walk.py"), ("node", "kit_walk.mjs")]


def walk_of(patient_id):
    """Return what a client sends on its way, of one patient who is very ill."""
    subject = {"identifier": {"system": SYSTEM, "value": patient_id}}
    patient = {"resourceType": "Patient", "gender": "female", "birthDate": "1950-05-01", "identifier": [subject["identifier"]]}

    def at(minutes):
        return (datetime.now(UTC) - timedelta(minutes=minutes)).isoformat(timespec="milliseconds")

    def own(code, value, unit, minutes=2, **more):
        return observation(code, value, unit, id=None, subject=subject, effectiveDateTime=at(minutes), **more)

    def create(resource, full_url=None):
        entry = {"resource": resource, "request": {"method": "POST", "url": resource["resourceType"]}}
        return entry | ({} if full_url is None else {"fullUrl": full_url})

    full_url = f"urn:uuid:{uuid.uuid4()}"
    pressure = panel(component("8480-6", 84, "mm[Hg]"), component("8462-4", 50, "mm[Hg]"), id=None, subject=subject)
    of_transaction = {"effectiveDateTime": at(1), "subject": {"reference": full_url}}
    transaction = [
        create(own("59408-5", 84, "%") | of_transaction),
        {
            "resource": patient,
            "fullUrl": full_url,
            "request": {"method": "PUT", "url": f"Patient?identifier={SYSTEM}|{patient_id}"},
        },
        create(own("8310-5", 39.4, "Cel") | of_transaction),
    ]
    batch = [
        create(own("9279-1", 31, "/min")),
        create(own("9279-1", 31, None, 3)),
        create(pressure | {"effectiveDateTime": at(2)}),
        create(own("8310-5", 394, "Cel", 3)),
    ]
    return {
        "patient": patient,
        "patient_identifier": f"{SYSTEM}|{patient_id}",
        "encounter": {
            "resourceType": "Encounter",
            "status": "in-progress",
            "class": concept(("http://terminology.hl7.org/CodeSystem/v3-ActCode", "IMP"))["coding"][0],
            "subject": subject,
            "location": [{"location": {"display": "peers"}}],
        },
        "identifier": f"urn:peers:messages|{patient_id}-1",
        "observations": [own("8867-4", 138, "/min", identifier=[{"system": "urn:peers:messages", "value": f"{patient_id}-1"}])],
        "mistaken": own("8867-4", 30, "/min", 4),
        "refused": own("2339-0", 24, None),
        "batch": {"resourceType": "Bundle", "type": "batch", "entry": batch},
        "transaction": {"resourceType": "Bundle", "type": "transaction", "entry": transaction},
        "band": "high",
    }


def counting(home, identifier):
    """Return ``signal, value`` of the readings of a patient that count."""
    subject = open_pseudonyms(home).subject_key(identifier)
    with Journal(home).snapshot() as journal:
        rows = journal.observations(0, UNBOUNDED, subject)
    return sorted(zip(rows["signal"].astype(str), rows["value"], strict=True))


@pytest.mark.parametrize(("name", "program"), CLIENTS)
def test_client_walks_through_the_routes(server, served_home, token_of, peer, name, program):
    patient_id = f"walk-{name}-{uuid.uuid4().hex[:8]}"
    sent = walk_of(patient_id)
    done = subprocess.run(
        [*peer(name, program), json.dumps(sent)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=own_environment(URL=server, TOKEN=token_of()),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    said = json.loads(done.stdout)
    assert said["fhir_version"] == "4.0.1"
    assert all(said[kind] for kind in ("patient", "encounter", "observation"))
    assert patient_id not in said["patient"]  # ids name nobody
    assert (said["created_again"], said["patient_created_again"]) == (False, False)
    assert said["version_after_update"] == "2"
    assert said["refused"] == "missing_unit"
    assert said["batch"] == ["201", "201", "201", "422"]
    assert said["transaction"] == ["201", "200", "201"]
    assert (said["risks"], said["subject"]) == (["high"], f"Patient/{said['patient']}")
    assert counting(served_home, sent["patient_identifier"]) == [
        ("body_temperature", 39.4),
        ("diastolic_bp", 50.0),
        ("heart_rate", 139.0),
        ("respiratory_rate", 31.0),
        ("respiratory_rate", 31.0),
        ("spo2", 84.0),
        ("systolic_bp", 84.0),
    ]
