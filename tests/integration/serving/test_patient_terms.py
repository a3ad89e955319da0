"""Terms of patients in a ward: from the journal to scores, alarms, the prediction log, and back over restarts and merges."""

import pandas as pd
import pytest

from tests.support.fake_ward import PREDICTIONS, FakeWard, heart_rate_model
from vigil.models.alarms.patient_terms import PatientTerms, SignalLimits
from vigil.models.bedside import ScoreTerms
from vigil.serving.records.not_recorded import NotRecordedError
from vigil.serving.records.timestamps import instant, microsecond
from vigil.serving.records.ward_tables import ALARMS, EVENTS, RISKS

HYPERCAPNIC = {"spo2": 90.0, "respiratory_rate": 18.0, "systolic_bp": 130.0, "on_oxygen": 1.0}  # 5 by scale 1, 2 by scale 2
HIGH = {"limits": {"heart_rate": SignalLimits(high=95)}}


@pytest.fixture
def ward(tmp_path):
    ward = FakeWard(tmp_path, heart_rate_model())
    ward.register("p1")
    ward.wait(minutes=1)
    return ward


def decide_terms(ward, subject="p1", hours=None, **changes):
    """Record terms of a patient, perhaps for some hours, and rescore."""
    ward.wait(minutes=1)
    until = None if hours is None else microsecond(pd.Timestamp(ward.time) + pd.Timedelta(hours=hours))
    recorded = ward.journal.set_terms(subject, PatientTerms(0, "dr", "as agreed with the family", until, **changes))
    ward.rescore()
    return recorded.recorded_at


def terms_at(ward, time, subject="p1"):
    with ward.journal.snapshot() as journal:
        return journal.terms({subject: time}).get(subject)


def test_scale_2_holds_from_its_recording_on_and_the_log_tells_it(ward):
    ward.send("p1", 84, **HYPERCAPNIC)
    ward.rescore()
    assert [row["news2"] for row in ward.rows(RISKS)] == [5]
    decide_terms(ward, spo2_scale=2)
    assert [row["news2"] for row in ward.rows(RISKS)] == [2]  # rescored at once
    assert [ScoreTerms.from_json(row["terms"]).spo2_scale for row in ward.rows(PREDICTIONS)][-2:] == [1, 2]
    decide_terms(ward)
    assert [row["news2"] for row in ward.rows(RISKS)] == [5]  # the ward's again


def test_terms_end_without_a_new_observation(ward):
    ward.send("p1", 84, **HYPERCAPNIC)
    decide_terms(ward, hours=2, spo2_scale=2)
    assert [row["news2"] for row in ward.rows(RISKS)] == [2]
    ward.wait(hours=2, minutes=1)
    ward.rescore()
    assert [row["news2"] for row in ward.rows(RISKS)] == [5]


def test_what_held_at_a_time_stays_known(ward):
    first = decide_terms(ward, hours=5, spo2_scale=2)
    second = decide_terms(ward, news2_alarm_from=9)
    assert terms_at(ward, first - 1) is None
    assert (terms_at(ward, first).spo2_scale, terms_at(ward, second).spo2_scale) == (2, 1)
    assert terms_at(ward, second).news2_alarm_from == 9


def test_limit_of_the_patient_sounds_an_alarm_whose_audit_holds_the_terms(ward):
    ward.send("p1", 90)
    at = decide_terms(ward, **HIGH, alarm_threshold=0.6)
    assert ward.rows(ALARMS) == []
    ward.send_hourly("p1", 96)
    (alarm,), (risk,) = ward.rows(ALARMS), ward.rows(RISKS)
    assert (alarm["cause"], alarm["reasons"]) == ("patient_limit", ["patient_limit"])
    assert (risk["band"], risk["decided_by"]) == ("high", "patient_limit")
    (bound,) = alarm["bounds"]
    assert (bound["signal"], bound["side"], bound["limit"], bound["set_by"]) == ("heart_rate", "above", 95, "staff")
    assert bound["observed_at"] == ward.now
    assert alarm["terms"]["threshold"] == 0.6
    patient = alarm["terms"]["patient"]
    assert (patient["by"], patient["because"], patient["recorded_at"]) == ("dr", "as agreed with the family", at)
    assert patient["limits"] == {"heart_rate": {"low": None, "high": 95}}


def test_limit_sounds_no_second_time_after_a_restart(ward):
    decide_terms(ward, **HIGH)
    ward.send_hourly("p1", 96)
    ward.restart()
    ward.send_hourly("p1", 97)
    assert ward.events("alarm") == [("alarm", "p1")]


def test_limits_that_sounded_are_known_after_a_restart_though_their_values_recovered(ward):
    decide_terms(ward, limits={"spo2": SignalLimits(low=86), "heart_rate": SignalLimits(high=95)})
    for values in ({"spo2": 85.0}, {"spo2": 97.0}, {"heart_rate": 96.0}):
        ward.wait(minutes=5)
        ward.send("p1", **values)
        ward.rescore()
    assert len(ward.events("alarm")) == 2
    ward.restart()
    ward.wait(minutes=5)
    ward.send("p1", spo2=85.0)
    ward.rescore()
    assert len(ward.events("alarm")) == 2


