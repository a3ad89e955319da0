"""The OpenAPI document: with the routes that BentoML answers, and as what tells which field a misspelt one may have meant."""

import difflib
from collections.abc import Sequence
from typing import Any, Final

from fastapi import FastAPI

_HEALTH: Final = {  # operation, summary and statuses by path
    "/livez": ("is_alive", "Whether the process answers", ("200",)),
    "/readyz": (
        "is_ready",
        "Whether readings are taken and risks renewed by a model",
        ("200", "503"),
    ),
    "/metrics": ("get_metrics", "Metrics for Prometheus", ("200",)),
}
_SAID: Final = {"200": "It is so.", "503": "It is not."}


def add_health(api: FastAPI) -> None:
    """Describe the routes that are not FastAPI's in its document; they need no token."""
    of_routes = api.openapi

    def whole() -> dict[str, Any]:
        document = of_routes()
        for path, (name, summary, statuses) in _HEALTH.items():
            responses = {status: {"description": _SAID[status]} for status in statuses}
            about = {"operationId": name, "summary": summary, "tags": ["health"], "security": [], "responses": responses}
            document["paths"].setdefault(path, {"get": about})
        return document

    api.openapi = whole  # type: ignore[method-assign]


def meant(document: dict[str, Any], path: str, location: Sequence[str | int]) -> str | None:
    """The field of the schema that a misspelt one most likely stands for; None where none is near.

    Args:
        document: OpenAPI.
        path: of the route.
        location: of the misspelt field in the body: names and positions, itself the last.
    """
    body = document["paths"].get(path, {}).get("post", {}).get("requestBody")
    schema = body["content"]["application/json"]["schema"] if body else {}
    for part in location[:-1]:
        found = _resolved(document, schema)
        schema = found.get("items", {}) if isinstance(part, int) else found.get("properties", {}).get(part, {})
    names = list(_resolved(document, schema).get("properties", {}))
    return next(iter(difflib.get_close_matches(str(location[-1]), names, n=1)), None)


def _resolved(document: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    name = schema.get("$ref", "").rpartition("/")[2]
    found: dict[str, Any] = document["components"]["schemas"][name] if name else schema
    return found
