"""Which keys are used, from a file and behind a URL, and how long: rotation, outages, and what must not be trusted."""

import json
import logging
import os
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448, rsa
from hypothesis import given
from hypothesis import strategies as st

from serving.auth.jwks import ALGORITHMS, KeysUnavailableError
from tests.serving.tokens import CANARY, JSON, SECOND, Signer, at, base64url, claims, compact, refused, write_jwks

# Keys in a file


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_private_keys_are_refused(tmp_path, signers, algorithm):
    signer = signers[algorithm]
    for jwk in (signer.jwk() | signer.private_jwk(), signer.jwk(d="x"), signer.jwk(d=None), signer.jwk(use="enc", d="x")):
        path = write_jwks(tmp_path / "jwks.json", Signer("ES256", "other").jwk(), jwk)
        with pytest.raises(
            KeysUnavailableError, match=r"jwks\.json: holds a symmetric \(oct\) or private key; expected public"
        ):
            at(path)


@pytest.mark.parametrize(
    "jwk", [{"kty": "oct", "k": base64url(CANARY.encode()), "alg": "HS256"}, {"kty": "oct"}, {"kty": "EC", "k": CANARY}]
)
def test_shared_secrets_are_refused(tmp_path, signer, jwk):
    path = write_jwks(tmp_path / "jwks.json", signer.jwk(), jwk)
    with pytest.raises(KeysUnavailableError, match=r"jwks\.json: holds a symmetric \(oct\) or private key") as caught:
        at(path)
    assert jwk.get("k", CANARY) not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[]",
        "null",
        '"keys"',
        '{"keys": null}',
        '{"keys": {}}',
        '{"keys": ["x"]}',
        '{"keys": [[]]}',
        "[" * 100_000,
        "-----BEGIN PUBLIC KEY-----",
        '{"keys": []}' + " " * 300_000,
    ],
)
def test_a_file_that_is_no_jwks(tmp_path, text):
    path = tmp_path / "jwks.json"
    path.write_text(text)
    with pytest.raises(KeysUnavailableError, match=r'jwks\.json: expected a JWKS, {"keys": \[\.\.\.\]}'):
        at(path)


def test_a_file_that_is_not_there(tmp_path):
    for path in (tmp_path / "nowhere.json", tmp_path):
        with pytest.raises(KeysUnavailableError, match="cannot be read"):
            at(path)


def test_keys_for_other_purposes_are_passed_over(tmp_path, signers):
    es256, rs256 = signers["ES256"], signers["RS256"]
    p384 = jwt.algorithms.ECAlgorithm.to_jwk(ec.generate_private_key(ec.SECP384R1()).public_key(), as_dict=True)
    ed448_key = jwt.algorithms.OKPAlgorithm.to_jwk(ed448.Ed448PrivateKey.generate().public_key(), as_dict=True)
    others = [
        rs256.jwk(use="enc", alg="RSA-OAEP"),
        rs256.jwk(use="enc"),
        rs256.jwk(alg="RS512"),
        rs256.jwk(alg="HS256"),
        rs256.jwk(alg="none"),
        rs256.jwk(alg=[]),
        rs256.jwk(key_ops=["wrapKey"]),
        rs256.jwk(key_ops="verify"),
        es256.jwk(alg="RS256"),
        p384,
        p384 | {"alg": "ES256"},
        ed448_key | {"alg": "EdDSA"},
        {"kty": "new"},
        {"kty": []},
        {},
    ]
    tokens = at(write_jwks(tmp_path / "jwks.json", *others, es256.jwk(key_ops=["verify"])))
    tokens.verify(es256.sign({"kid": None}))
    for other in others:
        with pytest.raises(KeysUnavailableError, match="no key for RS256, PS256, ES256, EdDSA"):
            at(write_jwks(tmp_path / "jwks.json", other))


@pytest.mark.parametrize(
    "changes", [{"x": "AAAA"}, {"x": 1}, {"x": None}, {"y": ""}, {"x": "é"}, {"kid": 1}, {"kid": ["a"]}, {"kid": {}}]
)
def test_a_key_that_is_not_well_formed(tmp_path, signer, changes):
    with pytest.raises(KeysUnavailableError, match=r"jwks\.json: bad key for ES256; expected the form of RFC 7517"):
        at(write_jwks(tmp_path / "jwks.json", signer.jwk(**changes)))


