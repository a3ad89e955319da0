"""Logins at a real server: App Launch from start to end, the one-time link of a terminal, and what is written meanwhile."""

import os
import pty
import re
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from tests.support.browser import fill_form, log_in, open_browser
from vigil.pipelines.operations.server import bind_socket
from vigil.serving.auth.local_tokens import create_local_token

COMMAND = [sys.executable, "-c", "from vigil.pipelines.cli.main import app; app()", "serve", "--home"]


class Terminal:
    """A program in a terminal, and what it has printed there."""

    def __init__(self, command, **environment):
        self.text, leader_and_follower = "", pty.openpty()
        self._leader, follower = leader_and_follower
        wide = {"COLUMNS": "500", "TERM": "dumb"}
        self.process = subprocess.Popen(
            command, stdin=follower, stdout=follower, stderr=follower, env={**os.environ, **wide, **environment}
        )
        os.close(follower)
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self):
        try:
            while part := os.read(self._leader, 65_536):
                self.text += part.decode()
        except OSError:  # the terminal's end
            pass

    def stop(self):
        self.process.terminate()
        self.process.wait(timeout=30)
        self._thread.join(timeout=10)
        os.close(self._leader)


@contextmanager
def serving(home, *options, **environment):
    """Run ``vigil serve`` in a terminal; yield its URL and the terminal."""
    with bind_socket() as free:
        port = free.getsockname()[1]
    terminal, url = Terminal([*COMMAND, str(home), "--port", str(port), *options], **environment), f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            assert terminal.process.poll() is None, terminal.text
            try:
                httpx.get(f"{url}/livez").raise_for_status()
                break
            except httpx.HTTPError:
                time.sleep(0.2)
        yield url, terminal
    finally:
        terminal.stop()


@pytest.fixture(scope="module")
def local_login(tmp_path_factory):
    """Server with --local-login and two processes that answer requests; URL, terminal and home."""
    home = tmp_path_factory.mktemp("local-login")
    with serving(home, "--local-login", VIGIL_WORKERS="2") as (url, terminal):
        yield url, terminal, home


def session_of(browser):
    return browser.get("/login/session", headers={"Accept": "application/json"})


def test_login_from_start_to_end(local_login):
    url, *_ = local_login
    with open_browser(url) as browser:
        answer = log_in(browser, "/login?next=/v1/docs", name="Ada", role="nurse", wards="B4, ICU")
        assert (answer.status_code, answer.headers["location"]) == (303, "/v1/docs")
        for _ in range(8):  # of both processes
            found = session_of(browser).json()
            assert found["caller"] == f"{url}/local-login/Practitioner/Ada"
            assert found["scopes"] == ["alarms:read", "alarms:write", "risk:read", "ward:read"]
            assert (found["name"], found["wards"]) == ("Ada", ["B4", "ICU"])
        assert browser.get("/v1/alarms").status_code == 401  # a session is no token
        assert browser.post("/login/logout").status_code == 403
        assert browser.post("/login/logout", data={"csrf_token": found["csrf_token"]}).status_code == 200
        assert [session_of(browser).status_code for _ in range(8)] == [401] * 8


def test_launch_as_by_a_record_system(local_login):
    url, *_ = local_login
    launch = f"/login?iss={url}/local-login&launch=opaque"
    with open_browser(url) as browser:
        assert "is not known here" in log_in(browser, launch, role="physician", patient="unknown", encounter="e1").text
        found = session_of(browser).json()
        assert "terms:write" in found["scopes"]
        assert (found["wards"], found["context"]) == (None, {"patient": None})
    with open_browser(url) as browser:
        assert browser.get("/login?iss=https://other.example/fhir&launch=opaque").status_code == 403


def test_launch_brings_a_patient_who_was_sent_here(local_login):
    url, _, home = local_login
    token = create_local_token(home, subject="ehr", scopes=None, wards=None, lifetime=timedelta(hours=1))
    fhir = {"Authorization": f"Bearer {token}", "Content-Type": "application/fhir+json"}
    resource = {"resourceType": "Patient", "identifier": [{"system": "urn:mrn", "value": "4711"}]}
    sent = httpx.post(f"{url}/fhir/Patient", headers=fhir, json=resource).raise_for_status()
    patient = re.search(r"Patient/([a-z0-9]{26})", sent.headers["location"])[1]
    with open_browser(url) as browser:
        entered = log_in(browser, f"/login?iss={url}/local-login&launch=opaque", role="nurse", patient=patient)
        assert (entered.status_code, entered.headers["location"]) == (303, f"/patient/{patient}")
        assert session_of(browser).json()["context"] == {"patient": f"Patient/{patient}"}


def test_one_of_many_returns_at_once_opens_a_session(local_login):
    url, *_ = local_login
    with open_browser(url) as browser:
        action, form = fill_form(browser.get("/login", follow_redirects=True), role="nurse")
        back = browser.post(action, data=form).headers["location"]
        headers = {"Cookie": "; ".join(f"{name}={value}" for name, value in browser.cookies.items())}
    with ThreadPoolExecutor(12) as pool:
        statuses = list(pool.map(lambda _: httpx.get(back, headers=headers, timeout=30).status_code, range(12)))
    assert sorted(statuses) == [303] + 11 * [400]


