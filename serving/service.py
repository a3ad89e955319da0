"""The BentoML service: health, readiness, metrics and workers are BentoML's, the routes are FastAPI's.

Identifiers travel in bodies, never in URLs, which servers and proxies log. Routes are mounted as an ASGI app so that every
error, BentoML's own validation included, has one form and no request ends up in a traceback.
"""

import logging
from typing import Annotated, Any

import bentoml
from fastapi import Depends, FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse
from starlette.exceptions import HTTPException
from starlette.routing import Route

from features.store.client import Store, StoreError
from models.registry import Registry
from models.tasks import TASKS
from serving.clock import open_clock
from serving.middleware import BodyLimit, KnownPaths, LastResort
from serving.prediction_log import LogUnavailableError, PredictionLog
from serving.problems import ProblemError, on_http, on_invalid, on_problem, on_unavailable
from serving.schemas import (
    MAX_BODY_BYTES,
    MAX_PATIENTS,
    ObservationsRequest,
    Problem,
    RiskAnswer,
    RiskRequest,
    RisksAnswer,
    RisksRequest,
)
from serving.scoring import RiskScorer
from serving.settings import Settings

logger = logging.getLogger("vigil.serving")

_ERRORS: dict[int | str, dict[str, Any]] = {code: {"model": Problem} for code in (404, 409, 413, 422, 503)}
api = FastAPI(
    title="Vigil prediction API",
    version="1",
    description="Risk of deterioration from device vitals, as of a stated time. A decision aid, not a decision.",
    docs_url=None,  # its page would load scripts from elsewhere
    openapi_url="/v1/openapi.json",
    redoc_url=None,
    responses=_ERRORS,
    exception_handlers={
        LogUnavailableError: on_unavailable,
        StoreError: on_unavailable,
        ProblemError: on_problem,
        RequestValidationError: on_invalid,
        HTTPException: on_http,
    },
)
api.add_middleware(LastResort)


def open_scorer(settings: Settings) -> RiskScorer:
    """The scorer of a home: its champion, store, clock and log.

    Raises:
        NoModelError: the registry holds no champion of the task.
    """
    task = TASKS[settings.task]
    return RiskScorer(
        registered=Registry(settings.home).load(task.name),
        task=task,
        store=Store(settings.home),
        clock=open_clock(settings.home),
        log=PredictionLog(settings.home),
    )


@bentoml.service(name="vigil", workers=1, traffic={"timeout": 10}, logging={"access": {"enabled": False}})
@bentoml.asgi_app(api, path="/")
class Vigil:
    """Serves the champion of one home."""

    def __init__(self) -> None:
        self.settings = Settings()
        self.scorer = open_scorer(self.settings)
        registered = self.scorer.registered
        logger.info("serving %s version %s", registered.name, registered.version)

    async def __is_ready__(self) -> bool:
        """Readiness: the feature store answers."""
        try:
            self.scorer.store.online(["-"], self.scorer.registered.feature_service)
        except Exception as error:  # noqa: BLE001 - whatever it is, we are not ready
            logger.error("not ready: %s", type(error).__name__)  # noqa: TRY400 - by type only
            return False
        return True


async def _scorer() -> RiskScorer:
    service: Vigil = bentoml.get_current_service()
    return service.scorer


Scorer = Annotated[RiskScorer, Depends(_scorer)]


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


@api.post("/v1/risk", summary="Risk of one patient")
async def risk(request: RiskRequest, scorer: Scorer) -> RiskAnswer:
    """From the patient's latest features in the store, if they are not stale."""
    item = scorer.by_id([request.patient_id], request.as_of)[0]
    if item.problem:
        raise ProblemError(item.problem)
    assert item.risk is not None
    return item.risk


@api.post("/v1/risks", summary=f"Risk of up to {MAX_PATIENTS} patients")
async def risks(request: RisksRequest, scorer: Scorer) -> RisksAnswer:
    """In the order asked for; each patient has a risk or the problem that prevents it."""
    return RisksAnswer(items=scorer.by_id(request.patient_ids, request.as_of))


@api.post("/v1/risk/observations", summary="Risk from readings in the request")
async def risk_from_observations(request: ObservationsRequest, scorer: Scorer) -> RiskAnswer:
    """Features are computed from these readings alone, by the same definition as in training."""
    return scorer.from_observations(request)


# The first added is the first a request meets. (Vigil is a Service since its decorator, which mypy does not see.)
_PATHS = {route.path for route in api.routes if isinstance(route, Route)}
Vigil.add_asgi_middleware(KnownPaths, paths=_PATHS)  # type: ignore[attr-defined]
Vigil.add_asgi_middleware(BodyLimit, max_bytes=MAX_BODY_BYTES)  # type: ignore[attr-defined]
