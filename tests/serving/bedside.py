"""A home whose time a test sets: a journal, a board, a rescorer, and a model whose risk can be told from the heart rate."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import sqlalchemy as sa

from models.registry import RegisteredModel
from models.tasks import TASKS
from serving.records.database import microsecond
from serving.records.journal import Journal
from serving.records.prediction_log import PREDICTIONS, PredictionLog
from serving.records.ward_settings import Wards
from serving.records.ward_state import ALARMS, EVENTS, RISKS, Board
from serving.service import METRICS
from serving.stream.rescorer import Rescorer

START = datetime(2026, 2, 1, 12, tzinfo=UTC)
SICK = {"respiratory_rate": 32.0, "spo2": 85.0, "systolic_bp": 88.0}  # NEWS2 of 9 without the heart's
BEATS = "heart_rate_last_24h"


class HeartModel:
    """Risk by the last heart rate: 0.5 at 150 a minute."""

    features = [BEATS]  # noqa: RUF012 - nobody changes it
    thresholds_ = {"medium": 0.25, "high": 0.5}  # noqa: RUF012
    facts_ = {"feature_service": "vital_signs_v3", "simulated": True}  # noqa: RUF012
    explains = False

    def risk(self, rows):
        return np.clip((rows[BEATS].to_numpy(np.float64) - 50) / 200, 0.001, 0.999)

    def matrix(self, rows):
        return rows[self.features].to_numpy(np.float32)

    def range_of(self, p):
        return p, p

    def band(self, p):
        return "high" if p >= 0.5 else "medium" if p >= 0.25 else "low"


def heart_model(version="1"):
    return RegisteredModel(HeartModel(), "deterioration", version, "run")


class FixedChampion:
    """The champion that a test names."""

    def __init__(self, model):
        self.model = model


class NotedRows:
    """In the place of the feature store: remembers what it is given."""

    def __init__(self):
        self.rows = {}

    def follow(self, service):
        self.service = service

    def put(self, rows):
        for row in rows.to_dict("records"):
            self.rows[row["subject_id"]] = row


class Bedside:
    """One home, and what a test does to it."""

    def __init__(self, home, model=None):
        self.home, self.time = home, START
        self.journal = Journal(home, self.clock)
        self.board = Board(home)
        self.log = PredictionLog(home)
        self.champion = FixedChampion(model)
        self.feast = NotedRows()
        self.messages = 0
        self.rescorer = self.begin()

    def clock(self):
        return self.time

    def begin(self):
        """A rescorer, as whoever starts the process makes it."""
        self.rescorer = Rescorer(
            journal=self.journal,
            board=self.board,
            champion=self.champion,
            task=TASKS["deterioration"],
            log=self.log,
            wards=Wards(self.home),
            feast=self.feast,
            metrics=METRICS,
            clock=self.clock,
        )
        return self.rescorer

    def pass_(self, **time):
        self.time += timedelta(**time)

    def register(self, *patients, ward="A", discharged=False):
        nothing = dict.fromkeys(("age", "sex", "unit_admitted_at", "hospital_admitted_at"))
        self.journal.register([{"patient": name, "ward": ward, "discharged": discharged, **nothing} for name in patients])

    def send(self, patient, heart_rate=None, **others):
        """Readings of now, as one group."""
        values = others if heart_rate is None else {"heart_rate": float(heart_rate), **others}
        self.messages += 1
        about = {"subject_id": patient, "unit": None, "device_id": None, "source": None, "message_id": f"m{self.messages}"}
        at = pd.Timestamp(self.time).as_unit("us")
        self.journal.append([{**about, "signal": s, "value": v, "observed_at": at} for s, v in values.items()])

    def rescore(self):
        """All that waits; returns how many were rescored."""
        done = 0
        while step := self.rescorer.step():
            done += step
        return done

    def hourly(self, patient, *rates):
        """Heart rates, an hour apart, each rescored."""
        for rate in rates:
            self.pass_(hours=1)
            self.send(patient, rate)
            self.rescore()

    def rows(self, table, *columns):
        """Of a table of the board or the log, in order."""
        engine = self.log._engine if table is PREDICTIONS else self.board.engine
        order = {RISKS: "patient", ALARMS: "opened_at", EVENTS: "event_id", PREDICTIONS: "index_time"}[table]
        with engine.connect() as connection:
            found = [dict(row) for row in connection.execute(sa.select(table).order_by(order, *table.primary_key)).mappings()]
        return [{name: row[name] for name in columns} for row in found] if columns else found

    def events(self, *kinds):
        """``(kind, patient)`` of what was told, in order."""
        told = [(row["kind"], row["patient"]) for row in self.rows(EVENTS)]
        return [event for event in told if not kinds or event[0] in kinds]

    @property
    def now(self):
        return microsecond(pd.Timestamp(self.time))
