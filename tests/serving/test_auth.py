"""Who is let in, and above all who is not. Forged tokens are built by hand where the library would refuse to make them."""

import base64
import hashlib
import hmac
import json
import logging
import os
import stat
import threading
import time
import traceback
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from hypothesis import given
from hypothesis import strategies as st

from features.errors import VigilError
from serving.auth import (
    ALGORITHMS,
    JWKS_FILE,
    KEY_FILE,
    LEEWAY_SECONDS,
    MAX_LIFETIME,
    MAX_TOKEN_BYTES,
    REQUIRED,
    RULES,
    SCOPES,
    Caller,
    KeysUnavailableError,
    Tokens,
    UnauthorizedError,
    make_keys,
    mint,
)

ISSUER = "https://issuer.example/"
AUDIENCE = "vigil"
FAMILIES = {
    "RS256": jwt.algorithms.RSAAlgorithm,
    "PS256": jwt.algorithms.RSAAlgorithm,
    "ES256": jwt.algorithms.ECAlgorithm,
    "EdDSA": jwt.algorithms.OKPAlgorithm,
}
NOW = datetime(2026, 2, 1, 12, tzinfo=UTC)
CANARY = "canary-7f3a"  # marks what stands in a token and must not be said again


class Clock:
    """A clock that a test sets."""

    def __init__(self):
        self.time = NOW

    def __call__(self):
        return self.time

    def pass_(self, seconds):
        self.time += timedelta(seconds=seconds)


class Signer:
    """An issuer's key: signs tokens, and is published as a JWK."""

    def __init__(self, algorithm, kid):
        self.algorithm, self.kid = algorithm, kid
        if algorithm in {"RS256", "PS256"}:
            self.key = rsa.generate_private_key(65537, 2048)
        elif algorithm == "ES256":
            self.key = ec.generate_private_key(ec.SECP256R1())
        else:
            self.key = ed25519.Ed25519PrivateKey.generate()

    def jwk(self, **changes):
        public = FAMILIES[self.algorithm].to_jwk(self.key.public_key(), as_dict=True)
        return {**public, "kid": self.kid, "alg": self.algorithm, "use": "sig", **changes}

    def private_jwk(self):
        return FAMILIES[self.algorithm].to_jwk(self.key, as_dict=True)

    def sign(self, header=(), **changes):
        header = {"kid": self.kid, **dict(header)}
        return jwt.encode(claims(**changes), self.key, self.algorithm, {k: v for k, v in header.items() if v is not None})

    def pem(self):
        return self.key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def claims(**changes):
    """Sound claims with changes; None takes a claim away."""
    issued = int(NOW.timestamp())
    sound = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "ward-monitor",
        "iat": issued,
        "exp": issued + 3600,
        "scope": "risk:read ward:read",
        "wards": ["icu-1", "icu-2"],
    }
    return {name: value for name, value in (sound | changes).items() if value is not None}


def base64url(content):
    text = content if isinstance(content, bytes) else json.dumps(content).encode()
    return base64.urlsafe_b64encode(text).rstrip(b"=").decode()


def compact(header, payload, sign):
    """A token as anybody can write one."""
    text = f"{base64url(header)}.{base64url(payload)}"
    return f"{text}.{base64url(sign(text.encode()))}"


def write_jwks(path, *jwks):
    """As rotation does it: a new file takes the old one's place."""
    new = path.with_suffix(".new")
    new.write_text(json.dumps({"keys": jwks}))
    new.replace(path)
    return path


@pytest.fixture(scope="module")
def signers():
    return {algorithm: Signer(algorithm, f"{algorithm}-key") for algorithm in ALGORITHMS}


@pytest.fixture(scope="module")
def signer(signers):
    return signers["ES256"]


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def jwks(tmp_path, signers):
    return write_jwks(tmp_path / "jwks.json", *(signer.jwk() for signer in signers.values()))


@pytest.fixture
def tokens(jwks, clock):
    return Tokens(issuer=ISSUER, audience=AUDIENCE, jwks=jwks, clock=clock)


@pytest.fixture(scope="module")
def steady(tmp_path_factory, signers):
    """Tokens whose clock stands still, for generated examples."""
    path = write_jwks(tmp_path_factory.mktemp("keys") / "jwks.json", *(signer.jwk() for signer in signers.values()))
    return Tokens(issuer=ISSUER, audience=AUDIENCE, jwks=path, clock=Clock())


