"""Generated requests of FHIR clients to a real server: it never fails, and errors and log repeat nothing of what was sent."""

import httpx
import pytest
from hypothesis import HealthCheck, given, settings

from tests.soak.home import token_for
from tests.support.fhir_mutations import CANARY, VALUE, faults, requests, valid_requests


@pytest.fixture(scope="module")
def client(spare):
    url, home = spare
    with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {token_for(home)}"}, timeout=60) as client:
        yield client


def send(client, sent):
    headers = {name: value for name, value in sent.headers.items() if value}
    return client.request(sent.method, sent.path, content=sent.body, headers=headers)


@given(sent=requests())
@settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_no_request_breaks_the_server(client, sent):
    answer = send(client, sent)
    media_type = answer.headers.get("content-type", "").partition(";")[0]
    assert faults(answer.request.url.path, answer.status_code, media_type, answer.text) == [], f"{sent}: {answer.text}"


def test_paths_that_are_known_are_reached(client):
    statuses = {(sent.method, sent.path.partition("?")[0]): send(client, sent).status_code for sent in valid_requests()}
    assert statuses["POST", "/fhir"] == 200
    assert statuses["POST", "/fhir/Observation"] in (200, 201)
    assert statuses["POST", "/fhir/RiskAssessment/_search"] == 200
    assert statuses["GET", "/fhir/.well-known/smart-configuration"] == 200


def test_log_holds_nothing_of_the_requests(spare):
    _, home = spare
    logged = "".join(path.read_text(errors="replace") for path in (home / "logs").iterdir() if path.is_file())
    assert "Started" in logged or "INFO" in logged or "started" in logged
    assert CANARY not in logged
    assert str(VALUE) not in logged
