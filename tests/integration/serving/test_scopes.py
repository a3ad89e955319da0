"""Scopes and wards: every route is asked with tokens that must not suffice, and with the one that must."""

import hashlib
import hmac
import json
import re
from datetime import UTC, datetime

import jwt
import pytest
import sqlalchemy as sa
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.support.in_process_server import SICK, observations_body, running_in_process
from tests.support.tokens import encode_compact
from vigil.serving.app import create_app
from vigil.serving.auth.local_tokens import JWKS_FILE, KEY_FILE, LOCAL_AUDIENCE, LOCAL_FOLDER, LOCAL_ISSUER
from vigil.serving.auth.tokens import SCOPES
from vigil.serving.records.journal_tables import REGISTRATIONS
from vigil.serving.records.ward_tables import EVENTS

OBSERVATION = observations_body("unknown", {"heart_rate": 80})["observations"][0]
# What each route takes, so that the right scope alone suffices. A new route is added here.
REQUESTS = {
    "post /v1/observations": {"json": {"observations": [OBSERVATION]}},
    "post /v1/devices/status": {"json": {"source": "unknown", "status": "connected"}},
    "post /v1/patients": {"json": {"patients": [{"patient_id": "someone", "ward": "C"}]}},
    "post /v1/patients/merge": {"json": {"patient_id": "unknown", "into": "someone"}},
    "post /v1/patients/unmerge": {"json": {"patient_id": "unknown"}},
    "post /v1/patients/terms": {"json": {"patient_id": "unknown", "because": "limits for this patient"}},
    "post /v1/risk": {"json": {"patient_id": "unknown"}},
    "post /v1/risks": {"json": {"patient_ids": ["unknown"]}},
    "post /v1/risk/observations": {
        "json": {
            "patient_id": "unknown",
            "observations": [{name: OBSERVATION[name] for name in ("signal", "value", "observed_at")}],
        }
    },
    "post /v1/risk/history": {"json": {"patient_id": "unknown"}},
    "post /v1/risk/anomalies": {"json": {"patient_id": "unknown"}},
    "post /v1/visit-summary": {"json": {"patient_id": "unknown"}},
    "get /v1/ward/patients": {"params": {"ward": "C"}},
    "get /v1/ward/events": {"params": {"ward": "C", "seconds": 0}},
    "get /v1/alarms": {"params": {"ward": "C"}},
    "post /v1/alarms/acknowledge": {"json": {"alarm_id": "none"}},
    "post /v1/alarms/override": {"json": {"alarm_id": "none", "reason": "artefact"}},
}
STATED = {
    f"{method} {path}": operation.get("security", [])
    for path, methods in create_app().openapi()["paths"].items()
    for method, operation in methods.items()
    if path.startswith("/v1")  # health needs no token
}
OPEN = {"/v1/docs", "/v1/openapi.json", "/metrics"}  # no patient data


def ask(client, route, **more):
    method, path = route.split(" ")
    return client.request(method, path, **{**REQUESTS[route], **more})


def scope_of(route):
    ((scope,),) = (scopes for requirement in STATED[route] for scopes in requirement.values())
    return scope


@pytest.fixture(scope="module")
def in_process(tmp_path_factory):
    """Patients a-1 and b-1, in wards A and B, both with an alarm."""
    with running_in_process(tmp_path_factory.mktemp("scopes")) as in_process:
        client = in_process.caller()
        for ward in "AB":
            patient = f"{ward.lower()}-1"
            client.post("/v1/patients", json={"patients": [{"patient_id": patient, "ward": ward}]}).raise_for_status()
            client.post("/v1/observations", json=observations_body(patient, SICK)).raise_for_status()
        in_process.rescore()
        yield in_process


@pytest.fixture(scope="module")
def keys(in_process):
    """The issuer's key, private and public."""
    folder = in_process.home / LOCAL_FOLDER
    key = serialization.load_pem_private_key((folder / KEY_FILE).read_bytes(), password=None)
    return key, json.loads((folder / JWKS_FILE).read_text())["keys"][0]


def claims(**changes):
    now = int(datetime.now(UTC).timestamp())
    sound = {
        "iss": LOCAL_ISSUER,
        "aud": LOCAL_AUDIENCE,
        "sub": "tests",
        "iat": now,
        "exp": now + 600,
        "scope": " ".join(SCOPES),
    }
    return {name: value for name, value in (sound | changes).items() if value is not None}


