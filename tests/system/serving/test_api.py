"""The API over HTTP, as a care platform uses it: good requests and bad ones."""

import json
import re
import time

import httpx
import pandas as pd
import pytest

from vigil.pipelines.cohort_store import CohortStore
from vigil.serving.api.schemas.request import MAX_BODY_BYTES, MAX_PATIENTS
from vigil.serving.identity.identities import Identities

NOW = "2026-02-01T12:00:00Z"
CANARY = "canary-7f3a"  # marks identifiers and texts that must not be repeated
CANARY_VALUE = 31337.25
SICK = {"heart_rate": 135, "spo2": 85, "respiratory_rate": 32, "systolic_bp": 88}
WELL = {"heart_rate": 70, "spo2": 98, "respiratory_rate": 14, "systolic_bp": 125}
PATHS = {
    "/v1/observations": {"post"},
    "/v1/devices/status": {"post"},
    "/v1/patients": {"post"},
    "/v1/patients/merge": {"post"},
    "/v1/patients/unmerge": {"post"},
    "/v1/patients/terms": {"post"},
    "/v1/risk": {"post"},
    "/v1/risks": {"post"},
    "/v1/risk/observations": {"post"},
    "/v1/risk/history": {"post"},
    "/v1/risk/anomalies": {"post"},
    "/v1/visit-summary": {"post"},
    "/v1/ward/patients": {"get"},
    "/v1/ward/events": {"get"},
    "/v1/alarms": {"get"},
    "/v1/alarms/acknowledge": {"post"},
    "/v1/alarms/override": {"post"},
}
HEALTH = {path: {"get"} for path in ("/livez", "/readyz", "/metrics")}


@pytest.fixture(scope="module")
def client(caller):
    return caller()


@pytest.fixture(scope="module")
def patient(home):
    """The identifier of a patient of the cohort."""
    subject = CohortStore(home).read("stays")["subject_id"].iloc[0]
    identifier = Identities(home).find([subject])[subject]
    assert re.fullmatch(r"sim-\d{6}", identifier)
    return identifier


def observation(**changes):
    return {"signal": "heart_rate", "value": 112, "observed_at": NOW, **changes}


def observations_body(patient_id, values, minutes_ago=0):
    """Return a request body with observations of one patient, of some minutes ago."""
    at = pd.Timestamp.now("UTC") - pd.Timedelta(minutes=minutes_ago)
    fields = {"patient_id": patient_id, "observed_at": at.isoformat(), "source": "tests"}
    observations = [{**fields, "message_id": f"{signal} {at}", "signal": signal, "value": v} for signal, v in values.items()]
    return {"observations": observations}


def wait_for(ask, seconds=20):
    """Return what a question gives once the rescorer has done its work."""
    end = time.monotonic() + seconds
    while not (answer := ask()) and time.monotonic() < end:
        time.sleep(0.05)
    assert answer
    return answer


def test_health_readiness_metrics_and_docs(server):
    with httpx.Client(base_url=server) as stranger:  # no token is needed
        for path in ("/livez", "/readyz", "/healthz"):
            assert stranger.get(path).status_code == 200
        stranger.post("/v1/risk", json={"patient_id": "unknown"})
        time.sleep(1.5)  # the page is kept for a second
        page = stranger.get("/metrics").text
        assert re.search(r'^vigil_request_seconds_count{path="/v1/risk",status="401"} \d', page, re.MULTILINE)
        assert 'vigil_model_info{feature_service="vital_signs_v3",name="deterioration",version="1"} 1.0' in page
        assert {line.split("_")[0] for line in page.splitlines() if not line.startswith("#")} == {"vigil"}
        document = stranger.get("/v1/openapi.json").json()
        assert {path: set(methods) for path, methods in document["paths"].items()} == PATHS | HEALTH
        page = stranger.get("/v1/docs")
        assert page.status_code == 200
        assert not re.search(r"""(?:src|href)=["']https?:""", page.text)  # no script of another server
        assert stranger.get("/static_content/swagger-ui-bundle.js").status_code == 200
        assert stranger.get("/").headers["location"] == "/wards"


