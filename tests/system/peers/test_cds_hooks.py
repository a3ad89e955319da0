"""A client of CDS Hooks that others wrote finds the services, and gets a card about a patient who is very ill."""

import json
import subprocess
import time
import uuid
from datetime import UTC, datetime

from tests.support.in_process_server import SICK
from tests.system.peers.environments import own_environment
from vigil.features.pseudonyms import open_pseudonyms
from vigil.serving.records.ward_state import WardState

SYSTEM = "urn:peers:patients"


def test_client_gets_a_card_and_says_what_became_of_it(server, served_home, token_of, caller, easily_alarmed, peer):
    patient_id = f"cds-{uuid.uuid4().hex[:8]}"
    name = f"{SYSTEM}|{patient_id}"
    subject = open_pseudonyms(served_home).subject_key(name)
    client = caller()
    client.post("/v1/patients", json={"patients": [{"patient_id": name, "ward": easily_alarmed, "age": 80}]}).raise_for_status()
    common = {"patient_id": name, "observed_at": datetime.now(UTC).isoformat(), "source": "peers"}
    sent = [
        {**common, "message_id": f"{patient_id} {signal}", "signal": signal, "value": value} for signal, value in SICK.items()
    ]
    client.post("/v1/observations", json={"observations": sent}).raise_for_status()
    deadline = time.monotonic() + 30
    while not (alarms := WardState(served_home).alarms(subject=subject)) and time.monotonic() < deadline:
        time.sleep(0.1)
    patient = {"resourceType": "Patient", "id": f"ehr-{patient_id}", "identifier": [{"system": SYSTEM, "value": patient_id}]}
    done = subprocess.run(
        [*peer("node", "cds_call.mjs"), json.dumps({"patient": patient, "patient_id": f"ehr-{patient_id}"})],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=own_environment(URL=server, TOKEN=token_of()),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    said = json.loads(done.stdout)
    prefetch = {"patient": "Patient/{{context.patientId}}"}
    assert said["services"] == [
        ["vigil-patient-view", "patient-view", prefetch],
        ["vigil-encounter-start", "encounter-start", prefetch],
    ]
    (card,) = said["view"]
    assert card["indicator"] in ("warning", "critical")
    assert len(card["summary"]) < 140
    assert patient_id not in json.dumps(card)
    assert [each["summary"] for each in said["start"]] == [card["summary"]]
    assert isinstance(said["unknown"], str)  # without the Patient nobody is found: 412
    assert said["feedback"] == 200
    (alarm,) = [WardState(served_home).alarm(alarm.alarm_id) for alarm in alarms if alarm.alarm_id == card["uuid"]]
    assert (alarm.status, alarm.reason) == ("overridden", card["overrideReasons"][0]["code"])
