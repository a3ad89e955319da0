"""Bounds in a ward: a glucose sensor that reports Low becomes an event and an alarm, and never a number."""

import pandas as pd
import pytest

from tests.support.fake_ward import SICK, FakeWard, heart_rate_model
from vigil.features.declarations import Declarations, SourceDeclaration
from vigil.serving.records.timestamps import microsecond
from vigil.serving.records.ward_tables import ALARMS, EVENTS

DECLARED = Declarations(sources={"cgm": SourceDeclaration(ranges={"glucose": (40.0, 400.0)}, units={"glucose": "mg/dL"})})
ALARM_KINDS = ("alarm", "alarm_ended", "alarm_basis_retracted")


@pytest.fixture
def ward(tmp_path):
    ward = FakeWard(tmp_path, heart_rate_model())
    ward.register("p1")
    ward.rescore()
    return ward


def send(ward, value, comparator=None, signal="glucose", message=None, unit="mg/dL", **more):
    """Send one reading of the present as a gateway does, and rescore; return what became of it."""
    ward.wait(minutes=5)
    ward.messages += 1
    row = {"subject_id": "p1", "signal": signal, "value": value, "comparator": comparator, "unit": unit, "device_id": None}
    row |= {"source": "cgm", "message_id": message or f"b{ward.messages}", "observed_at": pd.Timestamp(ward.time).as_unit("us")}
    (receipt,) = ward.journal.append(lambda: [row | more], DECLARED)
    ward.rescore()
    return receipt


def test_low_becomes_an_event_and_an_alarm_at_once_with_its_cause_and_no_number(ward):
    assert send(ward, "Low").status == "accepted"
    assert ward.events("beyond_range", *ALARM_KINDS) == [("beyond_range", "p1"), ("alarm", "p1")]
    event, alarm = (row["body"] for row in ward.rows(EVENTS) if row["kind"] in ("beyond_range", "alarm"))
    bound = {"signal": "glucose", "side": "below", "limit": 40.0, "unit": "mg/dL", "observed_at": ward.now, "critical": True}
    bound |= {"set_by": "device"}
    assert event == bound | {"text": "at or below 40 mg/dL"}
    assert (alarm["cause"], alarm["reasons"], alarm["bounds"]) == ("critical_bound", ["critical_bound"], [event])
    (stored,) = ward.rows(ALARMS)
    assert (stored["cause"], stored["reasons"], stored["bounds"]) == ("critical_bound", ["critical_bound"], [event])
    with ward.journal.snapshot() as journal:
        rows = journal.observations(0, ward.now)
    assert rows[["signal", "value"]].to_numpy().tolist() == [["glucose_below_range", 40.0]]


@pytest.mark.parametrize("restarts", [False, True])
def test_repeated_lows_are_one_episode_which_an_exact_value_ends(ward, restarts):
    for _ in range(12):
        send(ward, "Low")
        if restarts:
            ward.restart()
    send(ward, 45.0)  # exact, and still critical
    assert ward.events(*ALARM_KINDS) == [("alarm", "p1")]
    send(ward, 90.0)
    assert ward.events(*ALARM_KINDS) == [("alarm", "p1"), ("alarm_ended", "p1")]
    send(ward, "Low")
    assert ward.events(*ALARM_KINDS)[2:] == [("alarm", "p1")]
    assert len(ward.events("beyond_range")) == 13


def test_alarm_sounds_again_after_the_refractory_period_while_lows_come(ward):
    for _ in range(19):
        ward.wait(minutes=25)
        send(ward, "<40")
    assert ward.events(*ALARM_KINDS) == [("alarm", "p1"), ("alarm", "p1")]
    assert len(ward.rows(ALARMS)) == 1


def test_episode_ends_a_day_after_the_last_low_although_nothing_arrives(ward):
    send(ward, "Low")
    ward.wait(hours=23)
    ward.rescore()
    assert ward.events("alarm_ended") == []
    ward.wait(hours=2)
    ward.restart()
    ward.rescore()
    assert ward.events("alarm_ended") == [("alarm_ended", "p1")]


def test_high_ends_the_episode_of_low_and_is_news(ward):
    send(ward, "Low")
    send(ward, "High")
    assert ward.events(*ALARM_KINDS) == [("alarm", "p1"), ("alarm", "p1")]
    (alarm,) = ward.rows(ALARMS)
    assert [(bound["side"], bound["limit"]) for bound in alarm["bounds"]] == [("above", 400.0)]


@pytest.mark.parametrize("revision", [{"value": None, "status": "retracted"}, {"value": 110.0, "status": "corrected"}])
def test_retraction_or_correction_of_the_bound_ends_the_episode(ward, revision):
    send(ward, "Low", message="m")
    observed_at = pd.Timestamp(ward.time).as_unit("us")
    assert send(ward, message="m", version=None, observed_at=observed_at, **revision).status == "accepted"
    assert ward.events(*ALARM_KINDS) == [("alarm", "p1"), ("alarm_basis_retracted", "p1"), ("alarm_ended", "p1")]
    with ward.journal.snapshot() as journal:
        rows = journal.observations(0, microsecond(ward.journal.tick()))
    values = [] if revision["value"] is None else [["glucose", 110.0]]
    assert rows[["signal", "value"]].to_numpy().tolist() == values


def test_correction_of_a_number_to_a_bound_of_the_same_number_counts(ward):
    send(ward, 40.0, message="m")
    observed_at = pd.Timestamp(ward.time).as_unit("us")
    assert send(ward, 40.0, "<", message="m", status="corrected", version=None, observed_at=observed_at).status == "accepted"
    assert ward.events("alarm") == [("alarm", "p1")]


def test_message_sent_again_as_a_bound_of_its_number_is_no_repetition(ward):
    send(ward, 40.0, message="m")
    observed_at = pd.Timestamp(ward.time).as_unit("us")
    receipt = send(ward, 40.0, "<", message="m", observed_at=observed_at)
    assert (receipt.status, receipt.reason) == ("quarantined", "duplicate_message")


def test_bound_that_may_be_harmless_is_an_event_and_no_alarm(ward):
    send(ward, 70.0, "<")
    send(ward, 0.01, "<", signal="troponin_i", unit="ng/mL")
    assert ward.events("beyond_range", *ALARM_KINDS) == [("beyond_range", "p1"), ("beyond_range", "p1")]


def test_bound_of_news2_is_critical_for_those_for_whom_news2_is_made(ward):
    ward.register("p1", age=4)
    ward.rescore()
    send(ward, 70.0, "<", signal="spo2", unit="%")
    assert ward.events(*ALARM_KINDS) == []
    send(ward, "Low")
    assert ward.events(*ALARM_KINDS) == [("alarm", "p1")]


def test_bound_sounds_within_the_episode_of_news2_and_keeps_it_open(ward):
    ward.send("p1", 80, **SICK)
    ward.rescore()
    send(ward, "Low")
    assert ward.events(*ALARM_KINDS) == [("alarm", "p1"), ("alarm", "p1")]
    ward.wait(minutes=1)
    ward.send("p1", 80, respiratory_rate=16.0, spo2=98.0, systolic_bp=120.0)
    ward.rescore()
    assert ward.events("alarm_ended") == []
    send(ward, 100.0)
    assert ward.events("alarm_ended") == [("alarm_ended", "p1")]
