"""Retention: old records are deleted everywhere, others are unchanged, and writers do not wait for it."""

import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from tests.support.live_ward import USUAL, LiveWard
from vigil.pipelines.cli.main import app
from vigil.pipelines.cohort_store import CohortFacts, CohortStore
from vigil.pipelines.operations.reproduce import reproduce
from vigil.pipelines.operations.retention import retention
from vigil.serving.identity.identities import Identities
from vigil.serving.observability.metrics import Metrics
from vigil.serving.records.journal import Journal
from vigil.serving.records.prediction_log import PredictionLog
from vigil.serving.records.timestamps import microsecond
from vigil.serving.records.ward_state import WardState
from vigil.serving.scoring.subject_state import SubjectStates, features_as_of
from vigil.serving.stream.group_commit import GroupCommit

DAYS = 5
SICK = {"heart_rate": 135, "respiratory_rate": 32, "spo2": 85}  # NEWS2 of 9
WELL = {"heart_rate": 75, "respiratory_rate": 14, "spo2": 98}
PATIENTS = ("left", "edge", "stays", "new", "of-the-cohort", "without-records")


def now():
    return pd.Timestamp.now("UTC").as_unit("us")


def rows(home, file, query, *values):
    with closing(sqlite3.connect(home / file)) as connection, connection:
        return connection.execute(query, values).fetchall()


def column(home, file, query):
    return [value for (value,) in rows(home, file, query)]


@pytest.fixture
def ward(tmp_path):
    """Ten days of a ward without a model: a patient left long ago, two stayed, and one arrived yesterday."""
    ward = LiveWard(tmp_path, now() - pd.Timedelta(days=10), model=False)
    Identities(tmp_path).store({patient: f"MRN {patient}" for patient in PATIENTS})
    ward.register("left", "stays", age=50.0)
    ward.register("stays", "edge", age=51.0)
    for values in (WELL, SICK, WELL):
        ward.forward(hours=1)
        ward.send("left", "stays", "edge", **values)
        ward.send("stays", heart_rate=900)  # implausible
        ward.send("stays", **values)  # a repetition
        ward.rescore()
    ward.register("left", discharged=True)
    ward.rescore()
    overridden = next(alarm for alarm in ward.ward_state.alarms() if alarm.subject_id == "edge")
    ward.ward_state.record_action(overridden.alarm_id, "overridden", "nurse", "artefact", ward.time)
    ward.time = now() - pd.Timedelta(days=DAYS) - pd.Timedelta(hours=1)
    ward.send("edge", "stays", **SICK)
    ward.rescore()
    ward.forward(hours=2)
    ward.send("edge", "stays", heart_rate=80)
    ward.rescore()
    ward.time = now() - pd.Timedelta(days=1)
    ward.register("new")
    ward.send("stays", "new", **SICK)
    ward.send("new", heart_rate=900)
    ward.send("new", **SICK)
    ward.rescore()
    ward.time = now()
    cohort = CohortStore(tmp_path)
    cohort.write(0, stays=pd.DataFrame({"subject_id": ["of-the-cohort"]}))
    cohort.finish(CohortFacts("simulated", True, "deterioration", 1, 0, 0, {}))
    return ward


@pytest.mark.usefixtures("ward")
def test_retention_deletes_old_records_and_no_others(tmp_path):
    before = now() - pd.Timedelta(days=DAYS)
    at = microsecond(before)
    young = {
        ("journal.db", "observations"): f"recorded_at >= {at}",
        ("journal.db", "quarantine"): f"recorded_at >= {at}",
        ("journal.db", "repetitions"): f"recorded_at >= {at}",
        ("predictions.db", "predictions"): f"made_at >= {at}",
        ("ward_state.db", "events"): f"at >= {at}",
    }
    expected = {key: rows(tmp_path, key[0], f"SELECT * FROM {key[1]} WHERE {is_young}") for key, is_young in young.items()}
    total = {key: column(tmp_path, key[0], f"SELECT COUNT(*) FROM {key[1]}")[0] for key in young}
    alarms = len(WardState(tmp_path).alarms())
    deleted = retention(tmp_path, DAYS)
    for (file, table), remaining in expected.items():
        assert rows(tmp_path, file, f"SELECT * FROM {table}") == remaining
        assert deleted.rows[f"{file} {table}"] == total[file, table] - len(remaining) > 0
    assert len(expected["journal.db", "observations"]) == 2 + 6
    assert {row[2] for row in expected["journal.db", "repetitions"]} == {"new"}
    assert rows(tmp_path, "journal.db", "SELECT subject_id, age FROM registrations ORDER BY seq") == [
        ("stays", 51.0), ("edge", 51.0), ("new", 70.0)
    ]  # fmt: skip
    remaining = WardState(tmp_path).alarms()
    assert deleted.rows["ward_state.db alarms"] == alarms - len(remaining) > 0
    assert all(alarm.reason or alarm.ended_at is None or alarm.ended_at >= at for alarm in remaining)
    assert [alarm.subject_id for alarm in remaining if alarm.reason] == ["edge"]
    assert set(Identities(tmp_path).find(PATIENTS)) == {"edge", "stays", "new", "of-the-cohort"}
    ((recorded_at, until, observations),) = rows(tmp_path, "journal.db", "SELECT * FROM retentions")
    assert recorded_at > at
    assert (until - at) / 60e6 < 1
    assert observations == deleted.rows["journal.db observations"]
    again = retention(tmp_path, DAYS).rows
    assert sum(again.values()) == 0
    assert len(rows(tmp_path, "journal.db", "SELECT * FROM retentions")) == 1


