"""Keys and tokens for local use: verified like those of an external issuer, and stored as secrets."""

import hashlib
import json
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from tests.support.tokens import AUDIENCE, ISSUER, NOW, SECOND, base64url, create_verifier, refusal_rule
from vigil.features.errors import VigilError
from vigil.serving.auth.local_tokens import (
    JWKS_FILE,
    KEY_FILE,
    LOCAL_AUDIENCE,
    LOCAL_FOLDER,
    LOCAL_ISSUER,
    create_local_keys,
    create_local_token,
    sign_token,
)
from vigil.serving.auth.tokens import LEEWAY_SECONDS, MAX_LIFETIME, SCOPES, Caller, TokenVerifier


def sign_test_token(folder, **changes):
    terms = {
        "issuer": ISSUER,
        "audience": AUDIENCE,
        "subject": "ward-monitor",
        "scopes": ["risk:read"],
        "wards": ["icu-1"],
        "lifetime": timedelta(hours=1),
        "now": NOW,
    }
    return sign_token((folder / KEY_FILE).read_bytes(), **(terms | changes))


def test_signed_token_is_verified(tmp_path, clock):
    create_local_keys(tmp_path / "new" / "home")
    tokens = create_verifier(tmp_path / "new" / "home" / JWKS_FILE, clock)
    expected = Caller("ward-monitor", frozenset({"risk:read"}), frozenset({"icu-1"}), SECOND + 3600)
    assert tokens.verify(sign_test_token(tmp_path / "new" / "home")) == expected
    token = sign_test_token(tmp_path / "new" / "home", wards=None, scopes=SCOPES, lifetime=MAX_LIFETIME)
    assert tokens.verify(token) == Caller("ward-monitor", frozenset(SCOPES), None, SECOND + MAX_LIFETIME.total_seconds())
    clock.advance(MAX_LIFETIME.total_seconds() + LEEWAY_SECONDS)
    assert refusal_rule(tokens, token) == "expired"


def test_private_key_is_readable_by_its_owner_only(tmp_path):
    before = os.umask(0)
    try:
        create_local_keys(tmp_path)
    finally:
        os.umask(before)
    assert {path.name for path in tmp_path.iterdir()} == {KEY_FILE, JWKS_FILE}
    assert stat.S_IMODE((tmp_path / KEY_FILE).stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / JWKS_FILE).stat().st_mode) == 0o644
    (jwk,) = json.loads((tmp_path / JWKS_FILE).read_text())["keys"]
    assert set(jwk) == {"kty", "crv", "x", "y", "kid", "use", "alg"}


def test_kid_is_the_thumbprint_of_the_key(tmp_path):
    create_local_keys(tmp_path)
    (jwk,) = json.loads((tmp_path / JWKS_FILE).read_text())["keys"]
    members = f'{{"crv":"P-256","kty":"EC","x":"{jwk["x"]}","y":"{jwk["y"]}"}}'
    assert jwk["kid"] == base64url(hashlib.sha256(members.encode()).digest())


def test_make_keys_never_overwrites_keys(tmp_path):
    create_local_keys(tmp_path)
    before = [(tmp_path / name).read_bytes() for name in (KEY_FILE, JWKS_FILE)]
    create_local_keys(tmp_path)
    assert before == [(tmp_path / name).read_bytes() for name in (KEY_FILE, JWKS_FILE)]


def test_make_keys_completes_a_missing_jwks_file(tmp_path):
    create_local_keys(tmp_path)
    jwks = (tmp_path / JWKS_FILE).read_bytes()
    (tmp_path / JWKS_FILE).unlink()
    create_local_keys(tmp_path)
    assert (tmp_path / JWKS_FILE).read_bytes() == jwks


def test_make_keys_creates_one_pair_from_many_threads(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(create_local_keys, [tmp_path] * 8))
    assert {path.name for path in tmp_path.iterdir()} == {KEY_FILE, JWKS_FILE}
    assert create_verifier(tmp_path / JWKS_FILE).verify(sign_test_token(tmp_path)).sub == "ward-monitor"


def test_make_keys_does_not_overwrite_another_kind_of_key(tmp_path):
    encoding = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    p384 = ec.generate_private_key(ec.SECP384R1()).private_bytes(*encoding)
    for content in (b"", b"x", p384, ed25519.Ed25519PrivateKey.generate().private_bytes(*encoding)):
        (tmp_path / KEY_FILE).write_bytes(content)
        with pytest.raises(VigilError, match=rf"{KEY_FILE}: not an unencrypted private key on the curve P-256"):
            create_local_keys(tmp_path)
        with pytest.raises(VigilError, match=KEY_FILE):
            sign_test_token(tmp_path)
        assert (tmp_path / KEY_FILE).read_bytes() == content
    assert not (tmp_path / JWKS_FILE).exists()


@pytest.mark.parametrize(
    ("changes", "message"),
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
def test_sign_token_refuses_invalid_terms(tmp_path, changes, message):
    create_local_keys(tmp_path)
    with pytest.raises(VigilError, match=message):
        sign_test_token(tmp_path, **changes)


def test_local_token_is_verified_with_the_keys_of_its_home(tmp_path):
    terms = {"subject": "local", "lifetime": timedelta(hours=1)}
    everything = create_local_token(tmp_path, scopes=None, wards=None, **terms)
    little = create_local_token(tmp_path, scopes=["risk:read"], wards=["icu-1"], **terms)
    tokens = TokenVerifier(issuer=LOCAL_ISSUER, audience=LOCAL_AUDIENCE, jwks=tmp_path / LOCAL_FOLDER / JWKS_FILE)
    unrestricted, restricted = tokens.verify(everything), tokens.verify(little)
    assert unrestricted == Caller("local", frozenset(SCOPES), None, unrestricted.expires_at)
    assert restricted == Caller("local", frozenset({"risk:read"}), frozenset({"icu-1"}), restricted.expires_at)
