"""The BentoML service: health, readiness, metrics and workers are BentoML's, the routes are FastAPI's.

Identifiers travel in bodies, never in URLs, which servers and proxies log. Routes are mounted as an ASGI app so that every
error, BentoML's own validation included, has one form and no request ends up in a traceback.
"""

import logging
from typing import Annotated, Any

import bentoml
from fastapi import Depends, FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from features.store.client import Store
from models.registry import Registry
from models.tasks import TASKS
from serving.clock import open_clock
from serving.prediction_log import PredictionLog
from serving.problems import BodyLimit, ProblemError, on_http, on_invalid, on_problem
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

_ERRORS: dict[int | str, dict[str, Any]] = {code: {"model": Problem} for code in (404, 409, 413, 422)}
api = FastAPI(
    title="Vigil prediction API",
    version="1",
    description="Risk of deterioration from device vitals, as of a stated time. A decision aid, not a decision.",
    docs_url="/v1/docs",
    openapi_url="/v1/openapi.json",
    redoc_url=None,
    responses=_ERRORS,
    exception_handlers={ProblemError: on_problem, RequestValidationError: on_invalid, HTTPException: on_http},
)


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


async def _scorer() -> RiskScorer:
    service: Vigil = bentoml.get_current_service()
    return service.scorer


Scorer = Annotated[RiskScorer, Depends(_scorer)]


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


Vigil.add_asgi_middleware(BodyLimit, max_bytes=MAX_BODY_BYTES)  # type: ignore[attr-defined]  # the decorator made it a Service