def test_answers_must_not_be_stored_by_caches(client):
    for answer in (client.get("/v1/docs"), client.post("/v1/risk", json={}), client.get("/nowhere")):
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "default-src 'self'" in answer.headers["content-security-policy"]


def test_risk_answer_of_one_patient(client, patient):
    answer = client.post("/v1/risk", json={"patient_id": patient, "include": ["contributions", "range"]})
    assert answer.status_code == 200
    body = answer.json()
    assert body["patient_id"] == patient
    assert body["basis"] == "model"
    assert body["findings"] == []
    assert body["range"]["low"] <= body["probability"] <= body["range"]["high"]
    assert len(body["contributions"]) == 5
    assert body["band"] in {"low", "medium", "high"}
    assert body["model"] == {"name": "deterioration", "version": "1", "feature_service": "vital_signs_v3", "simulated": True}


def test_risks_answer_of_several_patients(client, patient):
    body = client.post("/v1/risks", json={"patient_ids": [patient, "unknown"]}).json()
    assert body["items"][0]["risk"]["patient_id"] == patient
    assert body["items"][1]["risk"] is None
    assert body["items"][1]["problem"]["code"] == "unknown_patient"


def test_risk_answer_from_observations(client):
    worse = [observation(value=135), observation(signal="spo2", value=85), observation(signal="respiratory_rate", value=32)]
    better = [observation(value=70), observation(signal="spo2", value=98), observation(signal="respiratory_rate", value=14)]
    sick, well = (
        client.post("/v1/risk/observations", json={"patient_id": "x", "observations": observations, "age": 70}).json()
        for observations in (worse, better)
    )
    assert (sick["news2"]["score"], well["news2"]["score"]) == (3 + 3 + 3, 0)
    assert sick["probability"] > well["probability"]
    assert pd.Timestamp(sick["as_of"]) == pd.Timestamp(NOW)
    assert sick["patient_id"] == "x"


@pytest.fixture(scope="module")
def admitted(client):
    """The alarm of a patient of ward B4 who was well an hour ago and is sick now."""
    admitted_at = (pd.Timestamp.now("UTC") - pd.Timedelta(hours=2)).isoformat()
    body = {"patient_id": "api-1", "ward": "B4", "age": 71, "sex": "female", "unit_admitted_at": admitted_at}
    assert client.post("/v1/patients", json={"patients": [body]}).json() == {"registered": 1}
    for values, ago in ((WELL, 60), (SICK, 0)):
        answer = client.post("/v1/observations", json=observations_body("api-1", values, ago)).json()
        assert (answer["accepted"], answer["duplicate"], answer["quarantined"]) == (4, 0, 0)
    return wait_for(lambda: client.get("/v1/alarms", params={"ward": "B4", "status": "open"}).json()["alarms"])[0]


def test_observations_become_a_risk_of_the_ward_and_an_alarm(client, admitted):
    (patient,) = client.get("/v1/ward/patients", params={"ward": "B4"}).json()["patients"]
    assert (patient["patient_id"], patient["band"], patient["news2"]) == ("api-1", "high", 3 + 3 + 3 + 3)
    assert (patient["basis"] == "model") == ("outside_training" not in patient["findings"])
    assert (patient["reasons"], patient["model_version"]) == (["news2_7_or_more", "news2_single_3"], "1")
    assert (admitted["cause"], admitted["reasons"]) == ("news2", ["news2_7_or_more", "news2_single_3"])
    assert (patient["alarm_id"], patient["alarm_status"]) == (admitted["alarm_id"], "open")
    assert (admitted["patient_id"], admitted["ward"], admitted["sounded"]) == ("api-1", "B4", 1)
    now = client.post("/v1/risk", json={"patient_id": "api-1"}).json()
    assert now["news2"]["score"] == 12
    assert now["data_age"]["latest_reading_hours"] < 0.1


