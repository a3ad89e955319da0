"""SMART App Launch as a client: who gets in, for what, and who does not."""

import hmac
import json
import time
from urllib.parse import parse_qs, urlsplit

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from tests.integration.serving.login.conftest import URL, new_browser, return_from, session_of
from tests.support.fake_ehr import KEYS, basic, public_jwk
from tests.support.tokens import encode_compact


def query_of(location):
    return {name: value for name, (value,) in parse_qs(urlsplit(location).query, strict_parsing=True).items()}


def refused(answer, status, text):
    """Check that a login was refused without a session, and that nothing secret is repeated."""
    assert (answer.status_code, text in answer.text) == (status, True), answer.text
    assert "session" not in answer.headers.get("set-cookie", "").replace("vigil_login", "")
    assert "secret-access-token" not in answer.text
    return True


def test_start_asks_as_smart_app_launch_has_it(browser, ehr):
    answer = browser.get("/login")
    asked = query_of(answer.headers["location"])
    assert answer.headers["location"].startswith(f"{ehr.url}/authorize?")
    assert asked["response_type"] == "code"
    assert asked["client_id"] == "vigil"
    assert asked["redirect_uri"] == f"{URL}/login/callback"
    assert asked["aud"] == ehr.fhir
    assert asked["code_challenge_method"] == "S256"
    assert {"openid", "fhirUser", "user/RiskAssessment.rs"} <= set(asked["scope"].split())
    assert "launch" not in asked
    assert len({asked["state"], asked["nonce"], asked["code_challenge"]}) == 3
    again = query_of(browser.get("/login").headers["location"])
    assert not {asked["state"], asked["nonce"], asked["code_challenge"]} & set(again.values())


def test_cookie_of_a_login_is_short_lived_and_says_nothing(browser):
    answer = browser.get("/login")
    asked = query_of(answer.headers["location"])
    cookie = answer.headers["set-cookie"]
    assert {"HttpOnly", "Secure", "SameSite=lax", "Path=/login", "Max-Age=600"} <= set(cookie.split("; "))
    assert asked["nonce"] not in cookie
    assert asked["state"] not in cookie


def test_return_opens_a_session_with_scopes_and_wards(browser, ehr):
    answer = return_from(browser, ehr, "/login?next=/wards/B4?sort=risk")
    assert (answer.status_code, answer.headers["location"]) == (303, "/wards/B4?sort=risk")
    cookie = next(each for each in answer.headers.get_list("set-cookie") if each.startswith("__Host-vigil_session="))
    assert {"HttpOnly", "Secure", "SameSite=lax", "Path=/"} <= set(cookie.split("; "))
    found = session_of(browser).json()
    assert found["caller"] == f"{ehr.fhir}/Practitioner/17"
    assert found["name"] == "u-17"
    assert found["scopes"] == ["risk:read", "ward:read"]  # user/Patient.read, of version 1, is understood too
    assert found["wards"] == ["B4"]
    assert found["context"] == {}


def test_launch_by_the_record_system_brings_its_patient(browser, ehr, server):
    ehr.answer = {"patient": "p1", "encounter": "e1", "need_patient_banner": True}
    started = browser.get("/login", params={"iss": ehr.fhir, "launch": "opaque-17"})
    asked = query_of(started.headers["location"])
    assert asked["launch"] == "opaque-17"
    assert "launch" in asked["scope"].split()
    entered = browser.get("/login/callback", params=ehr.authorize(started.headers["location"]))
    reference = session_of(browser).json()["context"]["patient"]
    assert (entered.status_code, entered.headers["location"]) == (303, f"/patient/{reference.removeprefix('Patient/')}")
    assert browser.get(entered.headers["location"]).status_code == 200
    ehr.claims = {"wards": ["ICU"]}
    elsewhere = return_from(browser, ehr).headers["location"]
    assert elsewhere == entered.headers["location"]
    assert browser.get(elsewhere).status_code in {403, 404}  # a launch opens no other ward
    assert "p1" not in reference
    assert "sick" not in reference
    components = server.components
    assert components.directory.find(reference) == "sick"
    assert b"e1" not in (server.home / "connections.db").read_bytes() + (server.home / "connections.db-wal").read_bytes()


