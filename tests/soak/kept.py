"""What must hold in a home whatever happened to its server, and what is wrong with one where it does not."""

import json
from collections import Counter
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import sqlalchemy as sa

from features.batch import build_features
from features.catalogue import computed_for, service_views
from features.observations import TIME
from features.pseudonyms import open_pseudonyms
from models.assessment import assess_registered
from models.registry import CHAMPION, RegisteredModel, Registry
from serving.records import journal, prediction_log, ward_state
from serving.records.database import instant, microsecond, reading
from serving.scoring.subject_state import features_as_of
from tests.soak.gateway import Gateway
from tests.soak.home import TASK


def whole(home: Path) -> list[str]:
    """What is damaged in the files."""
    found = []
    for file in (journal.FILE, ward_state.FILE, prediction_log.FILE):
        engine = sa.create_engine(f"sqlite:///{home / file}")
        with engine.connect() as connection:
            found += [f"{file}: {row[0]}" for row in connection.exec_driver_sql("PRAGMA integrity_check") if row[0] != "ok"]
        engine.dispose()
    return found


def journal_faults(home: Path, gateways: Iterable[Gateway]) -> list[str]:
    """What was acknowledged and is not there once, as it was sent."""
    pseudonym = open_pseudonyms(home).of
    acknowledged = {
        (gateway.sent[name]["source"], pseudonym(gateway.sent[name]["patient_id"]), *_said(gateway.sent[name]))
        for gateway in gateways
        for name in list(gateway.acknowledged)
    }
    registered = {pseudonym(name) for gateway in gateways for name in list(gateway.registered)}
    readings, patients = rows(home, journal.FILE, journal.READINGS, journal.PATIENTS)
    kept = Counter((row["source"], row["patient"], row["signal"], row["observed_at"], row["value"]) for row in readings)
    found = [f"journal: {len(lost)} acknowledged readings lost" for lost in [acknowledged - kept.keys()] if lost]
    found += [f"journal: {n} times the same reading" for n in kept.values() if n > 1]
    found += ["journal: a group before its predecessor"] * any(
        later["recorded_at"] < earlier["recorded_at"] for earlier, later in pairwise(readings)
    )
    found += ["journal: a patient lost"] * bool(registered - {row["patient"] for row in patients})
    return found


def alarm_faults(home: Path) -> list[str]:
    """Episodes with two records, records and events that contradict each other."""
    alarms, events = rows(home, ward_state.FILE, ward_state.ALARMS, ward_state.EVENTS)
    found = []
    for patient in {alarm["patient"] for alarm in alarms}:
        mine = sorted((alarm for alarm in alarms if alarm["patient"] == patient), key=lambda alarm: alarm["opened_at"])
        for alarm, after in pairwise(mine):
            if alarm["ended_at"] is None or alarm["ended_at"] > after["opened_at"]:
                found.append("alarms: two records of one time")
        found += ["alarms: ended before it was opened" for alarm in mine if (alarm["ended_at"] or np.inf) < alarm["opened_at"]]
    if [event["event_id"] for event in events] != list(range(1, len(events) + 1)):
        found.append("events: not numbered one by one")
    bodies = [(event, json.loads(event["body"])) for event in events]
    told = Counter((event["kind"], body["alarm_id"], body["sounded"]) for event, body in bodies if "alarm_id" in body)
    found += [f"events: {kind} told {n} times" for (kind, *_), n in told.items() if n > 1]
    again = Counter((event["patient"], body["index_time"]) for event, body in bodies if event["kind"] == "risk")
    found += [f"events: a risk told {n} times" for n in again.values() if n > 1]
    sounded = Counter(name for kind, name, _ in told if kind == "alarm")
    if sounded != Counter({alarm["alarm_id"]: alarm["sounded"] for alarm in alarms}):
        found.append("alarms: sounded more or less often than was told")
    ended = {name for kind, name, _ in told if kind == "alarm_ended"}
    if not ended <= {alarm["alarm_id"] for alarm in alarms if alarm["ended_at"] is not None}:
        found.append("alarms: said to have ended, and have not")
    logged = {row["prediction_id"]: row for row in rows(home, prediction_log.FILE, prediction_log.PREDICTIONS)[0]}
    for alarm in alarms:
        risk = logged.get(alarm["prediction_id"])
        opened_at = instant(alarm["opened_at"]).isoformat()
        if risk is None or (risk["probability"], risk["index_time"]) != (alarm["probability"], opened_at):
            found.append("alarms: one whose prediction was not logged")
    return found


