"""OperationOutcome: what was wrong, as FHIR says it. Under ``/fhir`` every error has this form.

Problems of the API become outcomes on their way out (:class:`OutcomeMiddleware`), so that a rule has one text on both doors.
"""

import json
from collections.abc import Iterable
from typing import Any, Final

from fastapi import Request
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vigil.serving.api import problems
from vigil.serving.fhir.refusals import Refusal

MEDIA_TYPE: Final = "application/fhir+json"
BASE: Final = "/fhir"
# Codes of https://hl7.org/fhir/R4/valueset-issue-type.html by HTTP status.
_ISSUE_TYPES: Final = {
    400: "invalid",
    401: "login",
    403: "forbidden",
    404: "not-found",
    405: "not-supported",
    406: "not-supported",
    409: "conflict",
    410: "deleted",
    412: "conflict",
    413: "too-long",
    415: "not-supported",
    422: "processing",
    429: "throttled",
    503: "transient",
}


class FhirResponse(JSONResponse):
    """A response whose content is a FHIR resource."""

    media_type = MEDIA_TYPE


def issue(code: str, diagnostics: str, expression: Iterable[str] = (), severity: str = "error") -> dict[str, Any]:
    """Return one issue.

    Args:
        code: of https://hl7.org/fhir/R4/valueset-issue-type.html.
        diagnostics: a sentence for people; never a patient's value or identifier.
        expression: FHIRPath of the elements.
        severity: ``error``, ``warning`` or ``information``.
    """
    paths = list(expression)
    return {"severity": severity, "code": code, "diagnostics": diagnostics} | ({"expression": paths} if paths else {})


def outcome(issues: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Return an OperationOutcome of issues."""
    return {"resourceType": "OperationOutcome", "issue": list(issues)}


def refusal_issue(refusal: Refusal, severity: str = "error") -> dict[str, Any]:
    """Return the issue of a reading that cannot be used: reason, rule and expectation, never the value."""
    return {
        **issue("processing", f"{refusal.rule}: expected {refusal.expected}", [refusal.path], severity),
        "details": {"coding": [{"system": "urn:vigil:quarantine-reason", "code": refusal.reason}], "text": refusal.reason},
    }


class FhirError(HTTPException):
    """A request that is refused, with an outcome. Its text never holds a patient's value or identifier."""

    def __init__(self, status: int, diagnostics: str, expression: Iterable[str] = ()) -> None:
        super().__init__(status, diagnostics)
        self.issue = issue(_ISSUE_TYPES.get(status, "processing"), diagnostics, expression)


async def on_fhir_error(_: Request, error: Exception) -> FhirResponse:
    """Handle :class:`FhirError`."""
    assert isinstance(error, FhirError)
    headers = {"Retry-After": "1"} if error.status_code in {429, 503} else {}
    return FhirResponse(outcome([error.issue]), error.status_code, headers)


class OutcomeMiddleware:
    """Middleware that turns the problems of requests under ``/fhir`` into outcomes."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or (not scope["path"].startswith(f"{BASE}/") and scope["path"] != BASE):
            await self.app(scope, receive, send)
            return
        start: Message | None = None
        body = bytearray()

        async def send_outcome(message: Message) -> None:
            nonlocal start
            if message["type"] == "http.response.start":
                if not _is_problem(message):
                    await send(message)
                    return
                start = message
            elif start is None:
                await send(message)
            else:
                body.extend(message.get("body", b""))
                if not message.get("more_body", False):
                    await _send_converted(start, bytes(body), send)

        await self.app(scope, receive, send_outcome)


def _is_problem(start: Message) -> bool:
    media_type = problems.MEDIA_TYPE.encode()
    return any(name.lower() == b"content-type" and value.startswith(media_type) for name, value in start["headers"])


async def _send_converted(start: Message, body: bytes, send: Send) -> None:
    problem = json.loads(body)
    own = [
        issue(
            _ISSUE_TYPES.get(problem["status"], "processing"),
            f"{error['rule']}: expected {error['expected']}",
            [error["field"]],
        )
        for error in problem.get("errors", [])
    ]
    text = (problem["detail"] or problem["title"]).replace("/v1/openapi.json", f"{BASE}/metadata")
    whole = issue(_ISSUE_TYPES.get(problem["status"], "processing"), text)
    content = json.dumps(outcome([whole, *own])).encode()
    replaced = {b"content-type": MEDIA_TYPE.encode(), b"content-length": b"%d" % len(content)}
    headers = [(name, replaced.get(name.lower(), value)) for name, value in start["headers"]]
    await send({**start, "headers": headers})
    await send({"type": "http.response.body", "body": content})
