"""The BentoML services: two processes that share a home, one that answers requests and one that rescores.

If either dies it is started again. Health, readiness and workers are BentoML's; the routes are FastAPI's, mounted as an ASGI
application. So every error has one form, also where BentoML's own validation refuses a request.

The supervisor imports this module to learn which processes to start. So what only a process needs is imported when it starts,
and both start within a second.
"""

import functools
import gc
import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import bentoml
from bentoml._internal.utils import circus
from pydantic import ValidationError
from starlette.applications import Starlette

from vigil.features.errors import VigilError
from vigil.serving import http_limits, supervisor
from vigil.serving.settings import Settings

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.routing import BaseRoute
    from starlette.types import ASGIApp, Receive, Scope, Send

    from vigil.serving.observability.metrics import Metrics

logger = logging.getLogger("vigil.serving")

circus.create_standalone_arbiter = supervisor.create_supervisor

_STORE_METRICS_SECONDS: Final = 1.0
# BentoML's own metrics are off: they would hold whatever path a caller invents, and patient data in it.
_QUIET: Final[dict[str, Any]] = {"logging": {"access": {"enabled": False}}, "metrics": {"enabled": False}}


@functools.cache
def _application() -> "FastAPI":
    """Return the application of the process that answers requests."""
    from vigil.serving.app import create_app

    return create_app()


class _Application(Starlette):
    """The application, made when it is first needed. BentoML asks its routes which requests are for it."""

    @property
    def routes(self) -> "list[BaseRoute]":
        return _application().routes

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        await _application()(scope, receive, send)


def _front(app: "ASGIApp") -> "ASGIApp":
    """Return BentoML's whole application with the front before it, which answers most questions."""
    from vigil.serving.api.front import Front

    return Front(app, _application().state)


def _guard(app: "ASGIApp") -> "ASGIApp":
    """Return BentoML's whole application within the middleware that every request passes, also one to BentoML's own paths."""
    from vigil.serving.api.middleware import AllowedPathsMiddleware, RequestMetricsMiddleware, SecurityHeadersMiddleware
    from vigil.serving.app import known_paths
    from vigil.serving.fhir.outcomes import OutcomeMiddleware

    known = known_paths(_application())
    app = SecurityHeadersMiddleware(OutcomeMiddleware(AllowedPathsMiddleware(app, paths=known)))
    return RequestMetricsMiddleware(app, paths=known, metrics=_metrics())


@functools.cache
def _metrics() -> "Metrics":
    """Return the metrics of this process."""
    from vigil.serving.observability.metrics import Metrics

    return Metrics()


def _store_metrics(home: Path, stopped: threading.Event) -> None:
    """Store the metrics of this process again and again, in a thread of its own."""

    def run() -> None:
        while not stopped.wait(_STORE_METRICS_SECONDS):
            _metrics().store(home)

    threading.Thread(target=run, name="metrics", daemon=True).start()


def _number_of_workers() -> int:
    """Return how many processes answer requests. Where a setting is wrong, one process starts and says so."""
    try:
        return Settings().workers
    except ValidationError:
        return 1


@contextmanager
def _starting(process: str) -> Iterator[None]:
    """End the process if it cannot start, with one line that says why."""
    try:
        yield
    except (VigilError, OSError, ValidationError) as error:
        from vigil.serving.observability.logs import error_location

        reason = str(error) if isinstance(error, VigilError) else f"{type(error).__name__} at {error_location(error)}"
        supervisor.exit_cannot_start(process, reason)


def _freeze() -> None:
    """Let the garbage collector pass over what lives as long as the process. It would look through it again and again."""
    gc.collect()
    gc.freeze()


@bentoml.service(name="rescorer", workers=1, **_QUIET)
class Rescoring:
    """The process that reads the journal and renews risks."""

    def __init__(self) -> None:
        with _starting("rescorer"):
            from vigil.serving.composition import open_rescorer
            from vigil.serving.observability.metrics import RESCORER

            settings, metrics = Settings(), _metrics()
            metrics.process = RESCORER
            self.components = open_rescorer(settings, metrics)
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self._run, name="rescorer", daemon=True)
        self.components.champion.follow()
        self.components.online_store.start()
        self.components.deliverer.start()
        _freeze()
        self.thread.start()
        _store_metrics(settings.home, self.stopped)

    def _run(self) -> None:
        """Rescore until stopped. If that ends in any other way, the process ends and another one is started."""
        try:
            self.components.rescorer.run(stopped=self.stopped.is_set)
        except BaseException as error:  # noqa: BLE001 - whatever it is: a process without this thread monitors no patient
            from vigil.serving.observability.logs import error_location

            logger.critical("the rescorer ends: %s at %s", type(error).__name__, error_location(error))
            os._exit(1)

    @bentoml.on_shutdown  # type: ignore[untyped-decorator]
    def stop(self) -> None:
        """End after the present step."""
        self.components.champion.stop()
        self.stopped.set()
        self.components.deliverer.stop()
        self.thread.join()
        self.components.online_store.stop()


@bentoml.service(name="vigil", workers=_number_of_workers(), traffic={"timeout": 10}, **_QUIET)
@bentoml.asgi_app(_Application(), path="/")
class Vigil:
    """A process that answers requests. Several share a home, as its databases order what they write."""

    rescoring = bentoml.depends(Rescoring)

    def __init__(self) -> None:
        with _starting("prediction API"):
            from vigil.serving.composition import open_api

            settings, metrics = Settings(), _metrics()
            self.components = open_api(settings, metrics)
        self.stopped = threading.Event()
        if settings.workers > 1:
            metrics.process += f"-{bentoml.server_context.worker_index}"
            _store_metrics(settings.home, self.stopped)
        self.components.champion.follow()
        self.components.export_follower.start()
        # Otherwise BentoML would call the rescorer over HTTP at each probe; its heartbeat says whether it lives.
        self.rescoring = None
        _application().state.components = self.components
        _freeze()

    async def __is_ready__(self) -> bool:
        """Return whether the server is ready; the log says what is missing. Computed in a thread: it may wait for Feast."""
        return await self.components.readiness.get()

    @bentoml.on_shutdown  # type: ignore[untyped-decorator]
    def stop(self) -> None:
        """Write what is waiting."""
        self.stopped.set()
        self.components.close()


http_limits.install(_front)
Vigil.add_asgi_middleware(_guard)  # type: ignore[attr-defined]  # a Service since its decorator, which mypy does not see
