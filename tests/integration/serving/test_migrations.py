"""Migrations: every database of a home that an earlier version wrote opens without loss, and later ones are refused."""

import importlib
import json
import sqlite3
import tarfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from threading import Barrier

import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from tests.support import HOMES
from tests.support.whole_rows import open_whole
from vigil.features.oxygen import SUFFIX
from vigil.models.bedside import ScoreTerms
from vigil.serving.api.schemas.alarms import alarm_out
from vigil.serving.identity import identities
from vigil.serving.identity.identities import Identities
from vigil.serving.records import journal, prediction_log, ward_state
from vigil.serving.records.database import DatabaseError, open_database, pending_migrations
from vigil.serving.records.journal import Journal
from vigil.serving.records.journal_rows import Receipt, digest, digest_origin
from vigil.serving.records.migrations import _config, head, titles, upgrade
from vigil.serving.records.prediction_log import OUTPUTS, PredictionLog
from vigil.serving.records.timestamps import instant, microsecond
from vigil.serving.records.ward_rows import Event, WardUpdate
from vigil.serving.records.ward_settings import WardSettings, WardSettingsFile
from vigil.serving.records.ward_state import WardState

SCHEMAS = {schema.name: schema for schema in (journal.SCHEMA, ward_state.SCHEMA, prediction_log.SCHEMA, identities.SCHEMA)}
# Former file and table -> present table.
TABLES = {
    "journal.db": {
        "patients": "registrations",
        "readings": "observations",
        "quarantine": "quarantine",
        "repeated": "repetitions",
        "latest": "latest",
        "time": "group_time",
        "dropped": "retentions",
    },
    "board.db": {name: name for name in ("risks", "alarms", "actions", "events", "progress")},
    "predictions.db": {"predictions": "predictions"},
    "identities.db": {"identities": "identities"},
}
PRESENT_FILE = {"board.db": "ward_state.db"}
COLUMNS = {"patient": "subject_id", "patient_id": "subject_id", "pseudonym": "subject_id"}  # former -> present name
COLUMNS_OF = {"quarantine": {"reading": "observation"}, "dropped": {"readings": "observations"}, "events": {"event_id": "seq"}}
# Columns that earlier versions did not have. They are null in a former home.
ADDED = {
    "observations": ("origin", "version", "superseded_at"),
    "quarantine": ("readmitted_at",),
    "risks": ("bounds", "terms", "assessment"),
    "alarms": ("basis_retracted_at", "bounds", "terms", "limits"),
}


@pytest.fixture
def home(tmp_path):
    """A home that the version before wrote: a trained model, four beds of two wards, and a patient without a ward."""
    with tarfile.open(HOMES / "before_2026_12.tar.xz") as archive:
        archive.extractall(tmp_path / "home", filter="data")
    return tmp_path / "home"


@pytest.fixture(scope="module")
def answers():
    """What the API of the version before answered about that home."""
    return json.loads((HOMES / "before_2026_12.json").read_text())


def read(file, query):
    with closing(sqlite3.connect(file)) as connection:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute(query)]


def tables_of(home, files):
    """Return the rows of the tables of some files, by table."""
    return {table: read(home / file, f'SELECT * FROM "{table}"') for file, tables in files.items() for table in tables}


def open_all(home):
    for schema in SCHEMAS.values():
        open_database(home, schema).dispose()


def description(engine):
    """Return everything about the tables of a database; the order of columns does not count."""
    inspector = sa.inspect(engine)
    described = {}
    for table in inspector.get_table_names():
        columns = {
            column["name"]: (str(column["type"]), column["nullable"], column["default"], column["primary_key"])
            for column in inspector.get_columns(table)
        }
        indexes = {
            index["name"]: (
                tuple(index["column_names"]),
                index["unique"],
                {key: str(value) for key, value in index["dialect_options"].items()},
            )
            for index in inspector.get_indexes(table)
        }
        unique = Counter(tuple(constraint["column_names"]) for constraint in inspector.get_unique_constraints(table))
        described[table] = columns, indexes, unique, inspector.get_pk_constraint(table)["constrained_columns"]
    with engine.connect() as connection:
        others = sa.text("SELECT type, name FROM sqlite_master WHERE type NOT IN ('table', 'index')")
        described["others"] = connection.execute(others).all()
        described["revision"] = connection.execute(sa.text("SELECT version_num FROM alembic_version")).all()
    return described


