"""A small authorization server for people on this machine: who logs in chooses a role and wards, and proves nothing.

It speaks SMART App Launch as a record system would, so that a login is the same here as there. Only ``vigil serve
--local-login`` offers it, on the loopback interface only: every user of the machine can log in by it.
"""

import json
import logging
import secrets
import time
from dataclasses import asdict, dataclass, fields
from typing import Annotated, Any, Final
from urllib.parse import urlencode, urlsplit

from fastapi import APIRouter, Depends, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, RedirectResponse, Response

from vigil.serving.api import problems
from vigil.serving.api.problems import ProblemError
from vigil.serving.auth.local_tokens import JWKS_FILE, LOCAL_FOLDER, sign_claims
from vigil.serving.auth.tokens import is_printable_name
from vigil.serving.login.attempts import challenge_of
from vigil.serving.login.dependencies import LoginHere
from vigil.serving.login.forms import read_form
from vigil.serving.login.pages import page, refusal
from vigil.serving.login.sealed import Sealer
from vigil.serving.login.service import CALLBACK_PATH, LOCAL_CLIENT, LOCAL_PATH, LoginService
from vigil.serving.words import words_for

logger: Final = logging.getLogger("vigil.serving")
router: Final = APIRouter(include_in_schema=False)

# What each role is granted, as a record system would grant it.
ROLES: Final = {
    "nurse": "user/RiskAssessment.rs user/Observation.rs user/Patient.rs user/DetectedIssue.rus",
    "physician": "user/RiskAssessment.rs user/Observation.rs user/Patient.rs user/DetectedIssue.rus terms:write",
    "observer": "user/RiskAssessment.rs user/Patient.rs",
    "operator": "operations:read",
}
_CODE_SECONDS: Final = 60
_TOKEN_SECONDS: Final = 300
_FORM_SECONDS: Final = 600
_MOST_CHARACTERS: Final = 500  # of what a person enters: it has to fit into a code
_CODES: Final = "local login"  # in the table of what was used once


@dataclass(frozen=True)
class _Asked:
    """A request for a code, as it was checked."""

    client_id: str
    redirect_uri: str
    state: str
    nonce: str
    scope: str
    code_challenge: str


async def _local(request: Request, service: LoginHere) -> LoginService:
    """Return the logins, where they are offered.

    Raises:
        ProblemError: they are not (404), or the request names another host, as after DNS rebinding.
    """
    if not service.offers_local_login or request.headers.get("host") != urlsplit(service.url).netloc:
        raise ProblemError(problems.not_found())
    return service


LocalLoginHere = Annotated[LoginService, Depends(_local)]


@router.get(f"{LOCAL_PATH}/.well-known/smart-configuration")
async def configuration(service: LocalLoginHere) -> dict[str, Any]:
    """What a client asks first."""
    base = f"{service.url}{LOCAL_PATH}"
    return {
        "issuer": base,
        "jwks_uri": f"{base}/jwks",
        "authorization_endpoint": f"{base}/authorize",
        "token_endpoint": f"{base}/token",
        "grant_types_supported": ["authorization_code"],
        "response_types_supported": ["code"],
        "code_challenge_methods_supported": ["S256"],
        "token_endpoint_auth_methods_supported": ["none"],
        "scopes_supported": sorted({scope for scopes in ROLES.values() for scope in scopes.split()} | {"openid", "fhirUser"}),
        "capabilities": ["launch-ehr", "launch-standalone", "client-public", "sso-openid-connect", "permission-v2"],
    }


@router.get(f"{LOCAL_PATH}/jwks")
async def keys(service: LocalLoginHere) -> JSONResponse:
    """The public key that signs id_tokens: that of the tokens of this home."""
    return JSONResponse(json.loads((service.home / LOCAL_FOLDER / JWKS_FILE).read_bytes()))


