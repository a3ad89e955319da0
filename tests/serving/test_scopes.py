"""Who may do what: every route of the document, walked with every token that must not do, and with the one that must."""

import hashlib
import hmac
import json
import re
from datetime import UTC, datetime

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from serving.auth.local_tokens import JWKS_FILE, KEY_FILE, LOCAL_AUDIENCE, LOCAL_FOLDER, LOCAL_ISSUER
from serving.auth.tokens import SCOPES
from serving.service import api
from tests.serving.inside import SICK, running_inside, sent
from tests.serving.tokens import compact

READING = sent("nobody", {"heart_rate": 80})["observations"][0]
# What each route takes, so that the right scope alone gets beyond the door. Whoever adds a route adds it here.
REQUESTS = {
    "post /v1/observations": {"json": {"observations": [READING]}},
    "post /v1/patients": {"json": {"patients": [{"patient_id": "someone", "ward": "C"}]}},
    "post /v1/risk": {"json": {"patient_id": "nobody"}},
    "post /v1/risks": {"json": {"patient_ids": ["nobody"]}},
    "post /v1/risk/observations": {
        "json": {"patient_id": "nobody", "observations": [{name: READING[name] for name in ("signal", "value", "observed_at")}]}
    },
    "post /v1/risk/history": {"json": {"patient_id": "nobody"}},
    "post /v1/risk/anomalies": {"json": {"patient_id": "nobody"}},
    "post /v1/visit-summary": {"json": {"patient_id": "nobody"}},
    "get /v1/ward/patients": {"params": {"ward": "C"}},
    "get /v1/ward/events": {"params": {"ward": "C", "seconds": 0}},
    "get /v1/alarms": {"params": {"ward": "C"}},
    "post /v1/alarms/acknowledge": {"json": {"alarm_id": "none"}},
    "post /v1/alarms/override": {"json": {"alarm_id": "none", "reason": "artefact"}},
}
STATED = {
    f"{method} {path}": operation.get("security", [])
    for path, methods in api.openapi()["paths"].items()
    for method, operation in methods.items()
    if path.startswith("/v1")  # health is for everybody
}
OPEN = {"/v1/docs", "/v1/openapi.json", "/metrics"}  # they say nothing of anybody


def ask(client, route, **more):
    method, path = route.split(" ")
    return client.request(method, path, **{**REQUESTS[route], **more})


def scope_of(route):
    ((scope,),) = (scopes for requirement in STATED[route] for scopes in requirement.values())
    return scope


@pytest.fixture(scope="module")
def inside(tmp_path_factory):
    """Patients a-1 and b-1, in wards A and B, both with an alarm."""
    with running_inside(tmp_path_factory.mktemp("scopes")) as inside:
        client = inside.caller()
        for ward in "AB":
            patient = f"{ward.lower()}-1"
            client.post("/v1/patients", json={"patients": [{"patient_id": patient, "ward": ward}]}).raise_for_status()
            client.post("/v1/observations", json=sent(patient, SICK)).raise_for_status()
        inside.rescore()
        yield inside