def migrated_from_nothing(folder, schema):
    engine = sa.create_engine(f"sqlite:///{folder / 'migrated.db'}")
    with engine.begin() as connection:
        upgrade(connection, schema.name)
    return engine


def migrated_from_baseline(folder, schema):
    former = sa.create_engine(f"sqlite:///{folder / (schema.former_file or schema.file)}")
    module = importlib.import_module(f"vigil.serving.records.migrations.{schema.name}.rev_0001_baseline")
    module._METADATA.create_all(former)
    former.dispose()
    return open_database(folder, schema)


@pytest.mark.parametrize("migrated", [migrated_from_nothing, migrated_from_baseline])
@pytest.mark.parametrize("name", SCHEMAS)
def test_migrations_make_the_tables_of_a_new_database(tmp_path, name, migrated):
    schema = SCHEMAS[name]
    (tmp_path / "new").mkdir()
    new, engine = open_database(tmp_path / "new", schema), migrated(tmp_path, schema)
    described = description(engine)
    assert described == description(new)
    assert set(described) == {*schema.metadata.tables, "alembic_version", "others", "revision"}
    assert (described["others"], described["revision"]) == ([], [(schema.revision,)])
    for present in (new, engine):
        with present.connect() as connection:
            context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
            assert compare_metadata(context, schema.metadata) == []


@pytest.mark.parametrize("name", SCHEMAS)
def test_revision_of_a_schema_is_its_latest_migration(name):
    assert SCHEMAS[name].revision == head(name)
    assert len(titles(name, "base")) == int(head(name))
    assert titles(name, head(name)) == []


def test_former_home_keeps_every_row(home):
    before = tables_of(home, TABLES)
    assert sum(map(len, before.values())) > 250
    planned = [change for schema in SCHEMAS.values() for change in pending_migrations(home, schema)]
    of_journal = [f"journal.db: {title}" for title in titles("journal", "base")]
    assert planned[: len(of_journal)] == of_journal
    assert "board.db: rename to ward_state.db" in planned
    open_all(home)
    assert not list(home.glob("board.db*"))
    assert [change for schema in SCHEMAS.values() for change in pending_migrations(home, schema)] == []
    present = {PRESENT_FILE.get(file, file): list(tables.values()) for file, tables in TABLES.items()}
    after = tables_of(home, present)
    with open_whole(home, "journal.db") as connection:
        connection.row_factory = sqlite3.Row
        after["observations"] = [dict(row) for row in connection.execute("SELECT * FROM observed ORDER BY seq")]
    for tables in TABLES.values():
        for former, table in tables.items():
            assert len(after[table]) == len(before[former]), table
            if former == "predictions":  # its times have another form; they are tested below
                continue
            renamed = COLUMNS | COLUMNS_OF.get(former, {})
            expected = [{renamed.get(name, name): value for name, value in row.items()} for row in before[former]]
            if former == "events":
                expected = [row | {"number": row["seq"]} for row in expected]
            expected = [row | dict.fromkeys(ADDED.get(table, ())) for row in expected]
            assert after[table] == expected, table


def assert_same_features(before, after, names):
    """Check that features are the same to the last bit of float32, in which they were computed, in their order."""
    if before is None:
        assert (after, names) == (None, None)
        return
    before, after = json.loads(before), json.loads(after)
    assert list(before) == list(after) == json.loads(names)
    assert {name: None if value is None else np.float32(value) for name, value in before.items()} == after


def test_former_prediction_log_keeps_every_value_and_its_order(home):
    before = read(home / "predictions.db", "SELECT * FROM predictions ORDER BY rowid")
    PredictionLog(home)
    with open_whole(home, "predictions.db") as connection:
        connection.row_factory = sqlite3.Row
        after = [dict(row) for row in connection.execute("SELECT * FROM logged ORDER BY seq")]
    times = ("made_at", "as_of", "index_time")
    assert len({row["features"] for row in before}) > 5
    for former, row in zip(before, after, strict=True):
        expected = {name: microsecond(pd.Timestamp(former.pop(name))) for name in times}
        features, names = row.pop("features"), row.pop("feature_names")
        assert_same_features(former.pop("features"), features, names)
        assert row == {
            "seq": row["seq"],
            "subject_id": former.pop("patient_id"),
            **expected,
            **former,
            "terms": None,
            "code": None,
        }


