"""Ingestion: identifiers are replaced, wards are checked, and unusable observations are quarantined."""

import asyncio
import json
import math
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa

from tests.support.fhir_resources import component, observation, panel
from vigil.features.pseudonyms import open_pseudonyms
from vigil.serving.auth.access import Access, OtherWardError
from vigil.serving.auth.tokens import Caller
from vigil.serving.fhir.intake import to_sent
from vigil.serving.fhir.observations import ObservationMapper
from vigil.serving.identity.identities import Identities
from vigil.serving.observability.metrics import Metrics
from vigil.serving.records.journal import Journal
from vigil.serving.records.journal_rows import Receipt
from vigil.serving.records.journal_tables import OBSERVATIONS, QUARANTINE, REGISTRATIONS
from vigil.serving.records.registration import Registration
from vigil.serving.records.source_settings import SourceSettingsFile
from vigil.serving.records.timestamps import microsecond, utc
from vigil.serving.stream.group_commit import GroupCommit
from vigil.serving.stream.ingestion import Ingestion, SentObservation

AT = datetime.now(UTC) - timedelta(minutes=1)


class Home:
    """Everything that ingestion uses, of one home."""

    def __init__(self, home):
        self.pseudonyms, self.identities, self.journal = open_pseudonyms(home), Identities(home), Journal(home)
        self.group_commit = GroupCommit(self.journal, self.identities, Metrics())
        self.ingestion = Ingestion(
            pseudonyms=self.pseudonyms,
            identities=self.identities,
            journal=self.journal,
            access=Access(self.journal, 1_000),
            group_commit=self.group_commit,
            declared=SourceSettingsFile(home).declarations,
        )

    def accept(self, *observations, wards=None):
        return asyncio.run(self.ingestion.accept(observations, caller(wards)))

    def register(self, *patients, wards=None):
        self.ingestion.register([(patient, Registration("", ward)) for patient, ward in patients], caller(wards))

    def rows(self, table):
        with self.journal._engine.connect() as connection:
            return [dict(row) for row in connection.execute(sa.select(table).order_by(table.c.seq)).mappings()]


def caller(wards=None):
    return Caller("tests", frozenset(), None if wards is None else frozenset(wards), math.inf)


def sent(patient="patient-1", message="m1", **changes):
    fields = {"signal": "heart_rate", "value": 80.0, "observed_at": AT.isoformat(), "device_id": "d1", "source": "g1"}
    return SentObservation(message, patient, **fields | changes)


@pytest.fixture
def home(tmp_path):
    home = Home(tmp_path)
    yield home
    home.group_commit.stop()


def test_accept_stores_the_subject_key_and_its_identifier_apart(home):
    assert home.accept(sent(), sent("patient-2", value=90)) == [Receipt("accepted")] * 2
    keys = [home.pseudonyms.subject_key(name) for name in ("patient-1", "patient-2")]
    stored = sorted(home.rows(OBSERVATIONS), key=lambda row: row["value"])  # the keys, and so their order, are random
    assert [row["subject_id"] for row in stored] == keys
    assert [(row["value"], row["observed_at"], row["device_id"], row["source"]) for row in stored] == [
        (80.0, microsecond(utc(AT)), "d1", "g1"),
        (90.0, microsecond(utc(AT)), "d1", "g1"),
    ]
    assert home.identities.find(keys) == dict(zip(keys, ["patient-1", "patient-2"], strict=True))
    assert "patient-1" not in str(stored)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"value": "80"}, "not_a_number"),
        ({"value": True}, "not_a_number"),
        ({"value": None}, "not_a_number"),
        ({"observed_at": "yesterday"}, "missing_time"),
        ({"observed_at": "2026-02-01T12:00:00"}, "missing_time"),  # without a time zone
        ({"observed_at": 1770000000.0}, "missing_time"),
        ({"observed_at": None}, "missing_time"),
        ({"unit": "Cel"}, "unknown_unit"),
        ({"signal": "mood"}, "unknown_signal"),
    ],
)
def test_accept_quarantines_what_cannot_be_used_as_it_was_sent(home, changes, reason):
    assert home.accept(sent(**changes), sent(message="m2", value=81.0)) == [
        Receipt("quarantined", reason),
        Receipt("accepted"),
    ]
    (row,) = home.rows(QUARANTINE)
    assert (row["subject_id"], row["reason"]) == (home.pseudonyms.subject_key("patient-1"), reason)
    as_sent = json.loads(row["observation"])
    original = sent(**changes)
    assert (as_sent["value"], as_sent["observed_at"], as_sent["unit"]) == (
        original.value,
        original.observed_at,
        original.unit,
    )
    assert "patient-1" not in row["observation"]


