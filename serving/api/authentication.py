"""Authentication and authorisation: every request needs a valid bearer token, and each route states the scope it needs."""

from typing import Annotated, Final, Protocol

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer, SecurityScopes
from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp, Receive, Scope, Send

from vigil.serving.api import problems
from vigil.serving.api.problems import ProblemError
from vigil.serving.auth.access import Access
from vigil.serving.auth.jwks import KeysUnavailableError
from vigil.serving.auth.tokens import Caller, TokenVerifier, UnauthorizedError

# No patient data; whoever asks for a token has none yet.
_PUBLIC_PATHS: Final = (
    "/v1/docs",
    "/v1/openapi.json",
    "/metrics",
    "/fhir/metadata",
    "/fhir/.well-known/smart-configuration",
    "/auth/token",
)
# Below these the routes verify who calls: CDS Hooks has tokens of its own, who logs in has none yet, and pages have sessions.
_OWN_CHECKS: Final = ("/cds-services", "/login", "/local-login", "/static", "/wards", "/ward", "/patient", "/operations")
_BEARER: Final = HTTPBearer(
    auto_error=False, bearerFormat="JWT", description="A token of the trusted issuer; see `vigil token`."
)


class _Components(Protocol):
    """The components that the middleware uses. They are in ``app.state.components``."""

    @property
    def tokens(self) -> TokenVerifier: ...

    @property
    def access(self) -> Access: ...


class BearerTokenMiddleware:
    """Middleware that verifies the bearer token before the body is read, and limits the rate of each caller.

    A request without a valid token is answered with 401, and one above the rate limit with 429. If the issuer's keys are
    unavailable, the answer is 503. Routes find the verified caller in ``request.state.caller``.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in _PUBLIC_PATHS or has_own_check(scope["path"]):
            await self.app(scope, receive, send)
            return
        components: _Components = scope["app"].state.components
        tokens, access = components.tokens, components.access
        try:
            token = extract_bearer_token(scope["headers"])
            caller = await run_in_threadpool(tokens.verify, token) if tokens.may_block else tokens.verify(token)
        except UnauthorizedError as error:
            await problems.to_response(problems.invalid_token(error.rule))(scope, receive, send)
        except KeysUnavailableError:
            await problems.to_response(problems.no_keys())(scope, receive, send)
        else:
            if access.is_within_rate(caller):
                scope["state"] = {**scope.get("state", {}), "caller": caller}
                await self.app(scope, receive, send)
            else:
                await problems.to_response(problems.too_many_requests(access.requests_per_second))(scope, receive, send)


def has_own_check(path: str) -> bool:
    """Return whether the routes of a path verify who calls, so that no bearer token is needed.

    >>> has_own_check("/login/session"), has_own_check("/loginless")
    (True, False)
    """
    return any(path == own or path.startswith(f"{own}/") for own in _OWN_CHECKS)


def extract_bearer_token(headers: list[tuple[bytes, bytes]]) -> str:
    """Return the token of the Authorization header; empty unless there is exactly one such header with a bearer token."""
    values = [value for name, value in headers if name == b"authorization"]
    if len(values) != 1:
        return ""
    scheme, _, token = values[0].decode("ascii", "replace").partition(" ")  # a token with other characters is malformed
    return token.strip() if scheme.lower() == "bearer" else ""


async def require_scopes(
    scopes: SecurityScopes, request: Request, _: Annotated[HTTPAuthorizationCredentials | None, Depends(_BEARER)]
) -> Caller:
    """Return the caller of a request. A FastAPI dependency.

    Raises:
        ProblemError: the token lacks a scope that the route states (403).
    """
    caller: Caller = request.state.caller
    missing = [scope for scope in scopes.scopes if not caller.has_scope(scope)]
    if missing:
        raise ProblemError(problems.out_of_scope(missing))
    return caller