def hmac_signed(secret):
    return lambda kid, payload: encode_compact(
        {"alg": "HS256", "typ": "JWT", "kid": kid}, payload, lambda text: hmac.new(secret, text, hashlib.sha256).digest()
    )


def refused_tokens(key, jwk):
    """Tokens by the rule that refuses them."""
    kid, now = jwk["kid"], int(datetime.now(UTC).timestamp())
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    another = ec.generate_private_key(ec.SECP256R1())

    def signed(signer=key, header=(), **changes):
        return jwt.encode(claims(**changes), signer, "ES256", {"kid": kid, **dict(header)})

    sound = signed()
    head, _, signature = sound.split(".")
    widened = signed(scope="risk:read").split(".")
    return {
        "malformed": ["x", "a.b", "a.b.c.d", sound + "=", sound[:-20] + "!" + sound[-19:], "x" * 9_000, f"{head}..{signature}"],
        "algorithm": [
            encode_compact({"alg": "none", "typ": "JWT", "kid": kid}, claims(), lambda _: b""),
            encode_compact({"alg": "none", "typ": "JWT"}, claims(), lambda _: b""),
            hmac_signed(public)(kid, claims()),
            hmac_signed(json.dumps(jwk).encode())(kid, claims()),
            jwt.encode(claims(), "secret" * 8, "HS512", {"kid": kid}),
        ],
        "signature": [signed(another), f"{head}.{sound.split('.')[1]}.{widened[2]}", f"{head}.{sound.split('.')[1]}."],
        "unknown_key": [jwt.encode(claims(), another, "ES256", {"kid": "another"})],
        "audience": [signed(aud="elsewhere"), signed(aud=["x", "y"])],
        "issuer": [signed(iss="https://elsewhere.example/"), signed(iss=LOCAL_ISSUER + "/")],
        "claims": [
            signed(exp=None),
            signed(sub=None),
            signed(iat=None),
            signed(wards=[]),
            signed(wards="A"),
            signed(scope=["x", 1]),
            signed(scp=1),
        ],
        "lifetime": [signed(exp=now + 48 * 3600)],
        "expired": [signed(iat=now - 600, exp=now - 10)],
        "not_yet_valid": [signed(nbf=now + 60), signed(iat=now + 60)],
    }


def assert_unauthorized(answer, rule):
    assert answer.status_code == 401
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["www-authenticate"] == ("Bearer" if rule == "missing" else 'Bearer error="invalid_token"')
    assert answer.json()["code"] == f"token_{rule}"


def test_every_route_states_one_scope_and_is_tested_here():
    assert set(STATED) == set(REQUESTS)
    assert {route for route in STATED if scope_of(route) not in SCOPES} == set()
    assert {scope_of(route) for route in STATED} | {"operations:read"} == set(SCOPES)  # each is used; that one by a page


def test_paths_outside_the_document_are_few_and_hold_no_patient_data(in_process):
    assert {route.path for route in in_process.app.routes if hasattr(route, "path")} == OPEN
    for path in OPEN:
        assert in_process.stranger().get(path).status_code == 200
    for path in ("/v1/risk/", "/v1//risk", "/v1/docs/", "/V1/risk", "/v1/risk%2e", "/v1/openapi.json/x"):
        assert_unauthorized(in_process.stranger().post(path, json={}), "missing")


@pytest.mark.parametrize("route", STATED)
def test_request_without_a_token_is_refused(in_process, route):
    stranger = in_process.stranger()
    sound = in_process.caller().headers["authorization"].split(" ")[1]
    for headers in (
        {},
        {"Authorization": ""},
        {"Authorization": "Bearer"},
        {"Authorization": f"Basic {sound}"},
        {"Authorization": sound},
        {"X-Authorization": f"Bearer {sound}"},
        [("Authorization", f"Bearer {sound}"), ("Authorization", "Bearer x")],  # which one did a proxy look at?
    ):
        assert_unauthorized(ask(stranger, route, headers=headers), "missing")
    assert_unauthorized(ask(stranger, route, cookies={"Authorization": f"Bearer {sound}"}), "missing")
    assert_unauthorized(stranger.request(*route.split(" "), params={"access_token": sound}), "missing")


