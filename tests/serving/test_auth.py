"""Who is let in, and above all who is not. Forged tokens are built by hand where the library would refuse to make them."""

import hashlib
import hmac
import json

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.auth.jwks import ALGORITHMS
from serving.auth.tokens import (
    LEEWAY_SECONDS,
    MAX_LIFETIME,
    MAX_TOKEN_BYTES,
    REQUIRED,
    SCOPES,
    Caller,
    Tokens,
    UnauthorizedError,
)
from tests.serving.tokens import (
    AUDIENCE,
    CANARY,
    ISSUER,
    JSON,
    NOW,
    SECOND,
    Clock,
    Signer,
    base64url,
    claims,
    compact,
    refused,
    write_jwks,
)


@pytest.fixture(scope="module")
def steady(tmp_path_factory, signers):
    """Tokens whose clock stands still, for generated examples."""
    path = write_jwks(tmp_path_factory.mktemp("keys") / "jwks.json", *(signer.jwk() for signer in signers.values()))
    return Tokens(issuer=ISSUER, audience=AUDIENCE, jwks=path, clock=Clock())


# Who is let in


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_sound_token_becomes_its_caller(tokens, signers, algorithm):
    caller = tokens.verify(signers[algorithm].sign())
    assert caller == Caller("ward-monitor", frozenset({"risk:read", "ward:read"}), frozenset({"icu-1", "icu-2"}), SECOND + 3600)
    assert caller.may("risk:read")
    assert not caller.may("alarms:write")
    assert caller.may_see("icu-1")
    assert not caller.may_see("icu-3")


def test_a_verified_token_is_known_again(tokens, signer):
    token = signer.sign()
    assert tokens.verify(token) is tokens.verify(token)


def test_of_what_was_verified_the_least_used_is_forgotten(tokens, signer, monkeypatch):
    monkeypatch.setattr("serving.auth.tokens._VERIFIED_KEPT", 2)
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