def refused(tokens, token):
    """The rule by which a token is refused; whatever is said of it holds nothing of it."""
    with pytest.raises(UnauthorizedError) as caught:
        tokens.verify(token)
    error = caught.value
    said = "".join(traceback.format_exception(error)) + repr(error) + repr(error.__dict__)
    assert CANARY not in said
    assert not [part for part in (token or "").split(".") if len(part) > 16 and part[:16] in said]
    assert error.rule in RULES
    assert str(error) == f"token: {error.rule}: {RULES[error.rule]}"
    return error.rule


# Who is let in


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_sound_token_becomes_its_caller(tokens, signers, algorithm):
    caller = tokens.verify(signers[algorithm].sign())
    assert caller == Caller("ward-monitor", frozenset({"risk:read", "ward:read"}), frozenset({"icu-1", "icu-2"}))
    assert caller.may("risk:read")
    assert not caller.may("alarms:write")
    assert caller.may_see("icu-1")
    assert not caller.may_see("icu-3")


def test_a_verified_token_is_known_again(tokens, signer):
    token = signer.sign()
    assert tokens.verify(token) is tokens.verify(token)


def test_of_what_was_verified_the_least_used_is_forgotten(tokens, signer, monkeypatch):
    monkeypatch.setattr("serving.auth._VERIFIED_KEPT", 2)
    a, b, c = [signer.sign(sub=name) for name in "abc"]
    caller_a, caller_b = tokens.verify(a), tokens.verify(b)
    tokens.verify(a)
    tokens.verify(c)
    assert tokens.verify(a) is caller_a
    assert tokens.verify(b) == caller_b
    assert tokens.verify(b) is not caller_b
    assert len(tokens._verified) == 2
    assert all(isinstance(digest, bytes) and len(digest) == 32 for digest in tokens._verified)


def test_an_audience_among_others_will_do(tokens, signer):
    assert tokens.verify(signer.sign(aud=["elsewhere", AUDIENCE])).subject == "ward-monitor"


def test_without_wards_all_are_seen(tokens, signer):
    caller = tokens.verify(signer.sign(wards=None))
    assert caller.wards is None
    assert caller.may_see("any")


def test_a_ward_has_no_wildcard(tokens, signer):
    assert not tokens.verify(signer.sign(wards=["*"])).may_see("icu-1")


@pytest.mark.parametrize(
    ("changes", "scopes"),
    [
        ({"scope": None}, set()),
        ({"scope": ""}, set()),
        ({"scope": "openid profile risk:read RISK:READ risk:*"}, {"risk:read"}),
        ({"scope": "risk:read,ward:read"}, set()),
        ({"scope": "risk:read\tward:read"}, set()),
        ({"scope": None, "scp": "risk:read"}, set()),
        ({"scope": None, "scp": ["risk:read"]}, set()),
        ({"scope": " ".join(SCOPES)}, set(SCOPES)),
    ],
)
def test_only_our_scopes_count(tokens, signer, changes, scopes):
    assert tokens.verify(signer.sign(**changes)).scopes == scopes


def test_the_clocks_may_differ_by_the_leeway(tokens, signer, clock):
    token = signer.sign(nbf=int(NOW.timestamp()))
    clock.pass_(-LEEWAY_SECONDS)
    tokens.verify(token)
    clock.pass_(LEEWAY_SECONDS + 3600 + LEEWAY_SECONDS - 1)
    tokens.verify(token)


# Who is not: the token


def test_no_token(tokens):
    assert refused(tokens, "") == refused(tokens, None) == "missing"


@pytest.mark.parametrize(
    "token",
    [
        CANARY,
        ".",
        "..",
        "...",
        "a.b.c",
        f"{CANARY}.{CANARY}.{CANARY}",
        "Bearer x.y.z",
        "\ud800.\ud800.\ud800",
        "é.é.é",
        "x" * 100,
        base64url([]) + "." + base64url({}) + "." + base64url({}),
        base64url(b"[" * 3000) + "." + base64url({}) + "." + base64url({}),
        base64url(b'{"alg": ' + b"9" * 5000 + b"}") + ".e30.e30",
        base64url({"alg": "ES256", "kid": None}) + ".e30.e30",
        base64url({"alg": "ES256", "kid": 1}) + ".e30.e30",
        base64url({"alg": "ES256", "kid": ["ES256-key"]}) + ".e30.e30",
    ],
)
def test_garbage(tokens, token):
    assert refused(tokens, token) == "malformed"


