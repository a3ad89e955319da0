"""Device: whether one is connected, as gateways say it."""

import pytest

from tests.support.in_process_server import running_in_process

DEVICE = {"resourceType": "Device", "identifier": [{"system": "urn:serial", "value": "monitor-12"}]}
OFFLINE = [{"coding": [{"system": "http://terminology.hl7.org/CodeSystem/device-status-reason", "code": "offline"}]}]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running_in_process(tmp_path_factory.mktemp("devices")) as running:
        yield running


def reports(server):
    return {(one.source, one.device_id): one.status for one in server.components.ward_state.silences.reports()}


def test_a_device_is_known_by_its_id_and_its_identifier(server):
    caller = server.caller()
    answer = caller.put("/fhir/Device/m-12", json=DEVICE | {"id": "m-12", "status": "active", "statusReason": OFFLINE})
    assert answer.status_code == 200
    (source,) = {source for source, _ in reports(server)}
    assert reports(server) == {(source, "m-12"): "disconnected", (source, "monitor-12"): "disconnected"}
    answer = caller.post("/fhir/Device", json=DEVICE | {"status": "active"})
    assert answer.status_code == 201
    assert reports(server)[source, "monitor-12"] == "connected"
    again = caller.post("/fhir/Device", json=DEVICE | {"status": "inactive"})
    assert (again.headers["Location"], reports(server)[source, "monitor-12"]) == (answer.headers["Location"], "disconnected")


@pytest.mark.parametrize(
    ("device", "path"),
    [
        ({**DEVICE, "status": "unknown"}, "Device.status"),
        ({**DEVICE, "status": ["active"]}, "Device.status"),
        (DEVICE, "Device.status"),
        ({"resourceType": "Device", "status": "active", "id": 7}, "Device.identifier"),
        ({"resourceType": "Device", "status": "active"}, "Device.identifier"),
        ({"resourceType": "Device", "status": "active", "identifier": [{"value": "x" * 200}]}, "Device.identifier"),
    ],
)
def test_a_device_that_says_nothing_usable_is_refused(server, device, path):
    answer = server.caller().post("/fhir/Device", json=device)
    assert (answer.status_code, answer.json()["issue"][0]["expression"]) == (422, [path])


def test_in_a_transaction_a_bad_device_refuses_the_whole(server):
    entries = [
        {
            "request": {"method": "PUT", "url": f"Device/d-{status}"},
            "resource": DEVICE | {"id": f"d-{status}", "status": status},
        }
        for status in ("active", "broken")
    ]
    answer = server.caller().post("/fhir", json={"resourceType": "Bundle", "type": "transaction", "entry": entries})
    assert answer.status_code == 422
    assert answer.json()["issue"][0]["expression"][0] == "Bundle.entry[1]"
    assert not any(name == "d-active" for _, name in reports(server))
