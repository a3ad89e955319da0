"""Subscriptions end to end: a client subscribes, the rescorer makes events, and an endpoint is told."""

import time

import pytest

from tests.support.in_process_server import SICK, WELL, observations_body, running_in_process
from tests.support.receiver import ALARM, receiving, register, subscription

PATH = "/fhir/Subscription"


@pytest.fixture
def receiver():
    with receiving() as endpoint:
        yield endpoint


@pytest.fixture
def server(tmp_path, receiver):
    register(tmp_path, receiver.url)
    with running_in_process(tmp_path) as running:
        running.deliverer.start()
        yield running


def send(server, patient, values=SICK, ward="B4"):
    caller = server.caller()
    caller.post("/v1/patients", json={"patients": [{"patient_id": patient, "ward": ward}]})
    caller.post("/v1/observations", json=observations_body(patient, values))
    server.rescore()


def reference(server, patient):
    return server.components.directory.reference(server.components.pseudonyms.subject_key(patient))


def create(server, resource, **caller):
    answer = server.caller(subject="ehr", **caller).post(PATH, json=resource)
    assert answer.status_code == 201, answer.text
    return answer.json()


def read(server, created):
    return server.caller(subject="ehr").get(f"{PATH}/{created['id']}").json()


def wait_until(condition, seconds=10):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_endpoint_is_told_of_a_changed_risk(server, receiver):
    created = create(server, subscription(f"{receiver.url}7", header=["Authorization: Bearer secret-7"]))
    assert created["status"] == "requested"
    (handshake,) = receiver.wait_for("handshake")
    assert (handshake.path, handshake.headers["Authorization"]) == ("/hooks/7", "Bearer secret-7")
    assert handshake.headers["Content-Type"] == "application/fhir+json"
    assert (handshake.count, handshake.events) == (0, [])
    wait_until(lambda: read(server, created)["status"] == "active")
    send(server, "4711")
    (told,) = receiver.wait_for("event-notification")
    (event,) = told.events
    assert (event["event-number"], told.count) == ("1", 1)
    assert event["additional-context"]["reference"].endswith(f"/fhir/{reference(server, '4711')}")
    risk = server.caller().get("/fhir/RiskAssessment", params={"patient": reference(server, "4711")}).json()
    assert event["focus"]["reference"].endswith(f"/fhir/RiskAssessment/{risk['entry'][0]['resource']['id']}")
    assert "4711" not in str(told.bundle).replace(event["focus"]["reference"], "")
    assert "secret-7" not in str(read(server, created))


def test_full_resource_holds_the_risk(server, receiver):
    create(server, subscription(receiver.url, content="full-resource"))
    receiver.wait_for("handshake")
    send(server, "4711")
    (told,) = receiver.wait_for("event-notification")
    (risk,) = told.resources
    assert (risk["resourceType"], risk["subject"]["reference"]) == ("RiskAssessment", reference(server, "4711"))
    assert told.events[0]["focus"]["reference"].endswith(f"RiskAssessment/{risk['id']}")


def test_alarms_are_told_from_opening_to_end(server, receiver):
    create(server, subscription(receiver.url, topic=ALARM))
    receiver.wait_for("handshake")
    send(server, "4711")
    caller = server.caller()
    (alarm,) = caller.get("/v1/ward/alarms", params={"ward": "B4"}).json()["alarms"]
    caller.post("/v1/alarms/acknowledge", json={"alarm_id": alarm["alarm_id"]})
    receiver.wait(lambda _: receiver.numbers() == [1, 2])
    for told in receiver.wait_for("event-notification"):
        assert told.events[0]["focus"]["reference"].endswith(f"DetectedIssue/{alarm['alarm_id']}")
    assert WELL