def test_events_resume_after_the_last_event_id(client, admitted):
    params, first = {"ward": "B4", "seconds": 0}, {"Last-Event-ID": "0"}
    events = client.get("/v1/ward/events", params=params, headers=first)
    assert events.headers["content-type"].startswith("text/event-stream")
    numbers = [int(number) for number in re.findall(r"^id: (\d+)$", events.text, re.MULTILINE)]
    kinds = re.findall(r"^event: (\w+)$", events.text, re.MULTILINE)
    data = [json.loads(line) for line in re.findall(r"^data: (.*)$", events.text, re.MULTILINE)]
    assert "risk" in kinds
    assert kinds.count("alarm") == 1
    assert {event["patient_id"] for event in data} == {"api-1"}
    assert next(e for e, kind in zip(data, kinds, strict=True) if kind == "alarm")["alarm_id"] == admitted["alarm_id"]
    later = client.get("/v1/ward/events", params=params, headers={"Last-Event-ID": str(numbers[0])})
    assert [int(number) for number in re.findall(r"^id: (\d+)$", later.text, re.MULTILINE)] == numbers[1:]
    assert client.get("/v1/ward/events", params=params).text == f": listening\nid: {numbers[-1]}\n\n"  # from now on


def test_history_anomalies_and_visit_summary_of_a_patient(client, admitted):
    history = client.post("/v1/risk/history", json={"patient_id": "api-1", "hours": 2}).json()
    assert len(history["points"]) >= 1
    assert history["points"][-1]["news2"] == 12
    anomalies = client.post("/v1/risk/anomalies", json={"patient_id": "api-1"}).json()["signals"]
    assert {anomaly["signal"] for anomaly in anomalies} >= set(SICK)
    summary = client.post("/v1/visit-summary", json={"patient_id": "api-1"}).json()
    assert [alarm["alarm_id"] for alarm in summary["alarms"]] == [admitted["alarm_id"]]
    assert summary["risk"]["news2"]["score"] == 12
    assert summary["history"]["patient_id"] == "api-1"
    assert client.post("/v1/risk/anomalies", json={"patient_id": "unknown"}).json()["code"] == "no_readings"


def test_alarm_actions_are_stored(client, admitted):
    name = admitted["alarm_id"]
    acknowledged = client.post("/v1/alarms/acknowledge", json={"alarm_id": name}).json()
    assert (acknowledged["status"], acknowledged["acted_by"], acknowledged["reason"]) == ("acknowledged", "tests", None)
    again = client.post("/v1/alarms/acknowledge", json={"alarm_id": name})
    assert (again.status_code, again.json()) == (200, acknowledged)
    override = {"alarm_id": name, "reason": "artefact", "note": "probe off"}
    overridden = client.post("/v1/alarms/override", json=override).json()
    assert (overridden["status"], overridden["reason"]) == ("overridden", "artefact: probe off")
    stands = client.post("/v1/alarms/acknowledge", json={"alarm_id": name})
    assert (stands.status_code, stands.json()["code"]) == (409, "already_done")
    assert client.get("/v1/alarms", params={"ward": "B4", "status": "open"}).json() == {"alarms": []}
    assert client.post("/v1/alarms/acknowledge", json={"alarm_id": "none"}).json()["code"] == "unknown_alarm"