@pytest.mark.parametrize("route", STATED)
def test_token_of_another_issuer_is_refused(in_process, keys, route):
    for rule, tokens in refused_tokens(*keys).items():
        for token in tokens:
            assert_unauthorized(ask(in_process.stranger(), route, headers={"Authorization": f"Bearer {token}"}), rule)


@pytest.mark.parametrize("route", STATED)
def test_body_is_not_read_without_a_valid_token_and_scope(in_process, route):
    method, path = route.split(" ")
    answer = in_process.stranger().request(method, path, content="[" * 10_000, headers={"Content-Type": "application/json"})
    assert_unauthorized(answer, "missing")
    answer = in_process.caller([scope for scope in SCOPES if scope != scope_of(route)]).request(method, path)
    assert answer.status_code == 403  # rather than what is wrong with the request


@pytest.mark.parametrize("route", STATED)
def test_scope_other_than_the_stated_one_is_refused(in_process, route):
    for scopes in ([scope for scope in SCOPES if scope != scope_of(route)], [], ["observations:write"], ["ward:read"]):
        if scope_of(route) in scopes:
            continue
        answer = ask(in_process.caller(scopes), route)
        assert answer.status_code == 403
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["code"] == "out_of_scope"
        assert scope_of(route) in answer.json()["detail"]


@pytest.mark.parametrize("route", STATED)
def test_scope_stated_by_the_route_is_enough_alone(in_process, route):
    answer = ask(in_process.caller([scope_of(route)]), route)
    assert answer.status_code in {200, 404}
    assert answer.status_code == 200 or answer.json()["code"] in {"unknown_patient", "no_readings", "unknown_alarm"}


def state_of(in_process):
    """Return what a request may have changed: the time of the last group, and the number of events."""
    with in_process.components.ward_state._engine.connect() as connection:
        events = connection.execute(sa.select(sa.func.count()).select_from(EVENTS)).scalar()
    return in_process.components.journal.latest(), events


def test_refused_request_changes_nothing(in_process):
    before = state_of(in_process)
    for route in STATED:
        ask(in_process.stranger(), route)
        ask(in_process.caller([]), route)
    assert state_of(in_process) == before


# What a route shows of alarms


@pytest.mark.parametrize("may", [True, False])
def test_alarms_are_shown_only_with_the_scope_alarms_read(in_process, may):
    more = ["alarms:read"] if may else []
    risks, wards = in_process.caller(["risk:read", *more]), in_process.caller(["ward:read", *more])
    summary = risks.post("/v1/visit-summary", json={"patient_id": "b-1"}).json()
    (patient,) = wards.get("/v1/ward/patients", params={"ward": "B"}).json()["patients"]
    about = {"params": {"ward": "B", "seconds": 0}}
    events = wards.get("/v1/ward/events", **about, headers={"Last-Event-ID": "0"}).text
    numbers = re.findall(r"^id: (\d+)$", events, re.MULTILINE)
    assert "event: risk" in events
    if may:
        assert summary["alarms"][0]["alarm_id"] == patient["alarm_id"] == alarm_of(in_process, "B")["alarm_id"]
        assert patient["alarm_status"] == "open"
        assert "event: alarm" in events
    else:
        assert (summary["alarms"], patient["alarm_id"], patient["alarm_status"]) == (None, None, None)
        assert "alarm" not in events
    rest = wards.get("/v1/ward/events", **about, headers={"Last-Event-ID": numbers[0]}).text
    assert re.findall(r"^id: (\d+)$", rest, re.MULTILINE) == numbers[1:]


# Tokens that are bound to wards


@pytest.fixture(scope="module")
def of_ward_a(in_process):
    return in_process.caller(wards=["A"])


def alarm_of(in_process, ward):
    (alarm,) = in_process.caller().get("/v1/alarms", params={"ward": ward}).json()["alarms"]
    return alarm


