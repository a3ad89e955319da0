"""The registered clients: ``HOME/clients.toml``, written by those who connect them, read again when it changes.

::

    [clients.ehr]
    keys = "https://ehr.example/jwks.json"     # or a file, such as "ehr.jwks.json" beside this one
    scopes = ["system/Observation.cud", "system/RiskAssessment.rs"]
    wards = ["B4"]                             # left out: all wards
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from vigil.features.errors import VigilError
from vigil.serving.auth.jwks import JwksFile, JwksUrl
from vigil.serving.auth.smart_scopes import Permissions, own_scopes, parse_smart_scopes
from vigil.serving.auth.tokens import Caller, is_printable_name
from vigil.serving.records.settings_file import SettingsFile

FILE: Final = "clients.toml"
# Of each type of key, the one algorithm it may sign with: those that SMART App Launch 2.2 demands of servers.
ASSERTION_ALGORITHMS: Final = {"RSA": ("RS384",), "EC P-384": ("ES384",)}


class ClientsError(VigilError):
    """The registered clients cannot be used."""


def _require_name(name: str) -> str:
    if not is_printable_name(name):
        raise ValueError("expected 1 to 255 printable characters")
    return name


def _require_scope(scope: str) -> str:
    if not parse_smart_scopes([scope]):
        raise ValueError(f"{scope} allows nothing here; expected such as system/Observation.cud or system/RiskAssessment.rs")
    return scope


Name = Annotated[str, AfterValidator(_require_name)]


class ClientSettings(BaseModel):
    """What is registered of one client.

    Attributes:
        keys: an https URL of its public keys (JWKS), or a file, relative to the home.
        scopes: SMART scopes that it may be granted.
        wards: those it may see; None: all wards.
        origins: of web pages that may call CDS Hooks from a browser, such as ``https://ehr.example``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    keys: Name
    scopes: Annotated[tuple[Annotated[str, AfterValidator(_require_scope)], ...], Field(min_length=1)]
    wards: Annotated[frozenset[Name], Field(min_length=1)] | None = None
    origins: frozenset[Annotated[str, Field(pattern=r"^https?://[\w.:-]+$")]] = frozenset()

    @property
    def permissions(self) -> Permissions:
        """What the scopes allow."""
        return parse_smart_scopes(self.scopes)


class ClientsSettings(BaseModel):
    """Clients by their ``client_id``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    clients: Mapping[Name, ClientSettings] = Field(default_factory=dict)


class Clients:
    """The registered clients of a home, and their keys."""

    def __init__(self, home: Path, *, strict: bool = False) -> None:
        """Read the file, if there is one.

        Raises:
            ClientsError: it cannot be used; only if strict.
        """
        expected = "clients by their id, with keys, scopes and perhaps wards; see docs/fhir.md"
        self._home = home
        self._file = SettingsFile(home / FILE, ClientsSettings, ClientsError, expected, strict=strict)
        self._keys: dict[str, JwksFile | JwksUrl] = {}

    def find(self, client_id: str) -> ClientSettings | None:
        """Return what is registered of a client now; None: nothing."""
        self._file.refresh()
        return self._file.content.clients.get(client_id)

    def caller(self, client_id: str) -> Caller | None:
        """Return what a client may see and do now, without a token; None: it is not registered."""
        client = self.find(client_id)
        if client is None:
            return None
        permissions = client.permissions
        return Caller(client_id, own_scopes(permissions), client.wards, math.inf, permissions)

    def allows_origin(self, origin: str) -> bool:
        """Return whether a client may call from web pages of an origin."""
        self._file.refresh()
        return any(origin in client.origins for client in self._file.content.clients.values())

    def keys(self, client: ClientSettings) -> JwksFile | JwksUrl:
        """Return the keys of a client.

        Raises:
            KeysUnavailableError: the file, or the URL, cannot be used.
        """
        if client.keys not in self._keys:
            self._keys[client.keys] = (
                JwksUrl(client.keys, ASSERTION_ALGORITHMS)
                if "://" in client.keys
                else JwksFile(self._home / client.keys, ASSERTION_ALGORITHMS)
            )
        return self._keys[client.keys]
