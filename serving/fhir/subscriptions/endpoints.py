"""Which URLs notifications may be sent to: https, and below one of those that ``HOME/fhir.toml`` lists.

A URL is read by one narrow grammar, and what is sent to is written again from its parts. So what was compared with the list and
what the HTTP client understands cannot differ.
"""

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

_URL: Final = re.compile(
    r"(?P<scheme>https?)://(?P<host>[a-z0-9.-]+|\[[0-9a-f:.]+\])(?::(?P<port>[0-9]{1,5}))?(?P<path>(?:/[A-Za-z0-9._~!$&'()*+,;=:-]*)*)",
    flags=re.ASCII | re.IGNORECASE,
)
_PORTS: Final = {"https": 443, "http": 80}
_LOOPBACK: Final = ("localhost", "127.0.0.1", "[::1]")  # http stays on this machine
_LONGEST: Final = 1_000
EXPECTED: Final = (
    "an https URL of host, perhaps port, and path, without user, query, fragment or percent signs; http is for 127.0.0.1, "
    "[::1] and localhost only"
)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A URL in its parts: scheme and host in lower case, and the port that counts."""

    scheme: str
    host: str
    port: int
    segments: tuple[str, ...]

    @property
    def url(self) -> str:
        """The URL, written from its parts."""
        port = "" if self.port == _PORTS[self.scheme] else f":{self.port}"
        return f"{self.scheme}://{self.host}{port}/{'/'.join(self.segments)}"

    def is_below(self, listed: "Endpoint") -> bool:
        """Return whether this is a listed URL, or below it by whole segments of the path."""
        prefix = listed.segments[:-1] if listed.segments[-1:] == ("",) else listed.segments
        same_server = (self.scheme, self.host, self.port) == (listed.scheme, listed.host, listed.port)
        return same_server and self.segments[: len(prefix)] == prefix


def parse_endpoint(url: str) -> Endpoint | None:
    """Return the parts of a URL; None: it is not of the form that is understood here.

    >>> parse_endpoint("HTTPS://EHR.example/hooks/7").url
    'https://ehr.example/hooks/7'
    >>> [parse_endpoint(url) for url in ("https://ehr.example@evil.example/", "https://ehr.example/hooks/../x", "http://ehr.example/")]
    [None, None, None]
    """
    match = _URL.fullmatch(url) if len(url) <= _LONGEST else None
    if match is None:
        return None
    scheme, host = match["scheme"].lower(), match["host"].lower()
    if host.startswith("["):
        try:
            host = f"[{ipaddress.IPv6Address(host[1:-1]).compressed}]"
        except ValueError:
            return None
    port = int(match["port"] or _PORTS[scheme])
    segments = tuple(match["path"].split("/")[1:]) or ("",)  # without a path it is that of the root
    if not 0 < port < 65_536 or {".", ".."}.intersection(segments) or "" in segments[:-1]:
        return None
    if scheme == "http" and host not in _LOOPBACK:
        return None
    return Endpoint(scheme, host, port, segments)


def require_endpoint(url: str) -> str:
    """Return a URL of the list, for a model of settings.

    Raises:
        ValueError: it is not of the form that is understood.
    """
    if parse_endpoint(url) is None:
        raise ValueError(f"expected {EXPECTED}")
    return url


def find_allowed(url: str, listed: Iterable[str]) -> Endpoint | None:
    """Return the parts of a URL that may be sent to; None: it is not below any that is listed."""
    endpoint = parse_endpoint(url)
    if endpoint is None:
        return None
    known = (parse_endpoint(each) for each in listed)
    return endpoint if any(one is not None and endpoint.is_below(one) for one in known) else None