@pytest.mark.parametrize("path", ["/v1/risk", "/v1/risk/history", "/v1/risk/anomalies", "/v1/visit-summary"])
def test_patient_of_another_ward_is_reported_as_unknown(in_process, of_ward_a, path):
    own, other, unknown = (of_ward_a.post(path, json={"patient_id": patient}) for patient in ("a-1", "b-1", "unknown"))
    assert own.status_code == 200
    assert (other.status_code, other.json()["code"]) == (404, "unknown_patient")
    assert other.json() == unknown.json()
    assert in_process.caller().post(path, json={"patient_id": "b-1"}).status_code == 200


def test_risks_of_several_patients_leave_out_those_of_other_wards(of_ward_a):
    items = of_ward_a.post("/v1/risks", json={"patient_ids": ["b-1", "a-1", "unknown", "b-1"]}).json()["items"]
    assert [item["problem"]["code"] if item["problem"] else "fine" for item in items] == [
        *("unknown_patient", "fine", "unknown_patient", "unknown_patient")
    ]
    assert [item["patient_id"] for item in items] == ["b-1", "a-1", "unknown", "b-1"]
    assert items[1]["risk"]["patient_id"] == "a-1"


def test_risk_from_observations_tells_nothing_of_the_patient_and_is_not_in_their_history(in_process, of_ward_a):
    before = in_process.caller().post("/v1/risk/history", json={"patient_id": "b-1"}).json()
    observation = {"signal": "heart_rate", "value": 71, "observed_at": OBSERVATION["observed_at"]}
    answer = of_ward_a.post("/v1/risk/observations", json={"patient_id": "b-1", "observations": [observation]}).json()
    assert answer["news2"]["score"] == 0  # their own observations would make 12
    assert in_process.caller().post("/v1/risk/history", json={"patient_id": "b-1"}).json() == before


@pytest.mark.parametrize("path", ["/v1/ward/patients", "/v1/ward/events", "/v1/alarms"])
def test_another_ward_cannot_be_read(of_ward_a, path):
    for ward in ("B", "none", "a", "A."):
        answer = of_ward_a.get(path, params={"ward": ward, "seconds": 0})
        assert (answer.status_code, answer.json()["code"]) == (403, "not_your_ward")
    assert of_ward_a.get(path, params={"ward": "A", "seconds": 0}).status_code == 200


def test_lists_hold_the_wards_of_the_token_only(in_process, of_ward_a):
    assert [alarm["patient_id"] for alarm in of_ward_a.get("/v1/alarms").json()["alarms"]] == ["a-1"]
    assert {alarm["patient_id"] for alarm in in_process.caller().get("/v1/alarms").json()["alarms"]} >= {"a-1", "b-1"}
    patients = of_ward_a.get("/v1/ward/patients", params={"ward": "A"}).json()["patients"]
    assert [patient["patient_id"] for patient in patients] == ["a-1"]
    events = of_ward_a.get("/v1/ward/events", params={"ward": "A", "seconds": 0}, headers={"Last-Event-ID": "0"}).text
    assert "a-1" in events
    assert '"b-1"' not in events


@pytest.mark.parametrize("action", ["acknowledge", "override"])
def test_alarm_of_another_ward_is_reported_as_unknown(in_process, of_ward_a, action):
    alarm = alarm_of(in_process, "B")
    body = {"alarm_id": alarm["alarm_id"]} | ({"reason": "artefact"} if action == "override" else {})
    answer = of_ward_a.post(f"/v1/alarms/{action}", json=body)
    assert (answer.status_code, answer.json()) == (
        404,
        of_ward_a.post(f"/v1/alarms/{action}", json=body | {"alarm_id": "none"}).json(),
    )
    assert alarm_of(in_process, "B") == alarm


@pytest.mark.parametrize("patient", ["b-1", "unregistered"])
def test_observations_of_a_patient_of_another_ward_are_refused(in_process, of_ward_a, patient):
    before = in_process.components.journal.latest()
    both = {
        "observations": [
            *observations_body("a-1", {"heart_rate": 80})["observations"],
            *observations_body(patient, {"spo2": 99})["observations"],
        ]
    }
    answer = of_ward_a.post("/v1/observations", json=both)
    assert (answer.status_code, answer.json()["code"]) == (403, "not_your_ward")
    assert answer.json()["detail"].startswith("observations: ")  # not which: that would tell who is in other wards
    assert in_process.components.journal.latest() == before  # nothing of the request
    assert of_ward_a.post("/v1/observations", json=observations_body("a-1", {"glucose": 100})).json()["accepted"] == 1


