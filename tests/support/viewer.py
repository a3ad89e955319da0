"""A person's browser at the pages of a server inside the test's process."""

from fastapi.testclient import TestClient

from vigil.serving.api.front import Front
from vigil.serving.auth.tokens import SCOPES
from vigil.serving.login.cookies import csrf_token, session_cookie
from vigil.serving.records.sessions import Session
from vigil.serving.records.timestamps import microsecond, present

HOUR = 3_600_000_000


def start_session(server, scopes=tuple(SCOPES), wards=None, sub="nurse", name=None):
    """Return the name of a new session, which the cookie of a browser holds."""
    now = microsecond(present())
    own = None if wards is None else list(wards)
    session = Session(sub, name or sub.title(), list(scopes), own, {}, now, now, now + 8 * HOUR)
    return server.components.login.sessions.create(session)


def open_viewer(server, scopes=tuple(SCOPES), wards=None, language="en", sub="nurse", name=None):
    """Return the browser of a person who has logged in, and the CSRF token of their session."""
    login, session = server.components.login, start_session(server, scopes, wards, sub, name)
    headers = {"Accept": "text/html", "Accept-Language": language}
    client = TestClient(
        Front(server.app, server.app.state), headers=headers, base_url=login.url or "http://testserver", follow_redirects=False
    )
    client.cookies.set(session_cookie(login), session)
    return client, csrf_token(session)