def test_accept_refuses_the_whole_request_for_a_patient_of_another_ward(home):
    home.register(("patient-1", "A"), ("patient-2", "B"))
    before = home.journal.latest()
    with pytest.raises(OtherWardError):
        home.accept(sent("patient-1"), sent("patient-2"), wards=["A"])
    assert home.journal.latest() == before
    assert home.rows(OBSERVATIONS) == []
    assert home.accept(sent("patient-1"), wards=["A"]) == [Receipt("accepted")]
    assert home.accept(sent("patient-2"), wards=["A", "B"]) == [Receipt("accepted")]


def test_register_stores_subject_keys_and_their_identifiers(home):
    facts = Registration("", "A", age=70.0, sex=1.0, unit_admitted_at=5, pregnant=False)
    home.ingestion.register([("patient-1", facts), ("patient-2", Registration("", "B", discharged=True))], caller())
    keys = [home.pseudonyms.subject_key(name) for name in ("patient-1", "patient-2")]
    first, second = home.rows(REGISTRATIONS)
    assert (first["subject_id"], first["ward"], first["age"], first["sex"], first["unit_admitted_at"]) == (
        *(keys[0], "A", 70.0, 1.0, 5),
    )
    assert (first["hospital_admitted_at"], first["discharged"], first["pregnant"]) == (None, False, False)
    assert (second["subject_id"], second["ward"], second["discharged"], second["pregnant"]) == (keys[1], "B", True, None)
    assert first["recorded_at"] == second["recorded_at"]
    assert home.identities.find(keys) == dict(zip(keys, ["patient-1", "patient-2"], strict=True))


def test_register_refused_for_one_patient_stores_none(home):
    home.register(("patient-2", "B"))
    before = home.rows(REGISTRATIONS)
    with pytest.raises(OtherWardError):
        home.register(("patient-1", "A"), ("patient-2", "A"), wards=["A"])
    assert home.rows(REGISTRATIONS) == before
    assert home.identities.subjects() == {home.pseudonyms.subject_key("patient-2")}
    home.register(("patient-1", "A"), wards=["A"])
    assert len(home.rows(REGISTRATIONS)) == 2


def test_what_a_source_declares_counts_from_the_next_reading_on(tmp_path):
    home = Home(tmp_path)
    local = AT.astimezone(ZoneInfo("Europe/Berlin")).replace(tzinfo=None).isoformat()
    readings = [
        {"signal": "glucose", "value": 5.5},
        {"signal": "glucose", "value": 10},
        {"signal": "heart_rate", "value": 70, "observed_at": local},
        {"signal": "heart_rate", "value": 71, "observed_at": "2026-03-29T02:30:00"},  # the clocks went from 2 to 3
        {"signal": "heart_rate", "value": 72, "observed_at": "2026-10-25T02:30:00"},  # the clocks went from 3 to 2
        {"signal": "heart_rate", "value": 73, "observed_at": "2026-10-25"},
        {"signal": "heart_rate", "value": 74},
    ]

    def results(number):
        receipts = home.accept(*[sent(message=f"{number}-{n}", **reading) for n, reading in enumerate(readings)])
        return [receipt.reason or receipt.status for receipt in receipts]

    undeclared = ["missing_unit", "missing_unit", *["missing_time"] * 4, "accepted"]
    assert results(1) == undeclared
    (tmp_path / "sources.toml").write_text(
        '[sources.g1]\nunits = { glucose = "mmol/L" }\nerror_codes = { glucose = [10] }\ntime_zone = "Europe/Berlin"'
    )
    declared = ["accepted", "device_error", "accepted", "missing_time", "missing_time", "missing_time", "duplicate"]
    assert results(2) == declared
    accepted = {(row["signal"], row["value"]): row["observed_at"] for row in home.rows(OBSERVATIONS)}
    assert accepted == {key: microsecond(utc(AT)) for key in [("heart_rate", 74.0), ("glucose", 99.09), ("heart_rate", 70.0)]}
    home.group_commit.stop()


