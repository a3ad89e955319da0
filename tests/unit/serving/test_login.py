"""What a login carries through the browser, and the settings of issuers."""

import secrets
from datetime import UTC, datetime, timedelta

import pytest

from vigil.serving.login.attempts import (
    SECONDS,
    challenge_of,
    cookie_name,
    create_attempt,
    open_attempt,
    require_path,
    seal_attempt,
)
from vigil.serving.login.errors import LoginError
from vigil.serving.login.links import LINK_PATH, create_link, is_loopback_url, link_sealer
from vigil.serving.login.people import identify
from vigil.serving.login.sealed import Sealer
from vigil.serving.login.settings import IssuerSettings, LoginSettingsError, LoginSettingsFile

SECRET = secrets.token_bytes(32)


class Clock:
    def __init__(self):
        self.time = datetime(2026, 2, 1, tzinfo=UTC)

    def __call__(self):
        return self.time


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def sealer(clock):
    return Sealer(SECRET, "login attempt", SECONDS, clock)


def test_sealed_content_opens_for_its_purpose_and_time_only(clock, sealer):
    sealed = sealer.seal({"nonce": "canary"})
    assert "canary" not in sealed
    assert sealer.open(sealed) == {"nonce": "canary"}
    assert Sealer(SECRET, "login link", SECONDS, clock).open(sealed) is None
    assert Sealer(SECRET[::-1], "login attempt", SECONDS, clock).open(sealed) is None
    clock.time += timedelta(seconds=SECONDS)
    assert sealer.open(sealed) is not None
    clock.time += timedelta(seconds=1)
    assert sealer.open(sealed) is None


@pytest.mark.parametrize("text", ["", "x", "gAAAA", "ä", "A" * 5_000, "\x00", "=" * 10])
def test_whatever_was_not_sealed_does_not_open(sealer, text):
    assert sealer.open(text) is None


def test_sealed_content_that_was_changed_does_not_open(sealer):
    sealed = sealer.seal({"state": "a"})
    for position in range(0, len(sealed), 7):
        other = "A" if sealed[position] != "A" else "B"
        assert sealer.open(sealed[:position] + other + sealed[position + 1 :]) is None


def test_attempt_returns_with_its_state_only(sealer, clock):
    attempt, other = create_attempt("ehr", "/"), create_attempt("ehr", "/")
    cookie = seal_attempt(attempt, sealer)
    assert open_attempt(attempt.state, cookie, sealer) == attempt
    for state, content in ((other.state, cookie), ("", cookie), (attempt.state, None), (attempt.state, "x")):
        with pytest.raises(LoginError, match=r"^state: expected"):
            open_attempt(state, content, sealer)
    clock.time += timedelta(seconds=SECONDS + 1)
    with pytest.raises(LoginError, match=r"in the last 10 minutes$"):
        open_attempt(attempt.state, cookie, sealer)


def test_attempts_are_random_and_their_cookies_differ():
    first, second = create_attempt("ehr", "/"), create_attempt("ehr", "/")
    values = {value for each in (first, second) for value in (each.state, each.nonce, each.verifier)}
    assert len(values) == 6
    assert min(map(len, values)) >= 43  # 256 bits, as RFC 7636 demands of the verifier at least
    assert first.challenge == challenge_of(first.verifier) != second.challenge
    assert cookie_name(first.state) != cookie_name(second.state)


@pytest.mark.parametrize("path", ["/", "/wards", "/wards/B4?sort=risk&page=2", "/patients/abc~def", "/w/B%204"])
def test_path_of_this_server_is_one_to_return_to(path):
    assert require_path(path) == path


@pytest.mark.parametrize(
    "path",
    [
        "",
        "wards",
        "//evil.example",
        "/\\evil.example",
        "\\/evil.example",
        "https://evil.example",
        "/a\n",
        "/\r/evil.example",
        "javascript:alert(1)",
        "/" + "a" * 1_000,
        "/ä",
        "/a b",
        "/<script>",
        '/"',
    ],
)
def test_anything_else_is_not(path):
    with pytest.raises(LoginError, match=r"^next: expected a path of this server"):
        require_path(path)


def test_link_is_sealed_with_the_key_of_the_home(tmp_path):
    url, _, token = create_link(tmp_path, "http://127.0.0.1:3000").partition(f"{LINK_PATH}?token=")
    assert url == "http://127.0.0.1:3000"
    content = link_sealer((tmp_path / "auth" / "token_key.pem").read_bytes()).open(token)
    assert content["url"] == url
    assert link_sealer(SECRET).open(token) is None
    assert create_link(tmp_path, url) != create_link(tmp_path, url)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://127.0.0.1:3000", True),
        ("http://localhost", True),
        ("http://[::1]:3000", True),
        ("https://127.0.0.1:3000", False),
        ("http://127.0.0.1.evil.example", False),
        ("http://evil.example/127.0.0.1", False),
        ("http://0.0.0.0:3000", False),
        ("", False),
    ],
)
def test_only_this_machine_is_this_machine(url, expected):
    assert is_loopback_url(url) is expected


