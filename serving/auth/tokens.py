"""Verification of bearer tokens (JWT): a token of the trusted issuer becomes a caller with scopes and wards.

Only asymmetric signatures are accepted, and each key is bound to one algorithm (Sheffer Y, Hardt D, Jones M. RFC 8725, 2020). A
token's header only selects one of the issuer's keys. PyJWT checks form, signature, issuer and audience. Times are checked here,
because PyJWT always uses the machine's clock.
"""

import copy
import hashlib
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, NamedTuple

import jwt

from vigil.features.errors import VigilError
from vigil.serving.auth.jwks import ALGORITHMS, ED25519_NAMES, JwksFile, JwksUrl, KeysByKid
from vigil.serving.auth.smart_scopes import Permissions, intersection, own_scopes, parse_smart_scopes, permissions_of, union

SCOPES: Final[Mapping[str, str]] = {
    "observations:write": "send observations of patients",
    "patients:write": "register patients and move them between wards",
    "risk:read": "ask for the risk of a patient",
    "alarms:read": "see alarms",
    "alarms:write": "acknowledge and close alarms",
    "terms:write": "decide the SpO2 scale, alarm thresholds and limits of single patients",
    "ward:read": "see the patients of a ward",
    "operations:read": "see how sources, the model and the server are doing, without patients",
}
REQUIRED: Final = ("exp", "iat", "iss", "aud", "sub")
MAX_TOKEN_BYTES: Final = 8 * 1024
MAX_LIFETIME: Final = timedelta(hours=24)
LEEWAY_SECONDS: Final = 5  # by which the issuer's clock and this server's may differ


class TokenRule(NamedTuple):
    """Why a token is refused: what was expected, and what the caller can do."""

    expected: str
    action: str

    def __str__(self) -> str:
        return f"{self.expected} {self.action}"


_RENEW: Final = "Get a new token from the issuer."

RULES: Final[Mapping[str, TokenRule]] = {
    "missing": TokenRule("expected one Authorization header, with a bearer token.", "Get one from the issuer."),
    "malformed": TokenRule(
        f"expected a signed JWT in compact form, of at most {MAX_TOKEN_BYTES} bytes, without critical headers (crit).",
        "Send the token exactly as the issuer made it.",
    ),
    "algorithm": TokenRule(
        f"expected the algorithm of the issuer's key, one of {', '.join(ALGORITHMS)}.",
        "Have the issuer sign with that algorithm.",
    ),
    "unknown_key": TokenRule("expected the kid of one of the issuer's keys. The issuer may have rotated its keys.", _RENEW),
    "signature": TokenRule("expected a signature of the issuer's key over exactly these bytes.", _RENEW),
    "issuer": TokenRule("expected iss to be the issuer that this server trusts.", "Get a token from that issuer."),
    "audience": TokenRule("expected aud to name this server.", "Get a token for this server from the issuer."),
    "claims": TokenRule(
        f"expected {', '.join(REQUIRED)}; scope or scp, if present, as a string or a list of strings; wards, if present, as a "
        "list of names.",
        "Have the issuer correct the claims.",
    ),
    "lifetime": TokenRule(
        f"expected exp at most {MAX_LIFETIME / timedelta(hours=1):g} h after iat.", "Get a token with a shorter lifetime."
    ),
    "not_yet_valid": TokenRule("expected iat and nbf not in the future.", "Compare the issuer's clock with this server's."),
    "expired": TokenRule("expected exp in the future.", _RENEW),
}
_RULE_BY_ERROR: Final[Mapping[type[jwt.PyJWTError], str]] = {  # every other error of PyJWT means "claims"
    jwt.DecodeError: "malformed",
    jwt.InvalidAlgorithmError: "algorithm",
    jwt.InvalidSignatureError: "signature",
    jwt.InvalidIssuerError: "issuer",
    jwt.InvalidAudienceError: "audience",
}
_OPTIONS: Final[jwt.types.Options] = {"require": [*REQUIRED], "verify_exp": False, "verify_iat": False, "verify_nbf": False}
_COMPACT: Final = re.compile(r"[\w-]+\.[\w-]+\.[\w-]*", flags=re.ASCII)  # stricter than PyJWT, which accepts padding
_MAX_CACHED_TOKENS: Final = 4096