@pytest.fixture(scope="module")
def keys(inside):
    """The issuer's key, as its owner has it and as everybody has."""
    folder = inside.home / LOCAL_FOLDER
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
    return lambda kid, payload: compact(
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
            compact({"alg": "none", "typ": "JWT", "kid": kid}, claims(), lambda _: b""),
            compact({"alg": "none", "typ": "JWT"}, claims(), lambda _: b""),
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
            signed(scope=["x"]),
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


def test_every_route_states_one_scope_and_is_walked_here():
    assert set(STATED) == set(REQUESTS)
    assert {route for route in STATED if scope_of(route) not in SCOPES} == set()
    assert {scope_of(route) for route in STATED} == set(SCOPES)  # none is for nothing


def test_what_is_not_in_the_document_says_nothing_of_anybody(inside):
    assert {route.path for route in api.routes if hasattr(route, "path")} == OPEN
    for path in OPEN:
        assert inside.stranger().get(path).status_code == 200
    for path in ("/v1/risk/", "/v1//risk", "/v1/docs/", "/V1/risk", "/v1/risk%2e", "/v1/openapi.json/x"):
        assert_unauthorized(inside.stranger().post(path, json={}), "missing")


@pytest.mark.parametrize("route", STATED)
def test_nobody_passes_without_a_token(inside, route):
    stranger = inside.stranger()
    sound = inside.caller().headers["authorization"].split(" ")[1]
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
def test_nobody_passes_with_a_token_that_is_not_the_issuers(inside, keys, route):
    for rule, tokens in refused_tokens(*keys).items():
        for token in tokens:
            assert_unauthorized(ask(inside.stranger(), route, headers={"Authorization": f"Bearer {token}"}), rule)


@pytest.mark.parametrize("route", STATED)
def test_nothing_of_a_strangers_body_is_read(inside, route):
    method, path = route.split(" ")
    answer = inside.stranger().request(method, path, content="[" * 10_000, headers={"Content-Type": "application/json"})
    assert_unauthorized(answer, "missing")
    answer = inside.caller([scope for scope in SCOPES if scope != scope_of(route)]).request(method, path)
    assert answer.status_code == 403  # rather than what is wrong with the request


@pytest.mark.parametrize("route", STATED)
def test_every_other_scope_is_not_enough(inside, route):
    for scopes in ([scope for scope in SCOPES if scope != scope_of(route)], [], ["observations:write"], ["ward:read"]):
        if scope_of(route) in scopes:
            continue
        answer = ask(inside.caller(scopes), route)
        assert answer.status_code == 403
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["code"] == "out_of_scope"
        assert scope_of(route) in answer.json()["detail"]


@pytest.mark.parametrize("route", STATED)
def test_the_stated_scope_alone_is_enough(inside, route):
    answer = ask(inside.caller([scope_of(route)]), route)
    assert answer.status_code in {200, 404}
    assert answer.status_code == 200 or answer.json()["code"] in {"unknown_patient", "no_readings", "unknown_alarm"}


def test_a_refused_request_leaves_nothing_behind(inside):
    before = inside.parts.journal.latest(), inside.parts.board.kept()[1]
    for route in STATED:
        ask(inside.stranger(), route)
        ask(inside.caller([]), route)
    assert (inside.parts.journal.latest(), inside.parts.board.kept()[1]) == before


# What a route shows of alarms


@pytest.mark.parametrize("may", [True, False])
def test_alarms_are_shown_to_those_alone_who_may_see_alarms(inside, may):
    more = ["alarms:read"] if may else []
    risks, wards = inside.caller(["risk:read", *more]), inside.caller(["ward:read", *more])
    summary = risks.post("/v1/visit-summary", json={"patient_id": "b-1"}).json()
    (patient,) = wards.get("/v1/ward/patients", params={"ward": "B"}).json()["patients"]
    about = {"params": {"ward": "B", "seconds": 0}}
    events = wards.get("/v1/ward/events", **about, headers={"Last-Event-ID": "0"}).text
    numbers = re.findall(r"^id: (\d+)$", events, re.MULTILINE)
    assert "event: risk" in events
    if may:
        assert summary["alarms"][0]["alarm_id"] == patient["alarm_id"] == alarm_of(inside, "B")["alarm_id"]
        assert patient["alarm_status"] == "open"
        assert "event: alarm" in events
    else:
        assert (summary["alarms"], patient["alarm_id"], patient["alarm_status"]) == (None, None, None)
        assert "alarm" not in events
    rest = wards.get("/v1/ward/events", **about, headers={"Last-Event-ID": numbers[0]}).text
    assert re.findall(r"^id: (\d+)$", rest, re.MULTILINE) == numbers[1:]


# Tokens that are bound to wards


@pytest.fixture(scope="module")
def of_ward_a(inside):
    return inside.caller(wards=["A"])


def alarm_of(inside, ward):
    (alarm,) = inside.caller().get("/v1/alarms", params={"ward": ward}).json()["alarms"]
    return alarm


@pytest.mark.parametrize("path", ["/v1/risk", "/v1/risk/history", "/v1/risk/anomalies", "/v1/visit-summary"])
def test_a_patient_of_another_ward_looks_like_one_whom_nobody_knows(inside, of_ward_a, path):
    own, other, nobody = (of_ward_a.post(path, json={"patient_id": patient}) for patient in ("a-1", "b-1", "nobody"))
    assert own.status_code == 200
    assert (other.status_code, other.json()["code"]) == (404, "unknown_patient")
    assert other.json() == nobody.json()
    assert inside.caller().post(path, json={"patient_id": "b-1"}).status_code == 200


def test_among_several_patients_those_of_other_wards_have_no_risk(of_ward_a):
    items = of_ward_a.post("/v1/risks", json={"patient_ids": ["b-1", "a-1", "nobody", "b-1"]}).json()["items"]
    assert [item["problem"]["code"] if item["problem"] else "fine" for item in items] == [
        *("unknown_patient", "fine", "unknown_patient", "unknown_patient")
    ]
    assert [item["patient_id"] for item in items] == ["b-1", "a-1", "nobody", "b-1"]
    assert items[1]["risk"]["patient_id"] == "a-1"


def test_readings_in_a_request_say_nothing_of_the_patient_and_become_no_part_of_his_course(inside, of_ward_a):
    before = inside.caller().post("/v1/risk/history", json={"patient_id": "b-1"}).json()
    reading = {"signal": "heart_rate", "value": 71, "observed_at": READING["observed_at"]}
    answer = of_ward_a.post("/v1/risk/observations", json={"patient_id": "b-1", "observations": [reading]}).json()
    assert answer["news2"]["score"] == 0  # his own would make 12
    assert inside.caller().post("/v1/risk/history", json={"patient_id": "b-1"}).json() == before


@pytest.mark.parametrize("path", ["/v1/ward/patients", "/v1/ward/events", "/v1/alarms"])
def test_another_ward_cannot_be_looked_into(of_ward_a, path):
    for ward in ("B", "none", "a", "A."):
        answer = of_ward_a.get(path, params={"ward": ward, "seconds": 0})
        assert (answer.status_code, answer.json()["code"]) == (403, "not_your_ward")
    assert of_ward_a.get(path, params={"ward": "A", "seconds": 0}).status_code == 200


def test_lists_hold_the_own_ward_only(inside, of_ward_a):
    assert [alarm["patient_id"] for alarm in of_ward_a.get("/v1/alarms").json()["alarms"]] == ["a-1"]
    assert {alarm["patient_id"] for alarm in inside.caller().get("/v1/alarms").json()["alarms"]} >= {"a-1", "b-1"}
    patients = of_ward_a.get("/v1/ward/patients", params={"ward": "A"}).json()["patients"]
    assert [patient["patient_id"] for patient in patients] == ["a-1"]
    events = of_ward_a.get("/v1/ward/events", params={"ward": "A", "seconds": 0}, headers={"Last-Event-ID": "0"}).text
    assert "a-1" in events
    assert '"b-1"' not in events


@pytest.mark.parametrize("action", ["acknowledge", "override"])
def test_an_alarm_of_another_ward_is_none(inside, of_ward_a, action):
    alarm = alarm_of(inside, "B")
    body = {"alarm_id": alarm["alarm_id"]} | ({"reason": "artefact"} if action == "override" else {})
    answer = of_ward_a.post(f"/v1/alarms/{action}", json=body)
    assert (answer.status_code, answer.json()) == (
        404,
        of_ward_a.post(f"/v1/alarms/{action}", json=body | {"alarm_id": "none"}).json(),
    )
    assert alarm_of(inside, "B") == alarm


@pytest.mark.parametrize("patient", ["b-1", "unregistered"])
def test_nobody_sends_readings_of_another_wards_patients(inside, of_ward_a, patient):
    before = inside.parts.journal.latest()
    both = {"observations": [*sent("a-1", {"heart_rate": 80})["observations"], *sent(patient, {"spo2": 99})["observations"]]}
    answer = of_ward_a.post("/v1/observations", json=both)
    assert (answer.status_code, answer.json()["code"]) == (403, "not_your_ward")
    assert answer.json()["detail"].startswith("observations: ")  # not whose: that would say who is in other wards
    assert inside.parts.journal.latest() == before  # not even his own
    assert of_ward_a.post("/v1/observations", json=sent("a-1", {"glucose": 100})).json()["accepted"] == 1


def test_nobody_registers_into_another_ward_or_takes_a_patient_from_it(inside, of_ward_a):
    for patients, place in (
        ([("a-1", "A"), ("new", "B")], "patients.1.ward"),
        ([("a-1", "B")], "patients.0.ward"),
        ([("a-1", "A"), ("b-1", "A")], "patients"),
    ):
        body = {"patients": [{"patient_id": patient, "ward": ward} for patient, ward in patients]}
        answer = of_ward_a.post("/v1/patients", json=body)
        assert (answer.status_code, answer.json()["code"]) == (403, "not_your_ward")
        assert answer.json()["detail"].startswith(f"{place}: ")
    wards = inside.parts.wards([inside.parts.pseudonyms.of(patient) for patient in ("a-1", "b-1", "new")])
    assert list(wards.values()) == ["A", "B", ""]


def test_a_ward_admits_whom_nobody_has_and_then_sends_his_readings(inside, of_ward_a):
    reading = sent("admitted", {"heart_rate": 80})
    assert of_ward_a.post("/v1/observations", json=reading).json()["code"] == "not_your_ward"  # nobody said that he is there
    assert inside.caller().post("/v1/observations", json=sent("admitted", {"spo2": 97})).json()["accepted"] == 1
    admission = {"patients": [{"patient_id": "admitted", "ward": "A"}, {"patient_id": "another", "ward": "A"}]}
    for _ in range(2):
        assert of_ward_a.post("/v1/patients", json=admission).json() == {"registered": 2}
    assert of_ward_a.post("/v1/observations", json=reading).json()["accepted"] == 1
    admission["patients"][0]["ward"] = "B"
    answer = inside.caller(wards=["B"]).post("/v1/patients", json=admission)
    assert (answer.status_code, answer.json()["code"]) == (403, "not_your_ward")


def test_what_a_stranger_may_see_follows_the_patient(inside, of_ward_a):
    of_ward_b = inside.caller(wards=["B"])
    move = [{"patient_id": "m-1", "ward": "A"}]
    assert inside.caller().post("/v1/patients", json={"patients": move}).status_code == 200
    assert of_ward_a.post("/v1/observations", json=sent("m-1", SICK)).json()["accepted"] == 4
    inside.rescore()
    assert of_ward_b.post("/v1/risk", json={"patient_id": "m-1"}).status_code == 404
    move[0]["ward"] = "B"
    assert inside.caller().post("/v1/patients", json={"patients": move}).status_code == 200
    inside.rescore()
    assert of_ward_a.post("/v1/risk", json={"patient_id": "m-1"}).status_code == 404
    assert of_ward_b.post("/v1/risk", json={"patient_id": "m-1"}).status_code == 200
    for path, found in (("/v1/ward/patients", "patients"), ("/v1/alarms", "alarms")):
        seen = {ward: client.get(path, params={"ward": ward}).json() for ward, client in (("A", of_ward_a), ("B", of_ward_b))}
        assert "m-1" not in {row["patient_id"] for row in seen["A"][found]}, path
        assert "m-1" in {row["patient_id"] for row in seen["B"][found]}, path


def test_who_is_registered_and_never_measured_is_a_wards_for_an_hour(inside, of_ward_a):
    """Else one ward could keep everybody from the others, by registering them first."""
    theirs = {"patients": [{"patient_id": "squatted", "ward": "B"}]}
    ours = {"patients": [{"patient_id": "squatted", "ward": "A"}]}
    assert inside.caller(wards=["B"]).post("/v1/patients", json=theirs).status_code == 200
    assert of_ward_a.post("/v1/patients", json=ours).status_code == 403
    with inside.parts.journal.engine.begin() as connection:
        pseudonym = inside.parts.pseudonyms.of("squatted")
        earlier = "UPDATE patients SET recorded_at = recorded_at - 3601000000 WHERE patient = ?"
        connection.exec_driver_sql(earlier, (pseudonym,))
    assert of_ward_a.post("/v1/patients", json=ours).status_code == 200
    assert inside.parts.wards([pseudonym]) == {pseudonym: "A"}
