"""A home of an early version, before the safety net: it opens without loss, and the rescorer brings it up to date."""

import sqlite3
from contextlib import closing

import pytest
import sqlalchemy as sa

from tests.support.fake_ward import PREDICTIONS, SICK, FakeWard, heart_rate_model
from tests.support.whole_rows import open_whole
from vigil.features.errors import VigilError
from vigil.serving.records.journal_tables import REGISTRATIONS
from vigil.serving.records.migrations.journal import rev_0001_baseline as journal_baseline
from vigil.serving.records.migrations.predictions import rev_0001_baseline as predictions_baseline
from vigil.serving.records.migrations.ward_state import rev_0001_baseline as ward_state_baseline
from vigil.serving.records.ward_state import WardState
from vigil.serving.records.ward_tables import ALARMS, RISKS

# Columns that came with the safety net, by file and table as they were named then.
LATER_COLUMNS = {
    "board.db": {
        "risks": ["decided_by", "reasons", "findings", "unusual", "net_score", "urgent_since", "dipped_at"],
        "alarms": ["cause", "emergency", "reasons"],
    },
    "journal.db": {"patients": ["pregnant"]},
    "predictions.db": {"predictions": ["decided_by", "net_score", "net_spot"]},
}
# Present file: baseline, former file, and how each former table is filled from the present file, attached as `present`.
FORMER = {
    "journal.db": (
        journal_baseline,
        "journal.db",
        {
            "patients": "SELECT * FROM present.registrations",
            "readings": "SELECT seq, subject_id, signal, observed_at, value, recorded_at, device_id, source, "
            "COALESCE(message, CAST(seq AS BLOB)) "
            "FROM present.whole",
            "quarantine": "SELECT seq, recorded_at, subject_id, reason, observation, digest FROM present.quarantine",
            "repeated": "SELECT * FROM present.repetitions",
            "latest": "SELECT * FROM present.latest",
            "time": "SELECT * FROM present.group_time",
            "dropped": "SELECT * FROM present.retentions",
        },
    ),
    "ward_state.db": (
        ward_state_baseline,
        "board.db",
        {
            "risks": "SELECT subject_id, ward, index_time, prediction_id, basis, probability, band, news2, news2_highest, "
            "latest_reading_at, model_name, model_version, feature_service, threshold, decided_by, reasons, findings, unusual, "
            "net_score, urgent_since, dipped_at FROM present.risks",
            "alarms": "SELECT alarm_id, subject_id, ward, opened_at, sounded, last_sounded_at, ended_at, basis, probability, "
            "news2, prediction_id, model_name, model_version, feature_service, status, acted_at, acted_by, reason, cause, "
            "emergency, "
            "reasons FROM present.alarms",
            "actions": "SELECT * FROM present.actions",
            "events": "SELECT seq, at, ward, subject_id, kind, body FROM present.events",
            "progress": "SELECT * FROM present.progress",
        },
    ),
    "predictions.db": (
        predictions_baseline,
        "predictions.db",
        {
            "predictions": "SELECT prediction_id, {made_at}, origin, subject_id, {as_of}, {index_time}, basis, probability, "
            "band, news2, news2_highest, model_name, model_version, feature_service, decided_by, net_score, net_spot, features "
            "FROM present.whole ORDER BY seq"
        },
    ),
}


def isoformat(column):
    """Return SQL of a time as the former version wrote it: ISO 8601, with a fraction where there is one."""
    second = f"strftime('%Y-%m-%dT%H:%M:%S', {column} / 1000000, 'unixepoch')"
    fraction = f"CASE WHEN {column} % 1000000 THEN printf('.%06d', {column} % 1000000) ELSE '' END"
    return f"{second} || {fraction} || '+00:00'"


