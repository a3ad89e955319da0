"""Who may pass: the bearer token of every request is verified before its body is read, and each route states its scope."""

from typing import Annotated, Any, Final

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer, SecurityScopes
from starlette.concurrency import run_in_threadpool

from serving.api import problems
from serving.api.problems import ProblemError
from serving.auth.jwks import KeysUnavailableError
from serving.auth.tokens import Caller, UnauthorizedError
from serving.composition import Parts

_OPEN: Final = ("/v1/docs", "/v1/openapi.json", "/metrics")  # they say nothing of anybody
_BEARER: Final = HTTPBearer(
    auto_error=False, bearerFormat="JWT", description="A token of the trusted issuer; see `vigil token`."
)


class Guard:
    """A request without a token of the trusted issuer is answered with 401; one caller's flood with 429."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http" or scope["path"] in _OPEN:
            await self.app(scope, receive, send)
            return
        parts: Parts = scope["app"].state.parts
        try:
            token = _bearer(scope["headers"])
            caller = await run_in_threadpool(parts.tokens.verify, token) if parts.tokens.waits else parts.tokens.verify(token)
        except UnauthorizedError as error:
            await problems.response(problems.unauthorized(error.rule))(scope, receive, send)
        except KeysUnavailableError:
            await problems.response(problems.no_keys())(scope, receive, send)
        else:
            if parts.allows(caller):
                scope["state"] = {**scope.get("state", {}), "caller": caller}
                await self.app(scope, receive, send)
            else:
                await problems.response(problems.too_many(parts.settings.requests_per_second))(scope, receive, send)


def _bearer(headers: list[tuple[bytes, bytes]]) -> str:
    """The token of the one Authorization header; empty where there is none. What is not ASCII is no token."""
    given = [value for name, value in headers if name == b"authorization"]
    if len(given) != 1:
        return ""
    scheme, _, token = given[0].decode("ascii", "replace").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


async def authorized(
    scopes: SecurityScopes, request: Request, _: Annotated[HTTPAuthorizationCredentials | None, Depends(_BEARER)]
) -> Caller:
    """FastAPI dependency: the caller, if his token has every scope that the route states."""
    caller: Caller = request.state.caller
    missing = [scope for scope in scopes.scopes if not caller.may(scope)]
    if missing:
        raise ProblemError(problems.out_of_scope(missing))
    return caller


async def parts_of(request: Request) -> Parts:
    """FastAPI dependency: what the process is made of."""
    parts: Parts = request.app.state.parts
    return parts


PartsHere = Annotated[Parts, Depends(parts_of)]
