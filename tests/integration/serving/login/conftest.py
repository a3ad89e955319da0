"""A record system, and a server that people log in to there."""

import json

import pytest
from fastapi.testclient import TestClient

from tests.support.fake_ehr import running_ehr
from tests.support.in_process_server import SICK, observations_body, running_in_process
from vigil.serving.api.front import Front

URL = "https://vigil.example"
SETTINGS = """
idle_minutes = 15

[issuers.ehr]
fhir = "{fhir}"
client_id = "vigil"
wards = ["B4"]

[issuers.ehr.roles.intensivist]
wards = ["ICU"]
scopes = ["terms:write"]

[issuers.ehr.people."Practitioner/99"]
wards = "all"

[issuers.ehr.screens.wall-b4]
wards = ["B4"]
"""


@pytest.fixture(scope="session")
def running_record_system():
    with running_ehr() as running:
        yield running


@pytest.fixture
def ehr(running_record_system):
    running_record_system.reset()
    return running_record_system


@pytest.fixture(scope="module")
def settings(running_record_system):
    return SETTINGS.format(fhir=running_record_system.fhir)


@pytest.fixture(scope="module")
def server(tmp_path_factory, running_record_system, settings):
    """A server with one patient, of ward B4, whom the record system knows as Patient/p1."""
    home = tmp_path_factory.mktemp("login")
    (home / "login.toml").write_text(settings)
    (home / "fhir.toml").write_text(f'patient_system = "urn:mrn"\nbase_urls = ["{running_record_system.fhir}"]\n')
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("VIGIL_URL", URL)
        with running_in_process(home) as running:
            caller = running.caller()
            caller.post("/v1/patients", json={"patients": [{"patient_id": "sick", "ward": "B4"}]}).raise_for_status()
            patient = {"resourceType": "Patient", "id": "p1", "identifier": [{"system": "urn:mrn", "value": "sick"}]}
            fhir = {"Content-Type": "application/fhir+json"}
            assert caller.put("/fhir/Patient/p1", content=json.dumps(patient), headers=fhir).status_code in {200, 201}
            caller.post("/v1/observations", json=observations_body("sick", SICK)).raise_for_status()
            running.rescore()
            yield running


@pytest.fixture
def browser(server):
    return new_browser(server)


def new_browser(server):
    return TestClient(
        Front(server.app, server.app.state), base_url=URL, follow_redirects=False, headers={"Accept": "text/html"}
    )


def return_from(browser, ehr, start="/login", **changes):
    """Log in at the record system, and return the answer to the return; None removes a parameter of its query."""
    started = browser.get(start)
    assert started.status_code == 303, started.text
    query = ehr.authorize(started.headers["location"]) | changes
    return browser.get("/login/callback", params={name: value for name, value in query.items() if value is not None})


def session_of(browser):
    return browser.get("/login/session", headers={"Accept": "application/json"})
