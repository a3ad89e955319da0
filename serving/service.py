"""The BentoML services: health, readiness, metrics and workers are BentoML's, the routes are FastAPI's.

Two processes share a home: one answers requests, one rescores; if either dies it is started again. Identifiers of patients
travel in bodies, never in URLs, which servers and proxies log. Routes are mounted as an ASGI app so that every error, BentoML's
own validation included, has one form and no request ends up in a traceback.
"""

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any, Final

import bentoml
from bentoml._internal.utils import circus
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse, Response
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.routing import Route

from features.errors import VigilError
from features.store.client import StoreError
from serving import http_limits, supervisor
from serving.api.middleware import BodyLimit, KnownPaths, LastResort, RequestMetrics, SecurityHeaders
from serving.api.openapi import add_health
from serving.api.problems import MEDIA_TYPE, ProblemError, on_http, on_invalid, on_overloaded, on_problem, on_unavailable
from serving.api.routes import readings, risks, wards
from serving.api.schemas import MAX_BODY_BYTES, Problem
from serving.api.turns import Fresh
from serving.auth.middleware import Guard, PartsHere
from serving.composition import FRESH_SECONDS, open_parts, open_rescorer
from serving.observability.logs import place_of
from serving.observability.metrics import CONTENT_TYPE, Metrics
from serving.records.database import DatabaseError
from serving.records.prediction_log import LogUnavailableError
from serving.settings import Settings
from serving.stream.group_commit import OverloadedError

logger = logging.getLogger("vigil.serving")

_PROBLEM: Final = {MEDIA_TYPE: {"schema": {"$ref": f"#/components/schemas/{Problem.__name__}"}}}
_ERRORS: Final[dict[int | str, dict[str, Any]]] = {
    code: {"content": _PROBLEM, "description": HTTPStatus(code).phrase}
    for code in (400, 401, 403, 404, 405, 409, 413, 415, 422, 429, 503)
}
circus.create_standalone_arbiter = supervisor.arbiter
http_limits.limit()

_KEEP_METRICS_SECONDS: Final = 1.0

METRICS: Final = Metrics()
ROUTERS: Final = (readings.router, risks.router, wards.router)

api = FastAPI(
    title="Vigil prediction API",
    version="1",
    description="Risk of deterioration from device vitals, as of a stated time. A decision aid, not a decision.",
    servers=[{"url": "/", "description": "where this document comes from"}],
    generate_unique_id_function=lambda route: route.name,
    docs_url=None,  # its page would load scripts from elsewhere
    openapi_url="/v1/openapi.json",
    redoc_url=None,
    responses=_ERRORS,
    exception_handlers={
        DatabaseError: on_unavailable,
        LogUnavailableError: on_unavailable,
        StoreError: on_unavailable,
        OverloadedError: on_overloaded,
        ProblemError: on_problem,
        RequestValidationError: on_invalid,
        HTTPException: on_http,
    },
)
for router in ROUTERS:
    api.include_router(router)
# The last added is the first a request meets: nothing of a stranger's body is read.
api.add_middleware(BodyLimit, max_bytes=MAX_BODY_BYTES)
api.add_middleware(Guard)
api.add_middleware(LastResort)


add_health(api)


@api.get("/v1/docs", include_in_schema=False)
async def docs() -> HTMLResponse:
    """The OpenAPI document as a page, from files of our own server."""
    return get_swagger_ui_html(
        openapi_url="/v1/openapi.json",
        title=api.title,
        swagger_js_url="/static_content/swagger-ui-bundle.js",
        swagger_css_url="/static_content/swagger-ui.css",
        swagger_favicon_url="/static_content/favicon-32x32.png",
    )


# BentoML's own metrics are off: they would hold whatever path somebody makes up, and with it whatever he put there.
_QUIET: Final[dict[str, Any]] = {"workers": 1, "logging": {"access": {"enabled": False}}, "metrics": {"enabled": False}}


@api.get("/metrics", include_in_schema=False)
async def metrics(parts: PartsHere) -> Response:
    """For Prometheus."""
    return Response(await parts.metrics_page.get(), media_type=CONTENT_TYPE)


@contextmanager
def _starting(process: str) -> Iterator[None]:
    """End the process where it cannot start, with one line that says why."""
    try:
        yield
    except (VigilError, OSError, ValidationError) as error:
        said = str(error) if isinstance(error, VigilError) else f"{type(error).__name__} at {place_of(error)}"
        supervisor.cannot_start(process, said)


@bentoml.service(name="rescorer", **_QUIET)
class Rescoring:
    """Reads the journal and renews risks, in a process of its own."""

    def __init__(self) -> None:
        with _starting("rescorer"):
            settings = Settings()
            self.home = settings.home
            self.rescorer, self.feast, self.champion = open_rescorer(settings, METRICS)
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self._run, name="rescorer", daemon=True)
        self.champion.follow()
        self.feast.start()
        self.thread.start()
        threading.Thread(target=self._keep_metrics, name="metrics", daemon=True).start()

    def _run(self) -> None:
        """Rescore until stopped. Where that ends otherwise, so does the process, and another one is started."""
        try:
            self.rescorer.run(stopped=self.stopped.is_set)
        except BaseException as error:  # noqa: BLE001 - whatever it is: a process without this thread watches nobody
            logger.critical("the rescorer ends: %s at %s", type(error).__name__, place_of(error))
            os._exit(1)

    def _keep_metrics(self) -> None:
        while not self.stopped.wait(_KEEP_METRICS_SECONDS):
            METRICS.keep(self.home)

    @bentoml.on_shutdown  # type: ignore[untyped-decorator]
    def stop(self) -> None:
        """End after the step under way."""
        self.champion.stop()
        self.stopped.set()
        self.thread.join()
        self.feast.stop()


@bentoml.service(name="vigil", traffic={"timeout": 10}, **_QUIET)
@bentoml.asgi_app(api, path="/")
class Vigil:
    """Serves one home."""

    rescoring = bentoml.depends(Rescoring)

    def __init__(self) -> None:
        with _starting("prediction API"):
            self.parts = open_parts(Settings(), METRICS)
        self.parts.champion.follow()
        # Or BentoML would ask the rescorer over HTTP at each look; whether it lives its own sign of life says.
        self.rescoring = None
        api.state.parts = self.parts
        self.readiness = Fresh(self._look, FRESH_SECONDS)

    async def __is_ready__(self) -> bool:
        """Readiness; the log says what is missing. In a thread: it may wait for Feast, or for the issuer of tokens."""
        return await self.readiness.get()

    def _look(self) -> bool:
        troubles = self.parts.troubles()
        for trouble in troubles:
            logger.error("not ready: %s", trouble)
        return not troubles

    @bentoml.on_shutdown  # type: ignore[untyped-decorator]
    def stop(self) -> None:
        """Write what waits."""
        self.parts.close()


# The first added is the first a request meets. (Vigil is a Service since its decorator, which mypy does not see.)
_OFFERED: Final = (*api.routes, *(route for router in ROUTERS for route in router.routes))
_PATHS: Final = [route.path for route in _OFFERED if isinstance(route, Route)]
Vigil.add_asgi_middleware(RequestMetrics, paths=_PATHS, metrics=METRICS)  # type: ignore[attr-defined]
Vigil.add_asgi_middleware(SecurityHeaders)  # type: ignore[attr-defined]
Vigil.add_asgi_middleware(KnownPaths, paths=_PATHS)  # type: ignore[attr-defined]