def test_predictions_of_the_version_before_numbers_keep_their_terms_and_how_many_there_are(home):
    upgrade_to(home, prediction_log.SCHEMA, "0003")
    terms = ScoreTerms(spo2_scale=2).to_json()
    with closing(sqlite3.connect(home / "predictions.db")) as connection, connection:
        connection.execute("UPDATE predictions SET terms = ? WHERE seq % 2", (terms,))
        connection.execute("UPDATE predictions SET as_of = index_time + 5 WHERE seq = 3")
    before = read(home / "predictions.db", "SELECT seq, prediction_id, subject_id, as_of, terms FROM predictions ORDER BY seq")
    log = PredictionLog(home)
    with open_whole(home, "predictions.db") as connection:
        after = connection.execute("SELECT seq, prediction_id, subject_id, as_of, terms FROM logged ORDER BY seq").fetchall()
    assert after == [tuple(row.values()) for row in before]
    assert log.subjects() == {row["subject_id"] for row in before}
    assert log.delete_before(instant(2**50)) == 0
    assert log.delete_before(instant(2**52)) == len(before)
    assert log.subjects() == set()
    assert read(home / "predictions.db", "SELECT * FROM subjects") == []


def test_former_predictions_are_what_the_api_answered(home, answers):
    names = Identities(home).find(Identities(home).subjects())
    log = PredictionLog(home).sample(1_000, seed=0).set_index("prediction_id")
    for patient, answer in answers["risks"].items():
        row = log.loc[answer["prediction_id"]]
        assert names[row["subject_id"]] == patient == answer["patient_id"]
        assert (row["as_of"], row["index_time"]) == (pd.Timestamp(answer["as_of"]), pd.Timestamp(answer["index_time"]))
        outputs = {name: None if pd.isna(row[name]) else row[name] for name in OUTPUTS}
        assert outputs.pop("net_spot") is not None or answer["news2"]["sustained"] is None
        assert outputs == {
            **{name: answer[name] for name in ("basis", "probability", "band", "decided_by")},
            "news2": answer["news2"]["score"],
            "news2_highest": answer["news2"]["highest"],
            "net_score": answer["news2"]["sustained"],
        }
        model = answer["model"]
        assert row["feature_service"] == model["feature_service"]
        assert (row["model_name"], row["model_version"]) == (model["name"], model["version"])


def test_former_risks_of_the_wards_are_there(home, answers):
    before = {row["patient"]: row for row in read(home / "board.db", "SELECT * FROM risks")}
    risks = WardState(home).risks()
    names = Identities(home).find(risk.subject_id for risk in risks)
    assert {risk.subject_id for risk in risks} == set(before)
    for risk in risks:
        row, answer = before[risk.subject_id], answers["risks"][names[risk.subject_id]]
        assert (risk.basis, risk.band, risk.decided_by) == (answer["basis"], answer["band"], answer["decided_by"])
        assert (risk.reasons, risk.findings, risk.unusual) == (answer["reasons"], answer["findings"], answer["unusual"])
        assert (risk.news2, risk.news2_highest, risk.net_score) == (
            *(answer["news2"]["score"], answer["news2"]["highest"], answer["news2"]["sustained"]),
        )
        assert (risk.ward, risk.index_time, risk.probability) == (row["ward"], row["index_time"], row["probability"])
        assert (risk.latest_reading_at, risk.prediction_id) == (row["latest_reading_at"], row["prediction_id"])


def test_former_alarms_with_their_actions_are_what_the_api_answered(home, answers):
    alarms = WardState(home).alarms()
    names = Identities(home).find(alarm.subject_id for alarm in alarms)
    shown = [alarm_out(alarm, names[alarm.subject_id]).model_dump(mode="json") for alarm in alarms]
    assert {alarm.pop("basis_retracted_at") for alarm in shown} == {None}
    assert all(alarm.pop("bounds") == [] and alarm.pop("terms") is None for alarm in shown)
    assert {"alarms": shown} == answers["alarms"]
    assert {action["action"] for alarm in shown for action in alarm["actions"]} == {"acknowledged", "overridden"}


