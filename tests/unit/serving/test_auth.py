"""Verification of bearer tokens. Forged tokens are built by hand where the library refuses to make them."""

import hashlib
import hmac
import json

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.tokens import (
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
    encode_compact,
    refusal_rule,
    write_jwks,
)
from vigil.serving.auth.jwks import ALGORITHMS, ED25519_NAMES
from vigil.serving.auth.tokens import (
    LEEWAY_SECONDS,
    MAX_LIFETIME,
    MAX_TOKEN_BYTES,
    REQUIRED,
    SCOPES,
    Caller,
    TokenVerifier,
    UnauthorizedError,
)


@pytest.fixture(scope="module")
def fixed_clock_tokens(tmp_path_factory, signers):
    """A verifier with a clock that stands still, for generated examples."""
    path = write_jwks(tmp_path_factory.mktemp("keys") / "jwks.json", *(signer.jwk() for signer in signers.values()))
    return TokenVerifier(issuer=ISSUER, audience=AUDIENCE, jwks=path, clock=Clock())


# Accepted tokens


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_token_identifies_its_caller(tokens, signers, algorithm):
    caller = tokens.verify(signers[algorithm].sign())
    assert caller == Caller("ward-monitor", frozenset({"risk:read", "ward:read"}), frozenset({"icu-1", "icu-2"}), SECOND + 3600)
    assert caller.has_scope("risk:read")
    assert not caller.has_scope("alarms:write")
    assert caller.can_see("icu-1")
    assert not caller.can_see("icu-3")


def test_token_cache_returns_the_same_caller(tokens, signer):
    token = signer.sign()
    assert tokens.verify(token) is tokens.verify(token)


def test_token_cache_drops_the_least_recently_used(tokens, signer, monkeypatch):
    monkeypatch.setattr("vigil.serving.auth.tokens._MAX_CACHED_TOKENS", 2)
    a, b, c = [signer.sign(sub=name) for name in "abc"]
    caller_a, caller_b = tokens.verify(a), tokens.verify(b)
    tokens.verify(a)
    tokens.verify(c)
    assert tokens.verify(a) is caller_a
    assert tokens.verify(b) == caller_b
    assert tokens.verify(b) is not caller_b
    assert len(tokens._verified) == 2
    assert all(isinstance(digest, bytes) and len(digest) == 32 for digest in tokens._verified)


def test_token_may_name_several_audiences(tokens, signer):
    assert tokens.verify(signer.sign(aud=["elsewhere", AUDIENCE])).sub == "ward-monitor"


def test_caller_without_wards_can_see_all_wards(tokens, signer):
    caller = tokens.verify(signer.sign(wards=None))
    assert caller.wards is None
    assert caller.can_see("any")


def test_caller_wards_have_no_wildcard(tokens, signer):
    assert not tokens.verify(signer.sign(wards=["*"])).can_see("icu-1")


@pytest.mark.parametrize(
    ("changes", "scopes"),
    [
        ({"scope": None}, set()),
        ({"scope": ""}, set()),
        ({"scope": "openid profile risk:read RISK:READ risk:*"}, {"risk:read"}),
        ({"scope": "risk:read,ward:read"}, set()),
        ({"scope": "risk:read\tward:read"}, set()),
        ({"scope": " ".join(SCOPES)}, set(SCOPES)),
        # spellings of other issuers: scp as a text (Entra ID), scp as a list (Okta), scope as a list
        ({"scope": None, "scp": "risk:read openid"}, {"risk:read"}),
        ({"scope": None, "scp": ["risk:read", "openid"]}, {"risk:read"}),
        ({"scope": ["risk:read", "ward:read", "offline_access"]}, {"risk:read", "ward:read"}),
        ({"scope": []}, set()),
        ({"scope": None, "scp": ""}, set()),
        ({"scope": None, "scp": []}, set()),
        ({"scope": ["risk:read ward:read"]}, set()),  # no name of a scope holds a blank (RFC 6749, section 3.3)
        ({"scope": None, "scp": ["risk:read,ward:read", "RISK:READ"]}, set()),
        # both: what both allow
        ({"scope": "risk:read ward:read", "scp": ["risk:read", "alarms:write"]}, {"risk:read"}),
        ({"scope": ["risk:read"], "scp": "risk:read"}, {"risk:read"}),
        ({"scope": "risk:read", "scp": ""}, set()),
        ({"scope": "", "scp": list(SCOPES)}, set()),
    ],
)
def test_caller_has_known_scopes_only(tokens, signer, changes, scopes):
    assert tokens.verify(signer.sign(**changes)).scopes == scopes


