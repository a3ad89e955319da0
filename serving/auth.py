"""Who calls: the bearer token (JWT) of a trusted issuer is verified and becomes a caller with scopes and wards.

Only asymmetric signatures count, and a key is bound to one algorithm (Sheffer Y, Hardt D, Jones M. RFC 8725, 2020): a token's
header does no more than choose among the issuer's keys. PyJWT checks form, signature, issuer and audience; times are checked
here, since PyJWT knows no clock but the machine's.
"""

import base64
import hashlib
import json
import logging
import math
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.client import HTTPException
from pathlib import Path
from typing import Any, Final
from urllib.error import HTTPError
from urllib.request import HTTPRedirectHandler, ProxyHandler, build_opener

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from features.errors import VigilError
from features.files import write_new

logger = logging.getLogger("vigil.serving")

SCOPES: Final[Mapping[str, str]] = {
    "observations:write": "send readings of patients",
    "patients:write": "register patients and move them between wards",
    "risk:read": "ask for the risk of a patient",
    "alarms:read": "see alarms",
    "alarms:write": "acknowledge and close alarms",
    "ward:read": "see the patients of a ward",
}
ALGORITHMS: Final = ("RS256", "PS256", "ES256", "EdDSA")
REQUIRED: Final = ("exp", "iat", "iss", "aud", "sub")
MAX_TOKEN_BYTES: Final = 8 * 1024
MAX_LIFETIME: Final = timedelta(hours=24)
LEEWAY_SECONDS: Final = 5  # between the issuer's clock and ours
KEY_FILE: Final = "token_key.pem"
JWKS_FILE: Final = "jwks.json"

RULES: Final[Mapping[str, str]] = {
    "missing": "expected a bearer token in the Authorization header; ask the issuer for one",
    "malformed": f"expected a signed JWT in compact form of at most {MAX_TOKEN_BYTES} bytes, without critical headers (crit)",
    "algorithm": f"expected the one of the issuer's key, of {', '.join(ALGORITHMS)}; have the issuer sign with that key",
    "unknown_key": "expected the kid of one of the issuer's keys, which may have been rotated; ask the issuer for a new token",
    "signature": "expected one made with the issuer's key over these very bytes; ask the issuer for a new token",
    "issuer": "expected iss to be the issuer this server trusts; ask that one for a token",
    "audience": "expected aud to name this server; ask the issuer for a token for it",
    "claims": f"expected {', '.join(REQUIRED)}, scope (if any) a string, wards (if any) a list of names; ask the issuer for it",
    "lifetime": f"expected exp within {MAX_LIFETIME / timedelta(hours=1):g} h of iat; ask the issuer for a shorter token",
    "not_yet_valid": "expected iat and nbf not in the future; compare the issuer's clock with this server's",
    "expired": "expected exp in the future; ask the issuer for a new token",
}
_RULE_OF: Final[Mapping[type[jwt.PyJWTError], str]] = {  # whatever else PyJWT refuses, it refuses for the claims
    jwt.DecodeError: "malformed",
    jwt.InvalidAlgorithmError: "algorithm",
    jwt.InvalidSignatureError: "signature",
    jwt.InvalidIssuerError: "issuer",
    jwt.InvalidAudienceError: "audience",
}
_OPTIONS: Final[jwt.types.Options] = {"require": [*REQUIRED], "verify_exp": False, "verify_iat": False, "verify_nbf": False}
_COMPACT: Final = re.compile(r"[\w-]+\.[\w-]+\.[\w-]*", flags=re.ASCII)  # PyJWT would let padding pass, too
_VERIFIED_KEPT: Final = 4096

