"""Invariants of a home that must hold whatever happened to its server. Each function returns the faults it found."""

from collections import Counter
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import sqlalchemy as sa

from tests.soak.gateway import Gateway
from tests.soak.home import TASK
from vigil.features.batch import build_features
from vigil.features.catalogue import service_views, views_to_compute
from vigil.features.observations import TIME
from vigil.features.pseudonyms import open_pseudonyms
from vigil.models.assessment import assess_registered
from vigil.models.registry import CHAMPION, RegisteredModel, Registry
from vigil.serving.records import journal, prediction_log, ward_state
from vigil.serving.records.database import Schema
from vigil.serving.records.journal_tables import OBSERVATIONS, REGISTRATIONS
from vigil.serving.records.prediction_tables import PREDICTIONS
from vigil.serving.records.timestamps import instant, microsecond
from vigil.serving.records.ward_tables import ALARMS, EVENTS, RISKS
from vigil.serving.scoring.subject_state import features_as_of


def file_faults(home: Path) -> list[str]:
    """Return the damage of the database files."""
    faults = []
    for schema in (journal.SCHEMA, ward_state.SCHEMA, prediction_log.SCHEMA):
        engine = sa.create_engine(f"sqlite:///{home / schema.file}")
        with engine.connect() as connection:
            faults += [
                f"{schema.file}: {row[0]}" for row in connection.exec_driver_sql("PRAGMA integrity_check") if row[0] != "ok"
            ]
        engine.dispose()
    return faults


def journal_faults(home: Path, gateways: Iterable[Gateway]) -> list[str]:
    """Return acknowledged observations and registrations that the journal does not hold exactly once and unchanged."""
    subject_key = open_pseudonyms(home).subject_key
    acknowledged = {
        (gateway.sent[name]["source"], subject_key(gateway.sent[name]["patient_id"]), *_content(gateway.sent[name]))
        for gateway in gateways
        for name in list(gateway.acknowledged)
    }
    registered = {subject_key(name) for gateway in gateways for name in list(gateway.registered)}
    observations, registrations = rows(home, journal.SCHEMA, OBSERVATIONS, REGISTRATIONS)
    content = ("source", "subject_id", "signal", "observed_at", "value")
    stored = Counter(tuple(row[name] for name in content) for row in observations)
    lost = acknowledged - stored.keys()
    faults = [f"journal: {len(lost)} acknowledged observations lost"] if lost else []
    faults += [f"journal: the same observation {n} times" for n in stored.values() if n > 1]
    faults += ["journal: a group recorded before its predecessor"] * any(
        later["recorded_at"] < earlier["recorded_at"] for earlier, later in pairwise(observations)
    )
    faults += ["journal: a patient lost"] * bool(registered - {row["subject_id"] for row in registrations})
    return faults


def alarm_faults(home: Path) -> list[str]:
    """Return episodes with two records, and contradictions between alarms, events and predictions."""
    alarms, events = rows(home, ward_state.SCHEMA, ALARMS, EVENTS)
    faults = []
    for subject in {alarm["subject_id"] for alarm in alarms}:
        own = sorted((alarm for alarm in alarms if alarm["subject_id"] == subject), key=lambda alarm: alarm["opened_at"])
        for alarm, after in pairwise(own):
            if alarm["ended_at"] is None or alarm["ended_at"] > after["opened_at"]:
                faults.append("alarms: two records of one time")
        faults += ["alarms: ended before opened" for alarm in own if (alarm["ended_at"] or np.inf) < alarm["opened_at"]]
    for ward in {event["ward"] for event in events}:
        numbers = [event["number"] for event in events if event["ward"] == ward]
        if numbers != list(range(1, len(numbers) + 1)):
            faults.append("events: not numbered consecutively within a ward")
    bodies = [(event, event["body"]) for event in events]
    notified = Counter((event["kind"], body["alarm_id"], body["sounded"]) for event, body in bodies if "alarm_id" in body)
    faults += [f"events: the same {kind} {n} times" for (kind, *_), n in notified.items() if n > 1]
    risks = Counter((event["subject_id"], body["index_time"]) for event, body in bodies if event["kind"] == "risk")
    faults += [f"events: the same risk {n} times" for n in risks.values() if n > 1]
    sounded = Counter(name for kind, name, _ in notified if kind == "alarm")
    if sounded != Counter({alarm["alarm_id"]: alarm["sounded"] for alarm in alarms}):
        faults.append("alarms: the number of soundings differs from that of alarm events")
    ended = {name for kind, name, _ in notified if kind == "alarm_ended"}
    if not ended <= {alarm["alarm_id"] for alarm in alarms if alarm["ended_at"] is not None}:
        faults.append("alarms: an alarm_ended event of an open alarm")
    logged = {row["prediction_id"]: row for row in rows(home, prediction_log.SCHEMA, PREDICTIONS)[0]}
    for alarm in alarms:
        risk = logged.get(alarm["prediction_id"])
        if risk is None or (risk["probability"], risk["index_time"]) != (alarm["probability"], alarm["opened_at"]):
            faults.append("alarms: the prediction of an alarm is not in the log")
    return faults


