"""SEKMET, a hospital system for tests, subscribes to a patient's risk and is told."""

import json
import subprocess
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from tests.soak.home import TASK
from tests.support.receiver import register
from tests.system.peers.environments import PROGRAMS, own_environment
from vigil.pipelines.home import Home
from vigil.pipelines.operations.server import bind_socket, start_server, wait_for
from vigil.serving.auth.local_tokens import create_local_token


@pytest.fixture
def port():
    with bind_socket() as free:
        return free.getsockname()[1]


@pytest.fixture
def vigil(tmp_path, port):
    """URL and home of a server without a model, which may send to SEKMET."""
    home = tmp_path / "home"
    home.mkdir()
    register(home, f"http://127.0.0.1:{port}/hooks/", clients={"sekmet": (["system/*.cruds"], None)})
    url, server = start_server(Home(home), TASK)
    try:
        wait_for(f"{url}/livez", server)
        yield url, home
    finally:
        server.terminate()
        server.wait(timeout=30)


def test_sekmet_is_told_of_the_risk_that_it_subscribes_to(peer, vigil, port, tmp_path):
    program, (url, home) = Path(peer("sekmet-fhir")).with_name("sekmet"), vigil
    token = create_local_token(home, subject="sekmet", scopes=None, wards=None, lifetime=timedelta(hours=1))
    patient = {"resourceType": "Patient", "identifier": [{"system": "urn:mrn", "value": "4711"}]}
    answer = httpx.post(f"{url}/fhir/Patient", json=patient, headers={"Authorization": f"Bearer {token}"}, timeout=30)
    assert answer.status_code == 201
    identity = answer.headers["Location"].partition("/Patient/")[2].partition("/")[0]
    settings = {
        "data_dir": str(tmp_path / "data"),
        "own_private_key_path": str(tmp_path / "own.pem"),
        "host": "127.0.0.1",
        "port": port,
        "base_url": f"http://127.0.0.1:{port}/fhir",
        "peers": {"vigil": {"base_url": f"{url}/fhir", "auth": {"type": "bearer", "token": token}}},
    }
    (tmp_path / "settings.yaml").write_text(json.dumps(settings))  # JSON is YAML
    scenario = PROGRAMS / "subscriptions.yaml"
    command = [program, "scenario", "run", scenario, "--peer", "vigil", "--serve", "--report-dir", tmp_path / "reports"]
    done = subprocess.run(
        [*map(str, command), "--var", f"patient={identity}", "--config", str(tmp_path / "settings.yaml")],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        cwd=tmp_path,
        env=own_environment(),
    )
    (results,) = (tmp_path / "reports").glob("*/results.json")
    (found,) = json.loads(results.read_text())
    steps = {step["name"].strip(): (step["status"], step["message"]) for step in found["steps"]}
    assert {name: step for name, step in steps.items() if step[0] != "passed"} == {}, done.stdout + done.stderr
    assert len(steps) == 9
