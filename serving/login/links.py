"""One-time links: the person who started a server on their own machine logs in by the link that the terminal shows.

No issuer is needed. Other users of the machine do not see the link, since only the terminal has it.
"""

import secrets
from pathlib import Path
from typing import Final
from urllib.parse import urlencode, urlsplit

from vigil.serving.auth.local_tokens import KEY_FILE, LOCAL_FOLDER, create_local_keys
from vigil.serving.login.sealed import Sealer

LINK_PATH: Final = "/login/link"
LINK_SECONDS: Final = 600
_PURPOSE: Final = "login link"


def is_loopback_url(url: str) -> bool:
    """Return whether a URL is of the loopback interface, without TLS.

    >>> is_loopback_url("http://127.0.0.1:3000"), is_loopback_url("http://ward.example"), is_loopback_url("https://localhost")
    (True, False, False)
    """
    parts = urlsplit(url)
    return parts.scheme == "http" and parts.hostname in {"127.0.0.1", "localhost", "::1"}


def link_sealer(secret: bytes) -> Sealer:
    """Return what seals and opens links, by the private key of a home."""
    return Sealer(secret, _PURPOSE, LINK_SECONDS)


def create_link(home: Path, url: str) -> str:
    """Return a link that logs in once at the server of a home.

    Args:
        home: its key seals the link. It is created if there is none.
        url: of the server, on this machine.

    Raises:
        VigilError: the file of the key cannot be used.
    """
    create_local_keys(home / LOCAL_FOLDER)
    sealer = link_sealer((home / LOCAL_FOLDER / KEY_FILE).read_bytes())
    token = sealer.seal({"url": url, "once": secrets.token_urlsafe()})
    return f"{url}{LINK_PATH}?{urlencode({'token': token})}"
