"""Retention: what is old is gone from everywhere, what is not is untouched, and nobody who writes is in its way."""

import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from pipelines.cli.main import app
from pipelines.cohort_store import CohortStore, Facts
from pipelines.operations.reproduce import replay
from pipelines.operations.retention import retention
from serving.identity.identities import Identities
from serving.records.database import microsecond, reading
from serving.records.journal import Journal
from serving.records.prediction_log import PredictionLog
from serving.records.ward_state import Board
from serving.scoring.subject_state import MonitoredPatients, features_as_of
from serving.service import METRICS
from serving.stream.group_commit import Intake
from tests.pipelines.monitors import USUAL, Monitors

DAYS = 5
SICK = {"heart_rate": 135, "respiratory_rate": 32, "spo2": 85}  # NEWS2 of 9
WELL = {"heart_rate": 75, "respiratory_rate": 14, "spo2": 98}
PATIENTS = ("left", "edge", "stays", "new", "of-the-cohort", "nobody")


def now():
    return pd.Timestamp.now("UTC").as_unit("us")


def rows(home, file, query, *values):
    with closing(sqlite3.connect(home / file)) as connection, connection:
        return connection.execute(query, values).fetchall()


def column(home, file, query):
    return [value for (value,) in rows(home, file, query)]


@pytest.fixture
def ward(tmp_path):
    """Ten days of a ward without a model: who left long ago, who is there since, and who came yesterday."""
    ward = Monitors(tmp_path, now() - pd.Timedelta(days=10), model=False)
    Identities(tmp_path).keep({patient: f"MRN {patient}" for patient in PATIENTS})
    ward.register("left", "stays", age=50.0)
    ward.register("stays", "edge", age=51.0)
    for values in (WELL, SICK, WELL):
        ward.forward(hours=1)
        ward.send("left", "stays", "edge", **values)
        ward.send("stays", heart_rate=900)  # implausible
        ward.send("stays", **values)  # once more
        ward.rescore()
    ward.register("left", discharged=True)
    ward.rescore()
    overridden = next(alarm for alarm in ward.board.alarms() if alarm["patient"] == "edge")
    ward.board.act(overridden["alarm_id"], "overridden", "nurse", "artefact", ward.time)
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
    cohort.finish(Facts("simulated", True, "deterioration", 1, 0, 0, {}))
    return ward


@pytest.mark.usefixtures("ward")
def test_what_is_old_is_gone_and_what_is_not_is_there(tmp_path):
    before = now() - pd.Timedelta(days=DAYS)
    at = microsecond(before)
    young = {
        ("journal.db", "readings"): f"recorded_at >= {at}",
        ("journal.db", "quarantine"): f"recorded_at >= {at}",
        ("journal.db", "repeated"): f"recorded_at >= {at}",
        ("predictions.db", "predictions"): f"made_at >= '{before.isoformat()}'",
        ("board.db", "events"): f"at >= {at}",
    }
    expected = {key: rows(tmp_path, key[0], f"SELECT * FROM {key[1]} WHERE {is_young}") for key, is_young in young.items()}
    total = {key: column(tmp_path, key[0], f"SELECT COUNT(*) FROM {key[1]}")[0] for key in young}
    alarms = len(Board(tmp_path).alarms())
    dropped = retention(tmp_path, DAYS)
    for (file, table), remaining in expected.items():
        assert rows(tmp_path, file, f"SELECT * FROM {table}") == remaining
        assert dropped.rows[f"{file} {table}"] == total[file, table] - len(remaining) > 0
    assert len(expected["journal.db", "readings"]) == 2 + 6
    assert {row[2] for row in expected["journal.db", "repeated"]} == {"new"}
    assert rows(tmp_path, "journal.db", "SELECT patient, age FROM patients ORDER BY seq") == [
        ("stays", 51.0), ("edge", 51.0), ("new", 70.0)
    ]  # fmt: skip
    kept = Board(tmp_path).alarms()
    assert dropped.rows["board.db alarms"] == alarms - len(kept) > 0
    assert all(alarm["reason"] or alarm["ended_at"] is None or alarm["ended_at"] >= at for alarm in kept)
    assert [alarm["patient"] for alarm in kept if alarm["reason"]] == ["edge"]
    assert set(Identities(tmp_path).of(PATIENTS)) == {"edge", "stays", "new", "of-the-cohort"}
    ((recorded_at, until, readings),) = rows(tmp_path, "journal.db", "SELECT * FROM dropped")
    assert recorded_at > at
    assert (until - at) / 60e6 < 1
    assert readings == dropped.rows["journal.db readings"]
    again = retention(tmp_path, DAYS).rows
    assert sum(again.values()) == 0
    assert len(rows(tmp_path, "journal.db", "SELECT * FROM dropped")) == 1


