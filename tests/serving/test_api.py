"""The API as a care platform meets it: over HTTP, with good requests and bad ones, and no patient in any log."""

import json
import re

import httpx
import pandas as pd
import pytest

from pipelines.cohort_store import CohortStore
from serving.schemas import MAX_BODY_BYTES, MAX_PATIENTS

NOW = "2026-02-01T12:00:00Z"
CANARY = "canary-7f3a"  # marks identifiers and texts that must not be written anywhere
CANARY_VALUE = 31337.25


@pytest.fixture(scope="module")
def client(server):
    with httpx.Client(base_url=server, timeout=30) as client:
        yield client


@pytest.fixture(scope="module")
def patient(home):
    return CohortStore(home).read("stays")["subject_id"].iloc[0]


def reading(**changes):
    return {"signal": "heart_rate", "value": 112, "observed_at": NOW, **changes}


def test_health_readiness_metrics_and_docs(client):
    for path in ("/livez", "/readyz", "/healthz"):
        assert client.get(path).status_code == 200
    client.post("/v1/risk", json={"patient_id": "nobody"})
    assert "bentoml_service_request_total" in client.get("/metrics").text
    document = client.get("/v1/openapi.json").json()
    assert set(document["paths"]) == {"/v1/risk", "/v1/risks", "/v1/risk/observations"}
    page = client.get("/v1/docs")
    assert page.status_code == 200
    assert not re.search(r"""(?:src|href)=["']https?:""", page.text)  # nothing is loaded from elsewhere
    assert client.get("/static_content/swagger-ui-bundle.js").status_code == 200
    assert client.get("/").headers["location"] == "/v1/docs"


def test_risk_of_one_patient(client, patient):
    answer = client.post("/v1/risk", json={"patient_id": patient})
    assert answer.status_code == 200
    body = answer.json()
    assert body["patient_id"] == patient
    assert 0 < body["probability"] < 1
    assert body["band"] in {"low", "medium", "high"}
    assert body["model"]["simulated"] is True


def test_risks_of_several(client, patient):
    body = client.post("/v1/risks", json={"patient_ids": [patient, "nobody"]}).json()
    assert body["items"][0]["risk"]["patient_id"] == patient
    assert body["items"][1]["risk"] is None
    assert body["items"][1]["problem"]["code"] == "unknown_patient"


def test_risk_from_observations(client):
    worse = [reading(value=135), reading(signal="spo2", value=85), reading(signal="respiratory_rate", value=32)]
    better = [reading(value=70), reading(signal="spo2", value=98), reading(signal="respiratory_rate", value=14)]
    sick, well = (
        client.post("/v1/risk/observations", json={"patient_id": "x", "observations": readings, "age": 70}).json()
        for readings in (worse, better)
    )
    assert (sick["news2"]["score"], well["news2"]["score"]) == (3 + 3 + 3, 0)
    assert sick["probability"] > well["probability"]
    assert pd.Timestamp(sick["as_of"]) == pd.Timestamp(NOW)