def test_own_threshold_of_the_model_and_of_news2_decide(ward):
    decide_terms(ward, alarm_threshold=0.2, news2_alarm_from=12)
    ward.send_hourly("p1", 95)  # 0.225, below the threshold of the ward
    (alarm,) = ward.rows(ALARMS)
    assert (alarm["cause"], alarm["terms"]["threshold"], alarm["terms"]["news2_from"]) == ("model", 0.2, 12)
    ward.send("p1", respiratory_rate=32.0, spo2=85.0, systolic_bp=88.0)  # 9 of NEWS2
    ward.rescore()
    assert len(ward.rows(ALARMS)) == 1
    assert ward.events("alarm") == [("alarm", "p1")]


def test_alarm_of_a_ward_without_terms_of_the_patient_tells_those_of_the_ward(ward):
    ward.send_hourly("p1", 160)
    (alarm,) = ward.rows(ALARMS)
    assert alarm["terms"] == {"threshold": 0.5, "news2_from": 7, "refractory_hours": 8, "patient": None}


def test_terms_of_a_merged_patient_hold_for_the_survivor_from_the_merge_on(ward):
    ward.register("p2")
    ward.send("p1", 84, **HYPERCAPNIC)
    decide_terms(ward, "p2", spo2_scale=2)
    ward.journal.merge("p2", "p1")
    ward.rescore()
    assert [(row["subject_id"], row["news2"]) for row in ward.rows(RISKS)] == [("p1", 2)]
    decide_terms(ward, "p2", spo2_scale=1)  # under either identifier
    assert [row["news2"] for row in ward.rows(RISKS)] == [5]


def test_terms_of_the_survivor_hold_on_when_those_of_the_merged_key_are_over(ward):
    ward.register("p2")
    decide_terms(ward, "p1", spo2_scale=2)
    decide_terms(ward, "p2", hours=1, alarm_threshold=0.9)
    ward.wait(hours=5)
    ward.journal.merge("p2", "p1")
    now = ward.journal.latest()
    assert terms_at(ward, now).spo2_scale == 2
    decide_terms(ward, "p2", hours=1, alarm_threshold=0.8)  # for the person: replaces the terms of both
    assert terms_at(ward, ward.journal.latest()).alarm_threshold == 0.8
    ward.wait(hours=2)
    ward.send("p1", 80)
    assert terms_at(ward, ward.journal.latest()) is None


def test_terms_end_with_the_discharge(ward):
    at = decide_terms(ward, news2_alarm_from=21)
    ward.wait(minutes=1)
    ward.register("p1", discharged=True)
    ward.wait(days=3)
    ward.register("p1")
    assert terms_at(ward, at).news2_alarm_from == 21
    assert terms_at(ward, ward.journal.latest()) is None


def test_terms_that_are_over_when_they_are_recorded_are_refused(ward):
    with pytest.raises(NotRecordedError) as refused:
        decide_terms(ward, hours=-1, spo2_scale=2)
    assert (refused.value.rule, refused.value.field) == ("already_over", "until")


def test_terms_that_end_around_a_restart_are_not_overlooked(ward):
    ward.register("p2")
    ward.send("p1", 84, **HYPERCAPNIC)
    decide_terms(ward, hours=1, spo2_scale=2)
    ward.wait(minutes=50)
    ward.send("p1", 84, **HYPERCAPNIC)
    ward.rescore()
    ward.wait(minutes=10, seconds=5)
    ward.send("p2", 80)
    ward.rescorer._take_groups()  # the terms have ended, and another patient's group is committed before the next look
    ward.restart()
    ward.wait(minutes=1)
    ward.rescore()
    assert {row["subject_id"]: row["news2"] for row in ward.rows(RISKS)}["p1"] == 5


def test_terms_of_an_unknown_patient_are_refused(ward):
    with pytest.raises(NotRecordedError) as refused:
        decide_terms(ward, "p9", spo2_scale=2)
    assert (refused.value.rule, refused.value.field) == ("not_in_journal", "patient_id")


def test_retention_keeps_the_terms_in_force_and_deletes_the_others(ward):
    decide_terms(ward, news2_alarm_from=9)
    replaced = microsecond(pd.Timestamp(ward.time))
    decide_terms(ward, spo2_scale=2)
    ward.wait(days=10)
    ward.send("p1", 84)
    now = ward.journal.latest()
    ward.journal.drop_before(instant(now - 1))
    assert terms_at(ward, now).spo2_scale == 2
    assert terms_at(ward, replaced) is None
    ward.wait(days=10)
    ward.journal.drop_before(pd.Timestamp(ward.time))
    assert terms_at(ward, now) is None  # nothing is known of the patient since


def test_retention_keeps_the_terms_of_a_merged_patient_of_whom_something_is_recorded(ward):
    ward.register("p2")
    ward.send("p2", 84)
    decide_terms(ward, "p2", spo2_scale=2)
    ward.journal.merge("p2", "p1")
    ward.wait(days=10)
    ward.send("p1", 84)
    ward.journal.drop_before(pd.Timestamp(ward.time) - pd.Timedelta(days=1))
    assert terms_at(ward, ward.journal.latest()).spo2_scale == 2


def test_terms_wake_no_one_who_has_left(ward):
    ward.send("p1", 84)
    decide_terms(ward, hours=1, spo2_scale=2)
    ward.wait(minutes=1)
    ward.register("p1", discharged=True)
    ward.rescore()
    ward.wait(hours=2)
    ward.rescore()
    assert ward.rows(RISKS) == []
    assert [row["kind"] for row in ward.rows(EVENTS)][-1] == "left"