def test_former_events_keep_their_numbers_and_every_ward_continues_from_the_last(home):
    before = read(home / "board.db", "SELECT * FROM events ORDER BY event_id")
    (last,) = read(home / "board.db", "SELECT seq FROM sqlite_sequence WHERE name = 'events'")
    state = WardState(home)
    wards = sorted({row["ward"] for row in before})
    assert len(wards) > 1
    for ward in wards:
        own = [row for row in before if row["ward"] == ward]
        events = state.events(ward, 0, 1_000)
        assert [(e.number, e.subject_id, e.kind, e.at, e.body) for e in events] == [
            (row["event_id"], row["patient"], row["kind"], row["at"], json.loads(row["body"])) for row in own
        ]
        assert state.event_range(ward) == (own[0]["event_id"] - 1, last["seq"])
    read_until, alive_at = state.progress()
    for expected in (last["seq"] + 1, last["seq"] + 2):
        state.commit(WardUpdate(events=[Event(wards[0], "p", "left", 0)]), read_until, alive_at, follows=read_until)
        assert state.event_range(wards[0])[1] == expected
    assert state.event_range(wards[1])[1] == last["seq"]


def test_former_journal_has_its_observations_and_registrations(home):
    before = read(home / "journal.db", "SELECT * FROM readings ORDER BY seq")
    wards = {row["patient"]: row["ward"] for row in read(home / "journal.db", "SELECT * FROM patients ORDER BY seq")}
    opened = Journal(home)
    with opened.snapshot() as snapshot:
        observations = snapshot.observations(0, 2**62)
        reasons = set(snapshot.quarantined(0, 2**62)["reason"])
    assert [*zip(observations["subject_id"], observations["signal"], observations["value"], strict=True)] == [
        (row["patient"], row["signal"], row["value"]) for row in before
    ]
    assert reasons == {row["reason"] for row in read(home / "journal.db", "SELECT reason FROM quarantine")}
    assert opened.wards_of(wards) == wards


def upgrade_to(home, schema, revision):
    """Bring a file to an earlier revision than the present one, as the version of then left it."""
    engine = sa.create_engine(f"sqlite:///{home / schema.file}")
    with engine.begin() as connection:
        command.upgrade(_config(schema.name, connection), revision)
    engine.dispose()


def test_journal_without_merges_gets_them_and_keeps_its_observations(home):
    upgrade_to(home, journal.SCHEMA, "0003")
    before = read(home / "journal.db", "SELECT seq, subject_id FROM observations ORDER BY seq")
    assert pending_migrations(home, journal.SCHEMA) == [
        "journal.db: let patients be merged and unmerged.",
        "journal.db: let a patient have terms of their own, and keep of which signal or bound a revision is.",
        f"journal.db: {titles('journal', '0005')[0]}",
    ]
    opened = Journal(home)
    subjects = [row["subject_id"] for row in before]
    first, second, *_ = dict.fromkeys(subjects)
    assert opened.merge(second, first)
    with opened.snapshot() as snapshot:
        after = snapshot.observations(0, 2**62)
        assert len(snapshot.observations(0, 2**62, first)) == subjects.count(first) + subjects.count(second)
    assert after["seq"].tolist() == [row["seq"] for row in before]


RECORDED_AT = [1_795_000_000_000_000, 1_795_000_060_000_000, 1_795_000_120_000_000]  # three groups
# As revision 0005 stored them: group, signal, seconds before its time, value, source, message, version, superseded by.
BEFORE_NUMBERS = [
    (0, "heart_rate", 3, 80.0, "g1", "m1", None, None),
    (0, "heart_rate", 0, 81.0, "g1", "ahead", None, None),  # sent with a time 2 s ahead, which was stored as that of the group
    (0, "fio2", 5, 40.0, "g1", "oxygen", None, None),
    (0, "on_oxygen", 5, 1.0, "g1", "oxygen", None, None),  # follows from it
    (1, "heart_rate", 4, 90.0, None, "m2", None, 2),
    (2, "heart_rate", 64, 95.0, None, "m2", 2, None),
]


def sent(signal, value, time, source, message, **more):
    row = {"subject_id": "p1", "signal": signal, "value": value, "unit": None, "device_id": None, "source": source}
    return {**row, "observed_at": instant(time), "message_id": message, **more}