def test_launch_is_answered_under_the_name_that_the_record_system_gave_itself(browser, ehr):
    for iss in (ehr.fhir, f"{ehr.fhir}/"):
        assert query_of(browser.get("/login", params={"iss": iss, "launch": "1"}).headers["location"])["aud"] == iss


def test_launch_with_an_unknown_patient_says_so(browser, ehr):
    ehr.answer = {"patient": "nobody"}
    entered = return_from(browser, ehr)
    assert (entered.status_code, "is not known here" in entered.text) == (200, True)
    assert session_of(browser).json()["context"] == {"patient": None}
    assert return_from(browser, ehr, "/login?next=/wards").headers["location"] == "/wards"


def test_launch_of_an_issuer_that_is_not_listed_is_refused_without_a_request(browser, ehr):
    for iss in (
        "http://127.0.0.1:1/fhir",
        "http://169.254.169.254/latest",
        ehr.url,
        f"{ehr.fhir}/../other",
        f"{ehr.fhir}@evil.example",
    ):
        answer = browser.get("/login", params={"iss": iss, "launch": "1"})
        assert refused(answer, 403, "iss: expected the FHIR base URL of an issuer in login.toml")
        assert iss not in answer.text
    assert ehr.asked == []


@pytest.mark.parametrize(
    "path", ["//evil.example", "https://evil.example/", "/\\evil.example", "evil", "", "/a\r\nb", "/\t/evil.example"]
)
def test_login_never_leads_to_another_server(browser, path):
    answer = browser.get("/login", params={"next": path})
    assert answer.status_code == 400
    assert "next: expected a path of this server" in answer.text
    assert "location" not in answer.headers


@pytest.mark.parametrize("algorithm", KEYS)
def test_id_token_of_each_algorithm_is_understood(browser, ehr, algorithm):
    ehr.algorithm = algorithm
    assert return_from(browser, ehr).status_code == 303


NOW = int(time.time())
WRONG_CLAIMS = {
    "nonce": ({"nonce": "of another login"}, "nonce: expected that of this login"),
    "no nonce": ({"nonce": None}, "claims: expected iss, aud, sub, exp, iat, nonce"),
    "aud": ({"aud": "another client"}, "aud: expected the client_id of login.toml"),
    "two aud": ({"aud": ["vigil", "another client"]}, "aud: expected no other client"),
    "azp": ({"azp": "another client"}, "aud: expected no other client"),
    "iss": ({"iss": "https://other.example"}, "iss: expected the issuer"),
    "expired": ({"exp": NOW - 120}, "exp: expected a time in the future"),
    "exp is no number": ({"exp": "tomorrow"}, "id_token"),
    "from the future": ({"iat": NOW + 3600}, "iat: expected a time that is not in the future"),
    "no sub": ({"sub": None}, "claims: expected"),
    "sub": ({"sub": "a\nb"}, "sub: expected 1 to 255 printable characters"),
    "patient": ({"fhirUser": "Patient/4711"}, "fhirUser: expected staff"),
    "no fhirUser": ({"fhirUser": None}, "fhirUser: expected staff"),
    "wards": ({"wards": "B4"}, "wards: expected a list of names"),
    "no wards": ({"wards": []}, "wards: expected a list of names"),
}


@pytest.mark.parametrize(("changes", "text"), WRONG_CLAIMS.values(), ids=WRONG_CLAIMS)
def test_id_token_with_a_wrong_claim_is_refused(browser, ehr, changes, text):
    ehr.claims = changes
    answer = return_from(browser, ehr)
    assert refused(answer, 403, text)
    assert session_of(browser).status_code == 401
    assert "4711" not in answer.text


def test_id_token_signed_by_another_key_is_refused(browser, ehr):
    ehr.key = rsa.generate_private_key(65537, 2048)
    assert refused(return_from(browser, ehr), 403, "signature: expected a signature of the issuer&#39;s key")


