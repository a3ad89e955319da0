"""The FastAPI application: routes, error handlers, OpenAPI document. Its components are attached when the process starts."""

from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse, Response
from starlette.exceptions import HTTPException

from vigil.features.store.client import StoreError
from vigil.serving.api.authentication import BearerTokenMiddleware
from vigil.serving.api.dependencies import MetricsPageHere
from vigil.serving.api.known_paths import KnownPaths
from vigil.serving.api.middleware import BodySizeLimitMiddleware, UnhandledErrorMiddleware
from vigil.serving.api.openapi import add_health_routes
from vigil.serving.api.problems import (
    MEDIA_TYPE,
    ProblemError,
    on_http,
    on_invalid,
    on_overloaded,
    on_problem,
    on_unavailable,
)
from vigil.serving.api.routes import devices, merges, observations, risks, terms, wards
from vigil.serving.api.schemas.problems import Problem
from vigil.serving.api.schemas.request import MAX_BODY_BYTES
from vigil.serving.cds_hooks.routes import router as cds_router
from vigil.serving.fhir.operations import MAX_BODY_BYTES as MAX_FHIR_BYTES
from vigil.serving.fhir.outcomes import BASE as FHIR_BASE
from vigil.serving.fhir.outcomes import FhirError, OutcomeMiddleware, on_fhir_error
from vigil.serving.fhir.routes import ROUTERS as FHIR_ROUTERS
from vigil.serving.login.dependencies import LoginRequiredError, on_login_required
from vigil.serving.login.local_server import router as local_login_router
from vigil.serving.login.routes import router as login_router
from vigil.serving.observability.metrics import CONTENT_TYPE
from vigil.serving.pages.routes import ROUTERS as PAGE_ROUTERS
from vigil.serving.pages.site import PageError, on_page_error
from vigil.serving.records.database import DatabaseError
from vigil.serving.records.prediction_log import LogUnavailableError
from vigil.serving.smart.routes import router as smart_router
from vigil.serving.stream.group_commit import OverloadedError

_ROUTERS: Final = (
    observations.router,
    devices.router,
    merges.router,
    terms.router,
    risks.router,
    wards.router,
    smart_router,
    *FHIR_ROUTERS,
    cds_router,
    *PAGE_ROUTERS,
    login_router,
    local_login_router,
)
_PROBLEM: Final = {MEDIA_TYPE: {"schema": {"$ref": f"#/components/schemas/{Problem.__name__}"}}}
_ERRORS: Final[dict[int | str, dict[str, Any]]] = {
    code: {"content": _PROBLEM, "description": HTTPStatus(code).phrase}
    for code in (400, 401, 403, 404, 405, 409, 413, 415, 422, 429, 503)
}


def create_app() -> FastAPI:
    """Return the application. ``app.state.components`` must be set before the first request."""
    app = FastAPI(
        title="Vigil prediction API",
        version="1",
        description="Risk of deterioration from device vitals, as of a stated time. A decision aid, not a decision.",
        servers=[{"url": "/", "description": "the server of this document"}],
        generate_unique_id_function=lambda route: route.name,
        docs_url=None,  # its page would load scripts from elsewhere
        openapi_url="/v1/openapi.json",
        redoc_url=None,
        responses=_ERRORS,
        exception_handlers={
            DatabaseError: on_unavailable,
            FhirError: on_fhir_error,
            LoginRequiredError: on_login_required,
            LogUnavailableError: on_unavailable,
            StoreError: on_unavailable,
            OverloadedError: on_overloaded,
            PageError: on_page_error,
            ProblemError: on_problem,
            RequestValidationError: on_invalid,
            HTTPException: on_http,
        },
    )
    for router in _ROUTERS:
        app.include_router(router)
    # The last one added is the first that a request meets: without a valid token, no body is read.
    app.add_middleware(BodySizeLimitMiddleware, max_bytes=MAX_BODY_BYTES, larger={FHIR_BASE: MAX_FHIR_BYTES})
    app.add_middleware(BearerTokenMiddleware)
    app.add_middleware(UnhandledErrorMiddleware)
    app.add_middleware(OutcomeMiddleware)
    add_health_routes(app)

    @app.get("/v1/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        """The OpenAPI document as a page, from files of this server."""
        return get_swagger_ui_html(
            openapi_url="/v1/openapi.json",
            title=app.title,
            swagger_js_url="/static_content/swagger-ui-bundle.js",
            swagger_css_url="/static_content/swagger-ui.css",
            swagger_favicon_url="/static_content/favicon-32x32.png",
        )

    @app.get("/metrics", include_in_schema=False)
    async def metrics(page: MetricsPageHere) -> Response:
        """Metrics for Prometheus."""
        return Response(await page.get(), media_type=CONTENT_TYPE)

    return app


def known_paths(app: FastAPI) -> KnownPaths:
    """Return the paths that an application serves."""
    return KnownPaths.of_routes([*app.routes, *(route for router in _ROUTERS for route in router.routes)])
