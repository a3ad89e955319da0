"""The BentoML services: two processes that share a home, one that answers requests and one that rescores.

If either dies it is started again. Health, readiness and workers are BentoML's; the routes are FastAPI's, mounted as an ASGI
application. So every error has one form, also where BentoML's own validation refuses a request.
"""

import gc
import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import bentoml
from bentoml._internal.utils import circus
from pydantic import ValidationError

from features.errors import VigilError
from serving import http_limits, supervisor
from serving.api.front import Front
from serving.api.middleware import AllowedPathsMiddleware, RequestMetricsMiddleware, SecurityHeadersMiddleware
from serving.app import create_app, paths
from serving.composition import open_api, open_rescorer
from serving.observability.logs import error_location
from serving.observability.metrics import RESCORER, Metrics
from serving.settings import Settings

logger = logging.getLogger("vigil.serving")

circus.create_standalone_arbiter = supervisor.create_supervisor

_STORE_METRICS_SECONDS: Final = 1.0
# BentoML's own metrics are off: they would hold whatever path a caller invents, and patient data in it.
_QUIET: Final[dict[str, Any]] = {"logging": {"access": {"enabled": False}}, "metrics": {"enabled": False}}

api = create_app()
http_limits.install(lambda app: Front(app, api.state))
_metrics: Final = Metrics()  # of this process


@contextmanager
def _starting(process: str) -> Iterator[None]:
    """End the process if it cannot start, with one line that says why."""
    try:
        yield
    except (VigilError, OSError, ValidationError) as error:
        reason = str(error) if isinstance(error, VigilError) else f"{type(error).__name__} at {error_location(error)}"
        supervisor.exit_cannot_start(process, reason)


def _number_of_workers() -> int:
    """Return how many processes answer requests. Where a setting is wrong, one process starts and says so."""
    try:
        return Settings().workers
    except ValidationError:
        return 1


def _store_metrics(home: Path, stopped: threading.Event) -> None:
    """Store the metrics of this process again and again, in a thread of its own."""

    def run() -> None:
        while not stopped.wait(_STORE_METRICS_SECONDS):
            _metrics.store(home)

    threading.Thread(target=run, name="metrics", daemon=True).start()


@bentoml.service(name="rescorer", workers=1, **_QUIET)
class Rescoring:
    """The process that reads the journal and renews risks."""

    def __init__(self) -> None:
        _metrics.process = RESCORER
        with _starting("rescorer"):
            settings = Settings()
            self.components = open_rescorer(settings, _metrics)
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self._run, name="rescorer", daemon=True)
        self.components.champion.follow()
        self.components.online_store.start()
        self.thread.start()
        _store_metrics(settings.home, self.stopped)

    def _run(self) -> None:
        """Rescore until stopped. If that ends in any other way, the process ends and another one is started."""
        try:
            self.components.rescorer.run(stopped=self.stopped.is_set)
        except BaseException as error:  # noqa: BLE001 - whatever it is: a process without this thread monitors no patient
            logger.critical("the rescorer ends: %s at %s", type(error).__name__, error_location(error))
            os._exit(1)

    @bentoml.on_shutdown  # type: ignore[untyped-decorator]
    def stop(self) -> None:
        """End after the present step."""
        self.components.champion.stop()
        self.stopped.set()
        self.thread.join()
        self.components.online_store.stop()


@bentoml.service(name="vigil", workers=_number_of_workers(), traffic={"timeout": 10}, **_QUIET)
@bentoml.asgi_app(api, path="/")
class Vigil:
    """A process that answers requests. Several share a home, as its databases order what they write."""

    rescoring = bentoml.depends(Rescoring)

    def __init__(self) -> None:
        with _starting("prediction API"):
            settings = Settings()
            self.components = open_api(settings, _metrics)
        self.stopped = threading.Event()
        if settings.workers > 1:
            _metrics.process += f"-{bentoml.server_context.worker_index}"
            _store_metrics(settings.home, self.stopped)
        self.components.champion.follow()
        # Otherwise BentoML would call the rescorer over HTTP at each probe; its heartbeat says whether it lives.
        self.rescoring = None
        api.state.components = self.components
        gc.collect()
        gc.freeze()  # what lives as long as the process is not looked through again and again

    async def __is_ready__(self) -> bool:
        """Return whether the server is ready; the log says what is missing. Computed in a thread: it may wait for Feast."""
        return await self.components.readiness.get()

    @bentoml.on_shutdown  # type: ignore[untyped-decorator]
    def stop(self) -> None:
        """Write what is waiting."""
        self.stopped.set()
        self.components.close()


# The first one added is the first that a request meets. (Vigil is a Service since its decorator, which mypy does not see.)
_PATHS: Final = paths(api)
Vigil.add_asgi_middleware(RequestMetricsMiddleware, paths=_PATHS, metrics=_metrics)  # type: ignore[attr-defined]
Vigil.add_asgi_middleware(SecurityHeadersMiddleware)  # type: ignore[attr-defined]
Vigil.add_asgi_middleware(AllowedPathsMiddleware, paths=_PATHS)  # type: ignore[attr-defined]
