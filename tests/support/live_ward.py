"""A ward on a clock that a test sets: observations into the journal of a home and through its rescorer, in one process."""

import numpy as np
import pandas as pd

from vigil.features.store.client import Store
from vigil.models.tasks import TASKS
from vigil.serving.observability.metrics import Metrics
from vigil.serving.records.journal import Journal
from vigil.serving.records.prediction_log import PredictionLog
from vigil.serving.records.registration import Registration
from vigil.serving.records.source_settings import SourceSettingsFile
from vigil.serving.records.timestamps import microsecond
from vigil.serving.records.ward_settings import WardSettingsFile
from vigil.serving.records.ward_state import WardState
from vigil.serving.scoring.champion import Champion
from vigil.serving.stream.online_store_writer import OnlineStoreWriter
from vigil.serving.stream.rescorer import Rescorer

TASK = "deterioration"
USUAL = {"heart_rate": (88, 6), "respiratory_rate": (17, 2), "spo2": (95, 1.5), "systolic_bp": (118, 9)}  # mean, SD


class LiveWard:
    """The patients of one home, with its champion and its online store."""

    def __init__(self, home, start, *, model=True):
        self.time = start.as_unit("us")
        self.generator = np.random.default_rng(1)
        self.journal = Journal(home, self._now)
        self.ward_state = WardState(home)
        self.online_store = OnlineStoreWriter(Store(home), Metrics())
        self.rescorer = Rescorer(
            journal=self.journal,
            ward_state=self.ward_state,
            champion=Champion.loaded(home, TASK) if model else Champion(home, TASK),
            task=TASKS[TASK],
            log=PredictionLog(home),
            wards=WardSettingsFile(home),
            declared=SourceSettingsFile(home).declarations,
            online_store=self.online_store,
            metrics=Metrics(),
            clock=self._now,
        )

    def _now(self):
        return self.time.to_pydatetime()

    def forward(self, **step):
        """Move the clock forward."""
        self.time += pd.Timedelta(**step)

    def register(self, *patients, **facts):
        admitted = microsecond(self.time - pd.Timedelta(hours=5))
        facts = {"ward": "B4", "age": 70.0, "sex": 1.0, "unit_admitted_at": admitted, **facts}
        self.journal.register([Registration(patient, **facts) for patient in patients])

    def send(self, *patients, **values):
        """Send each vital sign of each patient, or the given values, as of now; return the receipts."""
        drawn = {signal: round(float(self.generator.normal(*usual)), 1) for signal, usual in USUAL.items()}
        group = [
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
        return self.journal.append(lambda: group)

    def rescore(self):
        """Rescore everything that waits."""
        while self.rescorer.step():
            pass

    def write_online_store(self):
        """Write the rows that wait for Feast's online store."""
        self.online_store.start()
        self.online_store.stop()