def make_former(home):
    """Write the databases of a home as an early version had them."""
    times = {name: isoformat(name) for name in ("made_at", "as_of", "index_time")}
    for file, view in (("predictions.db", "logged"), ("journal.db", "observed")):
        with open_whole(home, file) as connection:
            connection.execute(f"CREATE TABLE whole AS SELECT * FROM {view}")
    for present, (baseline, former, tables) in FORMER.items():
        (home / present).rename(home / "present.db")
        for suffix in ("-wal", "-shm"):
            (home / f"{present}{suffix}").rename(home / f"present.db{suffix}")
        engine = sa.create_engine(f"sqlite:///{home / former}")
        baseline._METADATA.create_all(engine)
        engine.dispose()
        with closing(sqlite3.connect(home / former)) as connection, connection:
            connection.execute("ATTACH ? AS present", (str(home / "present.db"),))
            for table, query in tables.items():
                connection.execute(f"INSERT INTO {table} {query.format(**times)}")
        with closing(sqlite3.connect(home / former)) as connection, connection:
            for table, columns in LATER_COLUMNS[former].items():
                for column in columns:
                    connection.execute(f"ALTER TABLE {table} DROP COLUMN {column}")
        for file in home.glob("present.db*"):
            file.unlink()


@pytest.fixture
def former(tmp_path):
    """A home with a sick and a well patient, as an early version left it."""
    ward = FakeWard(tmp_path, heart_rate_model())
    ward.register("sick", "well")
    ward.send("sick", 170, **SICK)
    ward.send("well", 70, spo2=98.0, respiratory_rate=14.0)
    ward.rescore()
    make_former(tmp_path)
    return ward


def test_home_of_an_early_version_opens_without_loss(former):
    with closing(sqlite3.connect(former.home / "board.db")) as connection:
        before = connection.execute("SELECT patient, probability FROM risks ORDER BY patient").fetchall()
    ward = FakeWard(former.home, heart_rate_model())
    assert len(before) == 2
    assert [(row["subject_id"], row["probability"]) for row in ward.rows(RISKS)] == before
    assert {row["decided_by"] for row in ward.rows(RISKS)} == {None}
    assert [row["cause"] for row in ward.rows(ALARMS)] == [None]
    logged = ward.rows(PREDICTIONS)
    assert len(logged) == 2
    assert {row["made_at"] for row in logged} == {former.now}
    assert [alarm.cause for alarm in ward.ward_state.alarms()] == [None]


def test_rescorer_brings_a_ward_of_an_early_version_up_to_date(former):
    ward = FakeWard(former.home, heart_rate_model())
    ward.time = former.time
    ward.wait(minutes=5)
    (alarm,) = ward.rows(ALARMS, "alarm_id", "sounded")
    ward.rescore()
    risks = {row["subject_id"]: row for row in ward.rows(RISKS)}
    assert (risks["sick"]["band"], risks["sick"]["reasons"]) == ("high", ["news2_7_or_more", "news2_single_3"])
    assert (risks["well"]["band"], risks["well"]["decided_by"]) == ("low", "model")
    # The alarm goes on under its id. It is not known whether the safety net had sounded it, so the safety net sounds it, once.
    (after,) = ward.rows(ALARMS)
    assert (after["alarm_id"], after["sounded"], after["cause"]) == (alarm["alarm_id"], alarm["sounded"] + 1, "news2")
    ward.wait(minutes=5)
    ward.send("sick", 171)
    ward.rescore()
    assert ward.rows(ALARMS, "sounded") == [{"sounded": alarm["sounded"] + 1}]


def test_patients_of_an_early_version_are_not_known_to_be_pregnant(former):
    ward = FakeWard(former.home, heart_rate_model())
    with ward.journal._engine.connect() as connection:
        assert connection.execute(sa.select(REGISTRATIONS.c.pregnant)).scalars().all() == [None, None]


def test_journal_of_an_early_version_without_repetitions_counts_from_now_on(former):
    with closing(sqlite3.connect(former.home / "journal.db")) as connection, connection:
        connection.execute("DROP TABLE repeated")
    ward = FakeWard(former.home, heart_rate_model())
    ward.time = former.time
    ward.send("sick", 170)  # message m1, sent again
    with ward.journal.snapshot() as journal:
        assert len(journal.repetitions(0, 2**62)) == 1
        assert len(journal.observations(0, 2**62)) == 4 + 3


def test_table_that_lacks_a_required_column_is_refused_and_stays_as_it_is(former):
    with closing(sqlite3.connect(former.home / "board.db")) as connection, connection:
        connection.execute("ALTER TABLE risks DROP COLUMN band")
    for _ in range(2):
        with pytest.raises(VigilError, match="table risks has no band: an early version wrote it"):
            WardState(former.home)
    with closing(sqlite3.connect(former.home / "ward_state.db")) as connection:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        assert "alembic_version" not in tables
        assert connection.execute("SELECT COUNT(patient) FROM risks").fetchone() == (2,)