def test_the_clock_of_the_gateway_counts_where_its_source_declares_so(tmp_path):
    home = Home(tmp_path)
    never_set, received = "2019-01-01T00:07:00Z", (AT - timedelta(minutes=3)).isoformat()
    reading = sent(observed_at=never_set, received_at=received)
    (tmp_path / "sources.toml").write_text('[sources.g1]\nclock = "gateway"')
    assert home.accept(reading) == [Receipt("accepted")]
    assert home.accept(reading) == [Receipt("duplicate")]
    assert [row["observed_at"] for row in home.rows(OBSERVATIONS)] == [microsecond(utc(AT - timedelta(minutes=3)))]
    assert home.accept(sent(message="m2", value=81)) == [Receipt("quarantined", "missing_time")]
    (quarantined,) = home.rows(QUARANTINE)
    assert "received_at" not in json.loads(quarantined["observation"])  # as it was sent
    assert home.accept(sent(message="m3", value=82, received_at="at noon")) == [Receipt("quarantined", "missing_time")]
    assert json.loads(home.rows(QUARANTINE)[1]["observation"])["received_at"] == "at noon"
    (tmp_path / "sources.toml").write_text("")
    assert home.accept(sent(message="m4", value=83, received_at=received)) == [Receipt("accepted")]
    assert home.rows(OBSERVATIONS)[-1]["observed_at"] == microsecond(utc(AT))  # the device's clock
    home.group_commit.stop()


def test_a_converted_reading_that_is_sent_again_is_a_duplicate(home):
    reading = sent(signal="body_temperature", value=98.6, unit="[degF]")
    assert home.accept(reading) == [Receipt("accepted")]
    assert home.accept(reading) == [Receipt("duplicate")]
    assert home.accept(sent(signal="body_temperature", value=99.6, unit="[degF]")) == [
        Receipt("quarantined", "duplicate_message")
    ]
    assert [row["value"] for row in home.rows(OBSERVATIONS)] == [37.0]


def test_readings_of_fhir_are_taken_and_what_the_mapper_refused_is_quarantined(tmp_path):
    home = Home(tmp_path)
    at = AT.isoformat()
    resources = [
        panel(component("8480-6", 120, "mm[Hg]"), component("8462-4", "80", "mm[Hg]"), effectiveDateTime=at),
        observation(id="o2", effectiveDateTime=at),
        observation(id="o2", effectiveDateTime=at),  # sent again
        observation(id="o2", value=88, effectiveDateTime=at, status="corrected"),
        observation(id="o3", effectiveDateTime=AT.date().isoformat()),
        observation(id="o2", value=None, effectiveDateTime=None, status="entered-in-error"),
    ]
    mapper = ObservationMapper({"Patient/12": "12"}.get)
    receipts = [home.accept(*to_sent(mapper.map(resource), "ehr", "none")) for resource in resources]
    assert receipts == [
        [Receipt("accepted"), Receipt("quarantined", "not_a_number")],
        [Receipt("accepted")],
        [Receipt("duplicate")],
        [Receipt("accepted")],
        [Receipt("quarantined", "imprecise_time")],
        [Receipt("accepted")],
    ]
    counting = [row for row in home.rows(OBSERVATIONS) if row["superseded_at"] is None]
    assert [(row["signal"], row["value"]) for row in counting] == [("systolic_bp", 120.0)]
    (text, date) = (json.loads(row["observation"]) for row in home.rows(QUARANTINE))
    assert (text["value"], date["value"]) == ("80", 80.0)