class UnauthorizedError(VigilError):
    """A refused token. ``rule`` is a key of :data:`RULES`. The message holds that rule's text and nothing of the token."""

    def __init__(self, rule: str) -> None:
        super().__init__(f"token: {rule}: {RULES[rule]}")
        self.rule = rule


@dataclass(frozen=True, slots=True)
class Caller:
    """The sender of a request, as stated by a verified token.

    Attributes:
        sub: the subject of the token, as RFC 7519 calls the caller.
        scopes: keys of :data:`SCOPES`.
        wards: the wards the caller may see; None: all wards.
        expires_at: the time at which the token expires, in seconds since 1970.
        permissions: what the caller may do with FHIR resources.
    """

    sub: str
    scopes: frozenset[str]
    wards: frozenset[str] | None
    expires_at: float
    permissions: Permissions = field(default_factory=dict, compare=False)

    def has_scope(self, scope: str) -> bool:
        """Return whether the token has a scope."""
        return scope in self.scopes

    def may(self, interaction: str, resource: str) -> bool:
        """Return whether the token allows an interaction (a letter of ``cruds``) with a type of FHIR resource."""
        return interaction in self.permissions.get(resource, ())

    def can_see(self, ward: str) -> bool:
        """Return whether the token covers a ward."""
        return self.wards is None or ward in self.wards


@dataclass(frozen=True, slots=True)
class _VerifiedToken:
    caller: Caller
    valid_from: float
    keys: KeysByKid


@dataclass(frozen=True, slots=True)
class _Issuer:
    name: str
    audience: str
    jwks: JwksFile | JwksUrl


class TokenVerifier:
    """Verifier of the tokens of one issuer for one audience. It is thread-safe.

    Verified tokens are cached by their digest. The cache does not hold the tokens themselves.

    Args:
        issuer: the expected ``iss``.
        audience: the expected ``aud``.
        jwks: the issuer's public keys: a file, read at once, or an https URL, fetched when first needed.
        clock: returns the present.
        own: issuer, audience and keys of the tokens that this server itself issues, if they are others.

    Attributes:
        may_block: whether :meth:`verify` may wait for a network, to fetch keys.

    Raises:
        KeysUnavailableError: the keys in the file, or the URL, cannot be used.
    """

    def __init__(
        self,
        *,
        issuer: str,
        audience: str,
        jwks: Path | str,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        own: tuple[str, str, Path] | None = None,
    ) -> None:
        self._clock = clock
        self.may_block = isinstance(jwks, str) and "://" in jwks
        self._trusted = _Issuer(issuer, audience, JwksUrl(str(jwks)) if self.may_block else JwksFile(Path(jwks)))
        self._own = None if own is None or own[0] == issuer else _Issuer(own[0], own[1], JwksFile(own[2]))
        self._verified: OrderedDict[bytes, _VerifiedToken] = OrderedDict()
        self._lock = threading.Lock()

    def verify(self, token: str) -> Caller:
        """Return the caller that a token identifies.

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
        issuer = self._find_issuer(token)
        keys = issuer.jwks.get_keys(now)
        with self._lock:
            verified = self._verified.get(digest)
        if verified is None or verified.keys is not keys:
            verified = self._verify_signature_and_claims(token, issuer, keys, now)
        if verified.valid_from > now + LEEWAY_SECONDS:
            raise UnauthorizedError("not_yet_valid")
        if now >= verified.caller.expires_at + LEEWAY_SECONDS:
            raise UnauthorizedError("expired")
        with self._lock:
            self._verified[digest] = verified
            self._verified.move_to_end(digest)
            if len(self._verified) > _MAX_CACHED_TOKENS:
                self._verified.popitem(last=False)
        return verified.caller

    def require_keys(self) -> None:
        """Check that the issuer's keys are available, for readiness. May wait for the network.

        Raises:
            KeysUnavailableError: no token can be verified now.
        """
        self._trusted.jwks.get_keys(self._clock().timestamp())

    def _find_issuer(self, token: str) -> _Issuer:
        """Return whose keys have to verify a token: the trusted issuer's, unless it says that this server issued it."""
        if self._own is None:
            return self._trusted
        try:
            claimed = jwt.decode(token, options={"verify_signature": False}).get("iss")
        except jwt.PyJWTError:
            return self._trusted
        return self._own if claimed == self._own.name else self._trusted

    @staticmethod
    def _verify_signature_and_claims(token: str, issuer: _Issuer, keys: KeysByKid, now: float) -> _VerifiedToken:
        """Check everything except the present time, which the caller of this method compares on each request."""
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
            keys = issuer.jwks.get_keys(now, kid_is_unknown=True)
        if (key := keys.get(kid)) is None:
            raise UnauthorizedError("unknown_key")
        if {header["alg"], key.algorithm_name} == {*ED25519_NAMES}:
            key = copy.copy(key)
            key.algorithm_name = header["alg"]  # the other name of the same algorithm
        algorithms = [key.algorithm_name]
        try:
            claims = jwt.decode(token, key, algorithms, _OPTIONS, issuer=issuer.name, audience=issuer.audience)
        except jwt.PyJWTError as error:
            raise UnauthorizedError(_RULE_BY_ERROR.get(type(error), "claims")) from None
        issued, expires = _parse_time(claims["iat"]), _parse_time(claims["exp"])
        if not 0 < expires - issued <= MAX_LIFETIME.total_seconds():
            raise UnauthorizedError("lifetime" if expires > issued else "claims")
        return _VerifiedToken(_parse_caller(claims, expires), max(issued, _parse_time(claims.get("nbf", 0))), keys)