def risk_faults(home: Path) -> list[str]:
    """Risks on the board that are not those of a computation which nobody interrupted, bit for bit."""
    registry = Registry.existing(home)
    registered = registry.load(TASK, registry.version_of(TASK, CHAMPION))
    (risks,) = rows(home, ward_state.FILE, ward_state.RISKS)
    journalled, patients = rows(home, journal.FILE, journal.READINGS, journal.PATIENTS)
    readings = pd.DataFrame(journalled).rename(columns={"patient": "subject_id"})
    for column in ("observed_at", "recorded_at"):
        readings[column] = pd.to_datetime(readings[column], unit="us", utc=True).astype(TIME)
    latest = readings.groupby("subject_id")["recorded_at"].max()
    found = ["risks: older than the last reading" for row in risks if instant(row["index_time"]) < latest[row["patient"]]]
    index = pd.DataFrame([_index(row, patients) for row in risks])
    for column in ("unit_admitted_at", "hospital_admitted_at"):
        index[column] = pd.Series([pd.NaT] * len(index), dtype=TIME)
    features = build_features(readings, index, computed_for(registered.feature_service))
    found += _other_features(home, registered, features)
    anew = {risk.patient: risk for risk in assess_registered(registered, features)}
    for row in risks:
        risk = anew[row["patient"]]
        if (row["probability"], row["news2"], row["band"]) != (risk.probability, risk.news2, risk.band):
            found.append("risks: another than computed anew")
    return found


def drained(home: Path) -> bool:
    """Whether everything in the journal is in the risks."""
    journalled = rows(home, journal.FILE, journal.READINGS, journal.PATIENTS)
    return ward_state.Board(home).progress()[0] >= max(row["recorded_at"] for table in journalled for row in table)


def follower_faults(home: Path, ward: str, seen: list[int]) -> list[str]:
    """What somebody who follows a ward missed. Each event comes at least once."""
    there = {row["event_id"] for row in rows(home, ward_state.FILE, ward_state.EVENTS)[0] if row["ward"] == ward}
    found = [f"events: {len(there - set(seen))} of {ward} never reached a follower"] if there - set(seen) else []
    return found + (["events: in another order"] if seen != sorted(seen) else [])


def _other_features(home: Path, registered: RegisteredModel, built: pd.DataFrame) -> list[str]:
    """Whoever begins anew from the journal has the same features as who builds them from all readings."""
    views = tuple(service_views(registered.feature_service))
    names = list(registered.model.features)
    found = []
    with reading(journal.Journal(home).engine) as connection:
        for place, (patient, time) in enumerate(zip(built["subject_id"], built["index_time"], strict=True)):
            anew = features_as_of(connection, views, [patient], microsecond(time))
            if not np.array_equal(anew[names].to_numpy()[0], built[names].to_numpy()[place], equal_nan=True):
                found.append("features: of the journal and of a build differ")
    return found


def _index(risk: dict[str, Any], patients: list[dict[str, Any]]) -> dict[str, Any]:
    """Where and for whom a risk is computed: what was said of the patient last, until then."""
    mine = [row for row in patients if row["patient"] == risk["patient"] and row["recorded_at"] <= risk["index_time"]]
    known = {name: mine[-1][name] if mine else None for name in ("age", "sex")}
    return {"subject_id": risk["patient"], "index_time": instant(risk["index_time"]), **known}


def _said(message: dict[str, Any]) -> tuple[str, int, float]:
    return message["signal"], microsecond(pd.Timestamp(message["observed_at"])), float(message["value"])


def rows(home: Path, file: str, *tables: sa.Table) -> list[list[dict[str, Any]]]:
    """All rows of tables of one file, as they stood at one moment."""
    engine = sa.create_engine(f"sqlite:///{home / file}")
    with engine.connect() as connection:
        connection.exec_driver_sql("BEGIN")
        found = [connection.execute(sa.select(table).order_by(*table.primary_key.columns)).mappings() for table in tables]
        every = [[dict(row) for row in table] for table in found]
    engine.dispose()
    return every