def risk_faults(home: Path) -> list[str]:
    """Return risks of the ward state that differ, bit for bit, from those of an uninterrupted computation."""
    registry = Registry.open_existing(home)
    registered = registry.load(TASK, registry.version_with_alias(TASK, CHAMPION))
    (risks,) = rows(home, ward_state.SCHEMA, RISKS)
    stored, registrations = rows(home, journal.SCHEMA, OBSERVATIONS, REGISTRATIONS)
    observations = pd.DataFrame(stored)
    for column in ("observed_at", "recorded_at"):
        observations[column] = pd.to_datetime(observations[column], unit="us", utc=True).astype(TIME)
    latest = observations.groupby("subject_id")["recorded_at"].max()
    faults = [
        "risks: older than the last observation" for row in risks if instant(row["index_time"]) < latest[row["subject_id"]]
    ]
    index = pd.DataFrame([_index(row, registrations) for row in risks])
    for column in ("unit_admitted_at", "hospital_admitted_at"):
        index[column] = pd.Series([pd.NaT] * len(index), dtype=TIME)
    features = build_features(observations, index, views_to_compute(registered.feature_service))
    faults += _feature_faults(home, registered, features)
    expected = {risk.patient: risk for risk in assess_registered(registered, features)}
    for row in risks:
        risk = expected[row["subject_id"]]
        if (row["probability"], row["news2"], row["band"]) != (risk.probability, risk.news2, risk.band):
            faults.append("risks: different when computed again")
    return faults


def is_drained(home: Path) -> bool:
    """Return whether the risks include everything in the journal."""
    tables = rows(home, journal.SCHEMA, OBSERVATIONS, REGISTRATIONS)
    return ward_state.WardState(home).progress()[0] >= max(row["recorded_at"] for table in tables for row in table)


def follower_faults(home: Path, ward: str, seen: list[int]) -> list[str]:
    """Return events that a follower of a ward did not receive. Each event must arrive at least once and in order."""
    stored = {row["number"] for row in rows(home, ward_state.SCHEMA, EVENTS)[0] if row["ward"] == ward}
    missed = stored - set(seen)
    faults = [f"events: {len(missed)} of {ward} never reached a follower"] if missed else []
    return faults + (["events: in another order"] if seen != sorted(seen) else [])


def _feature_faults(home: Path, registered: RegisteredModel, built: pd.DataFrame) -> list[str]:
    """Return differences between features loaded from the journal and features built from all observations."""
    views = tuple(service_views(registered.feature_service))
    names = list(registered.model.features)
    faults = []
    with journal.Journal(home).snapshot() as snapshot:
        for row, (subject, time) in enumerate(zip(built["subject_id"], built["index_time"], strict=True)):
            loaded = features_as_of(snapshot, views, [subject], microsecond(time))
            if not np.array_equal(loaded[names].to_numpy()[0], built[names].to_numpy()[row], equal_nan=True):
                faults.append("features: those of the journal and those of a build differ")
    return faults


def _index(risk: dict[str, Any], registrations: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the index row of a risk, with the last registration of the subject until then."""
    subject, until = risk["subject_id"], risk["index_time"]
    own = [row for row in registrations if row["subject_id"] == subject and row["recorded_at"] <= until]
    known = {name: own[-1][name] if own else None for name in ("age", "sex")}
    return {"subject_id": subject, "index_time": instant(until), **known}


def _content(message: dict[str, Any]) -> tuple[str, int, float]:
    return message["signal"], microsecond(pd.Timestamp(message["observed_at"])), float(message["value"])


def rows(home: Path, schema: Schema, *tables: sa.FromClause) -> list[list[dict[str, Any]]]:
    """Read all rows of some tables of one database, in one transaction."""
    engine = sa.create_engine(f"sqlite:///{home / schema.file}")
    with engine.connect() as connection:
        connection.exec_driver_sql("BEGIN")
        results = [connection.execute(sa.select(table).order_by(*table.primary_key)).mappings() for table in tables]
        rows_of_tables = [[dict(row) for row in result] for result in results]
    engine.dispose()
    return rows_of_tables
