"""Actions on an alarm: all of them are stored, and each once, however often it is sent."""

import pytest

from tests.support.in_process_server import SICK, observations_body, running_in_process


@pytest.fixture
def server(tmp_path):
    with running_in_process(tmp_path) as server:
        yield server


def test_alarm_actions_show_who_did_what(server, monkeypatch):
    counted = []
    monkeypatch.setattr(server.components.metrics, "count_action", counted.append)
    nurse, doctor = server.caller(subject="nurse"), server.caller(subject="doctor")
    nurse.post("/v1/patients", json={"patients": [{"patient_id": "p", "ward": "A"}]}).raise_for_status()
    nurse.post("/v1/observations", json=observations_body("p", SICK)).raise_for_status()
    server.rescore()
    (alarm,) = nurse.get("/v1/alarms").json()["alarms"]
    assert (alarm["status"], alarm["actions"]) == ("open", [])
    body = {"alarm_id": alarm["alarm_id"]}

    def act(person, action, **more):
        return person.post(f"/v1/alarms/{action}", json=body | more)

    first, again = act(nurse, "acknowledge"), act(nurse, "acknowledge")
    assert (first.status_code, again.status_code) == (200, 200)
    assert first.json() == again.json()
    assert [act(doctor, "override", reason="artefact").status_code for _ in range(2)] == [200, 200]
    for refused in (
        act(doctor, "override", reason="other"),
        act(nurse, "override", reason="artefact"),
        act(nurse, "acknowledge"),
    ):
        assert (refused.status_code, refused.json()["code"]) == (409, "already_done")
        assert "was overridden already" in refused.json()["detail"]
    (alarm,) = nurse.get("/v1/alarms").json()["alarms"]
    assert (alarm["status"], alarm["acted_by"], alarm["reason"]) == ("overridden", "doctor", "artefact")
    assert [(action["action"], action["by"], action["reason"]) for action in alarm["actions"]] == [
        ("acknowledged", "nurse", None),
        ("overridden", "doctor", "artefact"),
    ]
    assert counted == ["acknowledged", "overridden"]
