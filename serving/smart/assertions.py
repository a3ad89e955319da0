"""Client assertions: a client signs who it is, for this server, for at most five minutes, once.

Source: SMART App Launch 2.2, "Client Authentication: Asymmetric (public key)" (HL7,
https://hl7.org/fhir/smart-app-launch/client-confidential-asymmetric.html); Jones M, Campbell B, Mortimore C. RFC 7523, 2015.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

import jwt

from vigil.features.errors import VigilError
from vigil.serving.auth.tokens import LEEWAY_SECONDS, MAX_TOKEN_BYTES, is_printable_name
from vigil.serving.records.used_assertions import UsedAssertions
from vigil.serving.smart.clients import ASSERTION_ALGORITHMS, Clients, ClientSettings

MAX_LIFETIME_SECONDS: Final = 300
_ALGORITHMS: Final = [name for names in ASSERTION_ALGORITHMS.values() for name in names]
# iat is neither demanded nor trusted: some clients leave it out, and others have a slow clock. Times are checked here.
_OPTIONS: Final[jwt.types.Options] = {"verify_exp": False, "verify_iat": False, "verify_nbf": False}
_OF_TOKEN_ENDPOINT: Final = ("iss", "sub", "aud", "exp", "jti")
_OF_CDS_HOOKS: Final = ("iss", "aud", "exp", "iat", "jti")  # CDS Hooks 2.0: a call has no sub


class ClientError(VigilError):
    """A client did not prove who it is. The message says which rule failed, and nothing of the assertion."""


class AssertionVerifier:
    """Verifier of what registered clients sign to say who they are: for the token endpoint, or for a call of CDS Hooks."""

    def __init__(
        self, clients: Clients, used: UsedAssertions, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        """Verify what the clients of a home sign."""
        self._clients, self._used, self._clock = clients, used, clock

    def verify(self, assertion: str, audience: str, *, is_call: bool = False) -> tuple[str, ClientSettings]:
        """Return the client that signed an assertion, and what is registered of it. May wait for its keys.

        Args:
            assertion: JWT in compact form.
            audience: the URL that it is for.
            is_call: whether it goes with a call of CDS Hooks.

        Raises:
            ClientError: the assertion is refused.
            KeysUnavailableError: the client's keys cannot be had now.
            DatabaseError: its use could not be noted.
        """
        now = self._clock().timestamp()
        if len(assertion) > MAX_TOKEN_BYTES:
            raise ClientError(f"client_assertion: expected at most {MAX_TOKEN_BYTES} bytes")
        try:
            header = jwt.get_unverified_header(assertion)
            claimed = jwt.decode(assertion, options={"verify_signature": False})
        except jwt.PyJWTError:
            raise ClientError("client_assertion: expected a signed JWT in compact form") from None
        client_id = claimed.get("iss")
        client = self._clients.find(client_id) if isinstance(client_id, str) else None
        if client is None:
            raise ClientError("iss: expected the client_id of a registered client (HOME/clients.toml)")
        self._require_header(header, client)
        key = self._find_key(header, client, now)
        try:
            required = [*(_OF_CDS_HOOKS if is_call else _OF_TOKEN_ENDPOINT)]
            claims = jwt.decode(assertion, key, [header["alg"]], {**_OPTIONS, "require": required}, audience=audience)
        except jwt.InvalidSignatureError:
            raise ClientError("client_assertion: expected a signature of the client's registered key") from None
        except jwt.InvalidAudienceError:
            raise ClientError(f"aud: expected {audience}, the URL that is called") from None
        except jwt.PyJWTError:
            raise ClientError(f"client_assertion: expected {', '.join(required)}") from None
        if not is_call and claims["sub"] != claims["iss"]:
            raise ClientError("sub: expected the same as iss")
        until = self._require_claims(claims, now)
        if not self._used.use(str(client_id), claims["jti"], until, now):
            raise ClientError("jti: used before; expected a new one in each assertion")
        return str(client_id), client

    @staticmethod
    def _require_header(header: dict[str, Any], client: ClientSettings) -> None:
        if header.get("alg") not in _ALGORITHMS:
            raise ClientError(f"alg: expected {' or '.join(_ALGORITHMS)}")
        if header.get("typ") != "JWT":
            raise ClientError("typ: expected JWT")
        if "crit" in header:
            raise ClientError("crit: expected no critical headers")
        if not isinstance(header.get("kid"), str):
            raise ClientError("kid: expected the name of the key")
        if "jku" in header and header["jku"] != client.keys:
            raise ClientError("jku: expected the registered URL of the client's keys, or none")

    def _find_key(self, header: dict[str, Any], client: ClientSettings, now: float) -> jwt.PyJWK:
        store = self._clients.keys(client)
        keys = store.get_keys(now)
        if header["kid"] not in keys:
            keys = store.get_keys(now, kid_is_unknown=True)
        key = keys.get(header["kid"])
        if key is None or key.algorithm_name != header["alg"]:
            raise ClientError("kid: expected one of the client's registered keys, of the algorithm of the header")
        return key

    @staticmethod
    def _require_claims(claims: dict[str, Any], now: float) -> float:
        """Return until when the assertion may be accepted."""
        if not is_printable_name(claims["jti"]):
            raise ClientError("jti: expected 1 to 255 printable characters")
        expires, begins = claims["exp"], claims.get("nbf", 0)
        if any(
            isinstance(time, bool) or not isinstance(time, int | float) or not 0 <= time < 1e11 for time in (expires, begins)
        ):
            raise ClientError("exp, nbf: expected seconds since 1970")
        if expires + LEEWAY_SECONDS <= now:
            raise ClientError("exp: expected a time in the future")
        if expires > now + MAX_LIFETIME_SECONDS + LEEWAY_SECONDS:
            raise ClientError(f"exp: expected at most {MAX_LIFETIME_SECONDS} s from now")
        if begins > now + LEEWAY_SECONDS:
            raise ClientError("nbf: expected a time that is not in the future")
        return float(expires) + LEEWAY_SECONDS
