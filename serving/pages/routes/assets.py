"""The files of the pages. They hold nothing of anyone, so no session is needed."""

from typing import Final

from fastapi import APIRouter
from fastapi.responses import Response

from vigil.serving.api import problems
from vigil.serving.api.problems import ProblemError
from vigil.serving.pages.site import STATIC

router: Final = APIRouter(include_in_schema=False)

_TYPES: Final = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_FILES: Final = {path.name: (path.read_bytes(), _TYPES[path.suffix]) for path in STATIC.iterdir() if path.suffix in _TYPES}
_KEPT: Final = {"Cache-Control": "public, max-age=31536000, immutable"}  # their path names their content


@router.get("/static/{name}")
async def static(name: str) -> Response:
    """A style, a script or a picture of the pages."""
    if name not in _FILES:
        raise ProblemError(problems.not_found())
    content, media_type = _FILES[name]
    return Response(content, media_type=media_type, headers=_KEPT)
