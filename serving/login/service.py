"""Logins and sessions of one server: start at an issuer, return from it, and who a browser belongs to afterwards."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

import sqlalchemy as sa
from fastapi.concurrency import run_in_threadpool

from vigil.features.errors import VigilError
from vigil.serving.auth.local_tokens import KEY_FILE, LOCAL_FOLDER, create_local_keys
from vigil.serving.auth.tokens import SCOPES
from vigil.serving.fhir.directory import Directory
from vigil.serving.fhir.outcomes import BASE as FHIR_BASE
from vigil.serving.login.attempts import LANDING, Attempt, create_attempt, open_attempt
from vigil.serving.login.attempts import SECONDS as ATTEMPT_SECONDS
from vigil.serving.login.errors import LoginError
from vigil.serving.login.id_tokens import verify_id_token
from vigil.serving.login.issuers import Endpoints, Issuers, known_error
from vigil.serving.login.links import is_loopback_url, link_sealer
from vigil.serving.login.people import Person, identify
from vigil.serving.login.sealed import Sealer
from vigil.serving.login.settings import SCREEN_LIFETIME, SCREEN_SCOPES, IssuerSettings, LoginSettings, LoginSettingsFile
from vigil.serving.records.sessions import Session, Sessions
from vigil.serving.records.timestamps import microsecond, present
from vigil.serving.records.used_assertions import UsedAssertions

CALLBACK_PATH: Final = "/login/callback"
LOCAL_PATH: Final = "/local-login"
LOCAL_NAME: Final = "this machine"
LOCAL_CLIENT: Final = "vigil"
_MICROSECOND: Final = timedelta(microseconds=1)
_LOCAL_CALLER: Final = "local"  # as that of `vigil token`
_STATES: Final = "login"  # in the table of what was used once


@dataclass(frozen=True)
class Start:
    """A login that was started: where the browser goes, and what it takes along."""

    url: str
    attempt: Attempt


@dataclass(frozen=True)
class Entered:
    """A login that has succeeded.

    Attributes:
        name: of the session.
        session: what is stored of it.
        next: the path to which the person returns.
    """

    name: str
    session: Session
    next: str


class LoginService:
    """Logins and sessions of one server.

    Attributes:
        url: of the server, as browsers reach it.
        sessions: those who are logged in.
        attempts: seals the cookies of logins under way.
        offers_local_login: whether the server is its own issuer, for people on this machine.
    """

    def __init__(
        self,
        *,
        home: Path,
        url: str,
        secret: bytes,
        connections: sa.Engine,
        directory: Directory,
        offers_local_login: bool,
    ) -> None:
        """Log people in to the server of a home, which browsers reach at ``url``; ``secret`` seals what they carry."""
        self.home, self.url, self.offers_local_login = home, url, offers_local_login
        self.secret = secret
        self.sessions = Sessions(connections)
        self.used = UsedAssertions(connections)
        self.attempts = Sealer(secret, "login attempt", ATTEMPT_SECONDS)
        self._links = link_sealer(secret)
        self._issuers = Issuers(home)
        self._directory = directory
        self._file = LoginSettingsFile(home)
        self._local = (
            IssuerSettings(fhir=f"{url}{LOCAL_PATH}", client_id=LOCAL_CLIENT, wards="all") if offers_local_login else None
        )

    @property
    def is_on_this_machine(self) -> bool:
        """Whether browsers reach the server on the loopback interface, without TLS."""
        return is_loopback_url(self.url)

    @property
    def settings(self) -> LoginSettings:
        """The settings now."""
        self._file.refresh()
        return self._file.content

    @property
    def issuers(self) -> dict[str, IssuerSettings]:
        """The issuers by name; where the server is an issuer itself, it is one of them."""
        own = {} if self._local is None else {LOCAL_NAME: self._local}
        return {**self.settings.issuers, **own}

    @property
    def offers_links(self) -> bool:
        """Whether one-time links log in: on this machine, and only while no issuer does."""
        return self.is_on_this_machine and not self.issuers

    async def start(self, issuer_name: str, next_path: str, launch: str | None, iss: str | None) -> Start:
        """Start a login at an issuer.

        Args:
            issuer_name: its name in the settings.
            next_path: path of this server to which the person returns.
            launch: what a record system that starts Vigil calls the launch.
            iss: how it calls itself, with or without a slash at the end.

        Raises:
            LoginError: there is no such issuer, or it cannot be used.
        """
        issuer = self._issuer(issuer_name)
        endpoints = await self._issuers.endpoints(issuer)
        attempt = create_attempt(issuer_name, next_path)
        query = {
            "response_type": "code",
            "client_id": issuer.client_id,
            "redirect_uri": self._redirect_uri,
            "scope": " ".join(["launch"] * (launch is not None) + [*issuer.asked]),
            "state": attempt.state,
            "nonce": attempt.nonce,
            "code_challenge": attempt.challenge,
            "code_challenge_method": "S256",
        }
        query |= {"aud": iss or issuer.fhir} if issuer.fhir else {}
        query |= {"launch": launch} if launch is not None else {}
        joint = "&" if "?" in endpoints.authorization_endpoint else "?"
        return Start(f"{endpoints.authorization_endpoint}{joint}{urlencode(query)}", attempt)

    def name_of(self, iss: str) -> str:
        """Return the name of the issuer that a launch names.

        Raises:
            LoginError: it is not in ``login.toml``, so it is not contacted.
        """
        for name, issuer in self.issuers.items():
            if issuer.fhir is not None and issuer.url == iss.rstrip("/"):
                return name
        raise LoginError("iss", "iss: expected the FHIR base URL of an issuer in login.toml", 403)

    async def finish(self, query: Mapping[str, str], cookie: str | None) -> Entered:
        """Open a session for a browser that returns from an issuer.

        Raises:
            LoginError: the login is refused.
            DatabaseError: it cannot be recorded.
        """
        state = query.get("state", "")
        attempt = open_attempt(state, cookie, self.attempts)
        now = time.time()
        if not await run_in_threadpool(self.used.use, _STATES, state, now + ATTEMPT_SECONDS, now):
            raise LoginError("state", "state: this login was used before; expected a new one")
        if "error" in query:
            raise LoginError(
                "error", f"error: the issuer refused the login{known_error(query['error'])}. Ask those who run it.", 403
            )
        issuer = self._issuer(attempt.issuer)
        endpoints = await self._issuers.endpoints(issuer)
        if query.get("iss", endpoints.issuer) != endpoints.issuer:  # RFC 9207: an answer of another issuer
            raise LoginError("iss", "iss: expected the issuer at which the login was started", 403)
        if not query.get("code"):
            raise LoginError("code", "code: missing; expected the one that the issuer gives")
        answer = await self._issuers.exchange(issuer, endpoints, query["code"], attempt.verifier, self._redirect_uri)
        return await run_in_threadpool(self._open_session, answer, issuer, endpoints, attempt)

    def _open_session(
        self, answer: Mapping[str, Any], issuer: IssuerSettings, endpoints: Endpoints, attempt: Attempt
    ) -> Entered:
        claims = verify_id_token(
            answer.get("id_token"),
            issuer=endpoints.issuer,
            client_id=issuer.client_id,
            nonce=attempt.nonce,
            keys=self._issuers.keys(endpoints),
            now=time.time(),
        )
        person = identify(claims, answer.get("scope"), issuer)
        return self._create_session(person, self._context(answer, issuer), attempt.next)

    def _context(self, answer: Mapping[str, Any], issuer: IssuerSettings) -> dict[str, str | None]:
        """Return patient and encounter of a launch, as subject key and pseudonym."""
        context: dict[str, str | None] = {}
        base = f"{self.url}{FHIR_BASE}" if issuer is self._local else issuer.url
        if issuer.fhir is not None and isinstance(answer.get("patient"), str):
            context["patient"] = self._directory.find_subject(f"{base}/Patient/{answer['patient']}")
        if issuer.fhir is not None and isinstance(answer.get("encounter"), str):
            context["encounter"] = self._directory.pseudonym(f"{base}/Encounter/{answer['encounter']}")
        return context

    def follow_link(self, token: str) -> Entered:
        """Open a session for the holder of a one-time link.

        Raises:
            LoginError: the link is not valid here, or no longer.
            DatabaseError: its use cannot be recorded.
        """
        content = self._links.open(token) if self.offers_links else None
        now = time.time()
        if (
            content is None
            or content["url"] != self.url
            or not self.used.use(_STATES, content["once"], now + self._links.seconds, now)
        ):
            raise LoginError(
                "link", "token: expected that of a link which vigil serve has shown, not used, and not expired", 403
            )
        return self._create_session(Person(_LOCAL_CALLER, _LOCAL_CALLER, sorted(SCOPES), None), {}, LANDING)

    def _create_session(self, person: Person, context: dict[str, str | None], next_path: str) -> Entered:
        now = microsecond(present())
        settings = self.settings
        lifetime = SCREEN_LIFETIME if person.sub in settings.screens else settings.lifetime
        ends = now + lifetime // _MICROSECOND
        session = Session(person.sub, person.name, person.scopes, person.wards, context, now, now, ends)
        return Entered(self.sessions.create(session), session, next_path)

    def cookie_seconds(self, session: Session) -> int | None:
        """Return how long a browser keeps a session, also when it starts again: a screen does. None: until it is closed."""
        return (session.expires_at - session.created_at) // 1_000_000 if session.sub in self.settings.screens else None

    def find_session(self, name: str, *, is_use: bool) -> Session | None:
        """Return the session of a name, as it stands now; None: there is none, or it has ended.

        Raises:
            DatabaseError: sessions cannot be read.
        """
        return self.sessions.find(name, microsecond(present()), self.ends_at, is_use=is_use)

    def ends_at(self, session: Session) -> int:
        """Return when a session ends without another use, by the settings of now: microseconds UTC."""
        settings = self.settings
        wards = settings.screens.get(session.sub)
        if wards is not None:
            is_screen = (session.scopes, session.wards) == (list(SCREEN_SCOPES), sorted(wards))
            return session.expires_at if is_screen else session.created_at
        lasts_until = session.created_at + settings.lifetime // _MICROSECOND
        return min(session.expires_at, lasts_until, session.used_at + settings.idle // _MICROSECOND)

    def patient_reference(self, session: Session) -> str | None:
        """Return the reference by which this server names the patient of a launch."""
        subject = session.context.get("patient")
        return None if subject is None else self._directory.reference(subject)

    def patient_page(self, session: Session) -> str | None:
        """Return the path of the page of the patient of a launch; None: they are not known here."""
        subject = session.context.get("patient")
        return None if subject is None else self._directory.page(subject)

    @property
    def _redirect_uri(self) -> str:
        return f"{self.url}{CALLBACK_PATH}"

    def _issuer(self, name: str) -> IssuerSettings:
        issuer = self.issuers.get(name)
        if issuer is None:
            raise LoginError("issuer", "issuer: expected the name of an issuer in login.toml", 404)
        return issuer


def open_login(home: Path, url: str, connections: sa.Engine, directory: Directory, *, offers_local_login: bool) -> LoginService:
    """Return the logins of the server of a home.

    Raises:
        VigilError: a file of the home cannot be used, or the server would be an issuer for others than this machine.
    """
    if offers_local_login and not is_loopback_url(url):
        raise VigilError(
            "VIGIL_LOCAL_LOGIN: expected a server on the loopback interface without TLS, since anyone who reaches it could log "
            "in as anyone; connect an issuer in login.toml"
        )
    create_local_keys(home / LOCAL_FOLDER)
    secret = (home / LOCAL_FOLDER / KEY_FILE).read_bytes()
    return LoginService(
        home=home,
        url=url,
        secret=secret,
        connections=connections,
        directory=directory,
        offers_local_login=offers_local_login,
    )
