"""What all pages have in common: the frame around them, their policy, their files, and who looks at them."""

import functools
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Any, Final

from fastapi import Depends, Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from vigil.serving.auth.tokens import Caller
from vigil.serving.login.dependencies import OpenSession, open_session
from vigil.serving.records.timestamps import instant, present
from vigil.serving.words import Words, words_for

STATIC: Final = Path(__file__).parent / "static"
# Everything comes from this server. Scripts and styles are files: none stands in a page.
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)


def _show_time(time: datetime, form: str = "time") -> Markup:
    """Return a time of which scripts show the viewer's own zone; without them it is UTC."""
    text = time.strftime("%H:%M UTC" if form == "time" else "%Y-%m-%d %H:%M UTC")
    return Markup('<time datetime="{}" data-form="{}" title="{}">{}</time>').format(
        time.isoformat(), form, time.strftime("%Y-%m-%d %H:%M:%S UTC"), text
    )


def _show_person(sub: str, names: Mapping[str, str]) -> str:
    """Return who a caller is: the name that they logged in with, and the caller on hover; without a name the caller."""
    return Markup('<span title="{}">{}</span>').format(sub, names[sub]) if sub in names else sub


def _ago(hours: float) -> str:
    """Return when it was so many hours ago: scripts let ages grow from it."""
    return (present() - timedelta(hours=hours)).isoformat(timespec="milliseconds")


@functools.cache
def asset(name: str) -> str:
    """Return the path of a file of the pages. It changes with the content, so that browsers may keep it."""
    return f"/static/{name}?v={hashlib.blake2b((STATIC / name).read_bytes(), digest_size=6).hexdigest()}"


ENVIRONMENT: Final = Environment(
    loader=PackageLoader("vigil.serving.pages"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
ENVIRONMENT.filters |= {
    "reason_text": lambda name, words: words.reason(name),
    "finding_text": lambda name, words: words.finding(name),
    "quarantine_text": lambda reason, words: words.quarantine(reason),
    "problem_text": lambda problem, words: words.problem(problem),
    "contributor": lambda one, words: words.contributor(one.signal, one.measured),
    "person": _show_person,
}
ENVIRONMENT.globals |= {"asset": asset, "show_time": _show_time, "instant": instant, "ago": _ago}


@dataclass(frozen=True)
class Viewer:
    """Who looks at a page.

    Attributes:
        session: their session, with the caller and the CSRF token.
        words: in their language.
    """

    session: OpenSession
    words: Words

    @property
    def caller(self) -> Caller:
        """The person, as a token would name them."""
        return self.session.caller

    @property
    def name(self) -> str:
        """Of the person, as pages show it."""
        return self.session.session.name


async def viewer(request: Request, session: Annotated[OpenSession, Depends(open_session)]) -> Viewer:
    """Return who looks at a page. A FastAPI dependency; without a session the browser is led to the login."""
    return Viewer(session, words_for(request))


ViewerHere = Annotated[Viewer, Depends(viewer)]


def render(template: str, words: Words, status: int = 200, **values: Any) -> HTMLResponse:
    """Return a page."""
    return HTMLResponse(render_part(template, words, **values), status, {"Content-Security-Policy": POLICY})


def render_part(template: str, words: Words, **values: Any) -> str:
    """Return a part of a page."""
    return ENVIRONMENT.get_template(template).render(t=words, **values)


def require_scope(viewer: Viewer, scope: str) -> None:
    """Check that a viewer has a scope.

    Raises:
        PageError: they have not; the page says which one is missing (403).
    """
    if not viewer.caller.has_scope(scope):
        raise PageError(403, "site.no_scope", viewer.words, scope=scope)


class PageError(Exception):
    """A page that cannot be shown: there is none, or the viewer may not see it."""

    def __init__(self, status: int, key: str, words: Words, **values: Any) -> None:
        super().__init__(key)
        self.status, self.text, self.words = status, words(key, **values), words


async def on_page_error(_: Request, error: Exception) -> HTMLResponse:
    """Handle :class:`PageError`."""
    assert isinstance(error, PageError)
    title = error.words("site.not_found" if error.status == HTTPStatus.NOT_FOUND else "site.refused")
    return render("message.html", error.words, error.status, title=title, text=error.text, viewer=None)