def test_token_times_have_a_leeway(tokens, signer, clock):
    token = signer.sign(nbf=int(NOW.timestamp()))
    clock.advance(-LEEWAY_SECONDS)
    tokens.verify(token)
    clock.advance(LEEWAY_SECONDS + 3600 + LEEWAY_SECONDS - 1)
    tokens.verify(token)


# Refused tokens


def test_token_missing(tokens):
    assert refusal_rule(tokens, "") == refusal_rule(tokens, None) == "missing"


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
def test_token_malformed(tokens, token):
    assert refusal_rule(tokens, token) == "malformed"


def test_token_with_padding_or_space_is_malformed(tokens, signer):
    token = signer.sign()
    tokens.verify(token)
    for other in (token + "==", token + "=", token + "\n", " " + token, token + ".", "." + token, token.replace(".", "=.")):
        assert refusal_rule(tokens, other) == "malformed"


def test_token_above_the_size_limit_is_not_parsed(tokens, signer, monkeypatch):
    token = signer.sign(padding="x" * MAX_TOKEN_BYTES)
    monkeypatch.setattr(jwt, "get_unverified_header", lambda _: pytest.fail("parsed"))
    assert refusal_rule(tokens, token) == "malformed"


def test_token_of_the_size_limit_is_accepted(tokens, signer):
    fill = (MAX_TOKEN_BYTES - len(signer.sign(padding=""))) * 3 // 4 - 3
    token = signer.sign(padding="x" * fill)
    assert MAX_TOKEN_BYTES - 8 < len(token) <= MAX_TOKEN_BYTES
    tokens.verify(token)


@pytest.mark.parametrize("crit", [["exp"], ["b64"], [CANARY], [], "exp", None, [1]])
def test_token_with_critical_headers_is_refused(tokens, signer, crit):
    header = {"alg": "ES256", "kid": signer.kid, "crit": crit, "exp": 1, "b64": True}
    sign = jwt.algorithms.ECAlgorithm(jwt.algorithms.ECAlgorithm.SHA256).sign
    assert refusal_rule(tokens, encode_compact(header, claims(), lambda text: sign(text, signer.key))) == "malformed"


def test_token_with_a_detached_payload_is_refused(tokens, signer):
    token = jwt.PyJWS().encode(json.dumps(claims()).encode(), signer.key, "ES256", {"kid": signer.kid, "b64": False})
    assert refusal_rule(tokens, token) == "malformed"


@pytest.mark.parametrize(
    "algorithm",
    [
        "none",
        "None",
        "NONE",
        "",
        None,
        1,
        [],
        ["ES256"],
        {},
        "es256",
        "HS256",
        "RS384",
        "RS512",
        "ES384",
        "ES512",
        "Ed448",
        "ed25519",
    ],
)
@pytest.mark.parametrize("signature", [b"", b"x" * 64])
def test_token_with_another_algorithm_is_refused(tokens, signer, algorithm, signature):
    assert (
        refusal_rule(tokens, encode_compact({"alg": algorithm, "kid": signer.kid}, claims(), lambda _: signature))
        == "algorithm"
    )


def test_token_without_algorithm_is_refused(tokens, signer):
    assert refusal_rule(tokens, encode_compact({"kid": signer.kid}, claims(), lambda _: b"x" * 64)) == "algorithm"


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_token_signed_with_the_public_key_as_a_shared_secret_is_refused(tokens, jwks, signers, algorithm):
    signer = signers[algorithm]
    for secret in (signer.pem(), signer.pem().strip(), jwks.read_bytes(), json.dumps(signer.jwk()).encode(), b""):
        forged = encode_compact(
            {"alg": "HS256", "kid": signer.kid}, claims(), lambda text, key=secret: hmac.digest(key, text, hashlib.sha256)
        )
        assert refusal_rule(tokens, forged) == "algorithm"
        header = {"alg": algorithm, "kid": signer.kid}  # or a header with the algorithm of the key
        forged = encode_compact(header, claims(), lambda text, key=secret: hmac.digest(key, text, hashlib.sha256))
        assert refusal_rule(tokens, forged) == "signature"


