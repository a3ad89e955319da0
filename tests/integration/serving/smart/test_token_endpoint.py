"""SMART Backend Services: who gets a token, for what, and who does not; as SMART App Launch 2.2 has it."""

import json
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from tests.support.in_process_server import observations_body, running_in_process
from vigil.serving.auth.smart_scopes import parse_smart_scopes, smart_scopes
from vigil.serving.smart.clients import Clients, ClientsError
from vigil.serving.smart.routes import ASSERTION_TYPE

URL = "https://vigil.example"
TOKEN_URL = f"{URL}/auth/token"
RSA, EC, STRANGE = rsa.generate_private_key(65537, 2048), ec.generate_private_key(ec.SECP384R1()), None
KEYS = {"RS384": RSA, "ES384": EC}
SCOPES = ["system/Observation.cud", "system/Patient.cu", "system/RiskAssessment.rs"]


def jwk(key, **fields):
    kind = jwt.algorithms.ECAlgorithm if isinstance(key, ec.EllipticCurvePrivateKey) else jwt.algorithms.RSAAlgorithm
    return kind.to_jwk(key.public_key(), as_dict=True) | fields


def write_clients(home, **others):
    keys = {"keys": [jwk(RSA, kid="rsa", alg="RS384"), jwk(EC, kid="ec", alg="ES384")]}
    (home / "ehr.jwks.json").write_text(json.dumps(keys))
    fields = {"keys": "ehr.jwks.json", "scopes": SCOPES, "wards": ["B4"]} | others
    text = "\n".join(f"{name} = {json.dumps(value)}" for name, value in fields.items() if value is not None)
    (home / "clients.toml").write_text(f"[clients.ehr]\n{text}\n")


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("smart")
    write_clients(folder)
    return folder


@pytest.fixture(scope="module")
def server(home):
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("VIGIL_URL", f"{URL}/")
        with running_in_process(home) as running:
            yield running


_NUMBER = iter(range(10**6))


def assertion(key=RSA, alg="RS384", header=(), **changes):
    """Return a client assertion; None leaves a claim or a header out."""
    claims = {"iss": "ehr", "sub": "ehr", "aud": TOKEN_URL, "exp": int(time.time()) + 200, "jti": f"one-{next(_NUMBER)}"}
    claims = {name: value for name, value in (claims | changes).items() if value is not None}
    headers = {"typ": "JWT", "kid": "rsa" if alg == "RS384" else "ec"} | dict(header)
    kept = {
        name: value for name, value in headers.items() if value is not None or name == "typ"
    }  # PyJWT leaves out a typ of None
    return jwt.encode(claims, key, alg, kept)


def form(signed, **changes):
    fields = {
        "grant_type": "client_credentials",
        "scope": "system/Observation.c system/RiskAssessment.rs",
        "client_assertion_type": ASSERTION_TYPE,
        "client_assertion": signed,
    }
    return {name: value for name, value in (fields | changes).items() if value is not None}


def ask(server, signed=None, **changes):
    return server.stranger().post("/auth/token", data=form(assertion() if signed is None else signed, **changes))


@pytest.mark.parametrize("alg", KEYS)
def test_client_gets_a_token_that_works_here_and_under_v1(server, alg):
    answer = ask(server, assertion(KEYS[alg], alg))
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    token = answer.json()
    assert {name: token[name] for name in ("token_type", "expires_in", "scope")} == {
        "token_type": "bearer",
        "expires_in": 300,
        "scope": "system/Observation.c system/RiskAssessment.rs",
    }
    caller = server.components.tokens.verify(token["access_token"])
    assert (caller.sub, caller.wards, caller.scopes) == (
        "ehr",
        {"B4"},
        {"risk:read"},
    )  # observations:write needs Observation.cu
    assert caller.may("c", "Observation")
    assert not caller.may("u", "Observation")
    bearer = {"Authorization": f"Bearer {token['access_token']}"}
    asked = server.stranger().post("/v1/risk", json={"patient_id": "p"}, headers=bearer)
    sent = server.stranger().post("/v1/observations", json=observations_body("p", {"heart_rate": 70}), headers=bearer)
    assert (asked.status_code, sent.status_code) == (404, 403)


@pytest.mark.parametrize(
    ("asked", "granted"),
    [
        ("system/Observation.cruds", "system/Observation.cud"),  # less than asked
        ("system/Observation.write", "system/Observation.cud"),  # version 1
        ("system/RiskAssessment.read", "system/RiskAssessment.rs"),
        ("system/*.*", "system/Observation.cud system/Patient.cu system/RiskAssessment.rs"),
        ("system/*.rs", "system/RiskAssessment.rs"),
        ("system/Observation.c system/Encounter.c openid", "system/Observation.c"),
    ],
)
def test_scopes_granted_are_those_of_the_registration(server, asked, granted):
    assert ask(server, scope=asked).json()["scope"] == granted


@pytest.mark.parametrize(
    "asked",
    [
        "system/Encounter.rs",
        "system/Observation.dc",
        "system/Observation.c?category=vital-signs",
        "launch",
        "system/Observation.",
    ],
)
def test_scopes_that_allow_nothing_are_refused(server, asked):
    answer = ask(server, scope=asked)
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_scope")