def test_retention_deletes_overridden_alarms_with_labels(ward, tmp_path):
    retention(tmp_path, DAYS, labels=True)
    assert not [alarm for alarm in ward.ward_state.alarms() if alarm.reason]


def test_silent_patient_leaves_the_ward_state_but_keeps_the_identity_while_named(ward, tmp_path):
    retention(tmp_path, DAYS - 1, labels=True)
    assert "edge" in {risk.subject_id for risk in ward.ward_state.risks()}
    ward.forward(minutes=1)
    ward.rescore()
    assert {risk.subject_id for risk in ward.ward_state.risks()} == {"stays", "new"}
    assert "edge" in Identities(tmp_path).find(PATIENTS)  # events and predictions of the last days still name the patient


def test_reproduce_counts_predictions_past_retention_and_notices_others_that_differ(ward, tmp_path):
    assert set(reproduce(tmp_path, 10_000).origins["rescorer"]) == {"reproduced"}
    retention(tmp_path, DAYS)
    ward.send("stays", "edge", **SICK)
    ward.rescore()
    result = reproduce(tmp_path, 10_000)
    assert result.different == {}
    assert result.origins["rescorer"]["past_retention"] == 2  # an hour after the limit, their SpO2 was from an hour before
    rows(tmp_path, "predictions.db", "UPDATE predictions SET news2 = 0 WHERE index_time >= ? AND subject = "
         "(SELECT id FROM subjects WHERE subject_id = 'stays')",
         microsecond(ward.time - pd.Timedelta(minutes=1)))  # fmt: skip
    assert list(reproduce(tmp_path, 10_000).different.values()) == [["news2"]]


def test_features_forget_dropped_observations_at_once_and_before_the_rows_are_deleted(ward, tmp_path):
    views = ("vital_signs", "baseline")
    states = SubjectStates(views)
    before = now() - pd.Timedelta(days=DAYS)
    with ward.journal.snapshot() as journal:
        while states.advance(journal, 10):
            pass
    remembered = states.features(["stays"])
    count = column(tmp_path, "journal.db", "SELECT COUNT(*) FROM observations")
    ward.journal.drop_before(before)
    assert column(tmp_path, "journal.db", "SELECT COUNT(*) FROM observations") == count
    ward.send("stays", heart_rate=70)
    with ward.journal.snapshot() as journal:
        states.advance(journal, 10)
        rebuilt = features_as_of(journal, views, ["stays"], states.cursor)
    pd.testing.assert_frame_equal(states.features(["stays"]), rebuilt, check_exact=True)
    assert rebuilt["heart_rate_count_so_far"].item() == 3
    assert remembered["heart_rate_count_so_far"].item() == 6
    retention(tmp_path, DAYS)
    with ward.journal.snapshot() as journal:
        pd.testing.assert_frame_equal(features_as_of(journal, views, ["stays"], states.cursor), rebuilt, check_exact=True)