_MAX_JWKS_BYTES: Final = 256 * 1024
_SECRET: Final = {"k", "d", "p", "q", "dp", "dq", "qi", "oth", "priv"}  # members that only secret keys have
# What a key of each type may be for. The first is meant where the key does not say.
_ALGORITHMS_OF: Final = {"RSA": ("RS256", "PS256"), "EC P-256": ("ES256",), "OKP Ed25519": ("EdDSA",)}
# Without a password, which would end up in logs.
_SAFE_URL: Final = re.compile(r"(https://[\w.-]+|http://(localhost|127\.0\.0\.1|\[::1]))(:\d+)?(/[!-~]*)?", flags=re.ASCII)
_FETCH_TIMEOUT_SECONDS: Final = 3
_PAUSE_SECONDS: Final = 10  # between fetches: tokens with made-up kids must not become requests to the issuer
_REFRESH_SECONDS: Final = 300  # how long a key that the issuer withdrew may still be used
_OUTAGE_SECONDS: Final = 3600  # and while the issuer cannot be reached: patients are watched on


class UnauthorizedError(VigilError):
    """A token is refused. ``rule`` is a key of :data:`RULES`, whose text is all that is said: nothing of the token is."""

    def __init__(self, rule: str) -> None:
        super().__init__(f"token: {rule}: {RULES[rule]}")
        self.rule = rule


class KeysUnavailableError(VigilError):
    """The issuer's keys cannot be had, so no token can be verified."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who a verified token speaks for. ``scopes``: keys of :data:`SCOPES`. ``wards``: those he may see; None: all."""

    subject: str
    scopes: frozenset[str]
    wards: frozenset[str] | None

    def may(self, scope: str) -> bool:
        return scope in self.scopes

    def may_see(self, ward: str) -> bool:
        return self.wards is None or ward in self.wards


# The usable keys of a JWKS as it was read once, by kid; an only key by None, too, since its tokens may leave the kid out.
_Keys = Mapping[str | None, jwt.PyJWK]


@dataclass(frozen=True, slots=True)
class _Verified:
    caller: Caller
    valid_from: float
    expires: float
    keys: _Keys


