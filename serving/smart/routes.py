"""The token endpoint of SMART Backend Services, and the document that tells clients where it is.

Errors are OAuth's (Hardt D. RFC 6749, section 5.2, 2012), as clients of token endpoints expect.
"""

import logging
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final
from urllib.parse import parse_qsl

from fastapi import APIRouter, Depends, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse

from vigil.serving.auth.jwks import KeysUnavailableError
from vigil.serving.auth.local_tokens import LOCAL_AUDIENCE, LOCAL_ISSUER, sign_token
from vigil.serving.auth.smart_scopes import PERMISSIONS, intersection, parse_smart_scopes, permissions_of, smart_scopes, union
from vigil.serving.records.database import DatabaseError
from vigil.serving.smart.assertions import ClientError
from vigil.serving.smart.clients import ASSERTION_ALGORITHMS
from vigil.serving.smart.service import CONFIGURATION_PATH, TOKEN_PATH, TOKEN_SECONDS, SmartService

logger: Final = logging.getLogger("vigil.serving")
router: Final = APIRouter(include_in_schema=False)  # SMART App Launch is its document

ASSERTION_TYPE: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_FIELDS: Final = ("grant_type", "scope", "client_assertion_type", "client_assertion")
_FORM: Final = "application/x-www-form-urlencoded"
_MOST_BYTES: Final = 32 * 1024


async def _service(request: Request) -> SmartService:
    service: SmartService = request.app.state.components.smart
    return service


class _RefusedError(Exception):
    """A request for a token that is refused: OAuth's code, and a sentence for the developer of the client."""

    def __init__(self, code: str, description: str) -> None:
        super().__init__(code, description)
        self.code, self.description = code, description


@router.get(CONFIGURATION_PATH)
async def smart_configuration(service: Annotated[SmartService, Depends(_service)]) -> dict[str, Any]:
    """The SMART configuration of this server. It needs no token."""
    return {
        "token_endpoint": service.token_url,
        "grant_types_supported": ["client_credentials"],
        "token_endpoint_auth_methods_supported": ["private_key_jwt"],
        "token_endpoint_auth_signing_alg_values_supported": [name for own in ASSERTION_ALGORITHMS.values() for name in own],
        "scopes_supported": smart_scopes(union(permissions_of([scope]) for scope in PERMISSIONS)),
        "capabilities": ["client-confidential-asymmetric", "permission-v1", "permission-v2"],
    }


@router.post(TOKEN_PATH)
async def token(request: Request, service: Annotated[SmartService, Depends(_service)]) -> JSONResponse:
    """A client signs an assertion with its registered key, and gets a token of five minutes for the scopes it may have."""
    try:
        asked = await _read_form(request)
        content = await run_in_threadpool(_grant, service, asked)
        status = 200
    except _RefusedError as refused:
        logger.warning("token refused: %s", refused.code)
        status, content = 400, {"error": refused.code, "error_description": refused.description}
    except (KeysUnavailableError, DatabaseError):
        logger.error("token endpoint: keys of a client, or connections.db, cannot be used")  # noqa: TRY400 - no traceback
        status, content = 503, {"error": "temporarily_unavailable", "error_description": "try again"}
    return JSONResponse(content, status, {"Cache-Control": "no-store", "Pragma": "no-cache"})


async def _read_form(request: Request) -> dict[str, str]:
    """Return the fields of the request.

    Raises:
        _RefusedError: it is no form, or a field is missing or repeated.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != _FORM:
        raise _RefusedError("invalid_request", f"content-type: expected {_FORM}")
    body = await request.body()
    try:
        pairs = parse_qsl(body.decode("ascii"), keep_blank_values=True, max_num_fields=20) if len(body) <= _MOST_BYTES else []
    except ValueError:
        pairs = []
    if len(dict(pairs)) < len(pairs):
        raise _RefusedError("invalid_request", "expected each field once")
    asked = dict(pairs)
    if missing := [name for name in _FIELDS if not asked.get(name)]:
        raise _RefusedError("invalid_request", f"expected the fields {', '.join(_FIELDS)}; missing: {', '.join(missing)}")
    return asked


def _grant(service: SmartService, asked: dict[str, str]) -> dict[str, Any]:
    """Return the answer with the token.

    Raises:
        _RefusedError: there is none for this request.
    """
    if asked["grant_type"] != "client_credentials":
        raise _RefusedError("unsupported_grant_type", "grant_type: expected client_credentials")
    if asked["client_assertion_type"] != ASSERTION_TYPE:
        raise _RefusedError("invalid_request", f"client_assertion_type: expected {ASSERTION_TYPE}")
    try:
        client_id, client = service.assertions.verify(asked["client_assertion"], service.token_url)
    except ClientError as error:
        raise _RefusedError("invalid_client", str(error)) from None
    granted = smart_scopes(intersection(parse_smart_scopes(asked["scope"].split()), client.permissions))
    if not granted:
        raise _RefusedError("invalid_scope", "scope: expected some of the scopes that are registered for this client")
    signed = sign_token(
        service.key,
        issuer=LOCAL_ISSUER,
        audience=LOCAL_AUDIENCE,
        subject=client_id,
        scopes=granted,
        wards=client.wards,
        lifetime=timedelta(seconds=TOKEN_SECONDS),
        now=datetime.now(UTC),
    )
    return {"access_token": signed, "token_type": "bearer", "expires_in": TOKEN_SECONDS, "scope": " ".join(granted)}
