"""How Vigil proves who it is to an issuer: by a key of its own (``private_key_jwt``), by a secret, or not at all.

Source: SMART App Launch 2.2, "Client Authentication" (HL7,
https://hl7.org/fhir/smart-app-launch/client-confidential-asymmetric.html).
"""

import base64
import hashlib
import json
import secrets
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import httpx
import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from vigil.serving.login.errors import LoginError
from vigil.serving.login.settings import IssuerSettings
from vigil.serving.smart.routes import ASSERTION_TYPE

_SECONDS: Final = 120  # that an assertion is valid for
_FEWEST_RSA_BITS: Final = 2_048

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


def authenticate(issuer: IssuerSettings, home: Path, token_url: str) -> tuple[dict[str, str], httpx.BasicAuth | None]:
    """Return what a request to a token endpoint says of who sends it: fields of its form, and a header.

    Raises:
        LoginError: the file of the key or the secret cannot be used.
    """
    if issuer.key is not None:
        signed = _assertion(_load_key(home, issuer.key), issuer.client_id, token_url)
        return {"client_assertion_type": ASSERTION_TYPE, "client_assertion": signed}, None
    if issuer.secret is not None:
        secret = _read(home, "secret", issuer.secret).decode("ascii", "replace").strip()
        return {}, httpx.BasicAuth(quote(issuer.client_id, safe=""), quote(secret, safe=""))  # RFC 6749, section 2.3.1
    return {"client_id": issuer.client_id}, None


def public_keys(home: Path, issuers: Iterable[IssuerSettings]) -> dict[str, Any]:
    """Return the public keys by which issuers know Vigil, as a JWKS.

    Raises:
        LoginError: the file of a key cannot be used.
    """
    files = sorted({issuer.key for issuer in issuers if issuer.key is not None})
    return {"keys": [_public_jwk(_load_key(home, file)) for file in files]}


def _assertion(key: PrivateKey, client_id: str, token_url: str) -> str:
    now, jwk = int(time.time()), _public_jwk(key)
    claims = {"iss": client_id, "sub": client_id, "aud": token_url, "iat": now, "exp": now + _SECONDS}
    return jwt.encode(claims | {"jti": secrets.token_urlsafe()}, key, jwk["alg"], {"kid": jwk["kid"], "typ": "JWT"})


def _public_jwk(key: PrivateKey) -> dict[str, Any]:
    """Return a public key as a JWK. Its kid is its thumbprint (Jones M, Sakimura N. RFC 7638, 2015)."""
    jwk: Mapping[str, Any]
    if isinstance(key, rsa.RSAPrivateKey):
        jwk, algorithm = jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key(), as_dict=True), "RS384"
    else:
        jwk, algorithm = jwt.algorithms.ECAlgorithm.to_jwk(key.public_key(), as_dict=True), "ES384"
    needed: dict[str, Any] = {name: jwk[name] for name in ("crv", "e", "kty", "n", "x", "y") if name in jwk}
    digest = hashlib.sha256(json.dumps(needed, separators=(",", ":")).encode()).digest()
    return {**needed, "kid": base64.urlsafe_b64encode(digest).rstrip(b"=").decode(), "use": "sig", "alg": algorithm}


def _load_key(home: Path, file: str) -> PrivateKey:
    try:
        key = serialization.load_pem_private_key(_read(home, "key", file), password=None)
    except (ValueError, TypeError):
        key = None
    if isinstance(key, rsa.RSAPrivateKey) and key.key_size >= _FEWEST_RSA_BITS:
        return key
    if isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, ec.SECP384R1):
        return key
    raise LoginError("key", "login.toml: key: expected a PEM file with an unencrypted private key, RSA or P-384", 503)


def _read(home: Path, field: str, file: str) -> bytes:
    try:
        return (home / file).read_bytes()
    except OSError as error:
        raise LoginError(field, f"login.toml: {field}: the file cannot be read ({type(error).__name__})", 503) from None
