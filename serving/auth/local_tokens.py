"""Tokens for local use: a key pair of this machine's own, and what is signed with it. Elsewhere an issuer does both."""

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

from features.errors import VigilError
from features.files import write_new
from serving.auth.tokens import MAX_LIFETIME, SCOPES, is_name

LOCAL_ISSUER: Final = "vigil-local"
LOCAL_AUDIENCE: Final = "vigil"
LOCAL_FOLDER: Final = "auth"  # in a home: where its keys lie
KEY_FILE: Final = "token_key.pem"
JWKS_FILE: Final = "jwks.json"


def local_token(
    home: Path, *, subject: str, scopes: Collection[str] | None, wards: Collection[str] | None, lifetime: timedelta
) -> str:
    """A token, good from now on, for the server of a home that trusts no other issuer. ``scopes``, ``wards``: None for all."""
    folder = home / LOCAL_FOLDER
    make_keys(folder)
    return mint(
        (folder / KEY_FILE).read_bytes(),
        issuer=LOCAL_ISSUER,
        audience=LOCAL_AUDIENCE,
        subject=subject,
        scopes=SCOPES if scopes is None else scopes,
        wards=wards,
        lifetime=lifetime,
        now=datetime.now(UTC),
    )


def make_keys(folder: Path) -> None:
    """A key pair for local use, where there is none: :data:`KEY_FILE`, for its owner only, and :data:`JWKS_FILE`."""
    path = folder / KEY_FILE
    if not path.exists():
        form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        write_new(path, ec.generate_private_key(ec.SECP256R1()).private_bytes(*form), 0o600)
    jwk = _public_jwk(_private_key(path.read_bytes()))  # whoever wrote it
    if not (folder / JWKS_FILE).exists():  # a full disk must not keep a server from starting
        write_new(folder / JWKS_FILE, json.dumps({"keys": [jwk]}, indent=2).encode(), 0o644)


def mint(
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
    """A token for local use, signed with the key of :func:`make_keys`. ``wards``: None for all."""
    if unknown := sorted(set(scopes) - SCOPES.keys()):
        raise VigilError(f"scopes {', '.join(unknown)}: expected some of {', '.join(SCOPES)}")
    if not all(map(is_name, [subject, *(wards or [])])) or (wards is not None and not wards):
        raise VigilError("subject, wards: expected printable names of 1 to 255 characters; leave wards out for all wards")
    if not timedelta(seconds=1) <= lifetime <= MAX_LIFETIME:
        raise VigilError(f"lifetime {lifetime}: expected 1 s to {MAX_LIFETIME / timedelta(hours=1):g} h")
    key, issued = _private_key(key_pem), int(now.timestamp())
    claims: dict[str, Any] = {"iss": issuer, "aud": audience, "sub": subject, "scope": " ".join(sorted(scopes))}
    claims |= {"iat": issued, "exp": issued + int(lifetime.total_seconds())}
    claims |= {} if wards is None else {"wards": sorted(wards)}
    return jwt.encode(claims, key, algorithm="ES256", headers={"kid": _public_jwk(key)["kid"]})


def _private_key(pem: bytes) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(pem, password=None)
        if isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, ec.SECP256R1):
            return key
    except (ValueError, TypeError):
        pass
    raise VigilError(f"{KEY_FILE}: not an unencrypted private key on the curve P-256; move it away to have one made")


def _public_jwk(key: ec.EllipticCurvePrivateKey) -> dict[str, Any]:
    """Named by its thumbprint (Jones M, Sakimura N. RFC 7638, 2015)."""
    jwk = jwt.algorithms.ECAlgorithm.to_jwk(key.public_key(), as_dict=True)
    digest = hashlib.sha256(json.dumps(jwk, sort_keys=True, separators=(",", ":")).encode()).digest()
    return {**jwk, "kid": base64.urlsafe_b64encode(digest).rstrip(b"=").decode(), "use": "sig", "alg": "ES256"}