def test_retention_of_100000_observations_lets_writers_in_and_returns_space(tmp_path):
    journal = Journal(tmp_path)
    PredictionLog(tmp_path), WardState(tmp_path), Identities(tmp_path)
    number = 100_000
    old = microsecond(now() - pd.Timedelta(days=20))
    numbers = np.arange(number).tolist()
    with closing(sqlite3.connect(tmp_path / "journal.db")) as connection, connection:
        connection.executemany("INSERT INTO series VALUES (?, ?, 'heart_rate')", [(n, f"p{n}") for n in range(50)])
        connection.execute("INSERT INTO senders VALUES (1, '', '')")
        connection.executemany(
            "INSERT INTO observations (series, observed_at, value, recorded_at, sender, origin) VALUES (?, ?, 80.0, ?, 1, ?)",
            ((n % 50, old + n, old + n, n.to_bytes(8)) for n in numbers),
        )
    done, accepted = threading.Event(), []

    def send():
        ward = LiveWard(tmp_path, now(), model=False)
        while not done.is_set():
            ward.forward(seconds=1)
            accepted.extend(ward.send("p1"))
            time.sleep(0.01)

    sender = threading.Thread(target=send)
    sender.start()
    try:
        deleted = retention(tmp_path, DAYS)
    finally:
        done.set()
        sender.join()
    assert deleted.rows["journal.db observations"] == number
    assert len(accepted) > len(USUAL)
    assert {result.status for result in accepted} == {"accepted"}
    with closing(sqlite3.connect(tmp_path / "journal.db")) as connection:
        assert connection.execute("SELECT COUNT(*) FROM observations").fetchone() == (len(accepted),)
        assert connection.execute("SELECT DISTINCT subject_id FROM series").fetchall() == [("p1",)]
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert deleted.bytes_freed > 6e6
    assert (tmp_path / "journal.db").stat().st_size < 2e6
    assert journal.latest() > old


def test_retention_does_not_hold_up_writers_during_a_long_read(ward, tmp_path):
    """Retention returns space to the disk. For that it waits for readers, and writers wait for it."""
    with ward.journal._engine.connect() as reader, ThreadPoolExecutor(1) as threads:
        reader.exec_driver_sql("SELECT COUNT(*) FROM observations").all()  # and the transaction stays open
        job = threads.submit(retention, tmp_path, DAYS)
        waits = []
        while not job.done():
            began = time.monotonic()
            ward.journal.tick()
            waits.append(time.monotonic() - began)
            time.sleep(0.02)
        job.result()
    assert max(waits) < 3


@pytest.mark.usefixtures("ward")
def test_retention_shrinks_a_file_without_auto_vacuum(tmp_path):
    with closing(sqlite3.connect(tmp_path / "journal.db", isolation_level=None)) as connection:
        connection.execute("PRAGMA auto_vacuum=NONE")
        connection.execute("VACUUM")
        assert connection.execute("PRAGMA auto_vacuum").fetchone() == (0,)
    retention(tmp_path, DAYS)
    assert rows(tmp_path, "journal.db", "PRAGMA auto_vacuum") == [(2,)]


def test_forgotten_patient_who_returns_has_an_identity_again(ward, tmp_path):
    identities = Identities(tmp_path)
    group_commit = GroupCommit(ward.journal, identities, Metrics())
    retention(tmp_path, DAYS)
    assert "left" not in identities.find(PATIENTS)
    sent = {"signal": "heart_rate", "value": 80, "unit": None, "observed_at": now(), "device_id": None, "source": None}
    for message in ("1", "2"):
        observation = {**sent, "subject_id": "left", "message_id": message}
        assert group_commit.submit([observation], {"left": "MRN left"}).result(10)
        assert identities.find(["left"]) == {"left": "MRN left"}
        rows(tmp_path, "identities.db", "DELETE FROM identities WHERE subject_id = 'left'")
    group_commit.stop()


@pytest.mark.parametrize(
    ("days", "message"),
    [(3, "--days 3: expected 4 or more: most features look back"), (30, "journal.db: missing; expected a home that")],
)
def test_retention_refuses_few_days_and_a_home_without_records(tmp_path, days, message):
    result = CliRunner().invoke(app, ["retention", "--home", str(tmp_path), "--days", str(days)])
    assert result.exit_code == 2
    assert message in result.output
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("ward")
def test_retention_command_prints_rows_by_file_and_table(tmp_path):
    result = CliRunner().invoke(
        app, ["retention", "--home", str(tmp_path), "--days", "5", "--json", str(tmp_path / "deleted.json")]
    )
    assert result.exit_code == 0
    assert "returned to the disk" in result.output
    for table in (
        *("observations", "registrations", "quarantine", "repetitions"),
        *("predictions", "events", "alarms", "identities"),
    ):
        assert table in result.output
    assert '"identities.db identities": 2' in (tmp_path / "deleted.json").read_text()
