"""The route of the API: it refuses a request that says one thing twice.

Parsers take the first, the last or both of a repeated query parameter, header or JSON key (RFC 8259, section 4). So a proxy or
a gateway may have checked another value than the one that would count here.
"""

import json
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute

from vigil.serving.api import problems
from vigil.serving.api.problems import ProblemError


class StrictRoute(APIRoute):
    """Route that refuses repeated query parameters, headers that it reads, and keys of JSON objects (422)."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler of requests to this route."""
        handle = super().get_route_handler()
        queries = [parameter.alias for parameter in self.dependant.query_params]
        headers = [parameter.alias for parameter in self.dependant.header_params]

        async def handle_strictly(request: Request) -> Response:
            repeated = [_describe("query", name) for name in queries if len(request.query_params.getlist(name)) > 1]
            repeated += [_describe("header", name) for name in headers if len(request.headers.getlist(name)) > 1]
            if repeated:
                raise RequestValidationError(repeated)
            return await handle(_StrictRequest(request.scope, request.receive))

        return handle_strictly


class _StrictRequest(Request):
    async def json(self) -> Any:
        """Return the body.

        Raises:
            ProblemError: an object has a key more than once (422).
        """
        ambiguous = []

        def to_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
            unique = dict(pairs)
            if len(unique) < len(pairs):
                unique = _AmbiguousObject(pairs)
                ambiguous.append(unique)
            return unique

        body = json.loads(await self.body(), object_pairs_hook=to_object)
        if ambiguous:
            errors = [_describe("body", *location) for location in _locate_repeated(body)]
            raise ProblemError(problems.invalid_request(self, errors))
        return body


class _AmbiguousObject(dict[str, Any]):
    """A JSON object with repeated keys."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        self.repeated = [name for name, count in Counter(name for name, _ in pairs).items() if count > 1]


def _locate_repeated(value: Any, location: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Yield the locations of repeated keys. Objects that a repeated key itself has displaced are not reached."""
    if isinstance(value, _AmbiguousObject):
        yield from ((*location, name) for name in value.repeated)
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, child in children:
        yield from _locate_repeated(child, (*location, name))


def _describe(*location: str | int) -> dict[str, Any]:
    return {"type": "repeated", "loc": location, "msg": "only once"}