def test_a_token_must_be_spelled_without_padding_and_space(tokens, signer):
    token = signer.sign()
    tokens.verify(token)
    for other in (token + "==", token + "=", token + "\n", " " + token, token + ".", "." + token, token.replace(".", "=.")):
        assert refused(tokens, other) == "malformed"


def test_an_oversize_token_is_not_even_parsed(tokens, signer, monkeypatch):
    token = signer.sign(padding="x" * MAX_TOKEN_BYTES)
    monkeypatch.setattr(jwt, "get_unverified_header", lambda _: pytest.fail("parsed"))
    assert refused(tokens, token) == "malformed"


def test_a_token_as_large_as_allowed(tokens, signer):
    fill = (MAX_TOKEN_BYTES - len(signer.sign(padding=""))) * 3 // 4 - 3
    token = signer.sign(padding="x" * fill)
    assert MAX_TOKEN_BYTES - 8 < len(token) <= MAX_TOKEN_BYTES
    tokens.verify(token)


@pytest.mark.parametrize("crit", [["exp"], ["b64"], [CANARY], [], "exp", None, [1]])
def test_critical_headers_are_refused(tokens, signer, crit):
    header = {"alg": "ES256", "kid": signer.kid, "crit": crit, "exp": 1, "b64": True}
    sign = jwt.algorithms.ECAlgorithm(jwt.algorithms.ECAlgorithm.SHA256).sign
    assert refused(tokens, compact(header, claims(), lambda text: sign(text, signer.key))) == "malformed"


def test_a_detached_payload_is_refused(tokens, signer):
    token = jwt.PyJWS().encode(json.dumps(claims()).encode(), signer.key, "ES256", {"kid": signer.kid, "b64": False})
    assert refused(tokens, token) == "malformed"


@pytest.mark.parametrize(
    "algorithm", ["none", "None", "NONE", "", None, 1, [], ["ES256"], {}, "es256", "HS256", "RS512", "ES384"]
)
@pytest.mark.parametrize("signature", [b"", b"x" * 64])
def test_other_algorithms(tokens, signer, algorithm, signature):
    assert refused(tokens, compact({"alg": algorithm, "kid": signer.kid}, claims(), lambda _: signature)) == "algorithm"


def test_no_algorithm(tokens, signer):
    assert refused(tokens, compact({"kid": signer.kid}, claims(), lambda _: b"x" * 64)) == "algorithm"


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_public_key_is_no_shared_secret(tokens, jwks, signers, algorithm):
    signer = signers[algorithm]
    for secret in (signer.pem(), signer.pem().strip(), jwks.read_bytes(), json.dumps(signer.jwk()).encode(), b""):
        forged = compact(
            {"alg": "HS256", "kid": signer.kid}, claims(), lambda text, key=secret: hmac.digest(key, text, hashlib.sha256)
        )
        assert refused(tokens, forged) == "algorithm"
        header = {"alg": algorithm, "kid": signer.kid}  # or one that says it is what the key is for
        forged = compact(header, claims(), lambda text, key=secret: hmac.digest(key, text, hashlib.sha256))
        assert refused(tokens, forged) == "signature"


@pytest.mark.parametrize("said", ALGORITHMS)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_key_is_for_one_algorithm(tokens, signers, algorithm, said):
    if said == algorithm:
        return
    signer = signers[algorithm]
    signature = signer.sign().rpartition(".")[2]
    text = f"{base64url({'alg': said, 'kid': signer.kid})}.{base64url(claims())}"
    assert refused(tokens, f"{text}.{signature}") == "algorithm"
    if {algorithm, said} == {"RS256", "PS256"}:  # well signed, but not as the key is for
        forged = jwt.encode(claims(), signer.key, said, {"kid": signer.kid})
        assert refused(tokens, forged) == "algorithm"


def test_an_rsa_key_that_does_not_say_is_for_rs256(tmp_path, signers, clock):
    signer = signers["RS256"]
    jwk = signer.jwk()
    del jwk["alg"]
    tokens = Tokens(issuer=ISSUER, audience=AUDIENCE, jwks=write_jwks(tmp_path / "one.json", jwk), clock=clock)
    tokens.verify(signer.sign())
    assert refused(tokens, jwt.encode(claims(), signer.key, "PS256", {"kid": signer.kid})) == "algorithm"