@pytest.mark.parametrize("claimed", ALGORITHMS)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_key_is_bound_to_one_algorithm(tokens, signers, algorithm, claimed):
    if claimed == algorithm:
        return
    signer = signers[algorithm]
    signature = signer.sign().rpartition(".")[2]
    text = f"{base64url({'alg': claimed, 'kid': signer.kid})}.{base64url(claims())}"
    same = {algorithm, claimed} == {*ED25519_NAMES}
    assert refusal_rule(tokens, f"{text}.{signature}") == ("signature" if same else "algorithm")
    if {algorithm, claimed} == {"RS256", "PS256"}:  # a valid signature, of another algorithm than the key's
        forged = jwt.encode(claims(), signer.key, claimed, {"kid": signer.kid})
        assert refusal_rule(tokens, forged) == "algorithm"


def test_rsa_key_without_alg_is_for_rs256(tmp_path, signers, clock):
    signer = signers["RS256"]
    jwk = signer.jwk()
    del jwk["alg"]
    tokens = TokenVerifier(issuer=ISSUER, audience=AUDIENCE, jwks=write_jwks(tmp_path / "one.json", jwk), clock=clock)
    tokens.verify(signer.sign())
    assert refusal_rule(tokens, jwt.encode(claims(), signer.key, "PS256", {"kid": signer.kid})) == "algorithm"


@pytest.mark.parametrize("named_by_key", ["EdDSA", "Ed25519", None])
@pytest.mark.parametrize("named_by_token", ["EdDSA", "Ed25519"])
def test_ed25519_key_verifies_tokens_under_both_names_of_its_algorithm(tmp_path, clock, named_by_key, named_by_token):
    signer = Signer("Ed25519", "key")
    jwk = {name: value for name, value in signer.jwk(alg=named_by_key).items() if value is not None}
    tokens = TokenVerifier(issuer=ISSUER, audience=AUDIENCE, jwks=write_jwks(tmp_path / "one.json", jwk), clock=clock)
    header = {"alg": named_by_token, "kid": "key"}
    assert tokens.verify(encode_compact(header, claims(), signer.key.sign)).sub == "ward-monitor"
    assert refusal_rule(tokens, encode_compact(header, claims(), Signer("Ed25519", "key").key.sign)) == "signature"
    for other in ("ES256", "RS256", "HS256", "Ed448"):
        assert refusal_rule(tokens, encode_compact({"alg": other, "kid": "key"}, claims(), signer.key.sign)) == "algorithm"


def test_token_with_a_signature_of_another_key_is_refused(tokens, signers):
    for algorithm, signer in signers.items():
        other = Signer(algorithm, signer.kid)
        assert refusal_rule(tokens, other.sign(sub=CANARY)) == "signature"
        head, _, signature = other.sign().rpartition(".")
        assert refusal_rule(tokens, f"{signer.sign().rpartition('.')[0]}.{signature}") == "signature"
        assert refusal_rule(tokens, f"{head}.") == "signature"


def test_token_header_keys_are_not_used(tokens, signer):
    own = Signer("ES256", signer.kid)
    header = {"jwk": own.jwk(), "jku": "http://127.0.0.1:9/", "x5u": "http://127.0.0.1:9/", "x5c": [CANARY]}
    assert refusal_rule(tokens, own.sign(header)) == "signature"


def test_token_with_an_unknown_kid_is_refused(tokens, signer):
    assert refusal_rule(tokens, signer.sign({"kid": CANARY})) == "unknown_key"
    assert refusal_rule(tokens, signer.sign({"kid": ""})) == "unknown_key"


def test_token_needs_a_kid_if_there_are_several_keys(tokens, signer, tmp_path, clock):
    assert refusal_rule(tokens, signer.sign({"kid": None})) == "unknown_key"
    one = TokenVerifier(issuer=ISSUER, audience=AUDIENCE, jwks=write_jwks(tmp_path / "one.json", signer.jwk()), clock=clock)
    assert one.verify(signer.sign({"kid": None})) == one.verify(signer.sign())
    assert refusal_rule(one, signer.sign({"kid": "other"})) == "unknown_key"


@pytest.mark.parametrize("claim", REQUIRED)
def test_claims_must_not_be_missing(tokens, signer, claim):
    assert refusal_rule(tokens, signer.sign(**{claim: None})) == "claims"


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
        ({"scope": ["risk:read", 1]}, "claims"),
        ({"scope": ["risk:read", None]}, "claims"),
        ({"scope": [["risk:read"]]}, "claims"),
        ({"scope": False}, "claims"),
        ({"scp": 1}, "claims"),
        ({"scp": {"risk:read": True}}, "claims"),
        ({"scp": ["risk:read", {}]}, "claims"),
        ({"scope": "risk:read", "scp": False}, "claims"),
        ({"scope": None, "scp": 0}, "claims"),
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
def test_claims_must_be_valid(tokens, signer, changes, rule):
    assert refusal_rule(tokens, signer.sign(**changes)) == rule


