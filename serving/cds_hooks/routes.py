"""``GET /cds-services``, and the calls of its services.

A call is answered with a card, or with none. What the record system prefetched is used if it is a Patient, and otherwise left
alone: a system may send null, an error page or an OperationOutcome there.
"""

import logging
from collections.abc import Mapping
from typing import Any, Final

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse

from vigil.serving.api import problems
from vigil.serving.api.alarm_actions import OVERRIDE_REASONS
from vigil.serving.api.authentication import extract_bearer_token
from vigil.serving.api.problems import ProblemError
from vigil.serving.auth.jwks import KeysUnavailableError
from vigil.serving.auth.smart_scopes import own_scopes
from vigil.serving.auth.tokens import Caller, UnauthorizedError
from vigil.serving.cds_hooks.service import SERVICES, CdsService, Feedback, NoPatientError
from vigil.serving.fhir.operations import parse_json
from vigil.serving.records.ward_rows import Action
from vigil.serving.smart.assertions import ClientError

logger: Final = logging.getLogger("vigil.serving")
BASE: Final = "/cds-services"
router: Final = APIRouter(prefix=BASE, include_in_schema=False)

_LONGEST: Final = 255  # characters of an id
_OUTCOMES: Final[dict[str, Action]] = {"accepted": "acknowledged", "overridden": "overridden"}


@router.get("")
async def discover(request: Request) -> Response:
    """The services of this server. It needs no token, and holds nothing about patients."""
    described = [service.describe(identity) for identity, service in SERVICES.items()]
    return _answer(request, {"services": described})


@router.options("")
@router.options("/{id}")
@router.options("/{id}/feedback")
async def preflight(request: Request) -> Response:
    """Whether a web page of an origin may call; asked by browsers before they do."""
    headers = _cors(request)
    if not headers:
        return Response(status_code=403)
    headers |= {
        "Access-Control-Allow-Methods": "GET, POST",
        "Access-Control-Allow-Headers": "Authorization, Content-Type",
        "Access-Control-Max-Age": "600",
    }
    return Response(status_code=204, headers=headers)


@router.post("/{id}")
async def call(request: Request, id: str) -> Response:  # noqa: A002 - CDS Hooks' name
    """The cards for a patient."""
    caller = await _verify(request, id)
    asked = parse_json(await request.body())
    context = asked.get("context") if isinstance(asked, dict) else None
    if not isinstance(asked, dict) or asked.get("hook") != SERVICES[id].hook or not _is_name(asked.get("hookInstance")):
        return _refuse(request, 400, f"expected hook {SERVICES[id].hook!r} and a hookInstance")
    if not isinstance(context, Mapping) or not _is_name(context.get("patientId")):
        return _refuse(request, 400, "context: expected patientId")
    prefetch = asked.get("prefetch")
    patient = prefetch.get("patient") if isinstance(prefetch, Mapping) else None
    server = asked.get("fhirServer")
    service: CdsService = request.app.state.components.cds
    try:
        cards = await run_in_threadpool(
            service.cards, caller, context["patientId"], patient, server if isinstance(server, str) else None
        )
    except NoPatientError as error:
        return _refuse(request, 412, str(error))
    return _answer(request, {"cards": cards})


@router.post("/{id}/feedback")
async def feedback(request: Request, id: str) -> Response:  # noqa: A002 - CDS Hooks' name
    """What clinicians did with cards: it is stored with the alarm that a card was about, if the caller may act on alarms."""
    caller = await _verify(request, id)
    sent = parse_json(await request.body())
    entries = sent.get("feedback") if isinstance(sent, dict) else None
    if not isinstance(entries, list) or not 0 < len(entries) <= 100:
        return _refuse(request, 400, "feedback: expected a list of 1 to 100 entries")
    given = [_read_feedback(entry) for entry in entries]
    if any(one is None for one in given):
        return _refuse(request, 400, "feedback: expected card, and as outcome accepted or overridden, in each entry")
    service: CdsService = request.app.state.components.cds
    await run_in_threadpool(service.take_feedback, caller, [one for one in given if one is not None])
    return _answer(request, {})


def _read_feedback(entry: Any) -> Feedback | None:
    """Return an entry; None: it cannot be understood. Comments of people are not kept: they may name the patient."""
    if not isinstance(entry, Mapping) or not _is_name(entry.get("card")) or not _is_name(entry.get("outcome")):
        return None
    action = _OUTCOMES.get(entry["outcome"])
    if action is None:
        return None
    reason = entry.get("overrideReason")
    coding = reason.get("reason") if isinstance(reason, Mapping) else None
    code = coding.get("code") if isinstance(coding, Mapping) else None
    known = code if isinstance(code, str) and code in OVERRIDE_REASONS else "other"
    return Feedback(entry["card"], action, known if action == "overridden" else None)


async def _verify(request: Request, identity: str) -> Caller:
    """Return who calls a service: a registered client by its own signature, or the bearer of a token of this server.

    Raises:
        ProblemError: there is no such service (404), or the call is refused (401, 403, 429).
    """
    if identity not in SERVICES:
        raise ProblemError(problems.not_found())
    components = request.app.state.components
    token = extract_bearer_token(request.scope["headers"])
    try:
        caller = await run_in_threadpool(_find_caller, components, token, f"{components.cds.url}{request.url.path}")
    except ClientError as error:
        logger.warning("call of CDS Hooks refused: %s", str(error).partition(":")[0])
        raise ProblemError(problems.invalid_token("claims")) from None
    except UnauthorizedError as error:
        raise ProblemError(problems.invalid_token(error.rule)) from None
    except KeysUnavailableError:
        raise ProblemError(problems.no_keys()) from None
    if not components.access.is_within_rate(caller):
        raise ProblemError(problems.too_many_requests(components.access.requests_per_second))
    if not caller.has_scope("risk:read"):
        raise ProblemError(problems.out_of_scope(["risk:read"]))
    return caller


def _find_caller(components: Any, token: str, url: str) -> Caller:
    service: CdsService = components.cds
    if not service.is_of_client(token):
        verified: Caller = components.tokens.verify(token)
        return verified
    name, client = components.smart.assertions.verify(token, url, is_call=True)
    return Caller(name, own_scopes(client.permissions), client.wards, 0.0, client.permissions)


def _is_name(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= _LONGEST


def _cors(request: Request) -> dict[str, str]:
    """Return the headers that let a web page read the answer; none unless a client registered its origin."""
    origin = request.headers.get("origin")
    if origin is None or not request.app.state.components.smart.clients.allows_origin(origin):
        return {}
    return {"Access-Control-Allow-Origin": origin, "Vary": "Origin"}


def _answer(request: Request, content: Mapping[str, Any], status: int = 200) -> JSONResponse:
    return JSONResponse(content, status, _cors(request))


def _refuse(request: Request, status: int, message: str) -> JSONResponse:
    return _answer(request, {"message": message}, status)
