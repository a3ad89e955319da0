"""smart-fetch, a client of bulk export, gets its tokens with its own key and takes what is exported."""

import gzip
import json
import subprocess
import time
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.support.fhir_resources import observation
from tests.system.peers.environments import own_environment

SYSTEM = "urn:peers:patients"


@pytest.fixture
def group(capabilities, caller):
    """Id of a Group that can be exported; skipped until the CapabilityStatement offers an export."""
    offered = {each["name"] for each in capabilities.get("Group", {}).get("operation", [])}
    if "export" not in offered:
        pytest.skip("Group/$export is not in the CapabilityStatement")
    client = caller()
    patient_id = f"bulk-{uuid.uuid4().hex[:8]}"
    subject = {"identifier": {"system": SYSTEM, "value": patient_id}}
    client.post("/fhir/Patient", json={"resourceType": "Patient", "identifier": [subject["identifier"]]}).raise_for_status()
    stay = {"status": "in-progress", "subject": subject, "location": [{"location": {"display": "bulk"}}]}
    client.post("/fhir/Encounter", json={"resourceType": "Encounter", **stay}).raise_for_status()
    at = (datetime.now(UTC) - timedelta(minutes=1)).isoformat()
    sent = observation(value=97, id=None, subject=subject, effectiveDateTime=at)
    client.post("/fhir/Observation", json=sent).raise_for_status()
    groups = client.get("/fhir/Group").raise_for_status().json()["entry"]
    return next(entry["resource"]["id"] for entry in groups if entry["resource"].get("name") == "bulk")


@pytest.fixture
def smart_fetch(server, registered, peer):
    """``smart_fetch(*arguments)``: run it as a registered client; returns the finished process."""
    key, _ = registered("smart-fetch", ["system/*.rs"])
    program = Path(peer("smart-fetch")).with_name("smart-fetch")

    def run(subcommand, *arguments):
        options = ["--fhir-url", f"{server}/fhir", "--smart-client-id", "smart-fetch", "--smart-key", key.with_suffix(".jwks")]
        command = [*map(str, (program, subcommand, *arguments, *options))]
        return subprocess.run(command, capture_output=True, text=True, timeout=240, check=False, env=own_environment())

    return run


def test_smart_fetch_gets_a_token_with_its_own_key(smart_fetch):
    done = smart_fetch("single", "Patient/unknown")
    assert "[404]" in done.stderr + done.stdout  # the token was good, and there is no such patient


def test_smart_fetch_takes_an_export(smart_fetch, group, tmp_path):
    done = smart_fetch("bulk", tmp_path, "--group", group, "--type", "Patient,Observation", "--no-default-filters")
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [
        json.loads(line)
        for path in tmp_path.rglob("*.ndjson*")
        if path.name != "log.ndjson"  # of smart-fetch itself
        for line in (gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()).splitlines()
    ]
    of_patients = [line for line in lines if line["resourceType"] == "Patient"]
    readings = [line for line in lines if line["resourceType"] == "Observation"]
    assert len(of_patients) == 1
    assert [reading["valueQuantity"]["value"] for reading in readings] == [97]


def test_the_risk_of_a_model_is_exported_as_it_is_read(caller, group):
    client = caller()
    prefer = {"Prefer": "respond-async"}
    started = client.get(f"/fhir/Group/{group}/$export", params={"_type": "RiskAssessment"}, headers=prefer).raise_for_status()
    status = started.headers["Content-Location"]
    until = time.monotonic() + 120
    while (answer := client.get(status).raise_for_status()).status_code == 202 and time.monotonic() < until:
        time.sleep(0.5)
    (file,) = answer.json()["output"]
    risks = [json.loads(line) for line in client.get(file["url"]).raise_for_status().text.splitlines()]
    assert risks
    for risk in risks:
        assert client.get(f"/fhir/RiskAssessment/{risk['id']}").raise_for_status().json() == risk
    assert any("probabilityRange" in prediction for risk in risks for prediction in risk["prediction"])
