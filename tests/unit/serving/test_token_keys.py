"""Signing keys from a file and a URL: which are used and for how long, rotation, outages and untrusted keys."""

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

from tests.support.tokens import (
    CANARY,
    JSON,
    SECOND,
    Signer,
    base64url,
    claims,
    create_verifier,
    encode_compact,
    refusal_rule,
    write_jwks,
)
from vigil.serving.auth.jwks import ALGORITHMS, KeysUnavailableError

# Keys in a file


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_jwks_with_a_private_key_is_refused(tmp_path, signers, algorithm):
    signer = signers[algorithm]
    for jwk in (signer.jwk() | signer.private_jwk(), signer.jwk(d="x"), signer.jwk(d=None), signer.jwk(use="enc", d="x")):
        path = write_jwks(tmp_path / "jwks.json", Signer("ES256", "other").jwk(), jwk)
        with pytest.raises(
            KeysUnavailableError, match=r"jwks\.json: holds a symmetric \(oct\) or private key; expected public"
        ):
            create_verifier(path)


@pytest.mark.parametrize(
    "jwk", [{"kty": "oct", "k": base64url(CANARY.encode()), "alg": "HS256"}, {"kty": "oct"}, {"kty": "EC", "k": CANARY}]
)
def test_jwks_with_a_symmetric_key_is_refused(tmp_path, signer, jwk):
    path = write_jwks(tmp_path / "jwks.json", signer.jwk(), jwk)
    with pytest.raises(KeysUnavailableError, match=r"jwks\.json: holds a symmetric \(oct\) or private key") as caught:
        create_verifier(path)
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
def test_jwks_file_with_other_content_is_refused(tmp_path, text):
    path = tmp_path / "jwks.json"
    path.write_text(text)
    with pytest.raises(KeysUnavailableError, match=r'jwks\.json: expected a JWKS, {"keys": \[\.\.\.\]}'):
        create_verifier(path)


def test_jwks_file_that_is_missing_is_refused(tmp_path):
    for path in (tmp_path / "nowhere.json", tmp_path):
        with pytest.raises(KeysUnavailableError, match="cannot be read"):
            create_verifier(path)


def test_jwks_keys_for_other_purposes_are_ignored(tmp_path, signers):
    es256, rs256 = signers["ES256"], signers["RS256"]
    p384 = jwt.algorithms.ECAlgorithm.to_jwk(ec.generate_private_key(ec.SECP384R1()).public_key(), as_dict=True)
    p521 = jwt.algorithms.ECAlgorithm.to_jwk(ec.generate_private_key(ec.SECP521R1()).public_key(), as_dict=True)
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
        p521 | {"alg": "ES512"},
        p521,
        ed448_key | {"alg": "EdDSA"},
        ed448_key | {"alg": "Ed448"},
        ed448_key | {"alg": "Ed25519"},
        signers["EdDSA"].jwk(alg="Ed448"),
        {"kty": "new"},
        {"kty": []},
        {},
    ]
    tokens = create_verifier(write_jwks(tmp_path / "jwks.json", *others, es256.jwk(key_ops=["verify"])))
    tokens.verify(es256.sign({"kid": None}))
    for other in others:
        with pytest.raises(KeysUnavailableError, match="no key for RS256, PS256, ES256, EdDSA, Ed25519"):
            create_verifier(write_jwks(tmp_path / "jwks.json", other))


@pytest.mark.parametrize(
    "changes", [{"x": "AAAA"}, {"x": 1}, {"x": None}, {"y": ""}, {"x": "é"}, {"kid": 1}, {"kid": ["a"]}, {"kid": {}}]
)
def test_jwks_with_a_malformed_key_is_refused(tmp_path, signer, changes):
    with pytest.raises(KeysUnavailableError, match=r"jwks\.json: bad key for ES256; expected the form of RFC 7517"):
        create_verifier(write_jwks(tmp_path / "jwks.json", signer.jwk(**changes)))


@given(
    st.sampled_from(ALGORITHMS), st.dictionaries(st.sampled_from(["kty", "crv", "x", "y", "n", "e", "alg", "use", "kid"]), JSON)
)
def test_jwks_with_any_key_is_used_or_refused(tmp_path_factory, signers, algorithm, changes):
    path = tmp_path_factory.getbasetemp() / "any.json"
    path.write_text(json.dumps({"keys": [signers[algorithm].jwk() | changes]}))
    try:
        create_verifier(path)
    except KeysUnavailableError as error:
        assert str(error).startswith(str(path))  # noqa: PT017 - most of them are refused, not all


def test_jwks_with_a_short_rsa_key_is_refused(tmp_path):
    key = rsa.generate_private_key(65537, 1024)
    jwk = jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
    with pytest.raises(KeysUnavailableError, match="RSA keys of at least 2048 bits"):
        create_verifier(write_jwks(tmp_path / "jwks.json", jwk))


@pytest.mark.parametrize("kids", [("a", "a"), (None, "a"), (None, None)])
def test_jwks_needs_a_different_kid_for_each_key(tmp_path, kids):
    jwks = [Signer("ES256", kid).jwk() for kid in kids]
    with pytest.raises(KeysUnavailableError, match=r"jwks\.json: kid missing or not unique"):
        create_verifier(write_jwks(tmp_path / "jwks.json", *jwks))