GOOD = '[issuers.ehr]\nfhir = "https://ehr.example/fhir/"\nclient_id = "vigil"\n'


def test_settings_of_an_issuer_are_read(tmp_path):
    (tmp_path / "login.toml").write_text(f'idle_minutes = 5\n{GOOD}wards = "all"\n')
    content = LoginSettingsFile(tmp_path, strict=True).content
    assert content.issuers["ehr"].url == "https://ehr.example/fhir"
    assert content.issuers["ehr"].fhir == "https://ehr.example/fhir/"  # as the record system compares it
    assert content.issuers["ehr"].wards == "all"
    assert (content.idle, content.lifetime) == (timedelta(minutes=5), timedelta(hours=12))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (GOOD + 'openid = "https://id.example"', "issuers.ehr: Value error, expected either fhir or openid"),
        (GOOD.replace("fhir =", "other ="), "issuers.ehr"),
        (GOOD.replace("https", "http"), "issuers.ehr.fhir: Value error, expected an https URL"),
        (GOOD.replace("https://", "https://user:secret@"), "issuers.ehr.fhir: Value error, expected an https URL"),
        (GOOD + 'secret = "a"\nkey = "b"', "expected secret, key, or neither"),
        (GOOD + "wards = []", "issuers.ehr.wards"),
        (GOOD + 'wards = "B4"', "issuers.ehr.wards"),
        (GOOD + 'scopes = ["risk:write"]', "expected one of observations:write"),
        (GOOD + '[issuers.ehr.screens.wall]\nwards = "all"', "issuers.ehr.screens.wall.wards"),
        (GOOD + '[issuers.ehr.screens.wall]\nwards = ["B4"]\nscopes = ["alarms:write"]', "issuers.ehr.screens.wall.scopes"),
        ("idle_minutes = 0", "idle_minutes: Input should be greater than or equal to 1"),
        ("lifetime_hours = 25", "lifetime_hours"),
    ],
)
def test_settings_that_cannot_be_used_are_named(tmp_path, text, expected):
    (tmp_path / "login.toml").write_text(text)
    with pytest.raises(LoginSettingsError, match=r"see docs/login\.md") as caught:
        LoginSettingsFile(tmp_path, strict=True)
    assert expected in str(caught.value)
    assert "secret@" not in str(caught.value)


def issuer(**changes):
    return IssuerSettings.model_validate({"fhir": "https://ehr.example/fhir", "client_id": "vigil", "wards": ["B4"], **changes})


CLAIMS = {"sub": "u-17", "fhirUser": "https://ehr.example/fhir/Practitioner/17"}


def test_person_without_any_ward_is_refused():
    with pytest.raises(LoginError, match="wards: nothing says which"):
        identify(CLAIMS, "user/RiskAssessment.rs", issuer(wards=None))


def test_person_without_fhir_user_gets_in_only_where_login_toml_names_them():
    claims = {"sub": "u-17"}
    with pytest.raises(LoginError, match="fhirUser: expected staff"):
        identify(claims, "user/RiskAssessment.rs", issuer())
    person = identify(claims, "user/RiskAssessment.rs", issuer(people={"u-17": {"wards": ["ICU"]}}))
    assert (person.sub, person.wards) == ("https://ehr.example/fhir|u-17", ["ICU"])


@pytest.mark.parametrize(
    "user", ["Patient/1", "RelatedPerson/1", "Device/1", "https://ehr.example/fhir/Patient/1", 17, "", "Practitioner"]
)
def test_person_who_is_no_staff_is_refused(user):
    with pytest.raises(LoginError, match="fhirUser: expected staff"):
        identify({"sub": "u-17", "fhirUser": user}, "user/RiskAssessment.rs", issuer())


def test_wards_of_all_roles_count_together_and_all_is_all():
    roles = {"a": {"wards": ["A"]}, "b": {"wards": ["B", "C"]}, "head": {"wards": "all"}, "none": {"scopes": ["terms:write"]}}
    granted = "user/RiskAssessment.rs"
    assert identify(CLAIMS | {"roles": ["a", "b"]}, granted, issuer(roles=roles)).wards == ["A", "B", "C"]
    assert identify(CLAIMS | {"roles": ["a", "head"]}, granted, issuer(roles=roles)).wards is None
    assert identify(CLAIMS | {"roles": "a"}, granted, issuer(roles=roles)).wards == ["A"]
    assert identify(CLAIMS | {"roles": "none"}, granted, issuer(roles=roles)).wards == ["B4"]
    assert identify(CLAIMS | {"roles": {"a": 1}}, granted, issuer(roles=roles)).wards == ["B4"]
