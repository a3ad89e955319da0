"""Where people log in, and what they may then: ``HOME/login.toml``, written by those who connect the record system.

``clients.toml`` is about the other direction: clients that ask Vigil for tokens. Here Vigil is the client. A launch names its
issuer, so only issuers in this file are contacted.

::

    idle_minutes = 15

    [issuers.ehr]
    fhir = "https://ehr.example/fhir"    # or openid = "https://id.example/realms/hospital"
    client_id = "vigil"
    key = "auth/login_key.pem"           # or secret = "auth/ehr.secret"; neither: a public client
    wards = ["B4"]                       # where no claim, person or role says otherwise; or "all"

    [issuers.ehr.roles.intensivist]
    wards = "all"
    scopes = ["terms:write"]

    [issuers.ehr.screens.wall-b4]        # the account of a screen that everyone on the ward looks at
    wards = ["B4"]
"""

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from vigil.features.errors import VigilError
from vigil.serving.auth.jwks import is_safe_url
from vigil.serving.auth.smart_scopes import parse_smart_scopes
from vigil.serving.auth.tokens import SCOPES, is_printable_name
from vigil.serving.records.settings_file import SettingsFile

FILE: Final = "login.toml"
SCREEN_SCOPES: Final = ("alarms:read", "ward:read")  # what a screen on a wall may
SCREEN_LIFETIME: Final = timedelta(days=30)
# Asked of a record system, beside "launch" where it starts Vigil: who the person is, and what they may see and do here.
_ASKED_OF_FHIR: Final = (
    "openid",
    "fhirUser",
    "user/RiskAssessment.rs",
    "user/Observation.rs",
    "user/Patient.rs",
    "user/DetectedIssue.rus",
)
_ASKED_OF_OPENID: Final = ("openid", "profile")


class LoginSettingsError(VigilError):
    """The settings of logins cannot be used."""


def _require_name(name: str) -> str:
    if not is_printable_name(name):
        raise ValueError("expected 1 to 255 printable characters")
    return name


def _require_url(url: str) -> str:
    if not is_safe_url(url) or "?" in url or "#" in url:
        raise ValueError("expected an https URL without a password and a query; http is for 127.0.0.1 only")
    return url


def _require_scope(scope: str) -> str:
    if scope not in SCOPES and not parse_smart_scopes([scope]):
        raise ValueError(f"expected one of {', '.join(SCOPES)}, or a SMART scope")
    return scope


Name = Annotated[str, AfterValidator(_require_name)]
Url = Annotated[str, AfterValidator(_require_url)]
Wards = Literal["all"] | Annotated[frozenset[Name], Field(min_length=1)]


class Allowance(BaseModel):
    """What a person, a role, or everyone of an issuer may.

    Attributes:
        wards: those they may see, or ``all``; None: something else says it.
        scopes: of Vigil or of SMART, beside those that the issuer grants.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    wards: Wards | None = None
    scopes: tuple[Annotated[str, AfterValidator(_require_scope)], ...] = ()


class Screen(BaseModel):
    """A screen on a wall: it has no automatic logoff, since nobody uses it, and shows its wards without acting on them.

    Attributes:
        wards: those it shows.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    wards: Annotated[frozenset[Name], Field(min_length=1)]


class IssuerSettings(Allowance):
    """One issuer of logins.

    Attributes:
        fhir: the FHIR base URL of a record system, by which a launch names it.
        openid: the URL of an issuer of OpenID Connect, which is no record system.
        client_id: by which the issuer knows Vigil.
        secret: file with the secret that the issuer gave, relative to the home.
        key: file with a private key (PEM; RSA or P-384), relative to the home. The issuer knows its public part.
        ask: scopes to ask for, in place of those that Vigil needs.
        role_claim: the claim of the id_token that lists the roles of a person.
        roles: what the people of a role may, beside what everyone may.
        people: what one person may, by ``sub`` or by ``fhirUser`` such as ``Practitioner/17``.
        screens: accounts of screens on walls, by ``sub``.
    """

    fhir: Url | None = None
    openid: Url | None = None
    client_id: Name
    secret: Name | None = None
    key: Name | None = None
    ask: tuple[Name, ...] = ()
    role_claim: Name = "roles"
    roles: Mapping[Name, Allowance] = Field(default_factory=dict)
    people: Mapping[Name, Allowance] = Field(default_factory=dict)
    screens: Mapping[Name, Screen] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _check(self) -> "IssuerSettings":
        if (self.fhir is None) == (self.openid is None):
            raise ValueError("expected either fhir or openid")
        if self.secret is not None and self.key is not None:
            raise ValueError("expected secret, key, or neither")
        return self

    @property
    def url(self) -> str:
        """The URL below which the issuer says where its endpoints are, without a slash at the end."""
        return (self.fhir or self.openid or "").rstrip("/")

    @property
    def asked(self) -> tuple[str, ...]:
        """The scopes to ask for."""
        return self.ask or (_ASKED_OF_FHIR if self.fhir else _ASKED_OF_OPENID)

    def caller_of(self, sub: str) -> str:
        """Return the name of the caller whom the issuer calls ``sub``, unique among all issuers."""
        return f"{self.url}|{sub}"


class LoginSettings(BaseModel):
    """The settings.

    Attributes:
        idle_minutes: after so long without a use a session ends (automatic logoff).
        lifetime_hours: after so long it ends in any case.
        issuers: by a name that people read where they choose one.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    idle_minutes: Annotated[float, Field(ge=1, le=24 * 60)] = 15
    lifetime_hours: Annotated[float, Field(gt=0, le=24)] = 12
    issuers: Mapping[Name, IssuerSettings] = Field(default_factory=dict)

    @property
    def screens(self) -> dict[str, frozenset[str]]:
        """The wards of the screens of all issuers, by their names as callers."""
        issuers = self.issuers.values()
        return {issuer.caller_of(name): screen.wards for issuer in issuers for name, screen in issuer.screens.items()}

    @property
    def idle(self) -> timedelta:
        """The time without a use after which a session ends."""
        return timedelta(minutes=self.idle_minutes)

    @property
    def lifetime(self) -> timedelta:
        """The time after which a session ends in any case."""
        return timedelta(hours=self.lifetime_hours)


class LoginSettingsFile(SettingsFile[LoginSettings]):
    """The settings of a home, read again when the file changes."""

    def __init__(self, home: Path, *, strict: bool = False) -> None:
        """Read the file, if there is one.

        Raises:
            LoginSettingsError: it cannot be used; only if strict.
        """
        expected = "idle_minutes, lifetime_hours and issuers, each with fhir or openid, and client_id; see docs/login.md"
        super().__init__(home / FILE, LoginSettings, LoginSettingsError, expected, strict=strict)
