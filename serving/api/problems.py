"""Errors of the API as RFC 9457 problems: what each says, and how FastAPI is made to say it.

A problem is returned, never raised through the server: a raised one would be logged with its traceback.
"""

from collections.abc import Sequence
from datetime import datetime
from http import HTTPStatus
from typing import Any, Final

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from serving.api.openapi import meant
from serving.api.schemas import Problem
from serving.auth.tokens import RULES
from serving.records.timestamps import SKEW, present, utc

MEDIA_TYPE: Final = "application/problem+json"
ERRORS_LISTED: Final = 20


class ProblemError(Exception):
    """Carries a problem from where it is found to the edge. Its text never holds a patient's value or identifier."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.code)
        self.problem = problem


def unknown_patient() -> Problem:
    return Problem(
        title="Unknown patient",
        status=404,
        code="unknown_patient",
        detail="patient_id: neither the feature store nor the journal knows this patient; check the identifier, send readings "
        "to /v1/observations, or ask with them at /v1/risk/observations",
    )


def too_early(age_hours: float) -> Problem:
    return Problem(
        title="Before the stored features",
        status=409,
        code="as_of_before_features",
        detail=f"as_of: the stored features are {-age_hours:.1f} h newer than as_of and may know what was not yet known; "
        "ask as of a later time, or send the readings to /v1/risk/observations",
    )


def unauthorized(rule: str) -> Problem:
    """Of a token; ``rule`` is a key of :data:`serving.auth.tokens.RULES`."""
    return Problem(title="Unauthorized", status=401, code=f"token_{rule}", detail=f"token: {RULES[rule]}")


def out_of_scope(scopes: Sequence[str]) -> Problem:
    return Problem(
        title="Forbidden",
        status=403,
        code="out_of_scope",
        detail=f"token: expected the scope {', '.join(scopes)}; ask the issuer for a token that has it",
    )


def not_your_ward(field: str) -> Problem:
    return Problem(
        title="Forbidden",
        status=403,
        code="not_your_ward",
        detail=f"{field}: the token is bound to other wards; ask the issuer for one that is bound to this ward, or to none",
    )


def no_keys() -> Problem:
    return Problem(
        title="Unavailable",
        status=503,
        code="no_keys",
        detail="token: the issuer's keys cannot be had, so no token can be verified; try again later",
    )


def too_many(per_second: int) -> Problem:
    return Problem(
        title="Too many requests",
        status=429,
        code="too_many_requests",
        detail=f"requests: expected at most {per_second} a second of one caller; send several readings or patients at a time",
    )


def too_many_refusals() -> Problem:
    return Problem(
        title="Too many requests",
        status=429,
        code="too_many_refusals",
        detail="requests: too many were for patients of wards that the token is not bound to; wait a minute, and send only "
        "patients of your wards",
    )


def too_many_at_a_time(most: int) -> Problem:
    return Problem(
        title="Too many requests",
        status=429,
        code="too_many_at_a_time",
        detail=f"requests: expected at most {most} of one caller at a time where answers take long; wait for some, or ask for "
        "several patients in one at /v1/risks",
    )


def too_many_streams(most: int) -> Problem:
    return Problem(
        title="Too many streams",
        status=429,
        code="too_many_streams",
        detail=f"streams: expected at most {most} of one caller at a time; end those that nobody follows",
    )


def overloaded() -> Problem:
    return Problem(
        title="Unavailable",
        status=503,
        code="overloaded",
        detail="observations: more is sent than can be written, so nothing of this request was kept; send it again later",
    )


def in_the_future() -> Problem:
    return Problem(
        title="In the future",
        status=409,
        code="as_of_in_the_future",
        detail="as_of: expected at or before the present of the server; leave it out to ask as of now",
    )


def refuse_future(as_of: datetime | None) -> None:
    """Nothing is known of what is to come.

    Raises:
        ProblemError: :func:`in_the_future`.
    """
    if as_of is not None and utc(as_of) > present() + SKEW:
        raise ProblemError(in_the_future())


def no_readings() -> Problem:
    return Problem(
        title="No readings",
        status=404,
        code="no_readings",
        detail="patient_id: nothing of this patient came over the API; check the identifier, or send readings to "
        "/v1/observations",
    )


def unknown_alarm() -> Problem:
    return Problem(
        title="Unknown alarm",
        status=404,
        code="unknown_alarm",
        detail="alarm_id: no such alarm in your wards; see /v1/alarms",
    )


def already(status: str) -> Problem:
    return Problem(
        title="Already done",
        status=409,
        code="already_done",
        detail=f"alarm_id: this alarm was {status} already, which stands; see its actions at /v1/alarms",
    )


def body_too_large(max_bytes: int) -> Problem:
    return Problem(
        title="Body too large",
        status=413,
        code="body_too_large",
        detail=f"body: expected at most {max_bytes} bytes; send fewer observations or patients at a time",
    )


def encoded_body() -> Problem:
    return Problem(
        title="Unsupported media type",
        status=415,
        code="encoded_body",
        detail="Content-Encoding: expected a body as it is, not compressed; leave the header out",
    )


def no_such_path() -> Problem:
    return Problem(
        title="Not found",
        status=404,
        code="not_found",
        detail="path: nothing is offered there; see /v1/openapi.json for what is",
    )


def unavailable() -> Problem:
    return Problem(
        title="Unavailable",
        status=503,
        code="unavailable",
        detail="a store that is needed for the answer cannot be used now, so none is given; try again later",
    )


def unexpected() -> Problem:
    return Problem(
        title="Unexpected error",
        status=500,
        code="unexpected_error",
        detail="a fault of the server; its log says where, not what",
    )


def unusable_observations(errors: list[dict[str, Any]]) -> Problem:
    """All errors are counted, the first :data:`ERRORS_LISTED` listed."""
    return Problem(
        title="Unusable observations",
        status=422,
        code="unusable_observations",
        detail=f"observations: {len(errors)} cannot be used, so no risk was computed; correct or leave out those listed",
        errors=errors[:ERRORS_LISTED],
    )


def response(problem: Problem) -> JSONResponse:
    headers = {"Retry-After": "1"} if problem.status in {429, 503} else {}
    if problem.code == "encoded_body":
        headers["Accept-Encoding"] = "identity"  # RFC 9110, section 12.5.3
    if problem.status == 401:
        headers["WWW-Authenticate"] = "Bearer" if problem.code == "token_missing" else 'Bearer error="invalid_token"'
    return JSONResponse(problem.model_dump(), status_code=problem.status, media_type=MEDIA_TYPE, headers=headers)


async def on_problem(_: Request, error: Exception) -> JSONResponse:
    """FastAPI handler for :class:`ProblemError`."""
    assert isinstance(error, ProblemError)
    return response(error.problem)


async def on_unavailable(_: Request, error: Exception) -> JSONResponse:  # noqa: ARG001 - it names files of ours
    """FastAPI handler for a store or log that cannot be used."""
    return response(unavailable())


async def on_overloaded(_: Request, error: Exception) -> JSONResponse:  # noqa: ARG001 - the problem says it all
    """FastAPI handler for more than can be written."""
    return response(overloaded())


async def on_http(_: Request, error: Exception) -> JSONResponse:
    """FastAPI handler for what the framework itself refuses: a body that cannot be parsed, a method that is not offered."""
    assert isinstance(error, HTTPException)
    title = HTTPStatus(error.status_code).phrase
    detail = "the request cannot be read or is not offered; see /v1/openapi.json for what is"
    answer = response(Problem(title=title, status=error.status_code, code=title.lower().replace(" ", "_"), detail=detail))
    answer.headers.update(error.headers or {})  # such as which methods are offered
    return answer


async def on_invalid(request: Request, error: Exception) -> JSONResponse:
    """FastAPI handler for requests that do not fit the schema: field and rule of each error, without the input.

    A small body can hold thousands of errors: all are counted, the first :data:`ERRORS_LISTED` listed.
    """
    assert isinstance(error, RequestValidationError)
    found = error.errors()
    route = request.scope.get("route")
    path = "" if route is None else route.path
    return response(
        Problem(
            title="Invalid request",
            status=422,
            code="invalid_request",
            detail=f"the request does not fit the schema at /v1/openapi.json in {len(found)} places; correct them, of which "
            f"the first {ERRORS_LISTED} are listed",
            errors=[_listed(each, request.app.openapi(), path) for each in found[:ERRORS_LISTED]],
        )
    )


def _listed(error: dict[str, Any], document: dict[str, Any], path: str) -> dict[str, str]:
    """One error. A name that the caller made up is input, too: it is repeated only where it is nearly one of the schema's."""
    location, expected = error["loc"][1:], error["msg"]
    if error["type"] == "json_invalid":
        reason = error.get("ctx", {}).get("error", "")
        return {"field": "body", "rule": "json_invalid", "expected": f"JSON; at character {location[0]}: {reason}"}
    if error["type"] == "extra_forbidden":
        near = meant(document, path, location)
        expected = "only the fields of the schema" if near is None else f"{near}; did you mean that by {location[-1]}?"
        location = location[:-1] if near is None else location
    return {"field": ".".join(map(str, location)) or "body", "rule": error["type"], "expected": expected}