@given(
    st.sampled_from(ALGORITHMS), st.dictionaries(st.sampled_from(["kty", "crv", "x", "y", "n", "e", "alg", "use", "kid"]), JSON)
)
def test_any_jwk_is_used_or_refused(tmp_path_factory, signers, algorithm, changes):
    path = tmp_path_factory.getbasetemp() / "any.json"
    path.write_text(json.dumps({"keys": [signers[algorithm].jwk() | changes]}))
    try:
        at(path)
    except KeysUnavailableError as error:
        assert str(error).startswith(str(path))  # noqa: PT017 - most of them are, not all


def test_a_short_rsa_key(tmp_path):
    key = rsa.generate_private_key(65537, 1024)
    jwk = jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
    with pytest.raises(KeysUnavailableError, match="RSA keys from 2048 bits on"):
        at(write_jwks(tmp_path / "jwks.json", jwk))


@pytest.mark.parametrize("kids", [("a", "a"), (None, "a"), (None, None)])
def test_each_of_several_keys_has_a_name(tmp_path, kids):
    jwks = [Signer("ES256", kid).jwk() for kid in kids]
    with pytest.raises(KeysUnavailableError, match=r"jwks\.json: kid missing or not unique"):
        at(write_jwks(tmp_path / "jwks.json", *jwks))


def test_rotation_of_the_file(tokens, jwks, signer):
    new = Signer("ES256", "new-key")
    old_token, new_token = signer.sign(), new.sign()
    tokens.verify(old_token)
    assert refused(tokens, new_token) == "unknown_key"
    write_jwks(jwks, signer.jwk(), new.jwk())
    assert tokens.verify(old_token) == tokens.verify(new_token)
    write_jwks(jwks, new.jwk())
    tokens.verify(new_token)
    assert refused(tokens, old_token) == "unknown_key"


def test_rotation_under_the_same_kid(tokens, jwks, signer):
    token = signer.sign()
    tokens.verify(token)
    write_jwks(jwks, Signer("ES256", signer.kid).jwk())
    assert refused(tokens, token) == "signature"