def test_registration_into_another_ward_or_out_of_it_is_refused(in_process, of_ward_a):
    for patients, field in (
        ([("a-1", "A"), ("new", "B")], "patients.1.ward"),
        ([("a-1", "B")], "patients.0.ward"),
        ([("a-1", "A"), ("b-1", "A")], "patients"),
    ):
        body = {"patients": [{"patient_id": patient, "ward": ward} for patient, ward in patients]}
        answer = of_ward_a.post("/v1/patients", json=body)
        assert (answer.status_code, answer.json()["code"]) == (403, "not_your_ward")
        assert answer.json()["detail"].startswith(f"{field}: ")
    key = in_process.components.pseudonyms.subject_key
    wards = in_process.components.journal.wards_of([key(patient) for patient in ("a-1", "b-1", "new")])
    assert list(wards.values()) == ["A", "B", ""]


def test_unassigned_patient_can_be_registered_and_observed_then(in_process, of_ward_a):
    body = observations_body("admitted", {"heart_rate": 80})
    assert of_ward_a.post("/v1/observations", json=body).json()["code"] == "not_your_ward"  # not registered there
    assert (
        in_process.caller().post("/v1/observations", json=observations_body("admitted", {"spo2": 97})).json()["accepted"] == 1
    )
    admission = {"patients": [{"patient_id": "admitted", "ward": "A"}, {"patient_id": "another", "ward": "A"}]}
    for _ in range(2):
        assert of_ward_a.post("/v1/patients", json=admission).json() == {"registered": 2}
    assert of_ward_a.post("/v1/observations", json=body).json()["accepted"] == 1
    admission["patients"][0]["ward"] = "B"
    answer = in_process.caller(wards=["B"]).post("/v1/patients", json=admission)
    assert (answer.status_code, answer.json()["code"]) == (403, "not_your_ward")


def test_visibility_follows_a_patient_who_is_moved(in_process, of_ward_a):
    of_ward_b = in_process.caller(wards=["B"])
    move = [{"patient_id": "m-1", "ward": "A"}]
    assert in_process.caller().post("/v1/patients", json={"patients": move}).status_code == 200
    assert of_ward_a.post("/v1/observations", json=observations_body("m-1", SICK)).json()["accepted"] == 4
    in_process.rescore()
    assert of_ward_b.post("/v1/risk", json={"patient_id": "m-1"}).status_code == 404
    move[0]["ward"] = "B"
    assert in_process.caller().post("/v1/patients", json={"patients": move}).status_code == 200
    in_process.rescore()
    assert of_ward_a.post("/v1/risk", json={"patient_id": "m-1"}).status_code == 404
    assert of_ward_b.post("/v1/risk", json={"patient_id": "m-1"}).status_code == 200
    for path, key in (("/v1/ward/patients", "patients"), ("/v1/alarms", "alarms")):
        seen = {ward: client.get(path, params={"ward": ward}).json() for ward, client in (("A", of_ward_a), ("B", of_ward_b))}
        assert "m-1" not in {row["patient_id"] for row in seen["A"][key]}, path
        assert "m-1" in {row["patient_id"] for row in seen["B"][key]}, path


def test_registration_without_observation_reserves_a_patient_for_an_hour(in_process, of_ward_a):
    """Without the limit one ward could reserve all patients of the others."""
    theirs = {"patients": [{"patient_id": "squatted", "ward": "B"}]}
    ours = {"patients": [{"patient_id": "squatted", "ward": "A"}]}
    assert in_process.caller(wards=["B"]).post("/v1/patients", json=theirs).status_code == 200
    assert of_ward_a.post("/v1/patients", json=ours).status_code == 403
    subject = in_process.components.pseudonyms.subject_key("squatted")
    earlier = REGISTRATIONS.update().where(REGISTRATIONS.c.subject_id == subject)
    with in_process.components.journal._engine.begin() as connection:
        connection.execute(earlier.values(recorded_at=REGISTRATIONS.c.recorded_at - 3_601_000_000))
    assert of_ward_a.post("/v1/patients", json=ours).status_code == 200
    assert in_process.components.journal.wards_of([subject]) == {subject: "A"}
