"""Errors of the API as RFC 9457 problems, made from the table in :mod:`vigil.serving.api.problem_types`, and their handlers.

A problem is returned as a response. It is never raised through the server, which would log its traceback.
"""

from collections.abc import Sequence
from datetime import datetime
from functools import partial
from http import HTTPStatus
from typing import Any, Final

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from vigil.serving.api.openapi import find_closest_field, find_known_part
from vigil.serving.api.problem_types import PROBLEM_TYPES
from vigil.serving.api.schemas.problems import Problem
from vigil.serving.records.not_recorded import NotRecordedError
from vigil.serving.records.timestamps import SKEW, present, utc

MEDIA_TYPE: Final = "application/problem+json"
ERRORS_LISTED: Final = 20
_FRAMEWORK_ERRORS: Final = {400: "bad_request", 404: "not_found", 405: "method_not_allowed"}  # by status


class ProblemError(HTTPException):
    """Carries a problem to the error handler. Its text never holds a patient's value or identifier.

    An HTTP exception, because FastAPI replaces any other one that is raised while it reads a body.
    """

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.status, problem.code)
        self.problem = problem


def create_problem(code: str, errors: Sequence[dict[str, Any]] = (), **values: object) -> Problem:
    """Create a problem of one type.

    Args:
        code: a key of :data:`PROBLEM_TYPES`.
        errors: field, rule and expectation of single errors.
        values: fill the placeholders of the type's detail.

    >>> create_problem("body_too_large", limit=1_000_000).detail
    'body: expected at most 1000000 bytes. Send fewer observations or patients in one request.'
    """
    kind = PROBLEM_TYPES[code]
    return Problem(title=kind.title, status=kind.status, code=code, detail=kind.describe(**values), errors=list(errors))


# Problems whose detail is always the same.
unknown_patient = partial(create_problem, "unknown_patient")
no_readings = partial(create_problem, "no_readings")
unknown_alarm = partial(create_problem, "unknown_alarm")
not_found = partial(create_problem, "not_found")
as_of_in_the_future = partial(create_problem, "as_of_in_the_future")
session_missing = partial(create_problem, "session_missing")
csrf_token_missing = partial(create_problem, "csrf_token_missing")
encoded_body = partial(create_problem, "encoded_body")
too_many_refusals = partial(create_problem, "too_many_refusals")
unexpected_error = partial(create_problem, "unexpected_error")
overloaded = partial(create_problem, "overloaded")
unavailable = partial(create_problem, "unavailable")
no_keys = partial(create_problem, "no_keys")


def invalid_token(rule: str) -> Problem:
    """Create the problem of a refused token. ``rule`` is a key of :data:`vigil.serving.auth.tokens.RULES`."""
    return create_problem(f"token_{rule}")


def out_of_scope(scopes: Sequence[str]) -> Problem:
    """Create the problem of a token that lacks scopes."""
    return create_problem("out_of_scope", scopes=", ".join(scopes))


def not_your_ward(field: str) -> Problem:
    """Create the problem of a request for another ward. ``field`` is the field that leads there."""
    return create_problem("not_your_ward", field=field)


def not_recorded(error: NotRecordedError) -> Problem:
    """Create the problem of a merge or unmerge that is refused."""
    return create_problem(error.rule, field=error.field)


def as_of_before_features(age_hours: float) -> Problem:
    """Create the problem of an ``as_of`` before the stored features, which have the negative age ``age_hours``."""
    return create_problem("as_of_before_features", hours=-age_hours)


def already_done(status: str) -> Problem:
    """Create the problem of an action on an alarm that has the final status ``status``."""
    return create_problem("already_done", status=status)


def body_too_large(max_bytes: int) -> Problem:
    """Create the problem of a body above the limit."""
    return create_problem("body_too_large", limit=max_bytes)


def too_many_requests(per_second: int) -> Problem:
    """Create the problem of a caller above the rate limit."""
    return create_problem("too_many_requests", limit=per_second)


def too_much_at_a_time(seconds: float) -> Problem:
    """Create the problem of a caller with too much work that waits."""
    return create_problem("too_much_at_a_time", limit=seconds)


def busy() -> Problem:
    """Create the problem of a question that would have to wait too long."""
    return create_problem("busy")


def too_many_streams(most: int) -> Problem:
    """Create the problem of a caller with too many open streams of events."""
    return create_problem("too_many_streams", limit=most)