OTHER_RSA = rsa.generate_private_key(65537, 2048)
SECRET = b"a shared secret of thirty-two bytes"
REFUSED = {
    "another's key": lambda: assertion(OTHER_RSA),
    "unknown client": lambda: assertion(iss="other", sub="other"),
    "sub of another": lambda: assertion(sub="other"),
    "another audience": lambda: assertion(aud="https://other.example/auth/token"),
    "base as audience": lambda: assertion(aud=URL),
    "expired": lambda: assertion(exp=int(time.time()) - 10),
    "too long": lambda: assertion(exp=int(time.time()) + 400),
    "no exp": lambda: assertion(exp=None),
    "exp is a text": lambda: assertion(exp="soon"),
    "no jti": lambda: assertion(jti=None),
    "empty jti": lambda: assertion(jti=""),
    "not yet": lambda: assertion(nbf=int(time.time()) + 60),
    "no kid": lambda: assertion(header={"kid": None}),
    "unknown kid": lambda: assertion(header={"kid": "other"}),
    "kid of the other key": lambda: assertion(header={"kid": "ec"}),
    "no typ": lambda: assertion(header={"typ": None}),
    "another typ": lambda: assertion(header={"typ": "at+jwt"}),
    "foreign jku": lambda: assertion(header={"jku": "https://evil.example/jwks"}),
    "crit": lambda: assertion(header={"crit": ["x"], "x": 1}),
    "RS256": lambda: assertion(RSA, "RS256", header={"kid": "rsa"}),
    "ES256": lambda: assertion(ec.generate_private_key(ec.SECP256R1()), "ES256", header={"kid": "ec"}),
    "HS256 with the public key": lambda: assertion(SECRET, "HS256", header={"kid": "rsa"}),
    "none": lambda: jwt.encode({"iss": "ehr", "sub": "ehr"}, None, "none"),
    "no JWT": lambda: "not.a.jwt",
    "very long": lambda: assertion(jti="x" * 10_000),
}


@pytest.mark.parametrize("why", REFUSED)
def test_assertion_is_refused(server, why):
    answer = ask(server, REFUSED[why]())
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_client")
    assert answer.headers["cache-control"] == "no-store"


def test_iat_is_neither_demanded_nor_trusted(server):
    assert ask(server, assertion(iat=int(time.time()) + 9_000)).status_code == 200


def test_assertion_is_used_once_also_after_a_restart(server, home):
    signed = assertion()
    assert ask(server, signed).status_code == 200
    again = ask(server, signed)
    assert (again.status_code, again.json()["error"]) == (400, "invalid_client")
    with running_in_process(home) as restarted:
        assert ask(restarted, signed).json()["error"] == "invalid_client"


def test_of_parallel_uses_of_an_assertion_one_is_accepted(server):
    signed = assertion()
    with ThreadPoolExecutor(8) as threads:
        statuses = list(threads.map(lambda _: ask(server, signed).status_code, range(16)))
    assert sorted(statuses) == [200, *[400] * 15]


def test_used_assertions_are_forgotten_an_hour_after_they_expire(server, home):
    with sqlite3.connect(home / "connections.db") as database:
        database.execute("INSERT INTO used_assertions VALUES (x'00', ?)", [int(time.time()) - 3_700])
    assert ask(server).status_code == 200
    with sqlite3.connect(home / "connections.db") as database:
        assert database.execute("SELECT count(*) FROM used_assertions WHERE digest = x'00'").fetchone() == (0,)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"grant_type": "password"}, "unsupported_grant_type"),
        ({"grant_type": None}, "invalid_request"),
        ({"scope": None}, "invalid_request"),
        ({"scope": ["system/Observation.c", "system/Patient.cu"]}, "invalid_request"),  # sent twice
        ({"client_assertion": None}, "invalid_request"),
        ({"client_assertion_type": "jwt"}, "invalid_request"),
    ],
)
def test_form_that_is_refused(server, changes, error):
    answer = ask(server, **changes)
    assert (answer.status_code, answer.json()["error"]) == (400, error)


def test_body_of_another_type_is_refused(server):
    answer = server.stranger().post("/auth/token", json=form(assertion()))
    assert answer.json()["error"] == "invalid_request"


def test_smart_configuration_needs_no_token(server):
    answer = server.stranger().get("/fhir/.well-known/smart-configuration")
    assert answer.status_code == 200
    configuration = answer.json()
    assert configuration["token_endpoint"] == TOKEN_URL
    assert configuration["token_endpoint_auth_methods_supported"] == ["private_key_jwt"]
    assert sorted(configuration["token_endpoint_auth_signing_alg_values_supported"]) == ["ES384", "RS384"]


def test_registration_counts_at_once_when_it_changes(server, home):
    write_clients(home, scopes=["system/Patient.cu"], wards=None)
    assert ask(server).json()["error"] == "invalid_scope"
    token = ask(server, scope="system/Patient.cu").json()["access_token"]
    assert server.components.tokens.verify(token).wards is None
    write_clients(home)
    assert ask(server).status_code == 200


def test_rotated_keys_count_without_a_restart(server, home):
    kept = (home / "ehr.jwks.json").read_text()
    (home / "ehr.jwks.json").write_text(json.dumps({"keys": [jwk(OTHER_RSA, kid="new", alg="RS384")]}))
    assert ask(server, assertion(OTHER_RSA, header={"kid": "new"})).status_code == 200
    assert ask(server).json()["error"] == "invalid_client"
    (home / "ehr.jwks.json").write_text(kept)


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"scopes": []}, "scopes"),
        ({"scopes": ["patient/Observation.rs"]}, "allows nothing here"),
        ({"wards": []}, "wards"),
        ({"secret": "x"}, "secret"),
        ({"keys": None}, "keys"),
    ],
)
def test_registration_that_cannot_be_used_names_the_field(tmp_path, changes, names):
    write_clients(tmp_path, **changes)
    with pytest.raises(ClientsError, match=names):
        Clients(tmp_path, strict=True)


def test_scopes_of_version_2_come_back_in_their_order():
    assert smart_scopes(parse_smart_scopes(["system/Observation.rs", "system/Observation.write"])) == [
        "system/Observation.cruds"
    ]