def test_jwks_file_rotation_is_noticed(tokens, jwks, signer):
    new = Signer("ES256", "new-key")
    old_token, new_token = signer.sign(), new.sign()
    tokens.verify(old_token)
    assert refusal_rule(tokens, new_token) == "unknown_key"
    write_jwks(jwks, signer.jwk(), new.jwk())
    assert tokens.verify(old_token) == tokens.verify(new_token)
    write_jwks(jwks, new.jwk())
    tokens.verify(new_token)
    assert refusal_rule(tokens, old_token) == "unknown_key"


def test_jwks_file_rotation_under_the_same_kid_is_noticed(tokens, jwks, signer):
    token = signer.sign()
    tokens.verify(token)
    write_jwks(jwks, Signer("ES256", signer.kid).jwk())
    assert refusal_rule(tokens, token) == "signature"


def test_jwks_file_written_in_place_is_noticed(tokens, jwks, signer, signers):
    token = signer.sign()
    tokens.verify(token)
    before = jwks.stat()
    keys = [Signer("ES256", signer.kid) if each is signer else each for each in signers.values()]
    jwks.write_text(json.dumps({"keys": [key.jwk() for key in keys]}))
    os.utime(jwks, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    assert (jwks.stat().st_ino, jwks.stat().st_size) == (before.st_ino, before.st_size)
    assert refusal_rule(tokens, token) == "signature"


def test_jwks_file_that_becomes_unusable_makes_keys_unavailable(tokens, jwks, signer):
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


def test_require_keys_fails_without_a_usable_jwks_file(tokens, jwks, signer):
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
    """An issuer's site on this machine. It publishes ``keys``, or ``answer`` if that is set; ``requests`` counts requests."""
    site = SimpleNamespace(keys=[], answer=None, requests=Counter(), answered=0, open=threading.Event())
    site.open.set()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            site.requests[self.path] += 1
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


def test_jwks_url_is_fetched_when_first_needed(site, signer, clock):
    site.keys = [signer.jwk()]
    tokens = create_verifier(site.url, clock)
    assert not site.requests
    assert refusal_rule(tokens, "") == "missing"
    assert not site.requests
    for _ in range(3):
        tokens.verify(signer.sign())
    assert site.requests == {"/jwks": 1}


def test_require_keys_fails_until_the_issuer_answers(site, signer, clock):
    site.answer = (503, b"")
    tokens = create_verifier(site.url, clock)
    for _ in range(3):
        with pytest.raises(KeysUnavailableError, match="cannot be fetched"):
            tokens.require_keys()
    site.keys, site.answer = [signer.jwk()], None
    clock.advance(10)
    for _ in range(3):
        tokens.require_keys()
    tokens.verify(signer.sign())
    assert site.requests["/jwks"] == 2
    site.answer = (503, b"")
    clock.advance(3600)
    tokens.require_keys()
    clock.advance(10)
    with pytest.raises(KeysUnavailableError, match="cannot be fetched"):
        tokens.require_keys()


def test_jwks_url_is_fetched_for_an_unknown_kid_every_10_seconds_at_most(site, signer, clock):
    new = Signer("ES256", "new-key")
    site.keys = [signer.jwk()]
    tokens = create_verifier(site.url, clock)
    tokens.verify(signer.sign())
    site.keys = [signer.jwk(), new.jwk()]
    for _ in range(20):
        assert refusal_rule(tokens, new.sign()) == "unknown_key"
    assert site.requests["/jwks"] == 1
    clock.advance(10)
    tokens.verify(new.sign())
    for number in range(20):
        assert refusal_rule(tokens, signer.sign({"kid": f"made-up-{number}"})) == "unknown_key"
    assert site.requests["/jwks"] == 2


def test_jwks_url_refresh_ends_the_use_of_a_withdrawn_key(site, signer, clock):
    new = Signer("ES256", "new-key")
    site.keys = [signer.jwk(), new.jwk()]
    tokens = create_verifier(site.url, clock)
    token = signer.sign()
    tokens.verify(token)
    site.keys = [new.jwk()]
    clock.advance(300)
    assert refusal_rule(tokens, token) == "unknown_key"
    tokens.verify(new.sign())


def test_jwks_url_is_fetched_once_for_many_threads(site, signer, clock):
    site.keys = [signer.jwk()]
    tokens = create_verifier(site.url, clock)
    with ThreadPoolExecutor(8) as pool:
        callers = list(pool.map(tokens.verify, [signer.sign() for _ in range(64)]))
    assert {caller.sub for caller in callers} == {"ward-monitor"}
    assert site.requests["/jwks"] == 1


def test_jwks_url_keys_last_an_hour_in_an_outage_of_the_issuer(site, signer, clock, caplog):
    site.keys = [signer.jwk()]
    tokens = create_verifier(site.url, clock)
    token = signer.sign(exp=SECOND + 20_000)
    tokens.verify(token)
    site.answer = (500, CANARY.encode())
    clock.advance(3600)
    with caplog.at_level(logging.WARNING):
        tokens.verify(token)
    assert "/jwks: cannot be fetched (HTTPError)" in caplog.text
    assert CANARY not in caplog.text
    clock.advance(1)
    with pytest.raises(KeysUnavailableError, match=r"/jwks: cannot be fetched \(HTTPError\)"):
        tokens.verify(token)
    site.answer = None
    clock.advance(10)
    tokens.verify(token)


def test_jwks_url_makes_all_threads_wait_for_keys_older_than_an_hour(site, signer, clock):
    site.keys = [signer.jwk()]
    tokens = create_verifier(site.url, clock)
    token = signer.sign(exp=SECOND + 20_000)
    tokens.verify(token)
    clock.advance(10_000)
    with ThreadPoolExecutor(8) as pool:
        assert len(list(pool.map(tokens.verify, [token] * 64))) == 64
    assert site.requests["/jwks"] == 2


def test_jwks_url_refresh_does_not_block_other_threads(site, signer, clock):
    site.keys = [signer.jwk()]
    tokens = create_verifier(site.url, clock)
    token = signer.sign()
    tokens.verify(token)
    clock.advance(300)
    site.open.clear()
    with ThreadPoolExecutor(1) as pool:
        refreshing = pool.submit(tokens.verify, token)
        while site.requests["/jwks"] < 2:
            time.sleep(0.001)
        tokens.verify(token)
        assert site.answered == 1
        site.open.set()
        assert refreshing.result().sub == "ward-monitor"
    assert site.requests["/jwks"] == 2


def test_jwks_url_is_not_fetched_for_a_token_of_another_algorithm(site, signer, clock):
    site.keys = [signer.jwk()]
    tokens = create_verifier(site.url, clock)
    tokens.verify(signer.sign())
    clock.advance(10)
    assert refusal_rule(tokens, encode_compact({"alg": "HS256", "kid": "made-up"}, claims(), lambda _: b"x")) == "algorithm"
    assert site.requests["/jwks"] == 1


def test_jwks_url_of_plain_http_uses_no_proxy(site, signer, clock, monkeypatch):
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    site.keys = [signer.jwk()]
    create_verifier(site.url, clock).verify(signer.sign())


def test_jwks_url_is_fetched_again_after_a_clock_is_set_back(site, signer, clock):
    site.keys = [signer.jwk()]
    tokens = create_verifier(site.url, clock)
    tokens.verify(signer.sign())
    clock.advance(-50_000)
    site.keys = [Signer("ES256", "new-key").jwk()]
    assert refusal_rule(tokens, signer.sign(iat=SECOND - 50_000, exp=SECOND - 40_000)) == "unknown_key"


def test_jwks_url_of_a_failing_issuer_is_not_fetched_again_at_once(site, signer, clock):
    site.answer = (404, b"")
    tokens = create_verifier(site.url, clock)
    for _ in range(3):
        with pytest.raises(KeysUnavailableError, match="cannot be fetched"):
            tokens.verify(signer.sign())
    assert site.requests["/jwks"] == 1


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ((302, b""), "cannot be fetched"),
        ((200, b"<html>"), "expected a JWKS"),
        ((200, b" " * 300_000), "expected a JWKS"),
        ((200, b'{"keys": [{"kty": "oct", "k": "AAAA"}]}'), "symmetric"),
    ],
)
def test_jwks_url_with_an_unusable_answer_makes_keys_unavailable(site, signer, clock, answer, message):
    site.keys = [signer.jwk()]
    tokens = create_verifier(site.url, clock)
    site.answer = answer
    for _ in range(2):
        with pytest.raises(KeysUnavailableError, match=f"{site.url}: .*{message}"):
            tokens.verify(signer.sign())
    assert site.requests == {"/jwks": 1}