def test_message_sent_again_counts_once_and_quarantine_states_reasons(client):
    body = observations_body("api-2", {"heart_rate": 80, "spo2": 400, "mood": 3, "respiratory_rate": "16"})
    body["observations"].append({**body["observations"][0], "value": 81})
    answer = client.post("/v1/observations", json=body).json()
    results = [(result["status"], result["reason"], result["field"]) for result in answer["results"]]
    assert results == [
        ("accepted", None, None),
        ("quarantined", "implausible", "value"),
        ("quarantined", "unknown_signal", "signal"),
        ("quarantined", "not_a_number", "value"),
        ("quarantined", "duplicate_message", "message_id"),
    ]
    again = client.post("/v1/observations", json={"observations": body["observations"][:1]}).json()
    assert (again["accepted"], again["duplicate"]) == (0, 1)


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
    "no observations": ("/v1/risk/observations", {"patient_id": "x", "observations": []}, 422, "invalid_request"),
    "a word for a value": (
        "/v1/risk/observations",
        {"patient_id": "x", "observations": [observation(value=CANARY)]},
        422,
        "invalid_request",
    ),
    "a number as a text": (
        "/v1/risk/observations",
        {"patient_id": "x", "observations": [observation(value="112")]},
        422,
        "invalid_request",
    ),
    "between two codes": (
        "/v1/risk/observations",
        {"patient_id": "x", "observations": [observation(signal="on_oxygen", value=0.4)]},
        422,
        "unusable_observations",
    ),
    "implausible": (
        "/v1/risk/observations",
        {"patient_id": CANARY, "observations": [observation(value=CANARY_VALUE)]},
        422,
        "unusable_observations",
    ),
    "unknown signal": (
        "/v1/risk/observations",
        {"patient_id": "x", "observations": [observation(signal=CANARY)]},
        422,
        "unusable_observations",
    ),
    "wrong unit": (
        "/v1/risk/observations",
        {"patient_id": "x", "observations": [observation(unit=CANARY)]},
        422,
        "unusable_observations",
    ),
    "the same observation twice": (
        "/v1/risk/observations",
        {"patient_id": "x", "observations": [observation(), observation()]},
        422,
        "unusable_observations",
    ),
    "an observation of the future": (
        "/v1/risk/observations",
        {"patient_id": "x", "observations": [observation(observed_at="2090-01-01T00:00:00Z")]},
        422,
        "unusable_observations",
    ),
    "as_of in the future": (
        "/v1/risk/observations",
        {"patient_id": "x", "observations": [observation()], "as_of": "2090-01-01T00:00:00Z"},
        422,
        "unusable_observations",
    ),
    "an observation after as_of": (
        "/v1/risk/observations",
        {"patient_id": "x", "observations": [observation()], "as_of": "2026-01-31T00:00:00Z"},
        422,
        "unusable_observations",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_request_gets_a_clear_problem_without_its_values(client, name):
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


def test_news2_answers_with_the_reason_where_the_model_cannot_be_asked(client, patient):
    stale = client.post("/v1/risk", json={"patient_id": patient, "as_of": "2026-04-01T00:00:00Z"})
    assert stale.status_code == 200
    assert (stale.json()["basis"], stale.json()["findings"]) == ("news2", ["stale_data", "hardly_known", "value_too_old"])
    old = {"patient_id": "x", "observations": [observation()], "as_of": "2026-02-03T12:00:00Z"}
    silent = client.post("/v1/risk/observations", json=old)
    assert silent.status_code == 200
    assert (silent.json()["basis"], silent.json()["findings"]) == ("news2", ["no_recent_readings", "hardly_known"])
    assert silent.json()["band"] == stale.json()["band"] == "unknown"
    assert silent.json()["probability"] is stale.json()["probability"] is None


def test_as_of_in_the_future_is_refused(client, patient):
    for path in ("/v1/risk", "/v1/risk/anomalies"):
        answer = client.post(path, json={"patient_id": patient, "as_of": "2090-01-01T00:00:00Z"})
        assert (answer.status_code, answer.json()["code"]) == (409, "as_of_in_the_future")


def test_implausible_observation_is_named_with_its_rule_and_range(client):
    body = {"patient_id": "x", "observations": [observation(), observation(signal="spo2", value=400)]}
    (error,) = client.post("/v1/risk/observations", json=body).json()["errors"]
    assert error == {"field": "observations.1.value", "rule": "implausible", "expected": "20 to 100 %"}


def test_deeply_nested_body_is_a_problem(client):
    answer = client.post("/v1/risk", content="[" * 100_000 + "]" * 100_000, headers={"Content-Type": "application/json"})
    assert answer.status_code in {400, 422}
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("chunked", [False, True])
def test_oversized_body_is_refused_with_or_without_its_length(client, chunked):
    body = json.dumps({"patient_id": "x" * (MAX_BODY_BYTES + 1)}).encode()
    content = (body[i : i + 65536] for i in range(0, len(body), 65536)) if chunked else body
    answer = client.post("/v1/risk", content=content, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")


def test_wrong_method_and_path_are_4xx(client):
    wrong_method = client.get("/v1/risk")
    assert (wrong_method.status_code, wrong_method.json()["code"]) == (405, "method_not_allowed")
    for path in ("/v1/nothing", "/docs.json", "/schema.json", "/elsewhere"):
        nowhere = client.post(path, json={})
        assert (nowhere.status_code, nowhere.json()["code"]) == (404, "not_found")