def test_labels_go_when_they_are_asked_to(ward, tmp_path):
    retention(tmp_path, DAYS, labels=True)
    assert not [alarm for alarm in ward.board.alarms() if alarm["reason"]]


def test_a_patient_who_fell_silent_leaves_the_board_and_is_then_forgotten(ward, tmp_path):
    retention(tmp_path, DAYS - 1, labels=True)
    assert "edge" in {risk["patient"] for risk in ward.board.risks()}
    ward.forward(minutes=1)
    ward.rescore()
    assert {risk["patient"] for risk in ward.board.risks()} == {"stays", "new"}
    assert "edge" in Identities(tmp_path).of(PATIENTS)  # events and predictions of the last days still name him


def test_replay_counts_what_retention_made_irreproducible_and_finds_what_it_did_not(ward, tmp_path):
    assert set(replay(tmp_path, 10_000).origins["rescorer"]) == {"reproduced"}
    retention(tmp_path, DAYS)
    ward.send("stays", "edge", **SICK)
    ward.rescore()
    found = replay(tmp_path, 10_000)
    assert found.different == {}
    assert found.origins["rescorer"]["past_retention"] == 2  # an hour after the drop's edge SpO2 was of an hour before
    rows(tmp_path, "predictions.db", "UPDATE predictions SET news2 = 0 WHERE patient_id = 'stays' AND index_time >= ?",
         (ward.time - pd.Timedelta(minutes=1)).isoformat())  # fmt: skip
    assert list(replay(tmp_path, 10_000).different.values()) == [["news2"]]


def test_features_forget_all_at_once_and_before_the_rows_are_deleted(ward, tmp_path):
    views = ("vital_signs", "baseline")
    live = MonitoredPatients(views)
    before = now() - pd.Timedelta(days=DAYS)
    with reading(ward.journal.engine) as connection:
        while live.advance(connection, 10):
            pass
    remembered = live.at(["stays"])
    count = column(tmp_path, "journal.db", "SELECT COUNT(*) FROM readings")
    ward.journal.drop(before)
    assert column(tmp_path, "journal.db", "SELECT COUNT(*) FROM readings") == count
    ward.send("stays", heart_rate=70)
    with reading(ward.journal.engine) as connection:
        live.advance(connection, 10)
        made_anew = features_as_of(connection, views, ["stays"], live.cursor)
    pd.testing.assert_frame_equal(live.at(["stays"]), made_anew, check_exact=True)
    assert made_anew["heart_rate_count_so_far"].item() == 3
    assert remembered["heart_rate_count_so_far"].item() == 6
    retention(tmp_path, DAYS)
    with reading(ward.journal.engine) as connection:
        pd.testing.assert_frame_equal(features_as_of(connection, views, ["stays"], live.cursor), made_anew, check_exact=True)