def test_jwks_url_that_publishes_a_secret_key_makes_keys_unavailable(site, signer, clock):
    site.keys = [signer.jwk()]
    tokens = create_verifier(site.url, clock)
    tokens.verify(signer.sign())
    site.keys = [signer.jwk(), {"kty": "oct", "k": "AAAA"}]
    clock.advance(300)
    for _ in range(2):
        with pytest.raises(KeysUnavailableError, match="symmetric"):
            tokens.verify(signer.sign())


@pytest.mark.parametrize("port", [9, 0, 99999, 10**30])
def test_jwks_url_without_a_server_makes_keys_unavailable(signer, clock, port):
    with pytest.raises(KeysUnavailableError, match=rf"http://127\.0\.0\.1:{port}/jwks: cannot be fetched"):
        create_verifier(f"http://127.0.0.1:{port}/jwks", clock).verify(signer.sign())


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
def test_jwks_url_that_is_not_safe_is_refused(url):
    with pytest.raises(KeysUnavailableError, match="jwks: expected an https URL") as caught:
        create_verifier(url)
    assert CANARY not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["https://issuer.example/jwks?v=@1", "https://x:8443", "http://localhost:1/jwks", "http://[::1]:1/"]
)
def test_jwks_url_that_is_safe_is_accepted(url):
    create_verifier(url)