def unusable_observations(errors: Sequence[dict[str, Any]]) -> Problem:
    """Create the problem of observations that cannot be used. It counts all errors and lists the first 20."""
    listed = errors[:ERRORS_LISTED]
    return create_problem("unusable_observations", listed, count=len(errors), listed=ERRORS_LISTED)


def refuse_future(as_of: datetime | None) -> None:
    """Refuse a question about the future.

    Raises:
        ProblemError: ``as_of`` is more than 5 s ahead of the server's clock (409).
    """
    if as_of is not None and utc(as_of) > present() + SKEW:
        raise ProblemError(as_of_in_the_future())


def to_response(problem: Problem) -> JSONResponse:
    """Return the HTTP response of a problem, with the headers that its status asks for."""
    headers = {"Retry-After": "1"} if problem.status in {429, 503} else {}
    if problem.code == "encoded_body":
        headers["Accept-Encoding"] = "identity"  # RFC 9110, section 12.5.3
    if problem.status == 401:
        headers["WWW-Authenticate"] = "Bearer" if problem.code.endswith("_missing") else 'Bearer error="invalid_token"'
    return JSONResponse(problem.model_dump(), status_code=problem.status, media_type=MEDIA_TYPE, headers=headers)


async def on_problem(_: Request, error: Exception) -> JSONResponse:
    """Handle :class:`ProblemError`."""
    assert isinstance(error, ProblemError)
    return to_response(error.problem)


async def on_unavailable(_: Request, error: Exception) -> JSONResponse:  # noqa: ARG001 - its message names files of the server
    """Handle the error of a store or log that cannot be used."""
    return to_response(unavailable())


async def on_overloaded(_: Request, error: Exception) -> JSONResponse:  # noqa: ARG001 - the problem is complete without it
    """Handle the error of more observations than can be written."""
    return to_response(overloaded())


async def on_http(_: Request, error: Exception) -> JSONResponse:
    """Handle what the framework itself refuses, such as an unreadable body or a method that the path does not have."""
    assert isinstance(error, HTTPException)
    if code := _FRAMEWORK_ERRORS.get(error.status_code):
        problem = create_problem(code)
    else:
        title = HTTPStatus(error.status_code).phrase
        detail = "The request cannot be read, or the server does not offer it. See /v1/openapi.json."
        problem = Problem(title=title, status=error.status_code, code=title.lower().replace(" ", "_"), detail=detail)
    answer = to_response(problem)
    answer.headers.update(error.headers or {})  # such as Allow
    return answer


async def on_invalid(request: Request, error: Exception) -> JSONResponse:
    """Handle a request that does not fit the schema."""
    assert isinstance(error, RequestValidationError)
    return to_response(invalid_request(request, error.errors()))


def invalid_request(request: Request, errors: Sequence[dict[str, Any]]) -> Problem:
    """Create the problem of a request that does not fit the schema: field and rule of each error, without the input.

    A small body can hold thousands of errors. All are counted, the first :data:`ERRORS_LISTED` are listed.

    Args:
        request: its route tells which names are fields.
        errors: as pydantic lists them, with ``type``, ``loc`` and ``msg``.
    """
    route = request.scope.get("route")
    path = "" if route is None else route.path
    listed = [_describe_error(each, request.app.openapi(), path) for each in errors[:ERRORS_LISTED]]
    return create_problem("invalid_request", listed, count=len(errors), listed=ERRORS_LISTED)


def _describe_error(error: dict[str, Any], document: dict[str, Any], path: str) -> dict[str, str]:
    """Return field, rule and expectation of one validation error.

    An unknown field name is input of the caller, too. It is named only if it resembles a field of the schema.
    """
    location, expected = error["loc"][1:], error["msg"]
    if error["type"] == "json_invalid":
        reason = error.get("ctx", {}).get("error", "")
        return {"field": "body", "rule": "json_invalid", "expected": f"JSON; at character {location[0]}: {reason}"}
    if error["type"] == "repeated" and error["loc"][0] == "body":
        known = find_known_part(document, path, location)
        expected = expected if len(known) == len(location) else "each key only once"
        location = known
    if error["type"] == "extra_forbidden":
        closest = find_closest_field(document, path, location)
        expected = "only the fields of the schema" if closest is None else f"{closest}; did you mean that by {location[-1]}?"
        location = location[:-1] if closest is None else location
    return {"field": ".".join(map(str, location)) or "body", "rule": error["type"], "expected": expected}
