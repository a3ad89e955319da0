"""The routes of logins: start, return, one-time link, logout, and who a browser belongs to.

The return has code and state in its query, and a link its token. Nothing logs queries: neither this server nor the proxy
of ``docs/deploy``.
"""

import logging
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Final
from urllib.parse import urlencode, urlsplit

from fastapi import APIRouter, Depends, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, RedirectResponse, Response

from vigil.serving.login import cookies
from vigil.serving.login.attempts import LANDING, cookie_name, require_path, seal_attempt
from vigil.serving.login.client_keys import public_keys
from vigil.serving.login.dependencies import LoginHere, OpenSession, open_session, watch_session
from vigil.serving.login.errors import LoginError
from vigil.serving.login.links import LINK_PATH
from vigil.serving.login.pages import page, refusal
from vigil.serving.login.service import CALLBACK_PATH, Entered, LoginService
from vigil.serving.records.timestamps import moment
from vigil.serving.words import Words, words_for

logger: Final = logging.getLogger("vigil.serving")
router: Final = APIRouter(include_in_schema=False)  # for browsers; docs/login.md is its document


async def _or_page(request: Request, answer: Callable[[], Awaitable[Response]]) -> Response:
    """Return an answer, or the page that says why a login is refused."""
    try:
        return await answer()
    except LoginError as error:
        logger.warning("login refused: %s", error.rule)
        return refusal(words_for(request), str(error), error.status)


@router.get("/login")
async def start(request: Request, service: LoginHere) -> Response:
    """Start a login: of a person who came here, or of a record system that starts Vigil (``iss`` and ``launch``)."""
    return await _or_page(request, lambda: _start(request, service))


async def _start(request: Request, service: LoginService) -> Response:
    asked = _read_query(request)
    if (elsewhere := _canonical(request, service)) is not None:
        return elsewhere
    next_path = require_path(asked.get("next", LANDING))
    issuers = service.issuers
    if "iss" in asked:
        name = service.name_of(asked["iss"])
    elif len(issuers) == 1:
        name = next(iter(issuers))
    elif "issuer" in asked:
        name = asked["issuer"]
    else:
        return _choice(service, next_path, words_for(request))
    started = await service.start(name, next_path, asked.get("launch"), asked.get("iss"))
    response = RedirectResponse(started.url, 303)
    sealed = seal_attempt(started.attempt, service.attempts)
    cookies.set_attempt(response, service, cookie_name(started.attempt.state), sealed)
    return response


def _choice(service: LoginService, next_path: str, words: Words) -> Response:
    links = [(name, f"/login?{urlencode({'issuer': name, 'next': next_path})}") for name in service.issuers]
    if links:
        return page(words, "login.log_in", links=links)
    here = f" {words('login.link_here')}" if service.offers_links else ""
    return page(words, "login.log_in", f"{words('login.no_issuer')}{here}", 404)


@router.get(CALLBACK_PATH)
async def callback(request: Request, service: LoginHere) -> Response:
    """A browser returns from the issuer: the code becomes a session."""
    name = cookie_name(request.query_params.get("state", ""))
    response = await _or_page(request, lambda: _callback(request, service, request.cookies.get(name)))
    if name in request.cookies:
        cookies.delete_attempt(response, service, name)
    return response


async def _callback(request: Request, service: LoginService, cookie: str | None) -> Response:
    return await _enter(request, service, await service.finish(_read_query(request), cookie))


@router.get(LINK_PATH)
async def link(request: Request, service: LoginHere) -> Response:
    """Someone follows the one-time link of ``vigil serve``."""
    return await _or_page(request, lambda: _link(request, service))


async def _link(request: Request, service: LoginService) -> Response:
    if (elsewhere := _canonical(request, service)) is not None:
        return elsewhere
    entered = await run_in_threadpool(service.follow_link, _read_query(request).get("token", ""))
    return await _enter(request, service, entered)


async def _enter(request: Request, service: LoginService, entered: Entered) -> Response:
    """Lead a browser to its page with its new session. Its former session ends."""
    if (former := cookies.read_session(request, service)) is not None:
        await run_in_threadpool(service.sessions.end, former)
    response = _go_on(service, entered, words_for(request))
    cookies.set_session(response, service, entered.name, service.cookie_seconds(entered.session))
    return response


def _go_on(service: LoginService, entered: Entered, words: Words) -> Response:
    """Lead to the requested page, or else to the patient of the launch. A page says if that patient is unknown."""
    if entered.next != LANDING or "patient" not in entered.session.context:
        return RedirectResponse(entered.next, 303)
    path = service.patient_page(entered.session)
    if path is None:
        links = [(words("login.without_patient"), LANDING)]
        return page(words, "login.unknown_patient", words("login.unknown_patient_text"), links=links)
    return RedirectResponse(path, 303)


@router.post("/login/logout")
async def logout(request: Request, service: LoginHere, _: Annotated[OpenSession, Depends(open_session)]) -> Response:
    """End the session. The record system's own session goes on."""
    await run_in_threadpool(service.sessions.end, cookies.read_session(request, service) or "")
    words = words_for(request)
    response = page(words, "login.logged_out", words("login.logged_out_text"), links=[(words("login.again"), "/login")])
    cookies.delete_session(response, service)
    return response


@router.get("/login/ended")
async def ended(request: Request) -> Response:
    """Where a page goes by itself once its session has ended (automatic logoff).

    A person has to ask for a login: with single sign-on the issuer would else log in whoever is away.
    """

    async def answer() -> Response:
        next_path = require_path(_read_query(request).get("next", LANDING))
        words = words_for(request)
        links = [(words("login.again"), f"/login?{urlencode({'next': next_path})}")]
        return page(words, "login.ended", words("login.ended_text"), links=links)

    return await _or_page(request, answer)


@router.get("/login/session")
async def session(service: LoginHere, found: Annotated[OpenSession, Depends(watch_session)]) -> dict[str, Any]:
    """Who a browser belongs to, and until when. Asking does not extend the session."""
    caller, stored = found.caller, found.session
    context: dict[str, Any] = {}
    if "patient" in stored.context:
        context["patient"] = await run_in_threadpool(service.patient_reference, stored)
    return {
        "caller": caller.sub,
        "name": stored.name,
        "scopes": sorted(caller.scopes),
        "wards": None if caller.wards is None else sorted(caller.wards),
        "context": context,
        "ends_at": moment(round(caller.expires_at * 1e6)),
        "expires_at": moment(stored.expires_at),
        "csrf_token": found.csrf_token,
    }


@router.get("/login/jwks")
async def jwks(service: LoginHere) -> JSONResponse:
    """The public keys by which issuers know this server."""
    try:
        return JSONResponse(await run_in_threadpool(public_keys, service.home, service.settings.issuers.values()))
    except LoginError as error:
        logger.error("login.toml: %s cannot be used", error.rule)  # noqa: TRY400 - no traceback
        return JSONResponse({"keys": []}, error.status)


def _read_query(request: Request) -> dict[str, str]:
    """Return the query.

    Raises:
        LoginError: it says one thing twice.
    """
    pairs = request.query_params.multi_items()
    if len(dict(pairs)) < len(pairs):
        raise LoginError("query", "query: expected each parameter once")
    return dict(pairs)


def _canonical(request: Request, service: LoginService) -> Response | None:
    """Lead a browser that calls this machine by another name to the one of the server, since cookies belong to a name."""
    if not service.is_on_this_machine or request.headers.get("host") == urlsplit(service.url).netloc:
        return None
    query = f"?{request.url.query}" if request.url.query else ""
    return RedirectResponse(f"{service.url}{request.url.path}{query}", 303)
