"""Who calls: the bearer token (JWT) of a trusted issuer is verified and becomes a caller with scopes and wards.

Only asymmetric signatures count, and a key is bound to one algorithm (Sheffer Y, Hardt D, Jones M. RFC 8725, 2020): a token's
header does no more than choose among the issuer's keys. PyJWT checks form, signature, issuer and audience; times are checked
here, since PyJWT knows no clock but the machine's.
"""

import hashlib
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import jwt

from features.errors import VigilError
from serving.auth.jwks import ALGORITHMS, KeyFile, Keys, KeyUrl

SCOPES: Final[Mapping[str, str]] = {
    "observations:write": "send readings of patients",
    "patients:write": "register patients and move them between wards",
    "risk:read": "ask for the risk of a patient",
    "alarms:read": "see alarms",
    "alarms:write": "acknowledge and close alarms",
    "ward:read": "see the patients of a ward",
}
REQUIRED: Final = ("exp", "iat", "iss", "aud", "sub")
MAX_TOKEN_BYTES: Final = 8 * 1024
MAX_LIFETIME: Final = timedelta(hours=24)
LEEWAY_SECONDS: Final = 5  # between the issuer's clock and ours

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


class UnauthorizedError(VigilError):
    """A token is refused. ``rule`` is a key of :data:`RULES`, whose text is all that is said: nothing of the token is."""

    def __init__(self, rule: str) -> None:
        super().__init__(f"token: {rule}: {RULES[rule]}")
        self.rule = rule


@dataclass(frozen=True, slots=True)
class Caller:
    """Who a verified token speaks for, and until when.

    Attributes:
        scopes: keys of :data:`SCOPES`.
        wards: those he may see; None: all.
        expires: seconds since 1970.
    """

    subject: str
    scopes: frozenset[str]
    wards: frozenset[str] | None
    expires: float

    def may(self, scope: str) -> bool:
        return scope in self.scopes

    def may_see(self, ward: str) -> bool:
        return self.wards is None or ward in self.wards


@dataclass(frozen=True, slots=True)
class _Verified:
    caller: Caller
    valid_from: float
    keys: Keys


class Tokens:
    """Verifies the tokens of one issuer for one audience. Safe in threads; ``verify`` waits where keys must be fetched.

    ``jwks``: where the issuer publishes its keys, a file, which is read at once, or an https URL, fetched when first needed.
    What must not be used is a KeysUnavailableError from the beginning. ``waits``: whether ``verify`` may wait for a network.
    """

    def __init__(
        self, *, issuer: str, audience: str, jwks: Path | str, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._issuer = issuer
        self._audience = audience
        self._clock = clock
        self.waits = isinstance(jwks, str) and "://" in jwks
        self._source = KeyUrl(str(jwks)) if self.waits else KeyFile(Path(jwks))
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
        if now >= found.caller.expires + LEEWAY_SECONDS:
            raise UnauthorizedError("expired")
        with self._lock:
            self._verified[digest] = found
            self._verified.move_to_end(digest)
            if len(self._verified) > _VERIFIED_KEPT:
                self._verified.popitem(last=False)
        return found.caller

    def require_keys(self) -> None:
        """For a readiness check: see that there are keys; waits where they must be fetched.

        Raises:
            KeysUnavailableError: no token can be verified now.
        """
        self._source.keys(self._clock().timestamp())

    def _check(self, token: str, keys: Keys, now: float) -> _Verified:
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
        return _Verified(_caller(claims, expires), max(issued, _time(claims.get("nbf", 0))), keys)


def _time(value: object) -> float:
    """Seconds since 1970, within the range of the time types. A flag would be an int to Python."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e11:
        raise UnauthorizedError("claims")
    return float(value)


def _caller(claims: Mapping[str, Any], expires: float) -> Caller:
    """Without a scope he may do nothing. Without wards he may see all, so what stands there must be sound."""
    scope, wards = claims.get("scope", ""), claims.get("wards", ["all"])  # null is not absent
    sound = isinstance(scope, str) and isinstance(wards, list) and wards and all(map(is_name, [claims["sub"], *wards]))
    if not sound:
        raise UnauthorizedError("claims")
    scopes = frozenset(scope.split(" ")) & SCOPES.keys()
    return Caller(claims["sub"], scopes, frozenset(wards) if "wards" in claims else None, expires)


def is_name(value: object) -> bool:
    """Whether it can stand in a line of a log."""
    return isinstance(value, str) and 0 < len(value) <= 255 and value.isprintable()
