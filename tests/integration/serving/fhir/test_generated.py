"""Generated requests for every FHIR route, the token endpoint and CDS Hooks: the server never fails, and repeats nothing."""

import io
import logging

import pytest
from hypothesis import HealthCheck, given, settings

from tests.support.fhir_mutations import CANARY, VALUE, faults, requests, valid_requests
from tests.support.in_process_server import running_in_process


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    home = tmp_path_factory.mktemp("generated")
    (home / "fhir.toml").write_text('patient_system = "urn:mrn"\n')
    with running_in_process(home) as running:
        yield running


@pytest.fixture(scope="module")
def callers(server):
    """Callers one after the other, so that none is refused for its rate."""
    made = [server.caller(subject=f"generated {number}") for number in range(40)]
    return iter(lambda: made.append(made.pop(0)) or made[-1], None)


def send(callers, sent):
    own = {"Content-Type": "application/octet-stream"} | sent.headers if sent.body is not None else sent.headers
    headers = {name: value for name, value in own.items() if value or name == "Authorization"}
    return next(callers).request(sent.method, sent.path, content=sent.body, headers=headers)


@given(sent=requests())
@settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_no_request_breaks_the_server(callers, sent):
    log = io.StringIO()
    handler = logging.StreamHandler(log)
    logging.getLogger().addHandler(handler)
    logging.getLogger("vigil").addHandler(handler)
    try:
        answer = send(callers, sent)
    finally:
        logging.getLogger().removeHandler(handler)
        logging.getLogger("vigil").removeHandler(handler)
    media_type = answer.headers.get("content-type", "").partition(";")[0]
    assert faults(answer.request.url.path, answer.status_code, media_type, answer.text) == [], f"{sent}: {answer.text}"
    assert CANARY not in log.getvalue()
    assert str(VALUE) not in log.getvalue()


def test_requests_that_are_not_changed_reach_their_routes(callers):
    statuses = {(sent.method, sent.path.partition("?")[0]): send(callers, sent).status_code for sent in valid_requests()}
    assert statuses["POST", "/fhir"] == 200
    assert statuses["POST", "/fhir/Observation"] in (200, 201)
    assert statuses["PUT", "/fhir/Patient"] in (200, 201)
    assert statuses["PUT", "/fhir/Patient/o-1"] == 412  # the condition is of another version
    assert statuses["GET", "/fhir/RiskAssessment"] == 200
    assert statuses["POST", "/auth/token"] == 400
    assert statuses["POST", "/cds-services/vigil-patient-view"] == 200