def test_id_token_of_an_unknown_key_or_another_algorithm_is_refused(browser, ehr):
    ehr.header = {"kid": "unknown"}
    assert refused(return_from(browser, ehr), 403, "kid: expected one of the issuer&#39;s keys")
    ehr.header = {"kid": "RS384"}
    assert refused(return_from(browser, ehr), 403, "kid: expected one of the issuer&#39;s keys")


def test_id_token_without_or_with_a_symmetric_signature_is_refused(browser, ehr):
    claims = {"iss": ehr.url, "aud": "vigil", "sub": "u-17", "iat": NOW, "exp": NOW + 300, "nonce": "n"}
    public = json.dumps(public_jwk("RS256")).encode()
    symmetric = encode_compact({"alg": "HS256", "kid": "RS256"}, claims, lambda text: hmac.digest(public, text, "sha256"))
    for token in (jwt.encode(claims, None, "none"), symmetric, "no token", 17, None):
        ehr.answer = {"id_token": token}
        assert refused(return_from(browser, ehr), 403, "id_token")


def test_login_without_a_usable_scope_is_refused(browser, ehr):
    ehr.answer = {"scope": "openid fhirUser user/Immunization.rs"}
    assert refused(return_from(browser, ehr), 403, "scope: the issuer granted nothing that can be used here")
    ehr.answer = {"scope": "openid system/RiskAssessment.rs patient/RiskAssessment.rs"}
    assert refused(return_from(browser, ehr), 403, "scope: the issuer granted nothing that can be used here")
    ehr.answer = {"scope": None}
    assert refused(return_from(browser, ehr), 403, "scope: the issuer granted nothing that can be used here")


def test_wards_come_from_the_claim_then_the_person_then_the_roles(browser, ehr):
    def wards(**claims):
        ehr.claims = claims
        assert return_from(browser, ehr).status_code == 303
        return session_of(browser).json()["wards"]

    everyone, claim = wards(), ["C1", "C2"]
    assert everyone == ["B4"]
    assert wards(wards=claim, fhirUser=f"{ehr.fhir}/Practitioner/99") == claim
    assert wards(fhirUser="Practitioner/99") is None  # all
    assert wards(roles=["intensivist", "unknown"]) == ["ICU"]
    assert "terms:write" in session_of(browser).json()["scopes"]
    assert wards(fhirUser="https://other.example/fhir/Practitioner/99") == ["B4"]  # not its person
    assert session_of(browser).json()["caller"] == f"{ehr.fhir}|u-17"


def test_state_is_good_once(browser, ehr, server):
    location = browser.get("/login").headers["location"]
    back = ehr.authorize(location)
    cookies = dict(browser.cookies)
    assert browser.get("/login/callback", params=back).status_code == 303
    other = new_browser(server)
    other.cookies.update({name: value for name, value in cookies.items() if name.startswith("vigil_login")})
    answer = other.get("/login/callback", params=ehr.authorize(location))
    assert refused(answer, 400, "state: this login was used before")


def test_return_to_another_browser_is_refused(browser, ehr, server):
    back = ehr.authorize(browser.get("/login").headers["location"])
    ehr.asked.clear()
    victim = new_browser(server)
    assert refused(victim.get("/login/callback", params=back), 400, "state: expected that of a login")
    victim.get("/login")
    assert refused(victim.get("/login/callback", params=back), 400, "state: expected that of a login")
    assert [path for path, *_ in ehr.asked if path == "/token"] == []  # the code was not used


@pytest.mark.parametrize("state", ["", "x", "ä" * 50, "x" * 10_000])
def test_return_with_any_state_is_refused(browser, state):
    answer = browser.get("/login/callback", params={"code": "c", "state": state})
    assert answer.status_code == 400
    assert "state: expected that of a login" in answer.text


def test_return_that_says_one_thing_twice_is_refused(browser, ehr):
    back = ehr.authorize(browser.get("/login").headers["location"])
    answer = browser.get("/login/callback", params=[*back.items(), ("code", "other")])
    assert refused(answer, 400, "query: expected each parameter once")


