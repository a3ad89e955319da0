"""A ward on a clock that a test sets: a journal, a ward state, a rescorer, and a model that reads the heart rate."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import sqlalchemy as sa

from vigil.models.registry import RegisteredModel
from vigil.models.tasks import TASKS
from vigil.serving.observability.metrics import Metrics
from vigil.serving.records.journal import Journal
from vigil.serving.records.prediction_log import PredictionLog
from vigil.serving.records.prediction_tables import PREDICTIONS
from vigil.serving.records.registration import Registration
from vigil.serving.records.source_settings import SourceSettingsFile
from vigil.serving.records.timestamps import microsecond
from vigil.serving.records.ward_settings import WardSettingsFile
from vigil.serving.records.ward_state import WardState
from vigil.serving.records.ward_tables import ALARMS, EVENTS, RISKS
from vigil.serving.stream.rescorer import Rescorer

START = datetime(2026, 2, 1, 12, tzinfo=UTC)
SICK = {"respiratory_rate": 32.0, "spo2": 85.0, "systolic_bp": 88.0}  # NEWS2 of 9 without the heart rate
HEART_RATE = "heart_rate_last_24h"


class HeartRateModel:
    """A model whose risk follows from the last heart rate: 0.5 at 150 a minute."""

    features = [HEART_RATE]  # noqa: RUF012 - never changed
    thresholds_ = {"medium": 0.25, "high": 0.5}  # noqa: RUF012
    metadata_ = {"feature_service": "vital_signs_v3", "simulated": True}  # noqa: RUF012
    can_explain = False

    def risk(self, rows):
        return np.clip((rows[HEART_RATE].to_numpy(np.float64) - 50) / 200, 0.001, 0.999)

    def matrix(self, rows):
        return rows[self.features].to_numpy(np.float32)

    def range_of(self, p):
        return p, p

    def band(self, p):
        return "high" if p >= 0.5 else "medium" if p >= 0.25 else "low"


def heart_rate_model(version="1"):
    return RegisteredModel(HeartRateModel(), "deterioration", version, "run")


class FixedChampion:
    """A champion that a test chooses."""

    def __init__(self, model):
        self.model = model


class FakeOnlineStore:
    """Takes the place of the online store writer: holds the rows that it is given."""

    def __init__(self):
        self.rows = {}

    def follow(self, service):
        self.service = service

    def put(self, rows):
        for row in rows.to_dict("records"):
            self.rows[row["subject_id"]] = row


class FakeWard:
    """One home, and what a test does to it."""

    def __init__(self, home, model=None):
        self.home, self.time = home, START
        self.journal = Journal(home, self.clock)
        self.ward_state = WardState(home)
        self.log = PredictionLog(home)
        self.champion = FixedChampion(model)
        self.online_store = FakeOnlineStore()
        self.messages = 0
        self.rescorer = self.restart()

    def clock(self):
        return self.time

    def restart(self):
        """Replace the rescorer by a new one, as a new process has it."""
        self.rescorer = Rescorer(
            journal=self.journal,
            ward_state=self.ward_state,
            champion=self.champion,
            task=TASKS["deterioration"],
            log=self.log,
            wards=WardSettingsFile(self.home),
            declared=SourceSettingsFile(self.home).declarations,
            online_store=self.online_store,
            metrics=Metrics(),
            clock=self.clock,
        )
        return self.rescorer

    def wait(self, **time):
        self.time += timedelta(**time)

    def register(self, *patients, ward="A", discharged=False, age=None):
        self.journal.register([Registration(patient, ward, age=age, discharged=discharged) for patient in patients])

    def send(self, patient, heart_rate=None, source=None, device=None, **others):
        """Send observations of the present, as one group."""
        values = others if heart_rate is None else {"heart_rate": float(heart_rate), **others}
        self.send_together(self.message(patient, source, device, values))

    def message(self, patient, source, device, values):
        """Return a message of the present, an observation a signal."""
        self.messages += 1
        message = {"subject_id": patient, "unit": None, "device_id": device, "source": source}
        message["message_id"] = f"m{self.messages}"
        at = pd.Timestamp(self.time).as_unit("us")
        return [{**message, "signal": signal, "value": value, "observed_at": at} for signal, value in values.items()]

    def send_together(self, *messages):
        """Send messages as one group, as the server writes those that arrive at the same time."""
        self.journal.append(lambda: [observation for message in messages for observation in message])

    def revise(self, message, signal, value, observed_at, patient="p1"):
        """Correct an observation that was sent, or, with the value None, retract it."""
        status = "retracted" if value is None else "corrected"
        row = {"subject_id": patient, "signal": signal, "value": value, "unit": None, "device_id": None, "source": None}
        row |= {"observed_at": pd.Timestamp(observed_at).as_unit("us"), "message_id": message}
        (receipt,) = self.journal.append(lambda: [row | {"status": status, "version": None}])
        return receipt

    def rescore(self):
        """Rescore everything that waits; return how many subjects were rescored."""
        count = 0
        while step := self.rescorer.step():
            count += step
        return count

    def send_hourly(self, patient, *rates):
        """Send heart rates, an hour apart, and rescore after each."""
        for rate in rates:
            self.wait(hours=1)
            self.send(patient, rate)
            self.rescore()

    def rows(self, table, *columns):
        """Return the rows of a table of the ward state or the prediction log, in order."""
        engine = self.log._engine if table is PREDICTIONS else self.ward_state._engine
        order = {RISKS: "subject_id", ALARMS: "opened_at", EVENTS: "seq", PREDICTIONS: "index_time"}[table]
        with engine.connect() as connection:
            query = sa.select(table).order_by(order, *table.primary_key)
            rows = [dict(row) for row in connection.execute(query).mappings()]
        return [{name: row[name] for name in columns} for row in rows] if columns else rows

    def events(self, *kinds):
        """Return ``(kind, patient)`` of the events, in order."""
        events = [(row["kind"], row["subject_id"]) for row in self.rows(EVENTS)]
        return [event for event in events if not kinds or event[0] in kinds]

    @property
    def now(self):
        return microsecond(pd.Timestamp(self.time))
