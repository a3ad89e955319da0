"""Verification of an id_token: who logged in, as the issuer signed it for this very login.

Source: OpenID Connect Core 1.0, section 3.1.3.7 (https://openid.net/specs/openid-connect-core-1_0.html).
"""

import hmac
import re
from typing import Any, Final

import jwt

from vigil.serving.auth.jwks import JwksUrl, KeysUnavailableError
from vigil.serving.auth.tokens import is_printable_name
from vigil.serving.login.errors import LoginError
from vigil.serving.login.issuers import ID_TOKEN_ALGORITHMS

MAX_BYTES: Final = 16 * 1024
LEEWAY_SECONDS: Final = 60  # by which the clocks of the issuer and of this server may differ
_ALGORITHMS: Final = [name for names in ID_TOKEN_ALGORITHMS.values() for name in names]
_REQUIRED: Final = ["iss", "aud", "sub", "exp", "iat", "nonce"]
_OPTIONS: Final[jwt.types.Options] = {"require": _REQUIRED, "verify_exp": False, "verify_iat": False, "verify_nbf": False}
_COMPACT: Final = re.compile(r"[\w-]+\.[\w-]+\.[\w-]+", flags=re.ASCII)


def verify_id_token(token: object, *, issuer: str, client_id: str, nonce: str, keys: JwksUrl, now: float) -> dict[str, Any]:
    """Return the claims of an id_token. May wait for the issuer's keys.

    Args:
        token: as the token endpoint gave it.
        issuer: the expected ``iss``.
        client_id: the expected ``aud``.
        nonce: that of the login.
        keys: the issuer's.
        now: seconds since 1970.

    Raises:
        LoginError: it is refused. The message says which rule failed, and nothing of the token.
    """
    if not isinstance(token, str) or len(token) > MAX_BYTES or not _COMPACT.fullmatch(token):
        raise _refused("form", "expected a signed JWT. The issuer gives one for the scope openid.")
    try:
        header = jwt.get_unverified_header(token)
    except jwt.PyJWTError:
        raise _refused("form", "expected a signed JWT") from None
    if header.get("alg") not in _ALGORITHMS or "crit" in header:
        raise _refused("alg", f"expected one of {', '.join(_ALGORITHMS)}, without critical headers")
    key = _find_key(header, keys, now)
    try:
        claims = jwt.decode(token, key, [header["alg"]], _OPTIONS, issuer=issuer, audience=client_id)
    except jwt.InvalidSignatureError:
        raise _refused("signature", "expected a signature of the issuer's key") from None
    except jwt.InvalidIssuerError:
        raise _refused("iss", "expected the issuer that the configuration names") from None
    except jwt.InvalidAudienceError:
        raise _refused("aud", "expected the client_id of login.toml") from None
    except jwt.PyJWTError:
        raise _refused("claims", f"expected {', '.join(_REQUIRED)}") from None
    _require_claims(claims, client_id, nonce, now)
    return claims


def _find_key(header: dict[str, Any], keys: JwksUrl, now: float) -> jwt.PyJWK:
    kid = header.get("kid")
    try:
        known = keys.get_keys(now)
        if kid not in known:
            known = keys.get_keys(now, kid_is_unknown=True)
    except KeysUnavailableError:
        raise LoginError("keys", "issuer: its keys cannot be fetched. Try again.", 502) from None
    key = known.get(kid) if isinstance(kid, str | None) else None
    if key is None or key.algorithm_name != header["alg"]:
        raise _refused("kid", "expected one of the issuer's keys, of the algorithm of the header")
    return key


def _require_claims(claims: dict[str, Any], client_id: str, nonce: str, now: float) -> None:
    if not isinstance(claims["nonce"], str) or not hmac.compare_digest(claims["nonce"].encode(), nonce.encode()):
        raise _refused("nonce", "expected that of this login")
    if claims.get("azp", client_id) != client_id or (isinstance(claims["aud"], list) and len(claims["aud"]) > 1):
        raise _refused("aud", "expected no other client beside the client_id of login.toml")
    if not is_printable_name(claims["sub"]):
        raise _refused("sub", "expected 1 to 255 printable characters")
    for name in ("exp", "iat", "nbf"):
        value = claims.get(name, 0)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e11:
            raise _refused(name, "expected seconds since 1970")
    if claims["exp"] + LEEWAY_SECONDS <= now:
        raise _refused("exp", "expected a time in the future")
    if max(claims["iat"], claims.get("nbf", 0)) > now + LEEWAY_SECONDS:
        raise _refused("iat", "expected a time that is not in the future. Compare the issuer's clock with this server's.")


def _refused(rule: str, expected: str) -> LoginError:
    return LoginError(rule, f"id_token: {rule}: {expected}", 403)