@pytest.fixture
def before_numbers(tmp_path):
    """A journal of revision 0005, whose rows hold texts."""
    upgrade_to(tmp_path, journal.SCHEMA, "0005")
    rows = []
    for group, signal, seconds, value, source, message, version, superseded in BEFORE_NUMBERS:
        at, is_derived = RECORDED_AT[group] - seconds * 1_000_000, signal == "on_oxygen"
        origin = [source, message, "p1", "fio2" if is_derived else signal]
        time = instant(at + (2_000_000 if message == "ahead" else 0))
        digests = [one + (SUFFIX.encode() if is_derived else b"") for one in (digest([*origin, time]), digest_origin(origin))]
        ended = None if superseded is None else RECORDED_AT[superseded]
        rows.append(("p1", signal, at, value, RECORDED_AT[group], source, *digests, version, ended))
    with closing(sqlite3.connect(tmp_path / "journal.db")) as connection, connection:
        connection.executemany(
            "INSERT INTO observations (subject_id, signal, observed_at, value, recorded_at, source, message, origin, version, "
            "superseded_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            rows,
        )
        connection.execute("INSERT INTO group_time VALUES (1, ?)", (RECORDED_AT[-1],))
        of_m2 = digest_origin([None, "m2", "p1", "heart_rate"])
        connection.execute(
            "INSERT INTO revisions (recorded_at, subject_id, origin, version, is_retracted, observed_at, value, signal) "
            "VALUES (?, 'p1', ?, 2, 0, ?, 95.0, 'heart_rate')",
            (RECORDED_AT[2], of_m2, RECORDED_AT[1] - 4_000_000),
        )
    return tmp_path


def values_at(opened, until):
    with opened.snapshot() as snapshot:
        rows = snapshot.observations(0, until, "p1")
    return sorted(zip(rows["signal"], rows["value"], strict=True))


def test_observations_of_the_version_before_numbers_count_when_they_did(before_numbers):
    (title,) = pending_migrations(before_numbers, journal.SCHEMA)
    assert title.startswith("journal.db: let observations refer to series and senders by number")
    opened = Journal(before_numbers)
    of_first_group = [("fio2", 40.0), ("heart_rate", 80.0), ("heart_rate", 81.0), ("on_oxygen", 1.0)]
    for until, also in zip(RECORDED_AT, ([], [("heart_rate", 90.0)], [("heart_rate", 95.0)]), strict=True):
        assert values_at(opened, until) == sorted(of_first_group + also)
    assert opened.count_accepted() == {
        ("g1", "fio2"): 1,
        ("g1", "heart_rate"): 2,
        ("g1", "on_oxygen"): 1,
        ("", "heart_rate"): 2,
    }


def test_messages_of_the_version_before_numbers_are_known_when_they_are_sent_again(before_numbers):
    opened = Journal(before_numbers)
    first, second = RECORDED_AT[:2]
    again = [
        sent("heart_rate", 80.0, first - 3_000_000, "g1", "m1"),
        sent("heart_rate", 81.0, first + 2_000_000, "g1", "ahead"),
        sent("fio2", 40.0, first - 5_000_000, "g1", "oxygen"),
        sent("heart_rate", 90.0, second - 4_000_000, None, "m2"),
    ]
    assert [receipt.status for receipt in opened.append(lambda: again)] == ["duplicate"] * 4
    other = [
        sent("heart_rate", 99.0, first - 3_000_000, "g1", "m1"),
        sent("heart_rate", 99.0, first + 2_000_000, "g1", "ahead"),
    ]
    assert opened.append(lambda: other) == [Receipt("quarantined", "duplicate_message")] * 2


def test_observations_of_the_version_before_numbers_are_corrected_and_retracted(before_numbers):
    opened = Journal(before_numbers)
    first, second = RECORDED_AT[:2]
    versions = [
        sent("heart_rate", 70.0, first - 3_000_000, "g1", "m1", status="corrected", version=None),
        sent("fio2", None, first - 5_000_000, "g1", "oxygen", status="retracted", version=None),
        sent("heart_rate", None, second - 4_000_000, None, "m2", status="retracted", version=3),
    ]
    assert [receipt.status for receipt in opened.append(lambda: versions)] == ["accepted"] * 3
    assert values_at(opened, 2**62) == [("heart_rate", 70.0), ("heart_rate", 81.0)]
    assert ("heart_rate", 80.0) in values_at(opened, RECORDED_AT[2])