def test_a_file_written_in_place(tokens, jwks, signer, signers):
    token = signer.sign()
    tokens.verify(token)
    before = jwks.stat()
    keys = [Signer("ES256", signer.kid) if each is signer else each for each in signers.values()]
    jwks.write_text(json.dumps({"keys": [key.jwk() for key in keys]}))
    os.utime(jwks, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    assert (jwks.stat().st_ino, jwks.stat().st_size) == (before.st_ino, before.st_size)
    assert refused(tokens, token) == "signature"


def test_a_file_that_became_unusable_stops_all(tokens, jwks, signer):
    token = signer.sign()
    tokens.verify(token)
    write_jwks(jwks, {"kty": "oct", "k": "secret"})
    for _ in range(2):
        with pytest.raises(KeysUnavailableError, match="symmetric"):
            tokens.verify(token)
    jwks.unlink()
    with pytest.raises(KeysUnavailableError, match=r"jwks\.json: cannot be read \(FileNotFoundError\)"):
        tokens.verify(token)
    write_jwks(jwks, signer.jwk())
    tokens.verify(token)


def test_without_a_usable_file_the_server_is_not_ready(tokens, jwks, signer):
    tokens.require_keys()
    write_jwks(jwks, {"kty": "oct", "k": "secret"})
    with pytest.raises(KeysUnavailableError, match="symmetric"):
        tokens.require_keys()
    jwks.unlink()
    with pytest.raises(KeysUnavailableError, match="cannot be read"):
        tokens.require_keys()
    write_jwks(jwks, signer.jwk())
    tokens.require_keys()


# Keys behind a URL


@pytest.fixture
def site():
    """An issuer's site on this machine: ``keys`` are published, ``answer`` takes their place, ``asked`` counts requests."""
    site = SimpleNamespace(keys=[], answer=None, asked=Counter(), answered=0, open=threading.Event())
    site.open.set()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            site.asked[self.path] += 1
            site.open.wait(2)
            site.answered += 1
            status, body = site.answer or (200, json.dumps({"keys": site.keys}).encode())
            self.send_response(status)
            if status == 302:
                self.send_header("Location", "/elsewhere")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    site.url = f"http://127.0.0.1:{server.server_port}/jwks"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield site
    server.shutdown()
    thread.join()
    server.server_close()


def test_keys_are_fetched_when_first_needed(site, signer, clock):
    site.keys = [signer.jwk()]
    tokens = at(site.url, clock)
    assert not site.asked
    assert refused(tokens, "") == "missing"
    assert not site.asked
    for _ in range(3):
        tokens.verify(signer.sign())
    assert site.asked == {"/jwks": 1}


def test_the_server_is_ready_once_the_issuer_has_answered(site, signer, clock):
    site.answer = (503, b"")
    tokens = at(site.url, clock)
    for _ in range(3):
        with pytest.raises(KeysUnavailableError, match="cannot be fetched"):
            tokens.require_keys()
    site.keys, site.answer = [signer.jwk()], None
    clock.pass_(10)
    for _ in range(3):
        tokens.require_keys()
    tokens.verify(signer.sign())
    assert site.asked["/jwks"] == 2
    site.answer = (503, b"")
    clock.pass_(3600)
    tokens.require_keys()
    clock.pass_(10)
    with pytest.raises(KeysUnavailableError, match="cannot be fetched"):
        tokens.require_keys()


def test_a_new_kid_is_asked_for_but_not_often(site, signer, clock):
    new = Signer("ES256", "new-key")
    site.keys = [signer.jwk()]
    tokens = at(site.url, clock)
    tokens.verify(signer.sign())
    site.keys = [signer.jwk(), new.jwk()]
    for _ in range(20):
        assert refused(tokens, new.sign()) == "unknown_key"
    assert site.asked["/jwks"] == 1
    clock.pass_(10)
    tokens.verify(new.sign())
    for number in range(20):
        assert refused(tokens, signer.sign({"kid": f"made-up-{number}"})) == "unknown_key"
    assert site.asked["/jwks"] == 2


def test_a_withdrawn_key_stops_working(site, signer, clock):
    new = Signer("ES256", "new-key")
    site.keys = [signer.jwk(), new.jwk()]
    tokens = at(site.url, clock)
    token = signer.sign()
    tokens.verify(token)
    site.keys = [new.jwk()]
    clock.pass_(300)
    assert refused(tokens, token) == "unknown_key"
    tokens.verify(new.sign())


def test_threads_ask_once(site, signer, clock):
    site.keys = [signer.jwk()]
    tokens = at(site.url, clock)
    with ThreadPoolExecutor(8) as pool:
        callers = list(pool.map(tokens.verify, [signer.sign() for _ in range(64)]))
    assert {caller.subject for caller in callers} == {"ward-monitor"}
    assert site.asked["/jwks"] == 1


def test_patients_are_watched_on_while_the_issuer_is_away(site, signer, clock, caplog):
    site.keys = [signer.jwk()]
    tokens = at(site.url, clock)
    token = signer.sign(exp=SECOND + 20_000)
    tokens.verify(token)
    site.answer = (500, CANARY.encode())
    clock.pass_(3600)
    with caplog.at_level(logging.WARNING):
        tokens.verify(token)
    assert "/jwks: cannot be fetched (HTTPError)" in caplog.text
    assert CANARY not in caplog.text
    clock.pass_(1)
    with pytest.raises(KeysUnavailableError, match=r"/jwks: cannot be fetched \(HTTPError\)"):
        tokens.verify(token)
    site.answer = None
    clock.pass_(10)
    tokens.verify(token)


def test_after_a_quiet_time_all_wait_for_the_keys(site, signer, clock):
    site.keys = [signer.jwk()]
    tokens = at(site.url, clock)
    token = signer.sign(exp=SECOND + 20_000)
    tokens.verify(token)
    clock.pass_(10_000)
    with ThreadPoolExecutor(8) as pool:
        assert len(list(pool.map(tokens.verify, [token] * 64))) == 64
    assert site.asked["/jwks"] == 2


def test_a_refresh_keeps_nobody_waiting(site, signer, clock):
    site.keys = [signer.jwk()]
    tokens = at(site.url, clock)
    token = signer.sign()
    tokens.verify(token)
    clock.pass_(300)
    site.open.clear()
    with ThreadPoolExecutor(1) as pool:
        refreshing = pool.submit(tokens.verify, token)
        while site.asked["/jwks"] < 2:
            time.sleep(0.001)
        tokens.verify(token)
        assert site.answered == 1
        site.open.set()
        assert refreshing.result().subject == "ward-monitor"
    assert site.asked["/jwks"] == 2


def test_what_can_be_refused_without_keys_asks_for_none(site, signer, clock):
    site.keys = [signer.jwk()]
    tokens = at(site.url, clock)
    tokens.verify(signer.sign())
    clock.pass_(10)
    assert refused(tokens, compact({"alg": "HS256", "kid": "made-up"}, claims(), lambda _: b"x")) == "algorithm"
    assert site.asked["/jwks"] == 1


def test_plain_http_takes_no_proxy(site, signer, clock, monkeypatch):
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    site.keys = [signer.jwk()]
    at(site.url, clock).verify(signer.sign())


def test_a_clock_that_is_set_back(site, signer, clock):
    site.keys = [signer.jwk()]
    tokens = at(site.url, clock)
    tokens.verify(signer.sign())
    clock.pass_(-50_000)
    site.keys = [Signer("ES256", "new-key").jwk()]
    assert refused(tokens, signer.sign(iat=SECOND - 50_000, exp=SECOND - 40_000)) == "unknown_key"


def test_an_issuer_that_never_answered_is_spared(site, signer, clock):
    site.answer = (404, b"")
    tokens = at(site.url, clock)
    for _ in range(3):
        with pytest.raises(KeysUnavailableError, match="cannot be fetched"):
            tokens.verify(signer.sign())
    assert site.asked["/jwks"] == 1


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((302, b""), "cannot be fetched"),
        ((200, b"<html>"), "expected a JWKS"),
        ((200, b" " * 300_000), "expected a JWKS"),
        ((200, b'{"keys": [{"kty": "oct", "k": "AAAA"}]}'), "symmetric"),
    ],
)
def test_answers_that_will_not_do(site, signer, clock, answer, said):
    site.keys = [signer.jwk()]
    tokens = at(site.url, clock)
    site.answer = answer
    for _ in range(2):
        with pytest.raises(KeysUnavailableError, match=f"{site.url}: .*{said}"):
            tokens.verify(signer.sign())
    assert site.asked == {"/jwks": 1}


