"""The issuers of logins: where their endpoints are, which keys they sign with, and the exchange of a code for an answer.

Only issuers of ``login.toml`` are contacted, and what they name must be as safe as they are: https, or this machine where the
issuer itself is here. Redirects are not followed.

Sources: SMART App Launch 2.2 (HL7, https://hl7.org/fhir/smart-app-launch/app-launch.html); OpenID Connect Discovery 1.0.
"""

import asyncio
import json
import time
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final

import httpx
from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

from vigil.serving.auth.jwks import Algorithms, JwksUrl, is_safe_url
from vigil.serving.login.client_keys import authenticate
from vigil.serving.login.errors import LoginError
from vigil.serving.login.settings import IssuerSettings

# Of each type of key the algorithms of id_tokens; the first one is that of a key which does not say.
ID_TOKEN_ALGORITHMS: Final[Algorithms] = {
    "RSA": ("RS256", "RS384"),
    "EC P-256": ("ES256",),
    "EC P-384": ("ES384",),
}
_SMART: Final = ".well-known/smart-configuration"
_OPENID: Final = ".well-known/openid-configuration"
_TIMEOUT_SECONDS: Final = 5
_REMEMBERED_SECONDS: Final = 300  # so that starting logins again and again does not flood the issuer
_FAILED_SECONDS: Final = 5  # neither does it while it does not answer
_MOST_BYTES: Final = 256 * 1024
# Of OAuth and OpenID Connect; other words of an issuer are not repeated.
_ERRORS: Final = frozenset(
    {"access_denied", "consent_required", "interaction_required", "invalid_client", "invalid_grant", "invalid_request"}
    | {"invalid_scope", "login_required", "server_error", "temporarily_unavailable", "unauthorized_client"}
    | {"unsupported_grant_type", "unsupported_response_type"}
)


def _require_safe(url: str) -> str:
    if not is_safe_url(url):
        raise ValueError("expected an https URL")
    return url


_Endpoint = Annotated[str, AfterValidator(_require_safe)]


class Endpoints(BaseModel):
    """What an issuer says of itself. Other fields of its document are left alone.

    Attributes:
        issuer: the ``iss`` of its id_tokens.
        authorization_endpoint: where people log in.
        token_endpoint: where a code is exchanged.
        jwks_uri: its public keys.
        code_challenge_methods_supported: of PKCE, where it says so.
    """

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

    issuer: str
    authorization_endpoint: _Endpoint
    token_endpoint: _Endpoint
    jwks_uri: _Endpoint
    code_challenge_methods_supported: tuple[str, ...] = ("S256",)


def _connect(url: str) -> httpx.AsyncClient:
    """Return a client of an issuer. What stays on this machine uses no proxy."""
    return httpx.AsyncClient(timeout=_TIMEOUT_SECONDS, follow_redirects=False, trust_env=url.startswith("https:"))


class Issuers:
    """What issuers say of themselves, remembered for some minutes, and their keys."""

    def __init__(self, home: Path) -> None:
        """Contact issuers with the keys and secrets of a home."""
        self._home = home
        self._endpoints: dict[str, tuple[float, Endpoints | LoginError]] = {}
        self._one_at_a_time: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._keys: dict[str, JwksUrl] = {}

    async def endpoints(self, issuer: IssuerSettings) -> Endpoints:
        """Return where the endpoints of an issuer are.

        Raises:
            LoginError: it does not answer, or not as expected.
        """
        url = f"{issuer.url}/{_SMART if issuer.fhir else _OPENID}"
        async with self._one_at_a_time[url]:
            known_at, known = self._endpoints.get(url, (0.0, None))
            age = time.monotonic() - known_at
            if known is None or age >= (_FAILED_SECONDS if isinstance(known, LoginError) else _REMEMBERED_SECONDS):
                try:
                    known = await self._discover(issuer, url)
                except LoginError as error:
                    known = error
                self._endpoints[url] = time.monotonic(), known
        if isinstance(known, LoginError):
            raise LoginError(known.rule, str(known), known.status)
        return known

    async def _discover(self, issuer: IssuerSettings, url: str) -> Endpoints:
        document = await self._ask("GET", url, "the configuration")
        try:
            found = Endpoints.model_validate(document)
        except ValidationError as error:
            field = ".".join(map(str, error.errors()[0]["loc"]))
            raise _unusable(f"the configuration has no usable {field}") from None
        if issuer.openid is not None and found.issuer.rstrip("/") != issuer.url:
            raise _unusable("the configuration is of another issuer")
        if "S256" not in found.code_challenge_methods_supported:
            raise _unusable("it does not offer PKCE with S256")
        if url.startswith("https:") and any(
            each.startswith("http:") for each in (found.authorization_endpoint, found.token_endpoint, found.jwks_uri)
        ):
            raise _unusable("an endpoint is without https")
        return found

    def keys(self, endpoints: Endpoints) -> JwksUrl:
        """Return the keys that an issuer signs id_tokens with."""
        if endpoints.jwks_uri not in self._keys:
            self._keys[endpoints.jwks_uri] = JwksUrl(endpoints.jwks_uri, ID_TOKEN_ALGORITHMS)
        return self._keys[endpoints.jwks_uri]

    async def exchange(
        self, issuer: IssuerSettings, endpoints: Endpoints, code: str, verifier: str, redirect_uri: str
    ) -> dict[str, Any]:
        """Exchange a code, and return the answer of the token endpoint.

        Raises:
            LoginError: the issuer refuses, or does not answer.
        """
        form = {"grant_type": "authorization_code", "code": code, "redirect_uri": redirect_uri, "code_verifier": verifier}
        more, credentials = authenticate(issuer, self._home, endpoints.token_endpoint)
        return await self._ask("POST", endpoints.token_endpoint, "the token endpoint", data=form | more, auth=credentials)

    async def _ask(
        self,
        method: str,
        url: str,
        part: str,
        data: Mapping[str, str] | None = None,
        auth: httpx.BasicAuth | None = None,
    ) -> dict[str, Any]:
        """Return the JSON object that an issuer answers. What it writes is not repeated: it may hold a code or a token."""
        try:
            async with (
                _connect(url) as client,
                client.stream(method, url, data=data, auth=auth, headers={"Accept": "application/json"}) as answer,
            ):
                body = bytearray()
                async for chunk in answer.aiter_bytes():
                    body += chunk
                    if len(body) > _MOST_BYTES:
                        raise _unusable(f"{part} answers with more than {_MOST_BYTES} bytes")
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise _unusable(f"{part} cannot be reached ({type(error).__name__})") from None
        if answer.status_code != 200:
            raise _unusable(f"{part} answers with status {answer.status_code}{known_error(_parse(body).get('error'))}")
        content = _parse(body)
        if not content:
            raise _unusable(f"{part} answers without a JSON object")
        return content


def known_error(code: object) -> str:
    """Return a code of an error in brackets, if it is one of OAuth.

    >>> known_error("invalid_scope"), known_error("<b>")
    (' (invalid_scope)', '')
    """
    return f" ({code})" if isinstance(code, str) and code in _ERRORS else ""


def _parse(body: bytes | bytearray) -> dict[str, Any]:
    """Return a JSON object; empty where it is none."""
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _unusable(what: str) -> LoginError:
    return LoginError("issuer", f"issuer: {what}. Ask those who run it, or try again.", 502)
