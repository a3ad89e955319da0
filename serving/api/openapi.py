"""The OpenAPI document: adds BentoML's routes, and finds the field that a misspelt name may stand for."""

import difflib
from collections.abc import Sequence
from typing import Any, Final

from fastapi import FastAPI

_HEALTH_ROUTES: Final = {  # operation, summary and statuses by path
    "/livez": ("is_alive", "Whether the process answers", ("200",)),
    "/readyz": (
        "is_ready",
        "Whether observations are taken and a model renews risks",
        ("200", "503"),
    ),
    "/metrics": ("get_metrics", "Metrics for Prometheus", ("200",)),
}
_STATUS_DESCRIPTIONS: Final = {"200": "Yes.", "503": "No."}


def add_health_routes(api: FastAPI) -> None:
    """Add the routes that BentoML serves to the OpenAPI document of an app. They need no token."""
    build_document = api.openapi

    def build_with_health() -> dict[str, Any]:
        document = build_document()
        for path, (operation_id, summary, statuses) in _HEALTH_ROUTES.items():
            responses = {status: {"description": _STATUS_DESCRIPTIONS[status]} for status in statuses}
            operation = {
                "operationId": operation_id,
                "summary": summary,
                "tags": ["health"],
                "security": [],
                "responses": responses,
            }
            document["paths"].setdefault(path, {"get": operation})
        return document

    api.openapi = build_with_health  # type: ignore[method-assign]


def find_closest_field(document: dict[str, Any], path: str, location: Sequence[str | int]) -> str | None:
    """Return the schema's field that a misspelt one most likely stands for; None if none is similar.

    Args:
        document: the OpenAPI document.
        path: of the route.
        location: of the misspelt field in the body: names and positions, ending with the field itself.
    """
    fields = list(_fields(document, path, location[:-1]))
    return next(iter(difflib.get_close_matches(str(location[-1]), fields, n=1)), None)


def find_known_part(document: dict[str, Any], path: str, location: Sequence[str | int]) -> Sequence[str | int]:
    """Return a location in the body up to the first name that is no field of the schema.

    Args:
        document, path, location: as :func:`find_closest_field` takes them.
    """
    for end, part in enumerate(location):
        if isinstance(part, str) and part not in _fields(document, path, location[:end]):
            return location[:end]
    return location


def _fields(document: dict[str, Any], path: str, location: Sequence[str | int]) -> dict[str, Any]:
    """Return the schemas of the fields of the object at a location in the body; none if no object is expected there."""
    body = document["paths"].get(path, {}).get("post", {}).get("requestBody")
    schema = body["content"]["application/json"]["schema"] if body else {}
    for part in location:
        resolved = _resolve(document, schema)
        schema = resolved.get("items", {}) if isinstance(part, int) else resolved.get("properties", {}).get(part, {})
    fields: dict[str, Any] = _resolve(document, schema).get("properties", {})
    return fields


def _resolve(document: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema behind a reference, or the schema itself if it is not a reference."""
    name = schema.get("$ref", "").rpartition("/")[2]
    resolved: dict[str, Any] = document["components"]["schemas"][name] if name else schema
    return resolved
