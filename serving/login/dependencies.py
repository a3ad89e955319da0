"""Who a browser belongs to: what routes of pages take in place of a bearer token.

``/v1`` and ``/fhir`` know no sessions: a cookie goes along with requests that other sites cause.
"""

import hmac
from dataclasses import dataclass
from typing import Annotated, Final
from urllib.parse import quote

from fastapi import Depends, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import RedirectResponse, Response

from vigil.serving.api import problems
from vigil.serving.api.dependencies import AccessHere
from vigil.serving.api.problems import ProblemError
from vigil.serving.auth.tokens import Caller, parse_allowed
from vigil.serving.login.attempts import require_path
from vigil.serving.login.cookies import csrf_token, read_session
from vigil.serving.login.errors import LoginError
from vigil.serving.login.forms import read_form
from vigil.serving.login.service import LoginService
from vigil.serving.records.sessions import Session

CSRF_FIELD: Final = "csrf_token"  # of a form
CSRF_HEADER: Final = "X-CSRF-Token"  # of a script
_SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})


async def login_service(request: Request) -> LoginService:
    """Return the logins of this server. A FastAPI dependency."""
    service: LoginService = request.app.state.components.login
    return service


LoginHere = Annotated[LoginService, Depends(login_service)]


@dataclass(frozen=True)
class OpenSession:
    """The session of a request.

    Attributes:
        caller: the person, as a token would name them. It expires when the session would end without another use.
        session: what is stored of it.
        csrf_token: what forms and scripts of pages send along with whatever is no GET.
    """

    caller: Caller
    session: Session
    csrf_token: str


class LoginRequiredError(ProblemError):
    """There is no session. A browser that asks for a page is led to the login; others get 401."""

    def __init__(self) -> None:
        super().__init__(problems.session_missing())


async def on_login_required(request: Request, error: Exception) -> Response:
    """Handle :class:`LoginRequiredError`."""
    assert isinstance(error, LoginRequiredError)
    if request.method != "GET" or "text/html" not in request.headers.get("accept", ""):
        return problems.to_response(error.problem)
    path = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    try:
        return RedirectResponse(f"/login?next={quote(require_path(path), safe='')}", 303)
    except LoginError:
        return RedirectResponse("/login", 303)


async def open_session(request: Request, service: LoginHere, access: AccessHere) -> OpenSession:
    """Return the session of a person who does something. A FastAPI dependency.

    Raises:
        LoginRequiredError: there is none, or it has ended (401).
        ProblemError: a request that may change something lacks the CSRF token (403), or there are too many requests (429).
    """
    return await _find(request, service, access, is_use=True)


async def watch_session(request: Request, service: LoginHere, access: AccessHere) -> OpenSession:
    """Return the session of a page that asks by itself, such as for news. It does not delay the automatic logoff.

    Raises:
        LoginRequiredError: there is none, or it has ended (401).
        ProblemError: as for :func:`open_session`.
    """
    return await _find(request, service, access, is_use=False)


async def caller_of_session(session: Annotated[OpenSession, Depends(open_session)]) -> Caller:
    """Return the person of a session as a caller. A FastAPI dependency; errors are those of :func:`open_session`."""
    return session.caller


async def _find(request: Request, service: LoginService, access: AccessHere, *, is_use: bool) -> OpenSession:
    name = read_session(request, service)
    session = None if name is None else await run_in_threadpool(service.find_session, name, is_use=is_use)
    if name is None or session is None:
        raise LoginRequiredError
    if request.method not in _SAFE_METHODS:
        await _require_csrf_token(request, csrf_token(name))
    caller = _caller(session, service)
    if not access.is_within_rate(caller):
        raise ProblemError(problems.too_many_requests(access.requests_per_second))
    return OpenSession(caller, session, csrf_token(name))


async def _require_csrf_token(request: Request, expected: str) -> None:
    given = request.headers.get(CSRF_HEADER)
    if given is None:
        given = (await read_form(request)).get(CSRF_FIELD, "")
    if not hmac.compare_digest(given.encode("utf-8", "replace"), expected.encode()):
        raise ProblemError(problems.csrf_token_missing())


def _caller(session: Session, service: LoginService) -> Caller:
    scopes, permissions = parse_allowed(session.scopes)
    wards = None if session.wards is None else frozenset(session.wards)
    return Caller(session.sub, scopes, wards, service.ends_at(session) / 1e6, permissions)