def test_anothers_signature(tokens, signers):
    for algorithm, signer in signers.items():
        other = Signer(algorithm, signer.kid)
        assert refused(tokens, other.sign(sub=CANARY)) == "signature"
        head, _, signature = other.sign().rpartition(".")
        assert refused(tokens, f"{signer.sign().rpartition('.')[0]}.{signature}") == "signature"
        assert refused(tokens, f"{head}.") == "signature"


def test_keys_that_a_token_brings_along_are_not_used(tokens, signer):
    own = Signer("ES256", signer.kid)
    header = {"jwk": own.jwk(), "jku": "http://127.0.0.1:9/", "x5u": "http://127.0.0.1:9/", "x5c": [CANARY]}
    assert refused(tokens, own.sign(header)) == "signature"


def test_an_unknown_kid(tokens, signer):
    assert refused(tokens, signer.sign({"kid": CANARY})) == "unknown_key"
    assert refused(tokens, signer.sign({"kid": ""})) == "unknown_key"


def test_a_kid_is_needed_where_there_are_several_keys(tokens, signer, tmp_path, clock):
    assert refused(tokens, signer.sign({"kid": None})) == "unknown_key"
    one = Tokens(issuer=ISSUER, audience=AUDIENCE, jwks=write_jwks(tmp_path / "one.json", signer.jwk()), clock=clock)
    assert one.verify(signer.sign({"kid": None})) == one.verify(signer.sign())
    assert refused(one, signer.sign({"kid": "other"})) == "unknown_key"


@pytest.mark.parametrize("claim", REQUIRED)
def test_a_claim_is_missing(tokens, signer, claim):
    assert refused(tokens, signer.sign(**{claim: None})) == "claims"


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"iss": CANARY}, "issuer"),
        ({"iss": ISSUER.rstrip("/")}, "issuer"),
        ({"aud": CANARY}, "audience"),
        ({"aud": [CANARY]}, "audience"),
        ({"aud": AUDIENCE.upper()}, "audience"),
        ({"aud": [AUDIENCE, 1]}, "audience"),
        ({"aud": []}, "claims"),
        ({"sub": ""}, "claims"),
        ({"sub": 17}, "claims"),
        ({"sub": f"{CANARY}\nforged line of a log"}, "claims"),
        ({"sub": "x" * 256}, "claims"),
        ({"scope": ["risk:read"]}, "claims"),
        ({"scope": 1}, "claims"),
        ({"scope": {"risk:read": True}}, "claims"),
        ({"wards": []}, "claims"),
        ({"wards": ""}, "claims"),
        ({"wards": CANARY}, "claims"),
        ({"wards": {CANARY: True}}, "claims"),
        ({"wards": [""]}, "claims"),
        ({"wards": ["icu-1", 2]}, "claims"),
        ({"wards": ["icu-1", None]}, "claims"),
        ({"wards": [["icu-1"]]}, "claims"),
        ({"wards": False}, "claims"),
        ({"wards": 0}, "claims"),
        ({"jti": 1}, "claims"),
    ],
)
def test_claims_that_will_not_do(tokens, signer, changes, rule):
    assert refused(tokens, signer.sign(**changes)) == rule


@pytest.mark.parametrize("claim", ["iss", "aud", "sub", "exp", "iat", "nbf", "scope", "wards"])
def test_null_is_not_absent(tokens, signer, claim):
    payload = json.dumps(claims() | {claim: None}).encode()
    token = jwt.PyJWS().encode(payload, signer.key, "ES256", {"kid": signer.kid})
    assert refused(tokens, token) in {"claims", "issuer"}


@pytest.mark.parametrize("payload", [b"", b"[]", b"null", b"x", b"\xff", b"[" * 3000, b'{"exp": ' + b"9" * 5000 + b"}"])
def test_a_signed_payload_that_is_no_object(tokens, signer, payload):
    assert refused(tokens, jwt.PyJWS().encode(payload, signer.key, "ES256", {"kid": signer.kid})) == "malformed"


# Who is not: the time


