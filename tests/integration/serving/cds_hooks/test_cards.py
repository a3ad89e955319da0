"""CDS Hooks 2.0: cards in the chart, whoever calls, whatever was prefetched; and what clinicians did with them."""

import json
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from tests.support.in_process_server import SICK, WELL, observations_body, running_in_process
from tests.support.viewer import open_viewer
from vigil.models.tasks import TASKS
from vigil.serving.cds_hooks.cards import MAX_SUMMARY, make_card

URL = "https://vigil.example"
SERVICE = "/cds-services/vigil-patient-view"
KEY, OTHER_KEY = ec.generate_private_key(ec.SECP384R1()), ec.generate_private_key(ec.SECP384R1())
ISSUER, ORIGIN = "https://ehr.example", "https://launch.ehr.example"


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cds")
    public = jwt.algorithms.ECAlgorithm.to_jwk(KEY.public_key(), as_dict=True)
    (folder / "ehr.jwks.json").write_text(json.dumps({"keys": [{**public, "kid": "ec", "alg": "ES384"}]}))
    (folder / "clients.toml").write_text(
        f'[clients."{ISSUER}"]\nkeys = "ehr.jwks.json"\norigins = ["{ORIGIN}"]\n'
        'scopes = ["system/RiskAssessment.rs", "system/DetectedIssue.rus"]\n'
    )
    (folder / "fhir.toml").write_text('patient_system = "urn:mrn"\n')
    return folder


