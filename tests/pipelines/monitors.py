"""Patients on monitors: what they send, into the journal of a home and through its rescorer, in one process."""

import numpy as np
import pandas as pd

from features.store.client import Store
from models.tasks import TASKS
from serving.records.database import microsecond
from serving.records.journal import Journal
from serving.records.prediction_log import PredictionLog
from serving.records.ward_settings import Wards
from serving.records.ward_state import Board
from serving.scoring.champion import Champion
from serving.service import METRICS
from serving.stream.online_store_writer import FeastFollower
from serving.stream.rescorer import Rescorer

TASK = "deterioration"
USUAL = {"heart_rate": (88, 6), "respiratory_rate": (17, 2), "spo2": (95, 1.5), "systolic_bp": (118, 9)}


class Monitors:
    """Patients of one home; time is what the test says."""

    def __init__(self, home, start, *, model=True):
        self.time = start.as_unit("us")
        self.generator = np.random.default_rng(1)
        self.journal = Journal(home, self._now)
        self.board = Board(home)
        self.feast = FeastFollower(Store(home), METRICS)
        self.rescorer = Rescorer(
            journal=self.journal,
            board=self.board,
            champion=Champion.loaded(home, TASK) if model else Champion(home, TASK),
            task=TASKS[TASK],
            log=PredictionLog(home),
            wards=Wards(home),
            feast=self.feast,
            metrics=METRICS,
            clock=self._now,
        )

    def _now(self):
        return self.time.to_pydatetime()

    def forward(self, **step):
        self.time += pd.Timedelta(**step)

    def register(self, *patients, **facts):
        admitted = microsecond(self.time - pd.Timedelta(hours=5))
        known = {"ward": "B4", "age": 70.0, "sex": 1.0, "unit_admitted_at": admitted, "hospital_admitted_at": None}
        self.journal.register([{"patient": patient, **known, "discharged": False, **facts} for patient in patients])

    def send(self, *patients, **values):
        """Each vital sign of each patient, now; or those given."""
        drawn = {signal: round(float(self.generator.normal(*usual)), 1) for signal, usual in USUAL.items()}
        return self.journal.append(
            [
                {
                    "subject_id": patient,
                    "signal": signal,
                    "value": value,
                    "unit": None,
                    "observed_at": self.time,
                    "device_id": "monitor",
                    "source": "test",
                    "message_id": f"{patient}/{signal}/{self.time.isoformat()}",
                }
                for patient in patients
                for signal, value in (values or drawn).items()
            ]
        )

    def rescore(self):
        """All that came."""
        while self.rescorer.step():
            pass

    def into_feast(self):
        """What the rescorer has for Feast's online store."""
        self.feast.start()
        self.feast.stop()