@router.get(f"{LOCAL_PATH}/authorize")
async def choose(request: Request, service: LocalLoginHere) -> Response:
    """A person chooses who they are."""
    query, words = request.query_params, words_for(request)
    asked = _Asked(**{field.name: query.get(field.name, "") for field in fields(_Asked)})
    expected = {
        "response_type": "code",
        "client_id": LOCAL_CLIENT,
        "redirect_uri": f"{service.url}{CALLBACK_PATH}",
        "aud": f"{service.url}{LOCAL_PATH}",
        "code_challenge_method": "S256",
    }
    wrong = [name for name, value in expected.items() if query.get(name, "").rstrip("/") != value]
    wrong += [name for name in ("state", "nonce", "scope", "code_challenge") if not query.get(name)]
    if wrong:
        return refusal(words, f"{', '.join(wrong)}: expected as SMART App Launch has it, for this server.", 400)
    context = [(name, words(f"login.local.{name}"), ()) for name in ("patient", "encounter")]
    return page(
        words,
        "login.log_in",
        words("login.local.text"),
        action=f"{LOCAL_PATH}/authorize",
        hidden=[("request", _requests(service).seal(asdict(asked)))],
        fields=[
            ("name", words("login.local.name"), ()),
            ("role", words("login.local.role"), [(role, words(f"login.role.{role}")) for role in ROLES]),
            ("wards", words("login.local.wards"), ()),
            *(context if "launch" in asked.scope.split() else []),
        ],
    )


@router.post(f"{LOCAL_PATH}/authorize")
async def authorize(request: Request, service: LocalLoginHere) -> Response:
    """The person has chosen: the browser goes back with a code."""
    form = await read_form(request)
    asked = _requests(service).open(form.get("request", ""))
    name, role = form.get("name", "").strip() or "local", form.get("role", "")
    wards = [ward.strip() for ward in form.get("wards", "").split(",") if ward.strip()]
    is_short = sum(map(len, [name, *wards, form.get("patient", ""), form.get("encounter", "")])) <= _MOST_CHARACTERS
    if asked is None or role not in ROLES or not is_short or not all(map(is_printable_name, [name, *wards])):
        detail = "name, role, wards: expected a name, a role of the list, and names of wards."
        return refusal(words_for(request), detail, 400)
    context = {field: value for field in ("patient", "encounter") if (value := form.get(field, "").strip())}
    chosen = {"name": name, "role": role, "wards": wards, "context": context, "once": secrets.token_urlsafe()}
    query = {"code": _codes(service).seal(asked | chosen), "state": asked["state"], "iss": f"{service.url}{LOCAL_PATH}"}
    return RedirectResponse(f"{asked['redirect_uri']}?{urlencode(query)}", 303)


@router.post(f"{LOCAL_PATH}/token")
async def token(request: Request, service: LocalLoginHere) -> JSONResponse:
    """Exchange a code, once, for who the person is. The access token opens nothing: this server has what it needs."""
    form = await read_form(request)
    chosen = _codes(service).open(form.get("code", ""))
    if form.get("grant_type") != "authorization_code":
        return _error("unsupported_grant_type")
    if chosen is None or any(form.get(name) != chosen[name] for name in ("client_id", "redirect_uri")):
        return _error("invalid_grant")
    if not secrets.compare_digest(challenge_of(form.get("code_verifier", "")), chosen["code_challenge"]):
        return _error("invalid_grant")
    now = time.time()
    if not await run_in_threadpool(service.used.use, _CODES, chosen["once"], now + _CODE_SECONDS, now):
        return _error("invalid_grant")
    return JSONResponse(_answer(service, chosen, int(now)), headers={"Pragma": "no-cache"})


def _answer(service: LoginService, chosen: dict[str, Any], now: int) -> dict[str, Any]:
    base = f"{service.url}{LOCAL_PATH}"
    claims = {
        "iss": base,
        "aud": chosen["client_id"],
        "sub": chosen["name"],
        "name": chosen["name"],
        "iat": now,
        "exp": now + _TOKEN_SECONDS,
        "nonce": chosen["nonce"],
        "fhirUser": f"{base}/Practitioner/{_fhir_id(chosen['name'])}",
        "roles": [chosen["role"]],
    }
    # Empty: all wards. A record system would leave that to login.toml, which has no entry for this issuer.
    claims |= {"wards": chosen["wards"]} if chosen["wards"] else {}
    return {
        "access_token": secrets.token_urlsafe(),
        "token_type": "Bearer",
        "expires_in": _TOKEN_SECONDS,
        "scope": f"openid fhirUser {ROLES[chosen['role']]}",
        "id_token": sign_claims(service.secret, claims),
        **chosen["context"],
    }


def _fhir_id(name: str) -> str:
    """Return a name as the id of a resource may be: letters, digits, dots and dashes."""
    return "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in name)[:64]


def _error(code: str) -> JSONResponse:
    logger.warning("local login: %s", code)
    return JSONResponse({"error": code}, 400)


def _requests(service: LoginService) -> Sealer:
    return Sealer(service.secret, "local login request", _FORM_SECONDS)


def _codes(service: LoginService) -> Sealer:
    return Sealer(service.secret, "local login code", _CODE_SECONDS)
