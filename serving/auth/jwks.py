"""Public signing keys of a token issuer, read as a JSON Web Key Set (JWKS; Jones M. RFC 7517, 2015) from a file or a URL.

Only public keys are accepted. Each key is bound to one algorithm, which for Ed25519 has two names.
"""

import json
import logging
import math
import re
import threading
from collections.abc import Mapping
from http.client import HTTPException
from pathlib import Path
from typing import Any, Final
from urllib.error import HTTPError
from urllib.request import HTTPRedirectHandler, ProxyHandler, build_opener

import jwt

from vigil.features.errors import VigilError

logger = logging.getLogger("vigil.serving")

ED25519_NAMES: Final = ("EdDSA", "Ed25519")  # one algorithm; the second name says the curve, too (Jones M. RFC 9864, 2025)

_MAX_JWKS_BYTES: Final = 256 * 1024
_SECRET_MEMBERS: Final = {"k", "d", "p", "q", "dp", "dq", "qi", "oth", "priv"}  # only secret keys have these JWK members
Algorithms = Mapping[str, tuple[str, ...]]  # allowed for each type of key; the first is the default for a key without "alg"
TOKEN_ALGORITHMS: Final[Algorithms] = {"RSA": ("RS256", "PS256"), "EC P-256": ("ES256",), "OKP Ed25519": ED25519_NAMES}
ALGORITHMS: Final = tuple(name for own in TOKEN_ALGORITHMS.values() for name in own)
# A URL with a password does not match: the password would end up in logs.
_SAFE_URL: Final = re.compile(r"(https://[\w.-]+|http://(localhost|127\.0\.0\.1|\[::1]))(:\d+)?(/[!-~]*)?", flags=re.ASCII)
_FETCH_TIMEOUT_SECONDS: Final = 3
_MIN_SECONDS_BETWEEN_FETCHES: Final = 10  # so that tokens with invented kids do not flood the issuer
_REFRESH_SECONDS: Final = 300  # a key that the issuer has withdrawn is used no longer than this
_OUTAGE_SECONDS: Final = 3600  # keys stay valid this long while the issuer cannot be reached, so that monitoring goes on


class KeysUnavailableError(VigilError):
    """The issuer's signing keys are unavailable, so no token can be verified."""


# Usable keys of one version of a JWKS, by kid. A single key is also stored under None: its tokens may omit the kid.
KeysByKid = Mapping[str | None, jwt.PyJWK]


class JwksFile:
    """A JWKS file. It is read again after each change; if the new content is unusable, the old keys are not used either."""

    def __init__(self, path: Path, algorithms: Algorithms = TOKEN_ALGORITHMS) -> None:
        self._path, self._algorithms = path, algorithms
        self._lock = threading.Lock()
        self._version: object = None
        self._keys = self.get_keys(0)

    def get_keys(self, now: float, *, kid_is_unknown: bool = False) -> KeysByKid:  # noqa: ARG002 - a file is always current
        """Return the keys that the file holds now.

        Raises:
            KeysUnavailableError: the file cannot be read or used.
        """
        with self._lock:
            try:
                stat = self._path.stat()
                version = (stat.st_mtime_ns, stat.st_ino, stat.st_size)
                if version != self._version:
                    self._keys = _parse_jwks(self._path.read_bytes(), str(self._path), self._algorithms)
                    self._version = version
            except OSError as error:
                raise KeysUnavailableError(
                    f"{self._path}: cannot be read ({type(error).__name__}); expected the issuer's public keys (JWKS) there"
                ) from None
            return self._keys


