"""A login between its start and its return: state, nonce and the verifier of PKCE, in a cookie that only this server can read.

Sources: Hardt D. RFC 6749, section 10.12, 2012 (state); Sakimura N, Bradley J, Agarwal N. RFC 7636, 2015 (PKCE).
"""

import base64
import hashlib
import re
import secrets
from dataclasses import asdict, dataclass
from typing import Final

from vigil.serving.login.errors import LoginError
from vigil.serving.login.sealed import Sealer

SECONDS: Final = 600  # that a person has at the issuer
LANDING: Final = "/"  # where a login leads that names no page

_COOKIE: Final = "vigil_login_"
_TAIL: Final = 16  # characters of the state in the name of the cookie, so that two logins side by side have one each
_RANDOM_BYTES: Final = 32
# A path of this server. "//host" and "/\host" would lead a browser to another one.
_PATH: Final = re.compile(r"/(?![/\\])[\w\-.~/%?=&:@,;+!*$'()]*", flags=re.ASCII)
_MOST_CHARACTERS: Final = 1_000


@dataclass(frozen=True)
class Attempt:
    """One login that was started.

    Attributes:
        issuer: name of the issuer.
        next: path of this server to which the person returns.
        state: names the attempt in the return.
        nonce: names it in the id_token.
        verifier: of PKCE.
    """

    issuer: str
    next: str
    state: str
    nonce: str
    verifier: str

    @property
    def challenge(self) -> str:
        """What PKCE tells the issuer of the verifier beforehand (S256)."""
        return challenge_of(self.verifier)


def create_attempt(issuer: str, next_path: str) -> Attempt:
    """Return a new attempt."""
    return Attempt(issuer, next_path, *(secrets.token_urlsafe(_RANDOM_BYTES) for _ in range(3)))


def challenge_of(verifier: str) -> str:
    """Return the challenge of a verifier (S256).

    >>> challenge_of("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk")  # the example of RFC 7636
    'E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM'
    """
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()


def cookie_name(state: str) -> str:
    """Return the name of the cookie that holds the attempt of a state."""
    return f"{_COOKIE}{state[:_TAIL]}"


def seal_attempt(attempt: Attempt, sealer: Sealer) -> str:
    """Return the content of the cookie of an attempt."""
    return sealer.seal(asdict(attempt))


def open_attempt(state: str, cookie: str | None, sealer: Sealer) -> Attempt:
    """Return the attempt that a browser returns from.

    Raises:
        LoginError: this browser started no such login, or too long ago.
    """
    content = None if cookie is None else sealer.open(cookie)
    if content is None or not secrets.compare_digest(content["state"].encode(), state.encode("utf-8", "replace")):
        raise LoginError(
            "state", f"state: expected that of a login which this browser started in the last {SECONDS // 60} minutes"
        )
    return Attempt(**content)


def require_path(path: str) -> str:
    """Return a path to which a person may return.

    Raises:
        LoginError: it may lead away from this server.

    >>> require_path("/wards/B4?sort=risk")
    '/wards/B4?sort=risk'
    """
    if len(path) > _MOST_CHARACTERS or not _PATH.fullmatch(path):
        raise LoginError("next", "next: expected a path of this server, such as /wards")
    return path