def test_secret_keys_stop_all_at_once(site, signer, clock):
    site.keys = [signer.jwk()]
    tokens = at(site.url, clock)
    tokens.verify(signer.sign())
    site.keys = [signer.jwk(), {"kty": "oct", "k": "AAAA"}]
    clock.pass_(300)
    for _ in range(2):
        with pytest.raises(KeysUnavailableError, match="symmetric"):
            tokens.verify(signer.sign())


@pytest.mark.parametrize("port", [9, 0, 99999, 10**30])
def test_nobody_answers(signer, clock, port):
    with pytest.raises(KeysUnavailableError, match=rf"http://127\.0\.0\.1:{port}/jwks: cannot be fetched"):
        at(f"http://127.0.0.1:{port}/jwks", clock).verify(signer.sign())


@pytest.mark.parametrize(
    "url",
    [
        "http://issuer.example/jwks",
        "http://127.0.0.1.issuer.example/jwks",
        "http://localhost@issuer.example/jwks",
        f"https://user:{CANARY}@issuer.example/jwks",
        "ftp://issuer.example/jwks",
        "file:///etc/passwd",
        "https://[::1/jwks",
        "https://issuer.example\\@elsewhere.example/jwks",
        "https://issuer.example:x/jwks",
        "https://issuer.example/jwks two",
        "https://issuer.example/é",
        "https:///jwks",
        "https://",
        "data://x",
        "://x",
    ],
)
def test_urls_that_are_not_safe(url):
    with pytest.raises(KeysUnavailableError, match="jwks: expected an https URL") as caught:
        at(url)
    assert CANARY not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["https://issuer.example/jwks?v=@1", "https://x:8443", "http://localhost:1/jwks", "http://[::1]:1/"]
)
def test_urls_that_are(url):
    at(url)