class JwksUrl:
    """A JWKS behind a URL. It is fetched when first needed, every 5 minutes after that, and for an unknown kid.

    PyJWT's own client is not used: it accepts secret keys and keeps asking an issuer that does not answer.
    """

    def __init__(self, url: str, algorithms: Algorithms = TOKEN_ALGORITHMS) -> None:
        if not is_safe_url(url):
            raise KeysUnavailableError("jwks: expected an https URL without a password; http is for 127.0.0.1 only")
        self._url, self._algorithms = url, algorithms
        # A redirect could lead away from https. Plain http stays on this machine, so it uses no proxy.
        self._opener = build_opener(_NoRedirect, ProxyHandler({} if url.startswith("http:") else None))
        self._lock = threading.Lock()
        self._keys: KeysByKid = {}
        self._tried_at = self._fetched_at = -math.inf
        self._problem = ""

    def get_keys(self, now: float, *, kid_is_unknown: bool = False) -> KeysByKid:
        """Return the issuer's keys, fetched again if necessary.

        Args:
            now: seconds since 1970.
            kid_is_unknown: a token names a kid that the last keys do not have.

        Raises:
            KeysUnavailableError: no usable keys were fetched within the last hour.
        """
        must_wait = kid_is_unknown or now - self._fetched_at > _OUTAGE_SECONDS
        # A routine refresh does not wait for another thread that is refreshing. abs: a clock may be set back.
        if (must_wait or abs(now - self._fetched_at) >= _REFRESH_SECONDS) and self._lock.acquire(blocking=must_wait):
            try:
                self._refresh(now)
            finally:
                self._lock.release()
        if now - self._fetched_at > _OUTAGE_SECONDS:
            raise KeysUnavailableError(self._problem)
        return self._keys

    def _refresh(self, now: float) -> None:
        if abs(now - self._tried_at) < _MIN_SECONDS_BETWEEN_FETCHES:
            return
        self._tried_at = now
        try:
            with self._opener.open(self._url, timeout=_FETCH_TIMEOUT_SECONDS) as answer:
                text = answer.read(_MAX_JWKS_BYTES + 1)
            self._keys, self._fetched_at = _parse_jwks(text, self._url, self._algorithms), now
        except (OSError, OverflowError, HTTPException) as error:  # OverflowError: the port number is too large
            if isinstance(error, HTTPError):
                error.close()
            self._problem = f"{self._url}: cannot be fetched ({type(error).__name__}); expected the issuer's public keys (JWKS)"
            logger.warning("%s", self._problem)
        except KeysUnavailableError as error:
            self._fetched_at, self._problem = -math.inf, str(error)
            logger.error("%s", self._problem)  # noqa: TRY400 - the message is complete without a traceback


def is_safe_url(url: str) -> bool:
    """Return whether a URL leads over https, or to this machine, and holds no password."""
    return _SAFE_URL.fullmatch(url) is not None


class _NoRedirect(HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        """Return None, which makes every redirect an error."""


def _parse_jwks(text: bytes, source: str, algorithms: Algorithms) -> KeysByKid:
    """Return the usable keys of a JWKS.

    A set with a secret key is refused as a whole: anyone who can read it can sign tokens.
    """
    try:
        jwks = json.loads(text)["keys"] if len(text) <= _MAX_JWKS_BYTES else None
    except (ValueError, TypeError, LookupError, RecursionError):
        jwks = None
    if not isinstance(jwks, list) or not all(isinstance(jwk, dict) for jwk in jwks):
        raise KeysUnavailableError(f'{source}: expected a JWKS, {{"keys": [...]}}, of at most {_MAX_JWKS_BYTES} bytes')
    if any(jwk.get("kty") == "oct" or not _SECRET_MEMBERS.isdisjoint(jwk) for jwk in jwks):
        raise KeysUnavailableError(
            f"{source}: holds a symmetric (oct) or private key; expected public keys only; "
            "remove that key and stop using it, since others may have read it"
        )
    parsed = [_parse_key(jwk, algorithm) for jwk in jwks if (algorithm := _find_algorithm(jwk, algorithms))]
    keys = [key for key in parsed if isinstance(key, jwt.PyJWK)]
    for unusable in parsed:
        if isinstance(unusable, str):
            message = f"{source}: bad key for {unusable}; expected the form of RFC 7517, RSA keys of at least 2048 bits"
            if not keys:
                raise KeysUnavailableError(message)
            logger.warning("%s; the key is ignored", message)
    if not keys:
        names = ", ".join(name for own in algorithms.values() for name in own)
        raise KeysUnavailableError(f"{source}: no key for {names}; expected at least one for signatures")
    if len({key.key_id for key in keys} - {None}) < len(keys) > 1:
        raise KeysUnavailableError(f"{source}: kid missing or not unique; expected a different kid for each of several keys")
    return {key.key_id: key for key in keys} | ({None: keys[0]} if len(keys) == 1 else {})


def _find_algorithm(jwk: Mapping[str, Any], algorithms: Algorithms) -> str | None:
    """Return the one algorithm that a key is for; None for a key of another purpose, which issuers publish, too."""
    possible = algorithms.get(" ".join(str(jwk[member]) for member in ("kty", "crv") if member in jwk), ())
    operations = jwk.get("key_ops", ["verify"])
    if not possible or jwk.get("use", "sig") != "sig" or not isinstance(operations, list) or "verify" not in operations:
        return None
    return next((algorithm for algorithm in possible if algorithm == jwk.get("alg", possible[0])), None)


def _parse_key(jwk: dict[str, Any], algorithm: str) -> jwt.PyJWK | str:
    """Return the key, or its algorithm if the key cannot be used. The other keys still count (RFC 7517, section 5)."""
    try:
        key = jwt.PyJWK(jwk, "EdDSA" if algorithm in ED25519_NAMES else algorithm)  # PyJWT knows the older name only
        if isinstance(key.key_id, str | None) and not key.Algorithm.check_key_length(key.key):
            return key
    except jwt.PyJWTError:
        pass
    return algorithm
