"""Who logged in, and what they may: from the verified id_token, the scopes that the issuer granted, and ``login.toml``."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from vigil.serving.auth.smart_scopes import parse_smart_scopes
from vigil.serving.auth.tokens import SCOPES, is_printable_name, parse_allowed
from vigil.serving.login.errors import LoginError
from vigil.serving.login.settings import SCREEN_SCOPES, Allowance, IssuerSettings

_STAFF: Final = ("Practitioner", "PractitionerRole")
_FHIR_USER: Final = re.compile(r"(?:.*/)?([A-Z][A-Za-z]+)/([A-Za-z0-9\-.]{1,64})", flags=re.ASCII)
_MOST_CHARACTERS: Final = 255


@dataclass(frozen=True)
class Person:
    """One person who has logged in.

    Attributes:
        sub: the name of the caller, unique among all issuers.
        name: as pages show it to the person.
        scopes: names of scopes that allow something here, of Vigil or of SMART.
        wards: those they may see; None: all wards.
    """

    sub: str
    name: str
    scopes: list[str]
    wards: list[str] | None


def identify(claims: Mapping[str, Any], granted: object, issuer: IssuerSettings) -> Person:
    """Return who the claims of an id_token name, and what they may.

    - Wards: the claim ``wards``, as tokens of the API have it; else those of the person in ``login.toml``; else those of all
      their roles; else those of the issuer. If nothing names wards, the login is refused: a person sees no patients by default.
    - Scopes: those that the issuer granted, and those of ``login.toml``.
    - The account of a screen on a wall has what ``login.toml`` says of screens, and nothing else.

    Args:
        claims: of the verified id_token.
        granted: the scopes of the token endpoint's answer, with blanks between them.
        issuer: what ``login.toml`` says of the issuer.

    Raises:
        LoginError: the person may do nothing here.
    """
    shown = str(claims["name"] if is_printable_name(claims.get("name")) else claims["sub"])
    screen = issuer.screens.get(claims["sub"])
    if screen is not None:
        return Person(_caller(claims, None, issuer), shown, list(SCREEN_SCOPES), sorted(screen.wards))
    user = _read_user(claims, issuer)
    entries = _find_allowances(claims, user, issuer)
    names = granted.split(" ") if isinstance(granted, str) and issuer.fhir else []
    names = [name for name in names if not name.startswith("system/")]  # what a system may is not for a person
    names += [scope for allowance in entries for scope in allowance.scopes]
    scopes = sorted({name for name in names if name in SCOPES or parse_smart_scopes([name])})
    if not parse_allowed(scopes)[0]:
        raise LoginError(
            "scope",
            "scope: the issuer granted nothing that can be used here. Expected such as user/RiskAssessment.rs, or scopes of "
            "the person, of a role or of all in login.toml.",
            403,
        )
    return Person(_caller(claims, user, issuer), shown, scopes, _wards(claims, entries))


def _read_user(claims: Mapping[str, Any], issuer: IssuerSettings) -> str | None:
    """Return ``TYPE/ID`` of the resource that a person is on the record system; None: the issuer names none.

    Raises:
        LoginError: the person is a patient or a relative, or may be. What staff may see is not for them.
    """
    if issuer.fhir is None or ("fhirUser" not in claims and claims["sub"] in issuer.people):
        return None
    match = _FHIR_USER.fullmatch(claims["fhirUser"]) if isinstance(claims.get("fhirUser"), str) else None
    if match is None or match[1] not in _STAFF:
        raise LoginError("fhirUser", f"fhirUser: expected staff ({' or '.join(_STAFF)})", 403)
    # One issuer must not name people of another.
    if "://" in claims["fhirUser"] and claims["fhirUser"] != f"{issuer.url}/{match[1]}/{match[2]}":
        return None
    return f"{match[1]}/{match[2]}"


def _caller(claims: Mapping[str, Any], user: str | None, issuer: IssuerSettings) -> str:
    name = f"{issuer.url}/{user}" if user is not None else issuer.caller_of(claims["sub"])
    if len(name) > _MOST_CHARACTERS:
        raise LoginError("sub", f"sub: expected at most {_MOST_CHARACTERS} characters together with the issuer", 403)
    return name


def _find_allowances(claims: Mapping[str, Any], user: str | None, issuer: IssuerSettings) -> list[Allowance]:
    """Return what login.toml says that concerns a person: of the person, their roles, and everyone, in this order."""
    roles = claims.get(issuer.role_claim, [])
    roles = [roles] if isinstance(roles, str) else roles if isinstance(roles, list) else []
    by_role = [issuer.roles[role] for role in roles if isinstance(role, str) and role in issuer.roles]
    named = (issuer.people[name] for name in (user, claims["sub"]) if name is not None and name in issuer.people)
    by_name = next(named, Allowance())
    return [by_name, *by_role, issuer]


def _wards(claims: Mapping[str, Any], entries: list[Allowance]) -> list[str] | None:
    """Return the wards that a person may see; None: all.

    Raises:
        LoginError: nothing says which.
    """
    if "wards" in claims:
        named = claims["wards"]
        if not isinstance(named, list) or not named or not all(map(is_printable_name, named)):
            raise LoginError("wards", "id_token: wards: expected a list of names", 403)
        return sorted(set(named))
    person, *roles, everyone = (entry.wards for entry in entries)
    of_roles = [wards for wards in roles if wards is not None]
    if person is not None:
        found = [person]
    elif of_roles:
        found = of_roles
    elif everyone is not None:
        found = [everyone]
    else:
        raise LoginError(
            "wards",
            "wards: nothing says which; expected the claim wards, or wards of the person, a role or all in login.toml",
            403,
        )
    return None if "all" in found else sorted({ward for wards in found for ward in wards})