@pytest.mark.parametrize("claim", ["iss", "aud", "sub", "exp", "iat", "nbf", "scope", "scp", "wards"])
def test_claims_of_null_are_not_absent(tokens, signer, claim):
    payload = json.dumps(claims() | {claim: None}).encode()
    token = jwt.PyJWS().encode(payload, signer.key, "ES256", {"kid": signer.kid})
    assert refusal_rule(tokens, token) in {"claims", "issuer"}


@pytest.mark.parametrize("payload", [b"", b"[]", b"null", b"x", b"\xff", b"[" * 3000, b'{"exp": ' + b"9" * 5000 + b"}"])
def test_token_with_a_payload_that_is_no_object_is_malformed(tokens, signer, payload):
    assert refusal_rule(tokens, jwt.PyJWS().encode(payload, signer.key, "ES256", {"kid": signer.kid})) == "malformed"


# Times


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
def test_token_times_must_be_valid(tokens, signer, changes, rule):
    assert refusal_rule(tokens, signer.sign(**changes)) == rule


def test_token_of_the_longest_lifetime_is_accepted(tokens, signer):
    tokens.verify(signer.sign(exp=SECOND + MAX_LIFETIME.total_seconds()))


def test_token_cache_does_not_outlast_expiry(tokens, signer, clock):
    token = signer.sign()
    tokens.verify(token)
    clock.advance(3600 + LEEWAY_SECONDS)
    assert refusal_rule(tokens, token) == "expired"


def test_token_refused_before_nbf_is_accepted_after_it(tokens, signer, clock):
    token = signer.sign(nbf=SECOND + 60)
    assert refusal_rule(tokens, token) == "not_yet_valid"
    clock.advance(60)
    tokens.verify(token)
    clock.advance(-60)
    assert refusal_rule(tokens, token) == "not_yet_valid"


# Generated tokens


ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


@given(st.sampled_from(ALGORITHMS), st.sampled_from([0, 1, 2]), st.data())
def test_token_with_any_character_changed_is_refused(fixed_clock_tokens, signers, algorithm, part, data):
    """Other spellings of the same bytes are refused, too: base64 leaves some bits of the last character unused."""
    token = signers[algorithm].sign()
    fixed_clock_tokens.verify(token)
    parts = token.split(".")
    position = data.draw(st.integers(0, len(parts[part]) - 1))
    other = data.draw(st.sampled_from(ALPHABET + "=.~é").filter(lambda c: c != parts[part][position]))
    parts[part] = parts[part][:position] + other + parts[part][position + 1 :]
    refusal_rule(fixed_clock_tokens, ".".join(parts))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_token_with_another_last_character_of_the_signature_is_refused(fixed_clock_tokens, signers, algorithm):
    token = signers[algorithm].sign()
    for other in ALPHABET.replace(token[-1], ""):
        assert refusal_rule(fixed_clock_tokens, token[:-1] + other) in {"malformed", "signature"}


@given(st.text() | st.text(ALPHABET + ".", max_size=60))
def test_any_text_as_a_token_is_refused(fixed_clock_tokens, text):
    assert refusal_rule(fixed_clock_tokens, text) in {"missing", "malformed", "algorithm"}


@given(st.dictionaries(st.sampled_from(["alg", "kid", "typ", "crit", "b64", "jwk", "cty"]), JSON))
def test_any_header_with_a_wrong_signature_is_refused(fixed_clock_tokens, signer, header):
    token = encode_compact({"alg": "ES256", "kid": signer.kid} | header, claims(), lambda _: b"x" * 64)
    assert refusal_rule(fixed_clock_tokens, token) in {"malformed", "algorithm", "unknown_key", "signature"}


@given(st.dictionaries(st.sampled_from([*claims(), "nbf", "jti", "scp"]), JSON, min_size=1))
def test_any_signed_claims_never_widen_scopes_or_wards(fixed_clock_tokens, signer, changes):
    payload = json.dumps(claims() | changes).encode()
    token = jwt.PyJWS().encode(payload, signer.key, "ES256", {"kid": signer.kid})
    try:
        caller = fixed_clock_tokens.verify(token)
    except UnauthorizedError:
        return
    assert caller.wards
    assert caller.scopes <= SCOPES.keys()
    assert caller.sub.isprintable()
