"""The examples of the OpenAPI document are sent as they are, and answered as the document states."""

import time
from datetime import UTC, datetime

import httpx
import jsonschema_rs
import pytest

from tests.soak.home import token_for
from vigil.serving.records import ward_settings

FIRST = ["/v1/patients", "/v1/observations"]  # the other requests need these
SICK = {"heart_rate": 138, "respiratory_rate": 31, "spo2": 84, "systolic_bp": 84, "body_temperature": 39.4, "consciousness": 1}


@pytest.fixture(scope="module")
def client(spare):
    url, home = spare
    (home / ward_settings.FILE).write_text("[default]\nthreshold = 0.01\n")  # so that there is an alarm
    with httpx.Client(base_url=url, timeout=30, headers={"Authorization": f"Bearer {token_for(home)}"}) as client:
        yield client


@pytest.fixture(scope="module")
def document(client):
    return client.get("/v1/openapi.json").json()


def alarm_of(client):
    """Return the id of an alarm, which takes a patient who is sick now."""
    client.post("/v1/patients", json={"patients": [{"patient_id": "sick", "ward": "B4", "age": 70}]}).raise_for_status()
    for _ in range(100):
        now = datetime.now(UTC).isoformat()  # repeated: the rescorer reads ward settings once a second
        observations = [
            {"message_id": signal, "patient_id": "sick", "signal": signal, "value": value, "observed_at": now}
            for signal, value in SICK.items()
        ]
        client.post("/v1/observations", json={"observations": observations}).raise_for_status()
        if alarms := client.get("/v1/alarms").json()["alarms"]:
            return alarms[0]["alarm_id"]
        time.sleep(0.2)
    pytest.fail("a sick patient, and no alarm")


def examples(document, operation):
    """Return the bodies of an operation or, where it has none, its parameters."""
    if "requestBody" in operation:
        schema = operation["requestBody"]["content"]["application/json"]["schema"]
        return document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]["examples"]
    return [
        {
            parameter["name"]: parameter["schema"]["examples"][0]
            for parameter in operation["parameters"]
            if parameter["required"]
        }
    ]


def test_every_example_is_answered_as_the_document_states(client, document):
    paths = {path: by for path, by in document["paths"].items() if path.startswith("/v1")}
    operations = [(path, method, operation) for path, by in paths.items() for method, operation in by.items()]
    operations.sort(key=lambda operation: operation[0] not in FIRST)
    assert len(operations) > 10
    for path, method, operation in operations:
        bodies = examples(document, operation)
        assert bodies, path
        for example in bodies:
            # No alarm has the id of the example, and a stream of events ends only after `seconds`.
            real = {"alarm_id": alarm_of(client)} if "alarm_id" in example else {}
            real |= {"seconds": 0} if path == "/v1/ward/events" else {}
            sent = {**example, **real}
            answer = client.request(method, path, **({"json": sent} if method == "post" else {"params": sent}))
            assert answer.status_code == 200, (path, answer.text)
            content = operation["responses"]["200"]["content"]
            if "application/json" in content:
                schema = {**content["application/json"]["schema"], "components": document["components"]}
                jsonschema_rs.validate(schema, answer.json())