def test_readings_are_accepted_while_a_hundred_thousand_are_dropped_and_the_disk_is_given_back(tmp_path):
    journal = Journal(tmp_path)
    PredictionLog(tmp_path), Board(tmp_path), Identities(tmp_path)
    number = 100_000
    old = microsecond(now() - pd.Timedelta(days=20))
    numbers = np.arange(number).tolist()
    with closing(sqlite3.connect(tmp_path / "journal.db")) as connection, connection:
        connection.executemany(
            "INSERT INTO readings (patient, signal, observed_at, value, recorded_at, message) VALUES (?, ?, ?, 80.0, ?, ?)",
            ((f"p{n % 50}", "heart_rate", old + n, old + n, n.to_bytes(16)) for n in numbers),
        )
    done, accepted = threading.Event(), []

    def send():
        monitors = Monitors(tmp_path, now(), model=False)
        while not done.is_set():
            monitors.forward(seconds=1)
            accepted.extend(monitors.send("p1"))
            time.sleep(0.01)

    sender = threading.Thread(target=send)
    sender.start()
    try:
        dropped = retention(tmp_path, DAYS)
    finally:
        done.set()
        sender.join()
    assert dropped.rows["journal.db readings"] == number
    assert len(accepted) > len(USUAL)
    assert {result.status for result in accepted} == {"accepted"}
    with closing(sqlite3.connect(tmp_path / "journal.db")) as connection:
        assert connection.execute("SELECT COUNT(*) FROM readings").fetchone() == (len(accepted),)
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert dropped.bytes_freed > 10e6
    assert (tmp_path / "journal.db").stat().st_size < 2e6
    assert journal.latest() > old


def test_who_reads_for_long_does_not_hold_up_those_who_write(ward, tmp_path):
    """Retention gives room back; for that it waits for readers, and who writes waits for it."""
    with ward.journal.engine.connect() as reader, ThreadPoolExecutor(1) as threads:
        reader.exec_driver_sql("SELECT COUNT(*) FROM readings").all()  # and the transaction stays open
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
def test_an_older_file_is_shrunk_too(tmp_path):
    with closing(sqlite3.connect(tmp_path / "journal.db", isolation_level=None)) as connection:
        connection.execute("PRAGMA auto_vacuum=NONE")
        connection.execute("VACUUM")
        assert connection.execute("PRAGMA auto_vacuum").fetchone() == (0,)
    retention(tmp_path, DAYS)
    assert rows(tmp_path, "journal.db", "PRAGMA auto_vacuum") == [(2,)]


def test_whoever_comes_back_is_known_again(ward, tmp_path):
    identities = Identities(tmp_path)
    intake = Intake(ward.journal, identities, METRICS)
    retention(tmp_path, DAYS)
    assert "left" not in identities.of(PATIENTS)
    sent = {"signal": "heart_rate", "value": 80, "unit": None, "observed_at": now(), "device_id": None, "source": None}
    for message in ("1", "2"):
        assert intake.submit([{**sent, "subject_id": "left", "message_id": message}], {"left": "MRN left"}).result(10)
        assert identities.of(["left"]) == {"left": "MRN left"}
        rows(tmp_path, "identities.db", "DELETE FROM identities WHERE pseudonym = 'left'")
    intake.stop()


@pytest.mark.parametrize(
    ("days", "message"),
    [(3, "--days 3: expected 4 or more: most features look back"), (30, "journal.db: not there; expected a home that")],
)
def test_what_cannot_be_dropped_like_that_is_said(tmp_path, days, message):
    result = CliRunner().invoke(app, ["retention", "--home", str(tmp_path), "--days", str(days)])
    assert result.exit_code == 2
    assert message in result.output
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("ward")
def test_the_command_says_what_went_from_where(tmp_path):
    result = CliRunner().invoke(
        app, ["retention", "--home", str(tmp_path), "--days", "5", "--json", str(tmp_path / "dropped.json")]
    )
    assert result.exit_code == 0
    assert "given back to the disk" in result.output
    for what in ("readings", "patients", "quarantine", "repeated", "predictions", "events", "alarms", "identities"):
        assert what in result.output
    assert '"identities.db identities": 2' in (tmp_path / "dropped.json").read_text()