@pytest.fixture(scope="module")
def server(home):
    """A server with a sick patient, whose alarm is open, and one who is well."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("VIGIL_URL", URL)
        with running_in_process(home) as running:
            caller = running.caller()
            patients = [{"patient_id": name, "ward": "B4", "age": 70} for name in ("sick", "well")]
            caller.post("/v1/patients", json={"patients": patients})
            for name, values in (("sick", SICK), ("well", WELL)):
                caller.post("/v1/observations", json=observations_body(name, values))
            running.rescore()
            yield running


def token(key=KEY, header=(), **changes):
    now = int(time.time())
    claims = {"iss": ISSUER, "aud": f"{URL}{SERVICE}", "exp": now + 200, "iat": now, "jti": str(uuid.uuid4())} | changes
    claims = {name: value for name, value in claims.items() if value is not None}
    return jwt.encode(claims, key, "ES384", {"typ": "JWT", "kid": "ec", **dict(header)})


def patient(name, **more):
    return {"resourceType": "Patient", "id": "1", "identifier": [{"system": "urn:mrn", "value": name}], **more}


def call(server, name="sick", signed=None, path=SERVICE, headers=(), **changes):
    body = {
        "hook": "patient-view",
        "hookInstance": str(uuid.uuid4()),
        "fhirServer": "https://ehr.example/fhir",
        "context": {"userId": "Practitioner/1", "patientId": "1"},
        "prefetch": {"patient": patient(name)},
    } | changes
    bearer = {"Authorization": f"Bearer {token() if signed is None else signed}", **dict(headers)}
    return server.stranger().post(path, json=body, headers=bearer)


def test_sick_patient_has_a_card_that_says_why_and_how_old_the_data_are(server):
    answer = call(server)
    assert answer.status_code == 200
    (card,) = answer.json()["cards"]
    assert (card["indicator"], card["source"]["label"]) == ("critical", "Vigil")
    assert len(card["summary"]) < MAX_SUMMARY
    assert card["summary"].startswith("High risk of deterioration of any kind. NEWS2 12 to 20.")
    assert "Data 0 min old" in card["summary"]
    assert "SpO2 85 % (3)" in card["detail"]
    assert "By NEWS2 alone." in card["detail"]
    assert {reason["code"] for reason in card["overrideReasons"]} >= {"false_alarm", "artefact"}


def test_card_leads_to_the_page_of_the_patient(server):
    (link,) = call(server).json()["cards"][0]["links"]
    assert (link["type"], link["url"].partition("/patient/")[0]) == ("absolute", URL)
    viewer, _ = open_viewer(server, wards=["B4"])
    assert "NEWS2" in viewer.get(link["url"].removeprefix(URL)).text
    assert "sick" not in link["url"]


def test_card_of_a_risk_for_the_rest_of_the_stay_names_no_hours(server):
    (report,) = server.components.risk_service.by_subject([server.components.pseudonyms.subject_key("sick")])
    risk = replace(report.risk, basis="model", probability=0.345)
    card = make_card(replace(report, risk=risk, task=TASKS["mortality"]), None, URL, "/patient/x")
    assert card["summary"].startswith("High risk of death in hospital, 34 %. NEWS2 12 to 20.")


@pytest.mark.parametrize("name", ["well", "nobody"])
def test_no_guidance_is_no_card(server, name):
    answer = call(server, name)
    assert (answer.status_code, answer.json()) == (200, {"cards": []})


@pytest.mark.parametrize(
    "prefetch",
    [
        None,
        {},
        {"patient": None},
        {"patient": "<html>not found</html>"},
        {"patient": {"resourceType": "OperationOutcome", "issue": []}},
        {"patient": {"resourceType": "Bundle", "link": [{"relation": "next", "url": "x"}]}},
        {"patient": {"resourceType": "Patient"}},
        {"patient": {"resourceType": "Patient", "identifier": "4711"}},
        {"patient": [patient("sick")]},
        [],
        "text",
    ],
)
def test_odd_prefetch_is_no_error_of_the_server(server, prefetch):
    answer = call(server, prefetch=prefetch)
    assert answer.status_code == 412
    assert "prefetch.patient" in answer.json()["message"]


def test_without_prefetch_a_known_id_is_enough(server):
    server.components.directory.remember("sick", ["https://ehr.example/fhir/Patient/77"])
    answer = call(server, prefetch=None, context={"userId": "Practitioner/1", "patientId": "77"})
    assert answer.status_code == 200
    assert len(answer.json()["cards"]) == 1


@pytest.mark.parametrize(
    ("opened", "prefetched"),
    [
        ("of-well", patient("sick", id="of-well")),  # both are known, and not the same
        ("of-well", {"resourceType": "Patient", "identifier": [{"system": "urn:mrn", "value": "sick"}]}),
        ("of-well", patient("well", id="of-sick")),
        ("of-nobody", patient("sick", id="of-sick")),
        ("of-nobody", patient("sick", id=None)),
    ],
)
def test_card_of_one_patient_is_never_shown_in_the_chart_of_another(server, opened, prefetched):
    server.components.directory.remember("well", ["https://ehr.example/fhir/Patient/of-well"])
    answer = call(server, prefetch={"patient": prefetched}, context={"userId": "Practitioner/1", "patientId": opened})
    assert answer.status_code == 412
    assert answer.json() == {"message": "context.patientId, prefetch.patient: expected one and the same patient"}


def test_id_and_prefetched_patient_of_the_same_patient_have_their_card(server):
    server.components.directory.remember("sick", ["https://ehr.example/fhir/Patient/78"])
    context = {"userId": "Practitioner/1", "patientId": "78"}
    without_id = {name: part for name, part in patient("sick").items() if name != "id"}
    for prefetched in (patient("sick", id="78"), without_id):
        assert len(call(server, prefetch={"patient": prefetched}, context=context).json()["cards"]) == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"hook": "order-sign"},
        {"hookInstance": None},
        {"context": None},
        {"context": {"patientId": 1}},
        {"context": {"patientId": "x" * 1000}},
    ],
)
def test_call_of_another_form_is_refused(server, changes):
    assert call(server, **changes).status_code == 400


REFUSED = {
    "another's key": lambda: token(OTHER_KEY),
    "another service": lambda: token(aud=f"{URL}/cds-services/vigil-encounter-start"),
    "expired": lambda: token(exp=int(time.time()) - 60),
    "no iat": lambda: token(iat=None),
    "no jti": lambda: token(jti=None),
    "foreign jku": lambda: token(header={"jku": "https://evil.example/jwks"}),
    "unknown issuer": lambda: token(iss="https://evil.example"),
    "nothing": lambda: "",
}


@pytest.mark.parametrize("why", REFUSED)
def test_call_that_is_not_signed_for_it_is_refused(server, why):
    assert call(server, signed=REFUSED[why]()).status_code == 401


def test_a_signed_call_counts_once(server):
    signed = token()
    assert [call(server, signed=signed).status_code for _ in range(2)] == [200, 401]


def test_tokens_of_the_server_work_too(server):
    bearer = server.caller(scopes=["risk:read"]).headers["Authorization"].removeprefix("Bearer ")
    assert len(call(server, signed=bearer).json()["cards"]) == 1
    without = server.caller(scopes=["ward:read"]).headers["Authorization"].removeprefix("Bearer ")
    assert call(server, signed=without).status_code == 403


def test_patient_of_another_ward_has_no_card(server):
    elsewhere = server.caller(scopes=["risk:read"], wards=["C1"]).headers["Authorization"].removeprefix("Bearer ")
    assert call(server, signed=elsewhere).json() == {"cards": []}


def test_discovery_lists_the_services(server):
    services = server.stranger().get("/cds-services").json()["services"]
    assert {(each["hook"], each["id"]) for each in services} == {
        ("patient-view", "vigil-patient-view"),
        ("encounter-start", "vigil-encounter-start"),
    }
    assert server.stranger().post("/cds-services/other", json={}).status_code == 404


def test_only_registered_origins_may_call_from_a_browser(server):
    for origin, status in ((ORIGIN, 204), ("https://evil.example", 403)):
        answer = server.stranger().options(SERVICE, headers={"Origin": origin, "Access-Control-Request-Method": "POST"})
        assert answer.status_code == status
        assert answer.headers.get("access-control-allow-origin") == (origin if status == 204 else None)
    assert call(server, headers={"Origin": ORIGIN}).headers["access-control-allow-origin"] == ORIGIN
    assert "access-control-allow-origin" not in call(server, headers={"Origin": "https://evil.example"}).headers


def give(server, card, outcome="overridden", signed=None, **more):
    path = f"{SERVICE}/feedback"
    signed = {"Authorization": signed or f"Bearer {token(aud=f'{URL}{path}')}"}
    return server.stranger().post(path, json={"feedback": [{"card": card, "outcome": outcome, **more}]}, headers=signed)


def test_signed_calls_in_parallel_are_all_answered(server):
    with ThreadPoolExecutor(20) as threads:
        answers = list(threads.map(lambda _: call(server), range(60)))
    assert [answer.status_code for answer in answers] == [200] * 60


@pytest.mark.parametrize("outcome", ["accepted", "overridden"])
def test_feedback_of_a_caller_who_may_only_read_alarms_changes_nothing(server, outcome):
    (card,) = call(server).json()["cards"]
    before = server.caller().get("/v1/alarms").json()
    assert card["uuid"] in [alarm["alarm_id"] for alarm in before["alarms"]]
    reader = server.caller(scopes=["risk:read", "alarms:read"]).headers["Authorization"]
    assert give(server, card["uuid"], outcome, reader).status_code == 200
    assert server.caller().get("/v1/alarms").json() == before


def test_feedback_lands_with_the_alarm_once(server, monkeypatch):
    counted = []
    monkeypatch.setattr(server.components.metrics, "count_action", counted.append)
    (card,) = call(server).json()["cards"]
    reason = {"reason": {"code": "artefact", "system": "x"}, "userComment": "Mrs Smith was moved"}
    assert [give(server, card["uuid"], overrideReason=reason).status_code for _ in range(2)] == [200, 200]
    alarms = server.caller().get("/v1/alarms").json()["alarms"]
    (alarm,) = [alarm for alarm in alarms if alarm["alarm_id"] == card["uuid"]]
    assert [(action["action"], action["by"], action["reason"]) for action in alarm["actions"]] == [
        ("overridden", ISSUER, "artefact")
    ]
    assert counted == ["overridden"]


def test_feedback_about_a_card_without_an_alarm_changes_nothing(server):
    before = server.caller().get("/v1/alarms").json()
    assert give(server, str(uuid.uuid4()), "accepted").status_code == 200
    assert server.caller().get("/v1/alarms").json() == before


@pytest.mark.parametrize(
    "entry",
    [
        {},
        {"card": "x", "outcome": "ignored"},
        {"card": 1, "outcome": "accepted"},
        {"card": "x", "outcome": ["accepted"]},
        "text",
    ],
)
def test_feedback_of_another_form_is_refused(server, entry):
    path = f"{SERVICE}/feedback"
    signed = {"Authorization": f"Bearer {token(aud=f'{URL}{path}')}"}
    assert server.stranger().post(path, json={"feedback": [entry]}, headers=signed).status_code == 400
