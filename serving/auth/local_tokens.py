"""Tokens for local use, signed with a key pair that belongs to the home. In production an external issuer signs tokens."""

import base64
import hashlib
import json
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from vigil.features.errors import VigilError
from vigil.features.files import write_new
from vigil.serving.auth.smart_scopes import parse_smart_scopes
from vigil.serving.auth.tokens import MAX_LIFETIME, SCOPES, is_printable_name

LOCAL_ISSUER: Final = "vigil-local"
LOCAL_AUDIENCE: Final = "vigil"
LOCAL_FOLDER: Final = "auth"  # folder of the keys, inside the home
KEY_FILE: Final = "token_key.pem"
JWKS_FILE: Final = "jwks.json"


def create_local_token(
    home: Path, *, subject: str, scopes: Collection[str] | None, wards: Collection[str] | None, lifetime: timedelta
) -> str:
    """Create a token for the server of a home that trusts its local key. The key pair is created if there is none.

    Args:
        home: the home whose key signs the token.
        subject: the caller's name, the token's ``sub``.
        scopes: keys of :data:`vigil.serving.auth.tokens.SCOPES`, or SMART scopes; None: all of Vigil's.
        wards: the wards that the token covers; None: all wards.
        lifetime: from now, 1 s to 24 h.

    Raises:
        VigilError: a scope, name or lifetime is not valid, or the key file is unusable.
    """
    folder = home / LOCAL_FOLDER
    create_local_keys(folder)
    return sign_token(
        (folder / KEY_FILE).read_bytes(),
        issuer=LOCAL_ISSUER,
        audience=LOCAL_AUDIENCE,
        subject=subject,
        scopes=SCOPES if scopes is None else scopes,
        wards=wards,
        lifetime=lifetime,
        now=datetime.now(UTC),
    )


def create_local_keys(folder: Path) -> None:
    """Create the key pair of a home unless it exists.

    :data:`KEY_FILE` holds the private key, readable by its owner only. :data:`JWKS_FILE` holds the public key.

    Raises:
        VigilError: :data:`KEY_FILE` exists and does not hold a usable key. It is not overwritten.
    """
    path = folder / KEY_FILE
    if not path.exists():
        encoding = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        write_new(path, ec.generate_private_key(ec.SECP256R1()).private_bytes(*encoding), 0o600)
    jwk = _public_jwk(_load_private_key(path.read_bytes()))  # read back: another process may have written the file first
    if not (folder / JWKS_FILE).exists():  # written only if missing, so that a server starts even on a full disk
        write_new(folder / JWKS_FILE, json.dumps({"keys": [jwk]}, indent=2).encode(), 0o644)


def sign_token(
    key_pem: bytes,
    *,
    issuer: str,
    audience: str,
    subject: str,
    scopes: Collection[str],
    wards: Collection[str] | None,
    lifetime: timedelta,
    now: datetime,
) -> str:
    """Sign a token with a key of :func:`create_local_keys`.

    Args:
        key_pem: the content of :data:`KEY_FILE`.
        issuer: the token's ``iss``.
        audience: the token's ``aud``.
        subject: the token's ``sub``.
        scopes: keys of :data:`vigil.serving.auth.tokens.SCOPES`, or SMART scopes.
        wards: the wards that the token covers; None: all wards.
        lifetime: from ``now``, 1 s to 24 h.
        now: the time of issue.

    Raises:
        VigilError: a scope, name or lifetime is not valid, or the key is unusable.
    """
    if unknown := sorted(name for name in scopes if name not in SCOPES and not parse_smart_scopes([name])):
        raise VigilError(f"scopes {', '.join(unknown)}: expected some of {', '.join(SCOPES)}, or SMART scopes")
    if not all(map(is_printable_name, [subject, *(wards or [])])) or (wards is not None and not wards):
        raise VigilError("subject, wards: expected printable names of 1 to 255 characters; leave wards out for all wards")
    if not timedelta(seconds=1) <= lifetime <= MAX_LIFETIME:
        raise VigilError(f"lifetime {lifetime}: expected 1 s to {MAX_LIFETIME / timedelta(hours=1):g} h")
    key, issued = _load_private_key(key_pem), int(now.timestamp())
    claims: dict[str, Any] = {"iss": issuer, "aud": audience, "sub": subject, "scope": " ".join(sorted(scopes))}
    claims |= {"iat": issued, "exp": issued + int(lifetime.total_seconds())}
    claims |= {} if wards is None else {"wards": sorted(wards)}
    return _sign(key, claims)


def sign_claims(key_pem: bytes, claims: dict[str, Any]) -> str:
    """Sign claims with a key of :func:`create_local_keys`. They must not be those of a token for the API.

    Raises:
        VigilError: the key is unusable.
    """
    return _sign(_load_private_key(key_pem), claims)


def _sign(key: ec.EllipticCurvePrivateKey, claims: dict[str, Any]) -> str:
    return jwt.encode(claims, key, algorithm="ES256", headers={"kid": _public_jwk(key)["kid"]})


def _load_private_key(pem: bytes) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(pem, password=None)
        if isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, ec.SECP256R1):
            return key
    except (ValueError, TypeError):
        pass
    raise VigilError(
        f"{KEY_FILE}: not an unencrypted private key on the curve P-256; move the file away, and a new key is created"
    )


def _public_jwk(key: ec.EllipticCurvePrivateKey) -> dict[str, Any]:
    """Return the public key as a JWK. Its kid is its thumbprint (Jones M, Sakimura N. RFC 7638, 2015)."""
    jwk = jwt.algorithms.ECAlgorithm.to_jwk(key.public_key(), as_dict=True)
    digest = hashlib.sha256(json.dumps(jwk, sort_keys=True, separators=(",", ":")).encode()).digest()
    return {**jwk, "kid": base64.urlsafe_b64encode(digest).rstrip(b"=").decode(), "use": "sig", "alg": "ES256"}