def test_cookie_of_a_login_that_was_changed_is_refused(browser, ehr):
    back = ehr.authorize(browser.get("/login").headers["location"])
    (name,) = (name for name in browser.cookies if name.startswith("vigil_login"))
    value = browser.cookies[name]
    browser.cookies.clear()
    browser.cookies.set(name, value[:-8] + ("A" * 8 if value[-8:] != "A" * 8 else "B" * 8))
    assert refused(browser.get("/login/callback", params=back), 400, "state: expected that of a login")


def test_answer_of_another_issuer_is_refused_before_the_code_is_sent(browser, ehr):
    answer = return_from(browser, ehr, iss="https://other.example")
    assert refused(answer, 403, "iss: expected the issuer at which the login was started")
    assert [path for path, *_ in ehr.asked if path == "/token"] == []


def test_refusal_by_the_issuer_is_shown_without_its_words(browser, ehr):
    answer = return_from(browser, ehr, code=None, error="access_denied", error_description="<b>canary</b>")
    assert refused(answer, 403, "error: the issuer refused the login (access_denied)")
    answer = return_from(browser, ehr, code=None, error="canary")
    assert refused(answer, 403, "error: the issuer refused the login.")
    assert "canary" not in answer.text


def test_issuer_that_fails_is_named_without_its_words(browser, ehr):
    ehr.status, ehr.answer = 400, {"error": "invalid_client", "error_description": "canary"}
    answer = return_from(browser, ehr)
    assert refused(answer, 502, "issuer: the token endpoint answers with status 400 (invalid_client)")
    assert "canary" not in answer.text


def test_new_login_gets_a_new_session_and_ends_the_former(browser, ehr, server):
    """An attacker who set the cookie of a browser is not in the session that its owner opens."""

    def status_of(session):
        headers = {"Cookie": f"__Host-vigil_session={session}", "Accept": "application/json"}
        return new_browser(server).get("/login/session", headers=headers).status_code

    chosen = "chosen-by-an-attacker-" * 3
    back = ehr.authorize(browser.get("/login").headers["location"])
    attempt = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
    browser.cookies.clear()
    entered = browser.get("/login/callback", params=back, headers={"Cookie": f"{attempt}; __Host-vigil_session={chosen}"})
    assert entered.status_code == 303
    first = browser.cookies["__Host-vigil_session"]
    assert first != chosen
    assert (status_of(chosen), status_of(first)) == (401, 200)
    assert return_from(browser, ehr).status_code == 303
    second = browser.cookies["__Host-vigil_session"]
    assert first != second
    assert (status_of(first), status_of(second)) == (401, 200)


class TestHowVigilProvesWhoItIs:
    """The server under another setting of its client."""

    @pytest.fixture
    def with_settings(self, server, settings):
        def write(line):
            (server.home / "login.toml").write_text(settings.replace('client_id = "vigil"', f'client_id = "vigil"\n{line}', 1))

        yield write
        (server.home / "login.toml").write_text(settings)

    def token_request(self, ehr):
        ((_, headers, form),) = (each for each in ehr.asked if each[0] == "/token")
        return headers, form

    def test_public_client_names_itself(self, browser, ehr):
        assert return_from(browser, ehr).status_code == 303
        headers, form = self.token_request(ehr)
        assert form["client_id"] == "vigil"
        assert "Authorization" not in headers

    def test_secret_goes_into_the_header(self, browser, ehr, server, with_settings):
        (server.home / "auth" / "ehr.secret").write_text("s+cr:t\n")
        with_settings('secret = "auth/ehr.secret"')
        assert return_from(browser, ehr).status_code == 303
        headers, form = self.token_request(ehr)
        assert headers["Authorization"] == basic("vigil", "s%2Bcr%3At")
        assert "client_secret" not in form

    @pytest.mark.parametrize("algorithm", ["RS384", "ES384"])
    def test_key_signs_an_assertion_that_the_published_key_verifies(self, browser, ehr, server, with_settings, algorithm):
        key = rsa.generate_private_key(65537, 2048) if algorithm == "RS384" else ec.generate_private_key(ec.SECP384R1())
        form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        (server.home / "auth" / "login_key.pem").write_bytes(key.private_bytes(*form))
        with_settings('key = "auth/login_key.pem"')
        assert return_from(browser, ehr).status_code == 303
        _, sent = self.token_request(ehr)
        assert sent["client_assertion_type"] == "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
        (jwk,) = browser.get("/login/jwks").json()["keys"]
        assert jwk.keys().isdisjoint({"d", "p", "q"})
        assert jwt.get_unverified_header(sent["client_assertion"]) == {"alg": algorithm, "kid": jwk["kid"], "typ": "JWT"}
        claims = jwt.decode(sent["client_assertion"], jwt.PyJWK(jwk), [algorithm], audience=f"{ehr.url}/token")
        assert claims["iss"] == claims["sub"] == "vigil"
        assert 0 < claims["exp"] - time.time() <= 300
        assert claims["jti"]

    def test_missing_key_is_named(self, browser, ehr, with_settings):
        with_settings('key = "auth/missing.pem"')
        answer = return_from(browser, ehr)
        assert refused(answer, 503, "login.toml: key: the file cannot be read")


