"""Keys and tokens for local use: let in as an issuer's are, and kept as a secret is."""

import hashlib
import json
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from features.errors import VigilError
from serving.auth.local_tokens import (
    JWKS_FILE,
    KEY_FILE,
    LOCAL_AUDIENCE,
    LOCAL_FOLDER,
    LOCAL_ISSUER,
    local_token,
    make_keys,
    mint,
)
from serving.auth.tokens import LEEWAY_SECONDS, MAX_LIFETIME, SCOPES, Caller, Tokens
from tests.serving.tokens import AUDIENCE, ISSUER, NOW, SECOND, at, base64url, refused


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
    expected = Caller("ward-monitor", frozenset({"risk:read"}), frozenset({"icu-1"}), SECOND + 3600)
    assert tokens.verify(minted(tmp_path / "new" / "home")) == expected
    token = minted(tmp_path / "new" / "home", wards=None, scopes=SCOPES, lifetime=MAX_LIFETIME)
    assert tokens.verify(token) == Caller("ward-monitor", frozenset(SCOPES), None, SECOND + MAX_LIFETIME.total_seconds())
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


def test_a_home_lets_in_whom_it_gave_a_token(tmp_path):
    terms = {"subject": "local", "lifetime": timedelta(hours=1)}
    everything = local_token(tmp_path, scopes=None, wards=None, **terms)
    little = local_token(tmp_path, scopes=["risk:read"], wards=["icu-1"], **terms)
    tokens = Tokens(issuer=LOCAL_ISSUER, audience=LOCAL_AUDIENCE, jwks=tmp_path / LOCAL_FOLDER / JWKS_FILE)
    whole, part = tokens.verify(everything), tokens.verify(little)
    assert whole == Caller("local", frozenset(SCOPES), None, whole.expires)
    assert part == Caller("local", frozenset({"risk:read"}), frozenset({"icu-1"}), part.expires)
