"""Helpers for tests of tokens: an issuer's keys, forged tokens, and the rule by which a token is refused."""

import base64
import json
import traceback
from datetime import UTC, datetime, timedelta

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import strategies as st

from vigil.serving.auth.tokens import RULES, TokenVerifier, UnauthorizedError

ISSUER = "https://issuer.example/"
AUDIENCE = "vigil"
FAMILIES = {
    "RS256": jwt.algorithms.RSAAlgorithm,
    "PS256": jwt.algorithms.RSAAlgorithm,
    "ES256": jwt.algorithms.ECAlgorithm,
    "EdDSA": jwt.algorithms.OKPAlgorithm,
    "Ed25519": jwt.algorithms.OKPAlgorithm,
}
NOW = datetime(2026, 2, 1, 12, tzinfo=UTC)
SECOND = int(NOW.timestamp())
CANARY = "canary-7f3a"  # marks content of a token that must not be repeated
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


class Clock:
    """Clock that a test moves."""

    def __init__(self):
        self.time = NOW

    def __call__(self):
        return self.time

    def advance(self, seconds):
        self.time += timedelta(seconds=seconds)


class Signer:
    """Signing key of an issuer, which is published as a JWK."""

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
        header = {name: value for name, value in {"kid": self.kid, **dict(header)}.items() if value is not None}
        if self.algorithm == "Ed25519":  # PyJWT does not know the name
            return encode_compact({"alg": "Ed25519", "typ": "JWT", **header}, claims(**changes), self.key.sign)
        return jwt.encode(claims(**changes), self.key, self.algorithm, header)

    def pem(self):
        return self.key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def claims(**changes):
    """Return valid claims with changes; None removes a claim."""
    valid = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "ward-monitor",
        "iat": SECOND,
        "exp": SECOND + 3600,
        "scope": "risk:read ward:read",
        "wards": ["icu-1", "icu-2"],
    }
    return {name: value for name, value in (valid | changes).items() if value is not None}


def base64url(content):
    text = content if isinstance(content, bytes) else json.dumps(content).encode()
    return base64.urlsafe_b64encode(text).rstrip(b"=").decode()


def encode_compact(header, payload, sign):
    """Return a token in compact form, without the checks of a library."""
    text = f"{base64url(header)}.{base64url(payload)}"
    return f"{text}.{base64url(sign(text.encode()))}"


def write_jwks(path, *jwks):
    """Write a JWKS as rotation does: a new file replaces the old one."""
    new = path.with_suffix(".new")
    new.write_text(json.dumps({"keys": jwks}))
    new.replace(path)
    return path


def create_verifier(path, clock=None):
    """Return a verifier of the test issuer's tokens."""
    return TokenVerifier(issuer=ISSUER, audience=AUDIENCE, jwks=path, clock=clock or Clock())


def refusal_rule(tokens, token):
    """Return the rule by which a token is refused, and check that the error holds nothing of the token."""
    with pytest.raises(UnauthorizedError) as caught:
        tokens.verify(token)
    error = caught.value
    text = "".join(traceback.format_exception(error)) + repr(error) + repr(error.__dict__)
    assert CANARY not in text
    assert not [part for part in (token or "").split(".") if len(part) > 16 and part[:16] in text]
    assert error.rule in RULES
    assert str(error) == f"token: {error.rule}: {RULES[error.rule]}"
    return error.rule