def test_configuration_of_an_issuer_must_be_safe_and_complete(browser, ehr, server):
    issuers = server.components.login._issuers
    for changes, text in (
        ({"token_endpoint": "http://internal.example/token"}, "no usable token_endpoint"),
        ({"authorization_endpoint": "javascript:alert(1)"}, "no usable authorization_endpoint"),
        ({"jwks_uri": None}, "no usable jwks_uri"),
        ({"code_challenge_methods_supported": ["plain"]}, "does not offer PKCE with S256"),
    ):
        issuers._endpoints.clear()
        ehr.document = changes
        answer = browser.get("/login")
        assert refused(answer, 502, text)
    issuers._endpoints.clear()


def test_issuer_is_asked_for_its_configuration_once_in_minutes(browser, ehr, server):
    server.components.login._issuers._endpoints.clear()
    for _ in range(20):
        assert browser.get("/login").status_code == 303
    assert len(ehr.asked) == 1


def test_issuer_that_does_not_answer_is_left_alone_for_a_while(browser, ehr, server):
    server.components.login._issuers._endpoints.clear()
    ehr.document = {"token_endpoint": None}
    for _ in range(20):
        assert refused(browser.get("/login"), 502, "no usable token_endpoint")
    assert len(ehr.asked) == 1
    server.components.login._issuers._endpoints.clear()


def test_plain_openid_connect_issuer_gives_identity_and_login_toml_the_rest(browser, ehr, server, settings):
    text = f"""
[issuers.hospital]
openid = "{ehr.url}"
client_id = "vigil"
role_claim = "groups"
[issuers.hospital.roles.icu-staff]
wards = ["ICU"]
scopes = ["risk:read", "ward:read"]
"""
    ehr.claims = {"fhirUser": None, "groups": ["icu-staff"]}
    (server.home / "login.toml").write_text(text)
    try:
        assert query_of(browser.get("/login").headers["location"])["scope"] == "openid profile"
        ehr.answer = {"scope": "openid profile user/*.*"}  # is no record system, so these are not ours
        assert return_from(browser, ehr).status_code == 303
        found = session_of(browser).json()
        assert (found["caller"], found["scopes"], found["wards"]) == (f"{ehr.url}|u-17", ["risk:read", "ward:read"], ["ICU"])
        ehr.claims = {"fhirUser": None}
        assert refused(return_from(browser, ehr), 403, "scope: the issuer granted nothing")
    finally:
        (server.home / "login.toml").write_text(settings)


def test_several_issuers_are_offered_to_choose_from(browser, ehr, server, settings):
    (server.home / "login.toml").write_text(f'{settings}\n[issuers."<b>"]\nopenid = "{ehr.url}"\nclient_id = "vigil"\n')
    try:
        answer = browser.get("/login?next=/wards")
        assert (answer.status_code, ehr.asked) == (200, [])
        assert 'href="/login?issuer=ehr&amp;next=%2Fwards"' in answer.text
        assert "<b>" not in answer.text
        assert browser.get("/login?issuer=ehr&next=/wards").status_code == 303
        assert browser.get("/login?issuer=other").status_code == 404
    finally:
        (server.home / "login.toml").write_text(settings)
