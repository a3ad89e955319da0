"""vigil sources: what a gateway sends, a proposal, and what was quarantined taken after all, with a record of who decided."""

import asyncio
import json
import math
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from vigil.pipelines.cli.main import app
from vigil.pipelines.proposed_units import propose_unit
from vigil.serving.auth.tokens import Caller
from vigil.serving.records.journal import Journal
from vigil.serving.records.journal_tables import OBSERVATIONS, QUARANTINE, READMISSIONS
from vigil.serving.records.timestamps import microsecond, utc
from vigil.serving.settings import Settings
from vigil.serving.stream.ingestion import SentObservation

AT = datetime.now(UTC) - timedelta(hours=2)
GLUCOSE = [5.1, 6.3, 7.8, 5.5, 11.2, 4.9, 6.0, 7.1, 8.4, 5.8]


def vigil(*arguments):
    return CliRunner().invoke(app, list(map(str, arguments)), env={"COLUMNS": "120"})


@pytest.fixture
def home(tmp_path):
    """A home to which a gateway sent glucose without a unit, and times without a zone."""
    from vigil.serving.composition import open_api
    from vigil.serving.observability.metrics import Metrics

    components = open_api(Settings(home=tmp_path), Metrics())
    readings = [{"signal": "glucose", "value": value} for value in GLUCOSE]
    readings += [{"signal": "heart_rate", "value": 70.0}, {"signal": "heart_rate", "value": 700.0}]
    readings += [{"signal": "heart_rate", "value": 72.0, "observed_at": AT.replace(tzinfo=None).isoformat()}]
    sent = [
        SentObservation(
            f"m{number}",
            "patient-1",
            **{"observed_at": (AT + timedelta(minutes=number)).isoformat(), "source": "gateway-4"} | reading,
        )
        for number, reading in enumerate(readings)
    ]
    asyncio.run(components.ingestion.accept(sent, Caller("tests", frozenset(), None, math.inf)))
    components.close()
    return tmp_path


def rows(home, table):
    with Journal(home)._engine.connect() as connection:
        return [dict(row) for row in connection.execute(sa.select(table).order_by(table.c.seq)).mappings()]


def test_sources_are_listed_with_a_proposal_and_readings_are_taken_once_it_is_declared(home, tmp_path):
    shown = vigil("sources", "--home", home)
    assert shown.exit_code == 0, shown.output
    for text in ("gateway-4", "missing_unit 10", "implausible 1, missing_time 1", "10 of 10 values fit mmol/L"):
        assert text in shown.output
    assert 'units = { glucose = "mmol/L" }' in shown.output
    before = rows(home, QUARANTINE)
    nothing = vigil("sources", "--home", home, "--readmit", "--because", "nothing is declared yet")
    assert nothing.exit_code == 0, nothing.output
    assert {name: row["readmitted_at"] for name, row in enumerate(rows(home, QUARANTINE))} == dict.fromkeys(range(12))

    text = '[sources."gateway-4"]\nunits = { glucose = "mmol/L" }\ntime_zone = "UTC"\n'
    (home / "sources.toml").write_text(text)
    asked_at = microsecond(utc(datetime.now(UTC)))
    taken = vigil("sources", "--home", home, "--readmit", "--because", "the meter shows mmol/L", "--json", tmp_path / "s.json")
    assert taken.exit_code == 0, taken.output
    assert "readmitted: 11 accepted" in taken.output
    stored = rows(home, OBSERVATIONS)
    glucose = [row for row in stored if row["signal"] == "glucose"]
    assert [row["value"] for row in glucose] == [round(value * 18.0156, 2) for value in GLUCOSE]
    assert all(row["recorded_at"] >= asked_at for row in glucose)  # no risk knew them before
    assert [row["observed_at"] for row in glucose] == [microsecond(utc(AT + timedelta(minutes=n))) for n in range(10)]
    after = rows(home, QUARANTINE)
    assert [row | {"readmitted_at": None} for row in after] == before  # what was sent stays as it was sent
    assert sum(row["readmitted_at"] is not None for row in after) == 11
    decisions = rows(home, READMISSIONS)
    assert [(row["reason"], row["observations"]) for row in decisions] == [
        ("nothing is declared yet", 0),
        ("the meter shows mmol/L", 11),
    ]
    assert decisions[1]["by"]
    assert "mmol/L" in decisions[1]["declarations"]
    report = json.loads((tmp_path / "s.json").read_text())
    assert report["readmitted"] == {"accepted": 11}
    assert {(row["signal"], row["accepted"]) for row in report["sources"]} == {("glucose", 10), ("heart_rate", 2)}
    again = vigil("sources", "--home", home, "--readmit", "--because", "once more, by mistake")
    assert "nothing waits for a declaration" in again.output


def test_readmission_needs_its_reason_and_the_home_a_journal(home, tmp_path):
    for arguments in (["--readmit"], ["--because", "why not"]):
        refused = vigil("sources", "--home", home, *arguments)
        assert refused.exit_code == 2
        assert "expected both or neither" in refused.output.replace("\n", " ")
    assert vigil("sources", "--home", tmp_path / "elsewhere").exit_code == 2


@pytest.mark.parametrize(
    ("signal", "values", "unit"),
    [
        ("glucose", GLUCOSE, "mmol/L"),
        ("glucose", [90.0 + value for value in GLUCOSE], "mg/dL"),
        ("glucose", GLUCOSE[:5], None),  # too few
        ("creatinine", [55.0, 62.0, 71.0, 80.0, 90.0, 66.0, 59.0, 101.0, 75.0, 68.0], "umol/L"),
        ("body_temperature", [98.6, 99.1, 98.2, 97.9, 100.4, 98.8, 98.4, 98.0, 99.5, 98.9], "[degF]"),
        ("systolic_bp", [16.0, 15.2, 17.1, 14.8, 18.0, 16.6, 15.9, 16.2, 17.4, 15.5], "kPa"),
        ("body_weight", [80.0, 95.0, 110.0, 120.0, 130.0, 100.0, 105.0, 115.0, 98.0, 125.0], None),  # kilograms or pounds
        ("nothing", GLUCOSE, None),
    ],
)
def test_a_unit_is_proposed_where_one_stands_out(signal, values, unit):
    proposal = propose_unit(signal, values)
    assert (None if proposal is None else proposal[0]) == unit
