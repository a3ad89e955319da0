"""A whole server inside the test's process: the API over its components, and a rescorer that the test steps."""

import logging
from contextlib import contextmanager
from datetime import timedelta
from functools import cached_property

import pandas as pd
from fastapi.testclient import TestClient

from vigil.serving.api.front import Front
from vigil.serving.app import create_app
from vigil.serving.auth.local_tokens import create_local_token
from vigil.serving.auth.tokens import SCOPES
from vigil.serving.composition import open_api, open_rescorer
from vigil.serving.export_process import open_export_writer
from vigil.serving.observability.metrics import Metrics
from vigil.serving.observability.readiness import Readiness
from vigil.serving.settings import Settings

SICK = {"heart_rate": 135, "spo2": 85, "respiratory_rate": 32, "systolic_bp": 88}  # NEWS2 of 12
WELL = {"heart_rate": 70, "spo2": 98, "respiratory_rate": 14, "systolic_bp": 125}  # of 0


def observations_body(patient_id, values, at=None, **fields):
    """Return a request body with observations of one patient, by default of the present."""
    at = pd.Timestamp.now("UTC") if at is None else at
    fields = {"patient_id": patient_id, "observed_at": at.isoformat(), "source": "tests", **fields}
    observations = [{"message_id": f"{signal} {at}", **fields, "signal": signal, "value": v} for signal, v in values.items()]
    return {"observations": observations}


class InProcessServer:
    """The server of a home without a model: risks are NEWS2, and so are alarms."""

    def __init__(self, home):
        settings, metrics = Settings(home=home), Metrics()
        self.home = home
        self.components = open_api(settings, metrics)
        rescoring = open_rescorer(settings, metrics)
        self.rescorer, self.online_store = rescoring.rescorer, rescoring.online_store
        self.deliverer = rescoring.deliverer
        self.app = create_app()
        self.use(self.components)

    def use(self, components):
        """Let the API use these components."""
        self.app.state.components = components

    def caller(self, scopes=tuple(SCOPES), wards=None, subject="tests"):
        token = create_local_token(self.home, subject=subject, scopes=scopes, wards=wards, lifetime=timedelta(hours=1))
        return TestClient(Front(self.app, self.app.state), headers={"Authorization": f"Bearer {token}"})

    def stranger(self):
        """Return a client without a token."""
        return TestClient(Front(self.app, self.app.state))

    def problems(self):
        """Return what keeps the server from being ready."""
        api = self.components
        service = api.risk_service
        return Readiness(api.champion, service.task, api.tokens, service.store, api.journal, api.ward_state).problems()

    def write_exports(self, *arguments):
        """Write every export that waits; return how many were completed."""
        return self._export_writer.write_all(*arguments)

    @cached_property
    def _export_writer(self):
        return open_export_writer(Settings(home=self.home))

    def rescore(self):
        """Rescore everything that waits."""
        while self.rescorer.step():
            pass


@contextmanager
def running_in_process(home):
    """Open the server of a home, and close it at the end; loggers are afterwards as they were."""
    logger = logging.getLogger("vigil")
    before = logger.handlers, logger.propagate, logger.level
    server = InProcessServer(home)
    try:
        yield server
    finally:
        server.deliverer.stop()
        server.components.close()
        logger.handlers, logger.propagate = before[:2]
        logger.setLevel(before[2])
