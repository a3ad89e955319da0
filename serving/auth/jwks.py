"""The keys of an issuer of tokens: a set in JSON (JWKS: Jones M. RFC 7517, 2015), from a file or behind a URL.

Public keys only, each for one algorithm.
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

from features.errors import VigilError

logger = logging.getLogger("vigil.serving")

ALGORITHMS: Final = ("RS256", "PS256", "ES256", "EdDSA")

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


class KeysUnavailableError(VigilError):
    """The issuer's keys cannot be had, so no token can be verified."""


# The usable keys of a JWKS as it was read once, by kid; an only key by None, too, since its tokens may leave the kid out.
Keys = Mapping[str | None, jwt.PyJWK]


class KeyFile:
    """A JWKS file, read again whenever it has changed. One that has become unusable is no reason to go on with the old keys."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._version: object = None
        self._keys = self.keys(0)

    def keys(self, now: float, *, unknown: bool = False) -> Keys:  # noqa: ARG002 - a file is always up to date
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


class KeyUrl:
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
        self._keys: Keys = {}
        self._tried_at = self._fetched_at = -math.inf
        self._problem = ""

    def keys(self, now: float, *, unknown: bool = False) -> Keys:
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


def _read_keys(text: bytes, where: str) -> Keys:
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
    read = [_read_key(jwk, algorithm) for jwk in jwks if (algorithm := _algorithm_of(jwk))]
    keys = [key for key in read if isinstance(key, jwt.PyJWK)]
    for unusable in read:
        if isinstance(unusable, str):
            bad = f"{where}: bad key for {unusable}; expected the form of RFC 7517, RSA keys from 2048 bits on"
            if not keys:
                raise KeysUnavailableError(bad)
            logger.warning("%s; it is left out", bad)
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


def _read_key(jwk: dict[str, Any], algorithm: str) -> jwt.PyJWK | str:
    """The key, or its algorithm where it cannot be used: the others count all the same (RFC 7517, section 5)."""
    try:
        key = jwt.PyJWK(jwk, algorithm)
        if isinstance(key.key_id, str | None) and not key.Algorithm.check_key_length(key.key):
            return key
    except jwt.PyJWTError:
        pass
    return algorithm
