"""A home that an earlier version wrote opens, loses nothing, and is brought up to date."""

import sqlite3

import pytest
import sqlalchemy as sa

from serving.records.database import DatabaseError, open_database
from serving.records.journal import PATIENTS
from serving.records.prediction_log import PREDICTIONS
from serving.records.ward_state import ALARMS, RISKS, Board
from tests.serving.bedside import SICK, Bedside, heart_model

# Columns that came with the safety net, by file and table.
NEW = {
    "board.db": {
        "risks": ["decided_by", "reasons", "findings", "unusual", "net_score", "urgent_since", "dipped_at"],
        "alarms": ["cause", "emergency", "reasons"],
    },
    "journal.db": {"patients": ["pregnant"]},
    "predictions.db": {"predictions": ["decided_by", "net_score", "net_spot"]},
}


def made_earlier(home):
    """Take the columns away again, with what is in them."""
    for file, tables in NEW.items():
        with sqlite3.connect(home / file) as connection:
            for table, columns in tables.items():
                for column in columns:
                    connection.execute(f"ALTER TABLE {table} DROP COLUMN {column}")


@pytest.fixture
def earlier(tmp_path):
    """A home with a sick and a well patient, as the version before left it."""
    bed = Bedside(tmp_path, heart_model())
    bed.register("sick", "well")
    bed.send("sick", 170, **SICK)
    bed.send("well", 70, spo2=98.0, respiratory_rate=14.0)
    bed.rescore()
    made_earlier(tmp_path)
    return bed


def test_a_home_of_an_earlier_version_opens_without_loss(earlier):
    with sqlite3.connect(earlier.home / "board.db") as connection:
        before = connection.execute("SELECT patient, probability FROM risks ORDER BY patient").fetchall()
    bed = Bedside(earlier.home, heart_model())
    assert [(row["patient"], row["probability"]) for row in bed.rows(RISKS)] == before
    assert {row["decided_by"] for row in bed.rows(RISKS)} == {None}
    assert [row["cause"] for row in bed.rows(ALARMS)] == [None]
    assert len(bed.rows(PREDICTIONS)) == 2


def test_the_rescorer_brings_the_ward_up_to_date(earlier):
    bed = Bedside(earlier.home, heart_model())
    bed.time = earlier.time
    bed.pass_(minutes=5)
    (alarm,) = bed.rows(ALARMS, "alarm_id", "sounded")
    bed.rescore()
    risks = {row["patient"]: row for row in bed.rows(RISKS)}
    assert (risks["sick"]["band"], risks["sick"]["reasons"]) == ("high", ["news2_7_or_more", "news2_single_3"])
    assert (risks["well"]["band"], risks["well"]["decided_by"]) == ("low", "model")
    # The alarm goes on under its name. It is not known whether the net had sounded it, so the net sounds it, once.
    (after,) = bed.rows(ALARMS)
    assert (after["alarm_id"], after["sounded"], after["cause"]) == (alarm["alarm_id"], alarm["sounded"] + 1, "news2")
    bed.pass_(minutes=5)
    bed.send("sick", 171)
    bed.rescore()
    assert bed.rows(ALARMS, "sounded") == [{"sounded": alarm["sounded"] + 1}]


def test_patients_of_an_earlier_version_are_not_known_to_be_pregnant(earlier):
    bed = Bedside(earlier.home, heart_model())
    with bed.journal.engine.connect() as connection:
        assert set(connection.execute(sa.select(PATIENTS.c.pregnant)).scalars()) == {None}


def test_a_table_that_lacks_what_cannot_be_added_is_refused(tmp_path):
    Board(tmp_path)
    with sqlite3.connect(tmp_path / "board.db") as connection:
        connection.execute("ALTER TABLE risks DROP COLUMN band")
    with pytest.raises(DatabaseError, match=r"board\.db: table risks has no band, as an earlier version wrote it"):
        open_database(tmp_path / "board.db", RISKS.metadata)