def test_code_is_good_once_and_for_its_verifier_only(local_login):
    url, *_ = local_login
    with open_browser(url) as browser:
        chosen = browser.get("/login", follow_redirects=True)
        action, form = fill_form(chosen, role="nurse")
        back = browser.post(action, data=form).headers["location"]
        code = parse_qs(urlsplit(back).query)["code"][0]
        exchange = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": f"{url}/login/callback",
            "client_id": "vigil",
            "code_verifier": "x" * 43,
        }
        assert browser.post("/local-login/token", data=exchange).json() == {"error": "invalid_grant"}
        assert browser.get(back).status_code == 303
        again = browser.get(back)
        assert (again.status_code, "state:" in again.text) == (400, True)
        strange = exchange | {"redirect_uri": "https://evil.example"}
        assert browser.post("/local-login/token", data=strange).json() == {"error": "invalid_grant"}


def test_another_way_back_is_refused(local_login):
    url, *_ = local_login
    with open_browser(url) as browser:
        asked = browser.get("/login").headers["location"]
        for name, value in (("redirect_uri", "https://evil.example"), ("code_challenge_method", "plain"), ("aud", "https://x")):
            changed = re.sub(rf"\b{name}=[^&]*", f"{name}={value}", asked)
            answer = browser.get(changed)
            assert (answer.status_code, name in answer.text, "location" in answer.headers) == (400, True, False)


def test_page_of_another_site_does_not_reach_the_local_login_by_its_own_name(local_login):
    url, *_ = local_login
    for path in ("/local-login/.well-known/smart-configuration", "/local-login/jwks", "/local-login/authorize"):
        assert httpx.get(f"{url}{path}", headers={"Host": "rebound.example"}).status_code == 404
    answer = httpx.get(f"{url}/login", headers={"Host": "rebound.example"})
    assert (answer.status_code, answer.headers["location"]) == (303, f"{url}/login")
    assert "set-cookie" not in answer.headers


def test_nothing_of_a_login_is_written(local_login):
    url, terminal, home = local_login
    before = len(terminal.text)
    with open_browser(url) as browser:
        started = browser.get("/login")
        attempt = {name: value for name, (value,) in parse_qs(urlsplit(started.headers["location"]).query).items()}
        chosen = browser.get(started.headers["location"])
        action, form = fill_form(chosen, role="nurse")
        back = browser.post(action, data=form).headers["location"]
        browser.get(back)
        browser.get(back)  # refused
        session = browser.cookies[f"vigil_session_{urlsplit(url).port}"]
        csrf = session_of(browser).json()["csrf_token"]
    time.sleep(0.5)
    code = parse_qs(urlsplit(back).query)["code"][0]
    secrets = [attempt["state"], attempt["nonce"], code, session, csrf]
    assert min(map(len, secrets)) > 40
    assert "login refused: state" in terminal.text[before:]
    files = b"".join(path.read_bytes() for path in home.rglob("*") if path.is_file()) + terminal.text.encode()
    assert [secret for secret in secrets if secret.encode() in files] == []


def test_link_of_the_terminal_logs_in_once(tmp_path):
    with serving(tmp_path) as (url, terminal):
        (link,) = re.findall(r"http://\S+/login/link\?token=\S+", terminal.text)
        assert link.startswith(url)
        with open_browser(url) as browser:
            assert session_of(browser).status_code == 401
            assert "it shows a link that logs in once" in browser.get("/login").text
            assert browser.get(link[:-4] + "AAAA").status_code == 403
            assert browser.get(link.replace("127.0.0.1", "localhost")).headers["location"] == link
            entered = browser.get(link)
            assert (entered.status_code, entered.headers["location"]) == (303, "/")
            found = session_of(browser).json()
            assert (found["caller"], found["wards"]) == ("local", None)
            assert "risk:read" in found["scopes"]
        with open_browser(url) as other:
            answer = other.get(link)
            assert (answer.status_code, "not used, and not expired" in answer.text) == (403, True)
            assert other.get("/local-login/.well-known/smart-configuration").status_code == 404
            (tmp_path / "login.toml").write_text('[issuers.ehr]\nfhir = "https://ehr.invalid"\nclient_id = "vigil"\n')
            from vigil.serving.login.links import create_link

            assert other.get(create_link(tmp_path, url)).status_code == 403  # an issuer says who people are


def refusal(home, *options, **environment):
    result = subprocess.run(
        [*COMMAND, str(home), *options], capture_output=True, text=True, timeout=120, check=False, env=os.environ | environment
    )
    return result.returncode, result.stdout + result.stderr


@pytest.mark.parametrize(
    ("options", "environment"),
    [
        (["--host", "0.0.0.0"], {}),
        (["--certificate", __file__, "--key", __file__], {}),
        ([], {"VIGIL_URL": "https://vigil.example"}),
    ],
)
def test_local_login_is_refused_beyond_this_machine(tmp_path, options, environment):
    status, text = refusal(tmp_path, "--local-login", *options, **environment)
    assert status == 2
    assert re.search(r"--local-login: expected a server for this machine only|--host 0.0.0.0: without TLS", text)


def test_setting_alone_does_not_open_the_local_login_to_others(tmp_path):
    with bind_socket() as free:
        port = str(free.getsockname()[1])
    environment = {"VIGIL_URL": "https://vigil.example", "VIGIL_LOCAL_LOGIN": "true"}
    status, text = refusal(tmp_path, "--port", port, **environment)
    assert status == 2
    assert "the prediction API cannot start: VIGIL_LOCAL_LOGIN: expected a server on the loopback interface" in text


def test_link_is_shown_in_a_terminal_only(tmp_path):
    with bind_socket() as free:
        port = free.getsockname()[1]
    status, text = refusal(tmp_path, "--port", str(port), VIGIL_REQUESTS_PER_SECOND="0")  # ends after it has said where it is
    assert (status != 0, f"http://127.0.0.1:{port}/v1/docs" in text, "/login/link" in text) == (True, True, False)
