"""The paths that an application serves, and which of them a request is for."""

import re
from collections.abc import Iterable
from typing import Final

from starlette.routing import BaseRoute, Route, compile_path

_PARAMETER: Final = "{"


class KnownPaths:
    """The documented paths. One may have parameters, such as ``/fhir/Patient/{id}``."""

    def __init__(self, paths: Iterable[str]) -> None:
        """Know some paths, as routes declare them."""
        all_paths = list(paths)
        self._exact = frozenset(path for path in all_paths if _PARAMETER not in path)
        self._patterns: list[tuple[re.Pattern[str], str]] = [
            (compile_path(path)[0], path) for path in all_paths if _PARAMETER in path
        ]

    @classmethod
    def of_routes(cls, routes: Iterable[BaseRoute]) -> "KnownPaths":
        """Return the paths of routes."""
        return cls(dict.fromkeys(route.path for route in routes if isinstance(route, Route)))

    def template(self, path: str) -> str | None:
        """Return the documented path that a path of a request matches, without what the caller wrote in it; None: none.

        >>> KnownPaths(["/v1/risk", "/fhir/Patient/{id}"]).template("/fhir/Patient/4711")
        '/fhir/Patient/{id}'
        """
        if path in self._exact:
            return path
        return next((template for pattern, template in self._patterns if pattern.match(path)), None)
