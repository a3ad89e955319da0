"""The cookies of logins and sessions. No script can read them, and none is sent without TLS, except on this machine.

``SameSite=Lax``: a link from the record system to a page of Vigil finds the session, which ``Strict`` would hide; a form or a
script of another site does not. What changes something needs the session's CSRF token in addition.
"""

import hashlib
import hmac
from typing import Any, Final
from urllib.parse import urlsplit

from fastapi import Request
from fastapi.responses import Response

from vigil.serving.login.service import LoginService

_LOGIN_PATH: Final = "/login"
_SESSION: Final = "vigil_session"
_MOST_CHARACTERS: Final = 100


def session_cookie(service: LoginService) -> str:
    """Return the name of the cookie of a session.

    ``__Host-``: a browser takes it over TLS only, and from no other host of the domain. On this machine the port tells servers
    apart, since cookies do not.
    """
    return f"{_SESSION}_{urlsplit(service.url).port}" if service.is_on_this_machine else f"__Host-{_SESSION}"


def read_session(request: Request, service: LoginService) -> str | None:
    """Return the name of the session that a browser has; None: none."""
    name = request.cookies.get(session_cookie(service))
    return name if name and len(name) <= _MOST_CHARACTERS else None


def set_session(response: Response, service: LoginService, name: str, seconds: int | None) -> None:
    """Let a browser have a session for some time; None: until it is closed."""
    response.set_cookie(session_cookie(service), name, max_age=seconds, **_flags(service), path="/")


def delete_session(response: Response, service: LoginService) -> None:
    """Let a browser forget its session."""
    response.delete_cookie(session_cookie(service), **_flags(service), path="/")


def set_attempt(response: Response, service: LoginService, name: str, content: str) -> None:
    """Let a browser carry a login to the issuer and back."""
    response.set_cookie(name, content, max_age=service.attempts.seconds, **_flags(service), path=_LOGIN_PATH)


def delete_attempt(response: Response, service: LoginService, name: str) -> None:
    """Let a browser forget a login that has ended."""
    response.delete_cookie(name, **_flags(service), path=_LOGIN_PATH)


def csrf_token(session_name: str) -> str:
    """Return what a form of a session has to send along. Other sites cannot read it, and it does not tell the session."""
    return hmac.digest(session_name.encode("utf-8", "surrogatepass"), b"csrf", hashlib.sha256).hex()


def _flags(service: LoginService) -> dict[str, Any]:
    return {"httponly": True, "samesite": "lax", "secure": not service.is_on_this_machine}
