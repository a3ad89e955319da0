"""Errors of the API as RFC 9457 problems, and the limit on request bodies.

A problem is returned, never raised through the server: a raised one would be logged with its traceback.
"""

import json
from http import HTTPStatus
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from serving.schemas import Problem

MEDIA_TYPE = "application/problem+json"


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


def unusable_observations(errors: list[dict[str, Any]]) -> Problem:
    return Problem(
        title="Unusable observations",
        status=422,
        code="unusable_observations",
        detail=f"observations: {len(errors)} cannot be used, so no risk was computed; correct or leave out those listed",
        errors=errors,
    )


def response(problem: Problem) -> JSONResponse:
    return JSONResponse(problem.model_dump(), status_code=problem.status, media_type=MEDIA_TYPE)


async def on_problem(_: Request, error: Exception) -> JSONResponse:
    """FastAPI handler for :class:`ProblemError`."""
    assert isinstance(error, ProblemError)
    return response(error.problem)


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
            "field": ".".join(str(part) for part in (e["loc"][:-1] if e["type"] == "extra_forbidden" else e["loc"])),
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


class BodyLimit:
    """ASGI middleware: a request body larger than the limit is answered with 413, whether or not it says its length."""

    def __init__(self, app: Any, max_bytes: int) -> None:
        self.app = app
        self.max_bytes = max_bytes

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        body, more = b"", True
        while more and len(body) <= self.max_bytes:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message.get("body", b"")
            more = message.get("more_body", False)
        if len(body) > self.max_bytes:
            await self._refuse(send)
            return
        messages = [{"type": "http.request", "body": body, "more_body": False}]

        async def replay() -> Any:
            return messages.pop() if messages else await receive()

        await self.app(scope, replay, send)

    async def _refuse(self, send: Any) -> None:
        problem = Problem(
            title="Body too large",
            status=413,
            code="body_too_large",
            detail=f"body: expected at most {self.max_bytes} bytes; send fewer observations or patients at a time",
        )
        content = json.dumps(problem.model_dump()).encode()
        headers = [(b"content-type", MEDIA_TYPE.encode()), (b"content-length", str(len(content)).encode())]
        await send({"type": "http.response.start", "status": 413, "headers": headers})
        await send({"type": "http.response.body", "body": content})
