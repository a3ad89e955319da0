"""Errors of the API as RFC 9457 problems: what each says, and how FastAPI is made to say it.

A problem is returned, never raised through the server: a raised one would be logged with its traceback.
"""

from http import HTTPStatus
from typing import Any, Final

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from features.derived import SCORE_CARRY_HOURS
from serving.schemas import Problem

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
        detail="patient_id: no features of this patient in the online store; check the identifier, or send the readings "
        "to /v1/risk/observations",
    )


def stale(age_hours: float, step_hours: float) -> Problem:
    return Problem(
        title="Stale data",
        status=409,
        code="stale_data",
        detail=f"as_of: the newest features are {age_hours:.1f} h older than as_of, expected under {step_hours:g} h; "
        "refresh the features (vigil features, vigil materialize) or ask as of an earlier time",
    )


def too_early(age_hours: float) -> Problem:
    return Problem(
        title="Before the stored features",
        status=409,
        code="as_of_before_features",
        detail=f"as_of: the stored features are {-age_hours:.1f} h newer than as_of and may know what was not yet known; "
        "ask as of a later time, or send the readings to /v1/risk/observations",
    )


def no_recent_readings() -> Problem:
    return Problem(
        title="No recent readings",
        status=409,
        code="no_recent_readings",
        detail=f"observations: no vital sign within the {SCORE_CARRY_HOURS} h before as_of, so nothing can be said of "
        "the patient; send a reading, or ask as of an earlier time",
    )


def body_too_large(max_bytes: int) -> Problem:
    return Problem(
        title="Body too large",
        status=413,
        code="body_too_large",
        detail=f"body: expected at most {max_bytes} bytes; send fewer observations or patients at a time",
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
        detail="the feature store or the prediction log cannot be used now, so no risk is given; try again later",
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
    return JSONResponse(problem.model_dump(), status_code=problem.status, media_type=MEDIA_TYPE)


async def on_problem(_: Request, error: Exception) -> JSONResponse:
    """FastAPI handler for :class:`ProblemError`."""
    assert isinstance(error, ProblemError)
    return response(error.problem)


async def on_unavailable(_: Request, error: Exception) -> JSONResponse:  # noqa: ARG001 - it names files of ours
    """FastAPI handler for a store or log that cannot be used."""
    return response(unavailable())


async def on_http(_: Request, error: Exception) -> JSONResponse:
    """FastAPI handler for what the framework itself refuses: a body that cannot be parsed, a method that is not offered."""
    assert isinstance(error, HTTPException)
    title = HTTPStatus(error.status_code).phrase
    detail = "the request cannot be read or is not offered; see /v1/openapi.json for what is"
    return response(Problem(title=title, status=error.status_code, code=title.lower().replace(" ", "_"), detail=detail))


async def on_invalid(_: Request, error: Exception) -> JSONResponse:
    """FastAPI handler for requests that do not fit the schema: field and rule of each error, without the input."""
    assert isinstance(error, RequestValidationError)
    errors = [
        {
            # A name the caller made up is input too: only positions and the schema's own names are repeated.
            "field": ".".join(str(part) for part in (e["loc"][1:-1] if e["type"] == "extra_forbidden" else e["loc"][1:]))
            or "body",
            "rule": e["type"],
            "expected": "only the fields of the schema" if e["type"] == "extra_forbidden" else e["msg"],
        }
        for e in error.errors()
    ]
    return response(
        Problem(
            title="Invalid request",
            status=422,
            code="invalid_request",
            detail="the body does not fit the schema at /v1/openapi.json; correct the fields listed",
            errors=errors,
        )
    )