class Tokens:
    """Verifies the tokens of one issuer for one audience. Safe in threads; ``verify`` waits where keys must be fetched.

    ``jwks``: where the issuer publishes its keys, a file, which is read at once, or an https URL, fetched when first needed.
    What must not be used is a KeysUnavailableError from the beginning.
    """

    def __init__(
        self, *, issuer: str, audience: str, jwks: Path | str, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._issuer = issuer
        self._audience = audience
        self._clock = clock
        self._source = _KeyUrl(jwks) if isinstance(jwks, str) and "://" in jwks else _KeyFile(Path(jwks))
        self._verified: OrderedDict[bytes, _Verified] = OrderedDict()  # by digest: tokens themselves are not kept
        self._lock = threading.Lock()

    def verify(self, token: str) -> Caller:
        """Whom the token speaks for.

        Raises:
            UnauthorizedError: the token is refused.
            KeysUnavailableError: no token can be verified now.
        """
        if not token:
            raise UnauthorizedError("missing")
        if len(token) > MAX_TOKEN_BYTES or not _COMPACT.fullmatch(token):
            raise UnauthorizedError("malformed")
        now = self._clock().timestamp()
        digest = hashlib.sha256(token.encode()).digest()
        keys = self._source.keys(now)
        with self._lock:
            found = self._verified.get(digest)
        if found is None or found.keys is not keys:
            found = self._check(token, keys, now)
        if found.valid_from > now + LEEWAY_SECONDS:
            raise UnauthorizedError("not_yet_valid")
        if now >= found.expires + LEEWAY_SECONDS:
            raise UnauthorizedError("expired")
        with self._lock:
            self._verified[digest] = found
            self._verified.move_to_end(digest)
            if len(self._verified) > _VERIFIED_KEPT:
                self._verified.popitem(last=False)
        return found.caller

    def _check(self, token: str, keys: _Keys, now: float) -> _Verified:
        """All but whether it is the time for it."""
        try:
            header = jwt.get_unverified_header(token)
        except jwt.PyJWTError:
            raise UnauthorizedError("malformed") from None
        if "crit" in header:
            raise UnauthorizedError("malformed")
        if header.get("alg") not in ALGORITHMS:
            raise UnauthorizedError("algorithm")
        kid = header.get("kid")
        if kid is not None and kid not in keys:
            keys = self._source.keys(now, unknown=True)
        if (key := keys.get(kid)) is None:
            raise UnauthorizedError("unknown_key")
        bound = [key.algorithm_name]
        try:
            claims = jwt.decode(token, key, bound, _OPTIONS, issuer=self._issuer, audience=self._audience)
        except jwt.PyJWTError as error:
            raise UnauthorizedError(_RULE_OF.get(type(error), "claims")) from None
        issued, expires = _time(claims["iat"]), _time(claims["exp"])
        if not 0 < expires - issued <= MAX_LIFETIME.total_seconds():
            raise UnauthorizedError("lifetime" if expires > issued else "claims")
        return _Verified(_caller(claims), max(issued, _time(claims.get("nbf", 0))), expires, keys)


def _time(value: object) -> float:
    """Seconds since 1970, within the range of the time types. A flag would be an int to Python."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e11:
        raise UnauthorizedError("claims")
    return float(value)


def _caller(claims: Mapping[str, Any]) -> Caller:
    """Without a scope he may do nothing. Without wards he may see all, so what stands there must be sound."""
    scope, wards = claims.get("scope", ""), claims.get("wards", ["all"])  # null is not absent
    sound = isinstance(scope, str) and isinstance(wards, list) and wards and all(map(_is_name, [claims["sub"], *wards]))
    if not sound:
        raise UnauthorizedError("claims")
    scopes = frozenset(scope.split(" ")) & SCOPES.keys()
    return Caller(claims["sub"], scopes, frozenset(wards) if "wards" in claims else None)


def _is_name(value: object) -> bool:
    """Whether it can stand in a line of a log."""
    return isinstance(value, str) and 0 < len(value) <= 255 and value.isprintable()


class _KeyFile:
    """A JWKS file, read again whenever it has changed. One that has become unusable is no reason to go on with the old keys."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._version: object = None
        self._keys = self.keys(0)

    def keys(self, now: float, *, unknown: bool = False) -> _Keys:  # noqa: ARG002 - a file is always up to date
        with self._lock:
            try:
                stat = self._path.stat()
                version = (stat.st_mtime_ns, stat.st_ino, stat.st_size)
                if version != self._version:
                    self._keys = _read_keys(self._path.read_bytes(), str(self._path))
                    self._version = version
            except OSError as error:
                raise KeysUnavailableError(
                    f"{self._path}: cannot be read ({type(error).__name__}); expected the issuer's public keys (JWKS) there"
                ) from None
            return self._keys


class _KeyUrl:
    """A JWKS that is fetched, and fetched again now and then and for a kid that is not in it.

    PyJWT's own client neither refuses secret keys nor spares an issuer that does not answer.
    """

    def __init__(self, url: str) -> None:
        if not _SAFE_URL.fullmatch(url):
            raise KeysUnavailableError("jwks: expected an https URL without a password; http is for 127.0.0.1 only")
        self._url = url
        # A redirect could lead away from https. Plain http stays on this machine, so it takes no proxy.
        self._opener = build_opener(_NoRedirect, ProxyHandler({} if url.startswith("http:") else None))
        self._lock = threading.Lock()
        self._keys: _Keys = {}
        self._tried_at = self._fetched_at = -math.inf
        self._problem = ""

    def keys(self, now: float, *, unknown: bool = False) -> _Keys:
        needed = unknown or now - self._fetched_at > _OUTAGE_SECONDS
        # Who only refreshes does not wait for another who is at it. abs: a clock may be set back.
        if (needed or abs(now - self._fetched_at) >= _REFRESH_SECONDS) and self._lock.acquire(blocking=needed):
            try:
                self._refresh(now)
            finally:
                self._lock.release()
        if now - self._fetched_at > _OUTAGE_SECONDS:
            raise KeysUnavailableError(self._problem)
        return self._keys

    def _refresh(self, now: float) -> None:
        if abs(now - self._tried_at) < _PAUSE_SECONDS:
            return
        self._tried_at = now
        try:
            with self._opener.open(self._url, timeout=_FETCH_TIMEOUT_SECONDS) as answer:
                text = answer.read(_MAX_JWKS_BYTES + 1)
            self._keys, self._fetched_at = _read_keys(text, self._url), now
        except (OSError, OverflowError, HTTPException) as error:  # overflow: of the port
            if isinstance(error, HTTPError):
                error.close()
            self._problem = f"{self._url}: cannot be fetched ({type(error).__name__}); expected the issuer's public keys (JWKS)"
            logger.warning("%s", self._problem)
        except KeysUnavailableError as error:
            self._fetched_at, self._problem = -math.inf, str(error)
            logger.error("%s", self._problem)  # noqa: TRY400 - the message says it all


class _NoRedirect(HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        """None: the redirect is an error."""


def _read_keys(text: bytes, where: str) -> _Keys:
    """The keys of a JWKS that we can use; a set that holds a secret is refused whole, since who can read it can sign."""
    try:
        jwks = json.loads(text)["keys"] if len(text) <= _MAX_JWKS_BYTES else None
    except (ValueError, TypeError, LookupError, RecursionError):
        jwks = None
    if not isinstance(jwks, list) or not all(isinstance(jwk, dict) for jwk in jwks):
        raise KeysUnavailableError(f'{where}: expected a JWKS, {{"keys": [...]}}, of at most {_MAX_JWKS_BYTES} bytes')
    if any(jwk.get("kty") == "oct" or not _SECRET.isdisjoint(jwk) for jwk in jwks):
        raise KeysUnavailableError(
            f"{where}: holds a symmetric (oct) or private key; expected public keys only; take it out and trust it no more"
        )
    keys = [_read_key(jwk, algorithm, where) for jwk in jwks if (algorithm := _algorithm_of(jwk))]
    if not keys:
        raise KeysUnavailableError(f"{where}: no key for {', '.join(ALGORITHMS)}; expected at least one for signatures")
    if len({key.key_id for key in keys} - {None}) < len(keys) > 1:
        raise KeysUnavailableError(f"{where}: kid missing or not unique; expected a name of its own for each of several keys")
    return {key.key_id: key for key in keys} | ({None: keys[0]} if len(keys) == 1 else {})


def _algorithm_of(jwk: Mapping[str, Any]) -> str | None:
    """The one algorithm a key is for; None where it is for none of ours, as issuers publish keys for other purposes, too."""
    possible = _ALGORITHMS_OF.get(" ".join(str(jwk[member]) for member in ("kty", "crv") if member in jwk), ())
    operations = jwk.get("key_ops", ["verify"])
    if not possible or jwk.get("use", "sig") != "sig" or not isinstance(operations, list) or "verify" not in operations:
        return None
    return next((algorithm for algorithm in possible if algorithm == jwk.get("alg", possible[0])), None)


def _read_key(jwk: dict[str, Any], algorithm: str, where: str) -> jwt.PyJWK:
    try:
        key = jwt.PyJWK(jwk, algorithm)
        if isinstance(key.key_id, str | None) and not key.Algorithm.check_key_length(key.key):
            return key
    except jwt.PyJWTError:
        pass
    raise KeysUnavailableError(f"{where}: bad key for {algorithm}; expected the form of RFC 7517, RSA keys from 2048 bits on")


def make_keys(folder: Path) -> None:
    """A key pair for local use, where there is none: :data:`KEY_FILE`, for its owner only, and :data:`JWKS_FILE`."""
    path = folder / KEY_FILE
    if not path.exists():
        form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        write_new(path, ec.generate_private_key(ec.SECP256R1()).private_bytes(*form), 0o600)
    jwk = _public_jwk(_private_key(path.read_bytes()))  # whoever wrote it
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
    if not all(map(_is_name, [subject, *(wards or [])])) or (wards is not None and not wards):
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
