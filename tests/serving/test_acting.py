"""What people do about an alarm is kept, all of it, and said once however often it is sent."""

from datetime import timedelta

import pytest
from fastapi.testclient import TestClient

from serving.auth.local_tokens import local_token
from serving.auth.tokens import SCOPES
from serving.service import api
from tests.serving.inside import SICK, running_inside, sent


@pytest.fixture
def inside(tmp_path):
    with running_inside(tmp_path) as inside:
        yield inside


def person(inside, name):
    token = local_token(inside.home, subject=name, scopes=tuple(SCOPES), wards=None, lifetime=timedelta(hours=1))
    return TestClient(api, headers={"Authorization": f"Bearer {token}"})


def test_who_did_what_about_an_alarm(inside, monkeypatch):
    counted = []
    monkeypatch.setattr(inside.parts.metrics, "acted", counted.append)
    nurse, doctor = person(inside, "nurse"), person(inside, "doctor")
    nurse.post("/v1/patients", json={"patients": [{"patient_id": "p", "ward": "A"}]}).raise_for_status()
    nurse.post("/v1/observations", json=sent("p", SICK)).raise_for_status()
    inside.rescore()
    (alarm,) = nurse.get("/v1/alarms").json()["alarms"]
    assert (alarm["status"], alarm["actions"]) == ("open", [])
    name = {"alarm_id": alarm["alarm_id"]}

    def act(who, action, **more):
        return who.post(f"/v1/alarms/{action}", json=name | more)

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
    assert [(done["action"], done["by"], done["reason"]) for done in alarm["actions"]] == [
        ("acknowledged", "nurse", None),
        ("overridden", "doctor", "artefact"),
    ]
    assert counted == ["acknowledged", "overridden"]