def _parse_time(value: object) -> float:
    """Return seconds since 1970, within the range of the time types. Booleans are refused; Python counts them as ints."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e11:
        raise UnauthorizedError("claims")
    return float(value)


def _parse_caller(claims: Mapping[str, Any], expires: float) -> Caller:
    """Return the caller of verified claims.

    Without ``wards`` all wards are visible, so a malformed ``wards`` is refused.
    """
    wards = claims.get("wards", ["all"])  # null does not count as absent
    if not isinstance(wards, list) or not wards or not all(map(is_printable_name, [claims["sub"], *wards])):
        raise UnauthorizedError("claims")
    scopes, permissions = _parse_scopes(claims)
    return Caller(claims["sub"], scopes, frozenset(wards) if "wards" in claims else None, expires, permissions)


def _parse_scopes(claims: Mapping[str, Any]) -> tuple[frozenset[str], Permissions]:
    """Return what verified claims allow: by ``scope`` (RFC 8693) or ``scp`` (Entra ID, Okta).

    Each is a text with blanks between the names, or a list of names: scopes of Vigil, and SMART scopes. Without either nothing
    is allowed. With both, only what both allow is allowed.
    """
    allowed = [parse_allowed(_parse_names(claims[claim])) for claim in ("scope", "scp") if claim in claims]
    if len(allowed) == 2:
        (scopes, permissions), (others, other_permissions) = allowed
        return scopes & others, intersection(permissions, other_permissions)
    return allowed[0] if allowed else (frozenset(), {})


def parse_allowed(names: Collection[str]) -> tuple[frozenset[str], Permissions]:
    """Return the scopes of Vigil, and the permissions on FHIR resources, that names allow. Unknown names allow nothing."""
    smart = parse_smart_scopes(names)
    named = SCOPES.keys() & set(names)
    return own_scopes(smart) | named, union([smart, permissions_of(named)])


def _parse_names(value: object) -> list[str]:
    names = value.split(" ") if isinstance(value, str) else value
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UnauthorizedError("claims")
    return names


def is_printable_name(value: object) -> bool:
    """Return whether a value is a text of 1 to 255 printable characters, which is safe in a log line."""
    return isinstance(value, str) and 0 < len(value) <= 255 and value.isprintable()