SECOND = int(NOW.timestamp())


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"iat": SECOND - 3600, "exp": SECOND - LEEWAY_SECONDS}, "expired"),
        ({"iat": SECOND - 3600, "exp": SECOND - 60}, "expired"),
        ({"iat": SECOND + LEEWAY_SECONDS + 1}, "not_yet_valid"),
        ({"nbf": SECOND + LEEWAY_SECONDS + 1}, "not_yet_valid"),
        ({"exp": SECOND}, "claims"),
        ({"exp": SECOND - 1}, "claims"),
        ({"exp": SECOND + MAX_LIFETIME.total_seconds() + 1}, "lifetime"),
        ({"exp": SECOND * 10}, "lifetime"),
        ({"iat": 0}, "lifetime"),
        ({"iat": -1}, "claims"),
        ({"iat": True}, "claims"),
        ({"iat": str(SECOND)}, "claims"),
        ({"exp": str(SECOND + 60)}, "claims"),
        ({"exp": SECOND * 1000}, "claims"),
        ({"exp": 10**400}, "claims"),
        ({"exp": float("nan")}, "claims"),
        ({"exp": float("inf")}, "claims"),
        ({"iat": float("-inf")}, "claims"),
        ({"nbf": float("nan")}, "claims"),
        ({"nbf": CANARY}, "claims"),
        ({"exp": [SECOND]}, "claims"),
    ],
)
def test_times_that_will_not_do(tokens, signer, changes, rule):
    assert refused(tokens, signer.sign(**changes)) == rule


def test_the_longest_lifetime(tokens, signer):
    tokens.verify(signer.sign(exp=SECOND + MAX_LIFETIME.total_seconds()))


def test_a_known_token_expires(tokens, signer, clock):
    token = signer.sign()
    tokens.verify(token)
    clock.pass_(3600 + LEEWAY_SECONDS)
    assert refused(tokens, token) == "expired"


def test_a_token_that_was_too_early_is_let_in_in_time(tokens, signer, clock):
    token = signer.sign(nbf=SECOND + 60)
    assert refused(tokens, token) == "not_yet_valid"
    clock.pass_(60)
    tokens.verify(token)
    clock.pass_(-60)
    assert refused(tokens, token) == "not_yet_valid"


# Whatever else somebody may send


ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(st.sampled_from(ALGORITHMS), st.sampled_from([0, 1, 2]), st.data())
def test_no_other_character_will_do(steady, signers, algorithm, part, data):
    """Spellings that decode to the same bytes are refused, too: base64 leaves some bits of a last character unused."""
    token = signers[algorithm].sign()
    steady.verify(token)
    parts = token.split(".")
    at = data.draw(st.integers(0, len(parts[part]) - 1))
    other = data.draw(st.sampled_from(ALPHABET + "=.~é").filter(lambda c: c != parts[part][at]))
    parts[part] = parts[part][:at] + other + parts[part][at + 1 :]
    refused(steady, ".".join(parts))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_last_character_of_a_signature(steady, signers, algorithm):
    token = signers[algorithm].sign()
    for other in ALPHABET.replace(token[-1], ""):
        assert refused(steady, token[:-1] + other) in {"malformed", "signature"}


@given(st.text() | st.text(ALPHABET + ".", max_size=60))
def test_any_text(steady, text):
    assert refused(steady, text) in {"missing", "malformed", "algorithm"}


@given(st.dictionaries(st.sampled_from(["alg", "kid", "typ", "crit", "b64", "jwk", "cty"]), JSON))
def test_any_header(steady, signer, header):
    token = compact({"alg": "ES256", "kid": signer.kid} | header, claims(), lambda _: b"x" * 64)
    assert refused(steady, token) in {"malformed", "algorithm", "unknown_key", "signature"}


@given(st.dictionaries(st.sampled_from([*claims(), "nbf", "jti", "scp"]), JSON, min_size=1))
def test_any_signed_claim_never_widens(steady, signer, changes):
    payload = json.dumps(claims() | changes).encode()
    token = jwt.PyJWS().encode(payload, signer.key, "ES256", {"kid": signer.kid})
    try:
        caller = steady.verify(token)
    except UnauthorizedError:
        return
    assert caller.wards
    assert caller.scopes <= SCOPES.keys()
    assert caller.subject.isprintable()


# Keys


def at(path, clock=None):
    return Tokens(issuer=ISSUER, audience=AUDIENCE, jwks=path, clock=clock or Clock())


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


# Local use


def minted(folder, **changes):
    terms = {
        "issuer": ISSUER,
        "audience": AUDIENCE,
        "subject": "ward-monitor",
        "scopes": ["risk:read"],
        "wards": ["icu-1"],
        "lifetime": timedelta(hours=1),
        "now": NOW,
    }
    return mint((folder / KEY_FILE).read_bytes(), **(terms | changes))