BAD = {
    "unknown patient": ("/v1/risk", {"patient_id": CANARY}, 404, "unknown_patient"),
    "not JSON": ("/v1/risk", CANARY, 422, "invalid_request"),
    "no patient": ("/v1/risk", {}, 422, "invalid_request"),
    "empty patient": ("/v1/risk", {"patient_id": ""}, 422, "invalid_request"),
    "patient is a number": ("/v1/risk", {"patient_id": CANARY_VALUE}, 422, "invalid_request"),
    "an extra field": ("/v1/risk", {"patient_id": "x", CANARY: 1}, 422, "invalid_request"),
    "as_of without zone": ("/v1/risk", {"patient_id": "x", "as_of": "2026-01-01T00:00:00"}, 422, "invalid_request"),
    "as_of in another age": ("/v1/risk", {"patient_id": "x", "as_of": "0001-01-01T00:00:00Z"}, 422, "invalid_request"),
    "as_of as a number": ("/v1/risk", {"patient_id": "x", "as_of": 1770000000}, 422, "invalid_request"),
    "as_of as a number in a text": ("/v1/risk", {"patient_id": "x", "as_of": "1770000000"}, 422, "invalid_request"),
    "no patients": ("/v1/risks", {"patient_ids": []}, 422, "invalid_request"),
    "too many patients": ("/v1/risks", {"patient_ids": [CANARY] * (MAX_PATIENTS + 1)}, 422, "invalid_request"),
    "no readings": ("/v1/risk/observations", {"patient_id": "x", "observations": []}, 422, "invalid_request"),
    "a word for a value": (
        "/v1/risk/observations",
        {"patient_id": "x", "observations": [reading(value=CANARY)]},
        422,
        "invalid_request",
    ),
    "a number as a text": (
        "/v1/risk/observations",
        {"patient_id": "x", "observations": [reading(value="112")]},
        422,
        "invalid_request",
    ),
    "between two codes": (
        "/v1/risk/observations",
        {"patient_id": "x", "observations": [reading(signal="on_oxygen", value=0.4)]},
        422,
        "unusable_observations",
    ),
    "nothing recent": (
        "/v1/risk/observations",
        {"patient_id": "x", "observations": [reading()], "as_of": "2026-02-03T12:00:00Z"},
        409,
        "no_recent_readings",
    ),
    "implausible": (
        "/v1/risk/observations",
        {"patient_id": CANARY, "observations": [reading(value=CANARY_VALUE)]},
        422,
        "unusable_observations",
    ),
    "unknown signal": (
        "/v1/risk/observations",
        {"patient_id": "x", "observations": [reading(signal=CANARY)]},
        422,
        "unusable_observations",
    ),
    "wrong unit": (
        "/v1/risk/observations",
        {"patient_id": "x", "observations": [reading(unit=CANARY)]},
        422,
        "unusable_observations",
    ),
    "the same reading twice": (
        "/v1/risk/observations",
        {"patient_id": "x", "observations": [reading(), reading()]},
        422,
        "unusable_observations",
    ),
    "a reading of the future": (
        "/v1/risk/observations",
        {"patient_id": "x", "observations": [reading(observed_at="2090-01-01T00:00:00Z")]},
        422,
        "unusable_observations",
    ),
    "as_of in the future": (
        "/v1/risk/observations",
        {"patient_id": "x", "observations": [reading()], "as_of": "2090-01-01T00:00:00Z"},
        422,
        "unusable_observations",
    ),
    "a reading after as_of": (
        "/v1/risk/observations",
        {"patient_id": "x", "observations": [reading()], "as_of": "2026-01-31T00:00:00Z"},
        422,
        "unusable_observations",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_request_gets_a_clear_problem_without_its_values(client, name):
    path, body, status, code = BAD[name]
    content = body if isinstance(body, str) else json.dumps(body)
    answer = client.post(path, content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["code"] == code
    assert problem["detail"]
    assert CANARY not in answer.text
    assert str(CANARY_VALUE) not in answer.text


def test_stale_data_is_a_conflict(client, patient):
    answer = client.post("/v1/risk", json={"patient_id": patient, "as_of": "2026-11-01T00:00:00Z"})
    assert (answer.status_code, answer.json()["code"]) == (409, "stale_data")


def test_an_implausible_reading_is_named_with_its_rule_and_range(client):
    body = {"patient_id": "x", "observations": [reading(), reading(signal="spo2", value=400)]}
    (error,) = client.post("/v1/risk/observations", json=body).json()["errors"]
    assert error == {"field": "observations.1.value", "rule": "implausible", "expected": "20 to 100 %"}


def test_a_body_nested_beyond_reading_is_a_problem(client):
    answer = client.post("/v1/risk", content="[" * 100_000 + "]" * 100_000, headers={"Content-Type": "application/json"})
    assert answer.status_code in {400, 422}
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("chunked", [False, True])
def test_an_oversized_body_is_refused_with_or_without_its_length(client, chunked):
    body = json.dumps({"patient_id": "x" * (MAX_BODY_BYTES + 1)}).encode()
    content = (body[i : i + 65536] for i in range(0, len(body), 65536)) if chunked else body
    answer = client.post("/v1/risk", content=content, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")


def test_a_wrong_method_and_path_are_4xx(client):
    wrong_method = client.get("/v1/risk")
    assert (wrong_method.status_code, wrong_method.json()["code"]) == (405, "method_not_allowed")
    for path in ("/v1/nothing", "/docs.json", "/schema.json", "/elsewhere"):
        nowhere = client.post(path, json={})
        assert (nowhere.status_code, nowhere.json()["code"]) == (404, "not_found")


def test_no_identifier_value_or_traceback_is_in_any_log(client, home, patient):
    """Runs after the requests above, good and bad; what they carried must not have been written."""
    client.post("/v1/risk", json={"patient_id": patient})
    logs = list((home / "logs").iterdir())
    assert any("vigil" in path.read_text() for path in logs)
    for path in logs:
        text = path.read_text()
        assert "Traceback" not in text, path
        for secret in (CANARY, str(CANARY_VALUE), patient, "sim-0"):
            assert secret not in text, path
    assert CANARY not in client.get("/metrics").text