def test_ward_state_without_silences_gets_them_and_keeps_its_events(home):
    former = WardState(home)
    (ward, *_) = sorted({risk.ward for risk in former.risks() if risk.ward})
    before = former.events(ward, 0, 1_000)
    with closing(sqlite3.connect(home / "ward_state.db")) as connection, connection:  # as revision 0005 had it
        connection.executescript(
            "DROP TABLE silences; DROP TABLE device_reports; ALTER TABLE risks DROP COLUMN assessment;"
            "DROP INDEX ix_events_at; ALTER TABLE events RENAME TO present;"
            "CREATE TABLE events (seq INTEGER NOT NULL PRIMARY KEY, ward VARCHAR NOT NULL, number INTEGER NOT NULL, "
            "at BIGINT NOT NULL, subject_id VARCHAR NOT NULL, kind VARCHAR NOT NULL, body JSON NOT NULL, "
            "UNIQUE (ward, number));"
            "INSERT INTO events SELECT seq, ward, number, at, subject_id, kind, body FROM present; DROP TABLE present;"
            "CREATE INDEX ix_events_at ON events (at); UPDATE alembic_version SET version_num = '0005'"
        )
    assert "silent" in pending_migrations(home, ward_state.SCHEMA)[0]
    opened = WardState(home)
    assert opened.events(ward, 0, 1_000) == before
    read_until, alive_at = opened.progress()
    opened.commit(WardUpdate(events=[Event(ward, None, "source_silent", 0)]), read_until, alive_at, follows=read_until)
    (last,) = opened.events(ward, before[-1].number, 10)
    assert (last.subject_id, last.number) == (None, before[-1].number + 1)
    assert opened.silences.open() == []


def test_former_wards_file_is_read(home):
    settings = WardSettingsFile(home, strict=True)
    assert settings.settings("B4") == WardSettings(threshold=0.2, alarms_per_patient_day=100, refractory_hours=4)


@pytest.mark.parametrize("name", SCHEMAS)
def test_database_of_a_later_version_is_refused_and_stays_as_it_is(tmp_path, name):
    schema = SCHEMAS[name]
    open_database(tmp_path, schema).dispose()
    with closing(sqlite3.connect(tmp_path / schema.file)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '0999'")
        before = list(connection.iterdump())
    for attempt in (open_database, pending_migrations):
        with pytest.raises(DatabaseError, match=rf"{schema.file}: a later version of Vigil wrote it \(revision 0999"):
            attempt(tmp_path, schema)
    with closing(sqlite3.connect(tmp_path / schema.file)) as connection:
        assert list(connection.iterdump()) == before


def test_former_home_opens_in_several_threads_at_once(home):
    """Each has a connection of its own, as processes have, so that they compete for the file and for the lock."""
    counts = {table: len(rows) for table, rows in tables_of(home, TABLES).items()}
    together = Barrier(6)

    def open_databases(_):
        together.wait()
        open_all(home)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(open_databases, range(6)))
    present = {PRESENT_FILE.get(file, file): list(tables.values()) for file, tables in TABLES.items()}
    after = {table: len(rows) for table, rows in tables_of(home, present).items()}
    assert after == {table: counts[former] for tables in TABLES.values() for former, table in tables.items()}


def test_new_home_opens_in_several_threads_at_once(tmp_path):
    together = Barrier(6)

    def open_databases(_):
        together.wait()
        open_all(tmp_path)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(open_databases, range(6)))
    assert [change for schema in SCHEMAS.values() for change in pending_migrations(tmp_path, schema)] == []


def test_migration_that_fails_leaves_the_database_as_it_was(home, monkeypatch):
    with closing(sqlite3.connect(home / "journal.db")) as connection:
        before = list(connection.iterdump())
    module = "vigil.serving.records.migrations"

    def fails(connection, name):
        upgrade(connection, name)
        raise OSError("killed")

    with monkeypatch.context() as patched:
        patched.setattr(f"{module}.upgrade", fails)
        with pytest.raises(OSError, match="killed"):
            Journal(home)
    with closing(sqlite3.connect(home / "journal.db")) as connection:
        assert list(connection.iterdump()) == before
    Journal(home)