def test_what_is_minted_is_let_in(tmp_path, clock):
    make_keys(tmp_path / "new" / "home")
    tokens = at(tmp_path / "new" / "home" / JWKS_FILE, clock)
    expected = Caller("ward-monitor", frozenset({"risk:read"}), frozenset({"icu-1"}))
    assert tokens.verify(minted(tmp_path / "new" / "home")) == expected
    token = minted(tmp_path / "new" / "home", wards=None, scopes=SCOPES, lifetime=MAX_LIFETIME)
    assert tokens.verify(token) == Caller("ward-monitor", frozenset(SCOPES), None)
    clock.pass_(MAX_LIFETIME.total_seconds() + LEEWAY_SECONDS)
    assert refused(tokens, token) == "expired"


def test_the_private_key_is_its_owners(tmp_path):
    before = os.umask(0)
    try:
        make_keys(tmp_path)
    finally:
        os.umask(before)
    assert {path.name for path in tmp_path.iterdir()} == {KEY_FILE, JWKS_FILE}
    assert stat.S_IMODE((tmp_path / KEY_FILE).stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / JWKS_FILE).stat().st_mode) == 0o644
    (jwk,) = json.loads((tmp_path / JWKS_FILE).read_text())["keys"]
    assert set(jwk) == {"kty", "crv", "x", "y", "kid", "use", "alg"}


def test_a_kid_is_the_thumbprint_of_its_key(tmp_path):
    make_keys(tmp_path)
    (jwk,) = json.loads((tmp_path / JWKS_FILE).read_text())["keys"]
    members = f'{{"crv":"P-256","kty":"EC","x":"{jwk["x"]}","y":"{jwk["y"]}"}}'
    assert jwk["kid"] == base64url(hashlib.sha256(members.encode()).digest())


def test_keys_are_never_overwritten(tmp_path):
    make_keys(tmp_path)
    before = [(tmp_path / name).read_bytes() for name in (KEY_FILE, JWKS_FILE)]
    make_keys(tmp_path)
    assert before == [(tmp_path / name).read_bytes() for name in (KEY_FILE, JWKS_FILE)]


def test_a_half_made_pair_is_completed(tmp_path):
    make_keys(tmp_path)
    jwks = (tmp_path / JWKS_FILE).read_bytes()
    (tmp_path / JWKS_FILE).unlink()
    make_keys(tmp_path)
    assert (tmp_path / JWKS_FILE).read_bytes() == jwks


def test_many_make_one_pair(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(make_keys, [tmp_path] * 8))
    assert {path.name for path in tmp_path.iterdir()} == {KEY_FILE, JWKS_FILE}
    assert at(tmp_path / JWKS_FILE).verify(minted(tmp_path)).subject == "ward-monitor"


def test_another_kind_of_key_is_no_reason_to_overwrite_it(tmp_path):
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    p384 = ec.generate_private_key(ec.SECP384R1()).private_bytes(*form)
    for content in (b"", b"x", p384, ed25519.Ed25519PrivateKey.generate().private_bytes(*form)):
        (tmp_path / KEY_FILE).write_bytes(content)
        with pytest.raises(VigilError, match=rf"{KEY_FILE}: not an unencrypted private key on the curve P-256"):
            make_keys(tmp_path)
        with pytest.raises(VigilError, match=KEY_FILE):
            minted(tmp_path)
        assert (tmp_path / KEY_FILE).read_bytes() == content
    assert not (tmp_path / JWKS_FILE).exists()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"scopes": ["risk:read", "risk:write"]}, "scopes risk:write: expected some of observations:write"),
        ({"wards": []}, "leave wards out for all wards"),
        ({"wards": [""]}, "printable names"),
        ({"subject": ""}, "printable names"),
        ({"subject": "a\nb"}, "printable names"),
        ({"lifetime": timedelta(0)}, "lifetime 0:00:00: expected 1 s to 24 h"),
        ({"lifetime": MAX_LIFETIME + timedelta(seconds=1)}, "expected 1 s to 24 h"),
    ],
)
def test_what_would_be_refused_is_not_minted(tmp_path, changes, said):
    make_keys(tmp_path)
    with pytest.raises(VigilError, match=said):
        minted(tmp_path, **changes)
