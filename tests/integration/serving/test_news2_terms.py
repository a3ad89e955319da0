"""How long values count at the bedside, from the declaration of a source to alarms and the prediction log."""

import pytest

from tests.support.fake_ward import PREDICTIONS, SICK, FakeWard, heart_rate_model
from vigil.models.bedside import USUAL_TERMS, ScoreTerms, carries_from
from vigil.serving.records.journal_lookups import Latest
from vigil.serving.records.ward_tables import ALARMS, RISKS


@pytest.fixture
def ward(tmp_path):
    ward = FakeWard(tmp_path, heart_rate_model())
    ward.register("p1")
    return ward


def test_emergency_ends_when_the_values_behind_it_are_too_old(ward):
    ward.wait(minutes=1)
    ward.send("p1", 90, **SICK)
    ward.rescore()
    assert [row["news2"] for row in ward.rows(RISKS)] == [9]
    ward.send_hourly("p1", *[90] * 11)
    (alarm,) = ward.rows(ALARMS)
    assert (alarm["cause"], alarm["ended_at"]) == ("news2", None)
    ward.send_hourly("p1", 90)
    (risk,), (alarm,) = ward.rows(RISKS), ward.rows(ALARMS)
    assert (risk["news2"], risk["net_score"], alarm["ended_at"]) == (0, 0, ward.now)
    assert "value_too_old" in risk["findings"]


def test_source_declares_a_shorter_time_and_the_log_holds_it(ward):
    ward.wait(minutes=1)
    ward.send("p1", 90, source="band", spo2=85.0)
    ward.send("p1", source="monitor", systolic_bp=88.0)
    ward.rescore()
    (ward.home / "sources.toml").write_text("[sources.band]\ncarry_hours = { spo2 = 2 }\n")
    ward.wait(hours=2)
    ward.send("p1", 91)
    ward.rescore()
    (risk,) = ward.rows(RISKS)
    assert risk["news2"] == 1 + 3  # heart rate and pressure
    terms = [ScoreTerms.from_json(row["terms"]) for row in ward.rows(PREDICTIONS)]
    assert (terms[0], terms[-1]) == (USUAL_TERMS, ScoreTerms(carries_from({"spo2": 2})))


def test_journal_tells_who_sent_the_latest_value_and_whether_it_is_contested(ward):
    ward.wait(minutes=1)
    ward.send("p1", 90, source="band", spo2=85.0)
    before = ward.now
    ward.send("p1", source="monitor", spo2=97.0)
    with ward.journal.snapshot() as journal:
        latest = journal.latest({"p1": ward.journal.latest()})["p1"]
        earlier = journal.latest({"p1": ward.journal.latest() - 1})["p1"]
    assert latest["spo2"] == Latest(97.0, before, "monitor", None, is_contested=True)  # recorded later
    assert earlier["spo2"] == Latest(85.0, before, "band", None, is_contested=False)
    assert "body_temperature" not in latest


def test_latest_value_follows_corrections_as_of_a_time(ward):
    ward.wait(minutes=1)
    ward.send("p1", 90)
    at, known = ward.time, ward.journal.latest()
    ward.wait(minutes=1)
    ward.revise("m1", "heart_rate", None, at)
    with ward.journal.snapshot() as journal:
        assert journal.latest({"p1": known})["p1"]["heart_rate"].value == 90
        assert journal.latest({"p1": ward.journal.latest()})["p1"] == {}


def test_of_values_recorded_together_the_worse_is_the_latest_with_its_sender(ward):
    ward.wait(minutes=1)
    at = ward.time
    row = {"subject_id": "p1", "signal": "spo2", "unit": None, "device_id": None, "observed_at": at, "message_id": "x"}
    ward.journal.append(lambda: [row | {"source": "one", "value": 84.0}, row | {"source": "other", "value": 98.0}])
    with ward.journal.snapshot() as journal:
        latest = journal.latest({"p1": ward.journal.latest()})["p1"]["spo2"]
    assert (latest.value, latest.source, latest.is_contested) == (84.0, "one", True)
