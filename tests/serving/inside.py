"""A whole server without a process of its own: the API over its parts, and the rescorer stepped by the test."""

import logging
from contextlib import contextmanager
from datetime import timedelta

import pandas as pd
from fastapi.testclient import TestClient

from serving.auth.local_tokens import local_token
from serving.auth.tokens import SCOPES
from serving.composition import open_parts, open_rescorer
from serving.service import METRICS, api
from serving.settings import Settings

SICK = {"heart_rate": 135, "spo2": 85, "respiratory_rate": 32, "systolic_bp": 88}  # NEWS2 of 12
WELL = {"heart_rate": 70, "spo2": 98, "respiratory_rate": 14, "systolic_bp": 125}  # of 0


def sent(patient_id, values, at=None, **about):
    """A body of readings of one patient, of now."""
    at = pd.Timestamp.now("UTC") if at is None else at
    about = {"patient_id": patient_id, "observed_at": at.isoformat(), "source": "tests", **about}
    readings = [{"message_id": f"{signal} {at}", **about, "signal": signal, "value": v} for signal, v in values.items()]
    return {"observations": readings}


class Inside:
    """The server of a home that has no model: risks are NEWS2, and so are alarms."""

    def __init__(self, home):
        settings = Settings(home=home)
        self.home = home
        self.parts = open_parts(settings, METRICS)
        self.rescorer, self.feast, _ = open_rescorer(settings, METRICS)
        api.state.parts = self.parts

    def caller(self, scopes=tuple(SCOPES), wards=None):
        token = local_token(self.home, subject="tests", scopes=scopes, wards=wards, lifetime=timedelta(hours=1))
        return TestClient(api, headers={"Authorization": f"Bearer {token}"})

    def stranger(self):
        return TestClient(api)

    def rescore(self):
        """All that waits."""
        while self.rescorer.step():
            pass


@contextmanager
def running_inside(home):
    logger = logging.getLogger("vigil")
    before = logger.handlers, logger.propagate, logger.level
    inside = Inside(home)
    try:
        yield inside
    finally:
        inside.parts.close()
        logger.handlers, logger.propagate = before[:2]
        logger.setLevel(before[2])
