"""Merges on the ward: both subjects are rescored at once, and nothing urgent becomes less so."""

import pytest

from tests.support.fake_ward import SICK, FakeWard, heart_rate_model
from vigil.serving.records.timestamps import instant
from vigil.serving.records.ward_tables import ALARMS, EVENTS, RISKS


@pytest.fixture
def ward(tmp_path):
    """Patients p1 (well) of ward A and p2 of ward B."""
    ward = FakeWard(tmp_path, heart_rate_model())
    ward.register("p1")
    ward.register("p2", ward="B")
    ward.send_hourly("p1", 70)
    return ward


def merge(ward, subject="p2", into="p1"):
    ward.wait(seconds=30)
    ward.journal.merge(subject, into)
    ward.rescore()


def unmerge(ward, subject="p2"):
    ward.wait(seconds=30)
    ward.journal.unmerge(subject)
    ward.rescore()


def alarms(ward):
    return [(row["subject_id"], row["ward"], row["sounded"], row["ended_at"]) for row in ward.rows(ALARMS)]


def test_merged_subject_leaves_and_the_survivor_is_rescored_as_of_the_merge(ward):
    ward.wait(minutes=1)
    ward.send("p2", 110)
    ward.rescore()
    merge(ward)
    assert ward.rows(RISKS, "subject_id", "ward", "index_time") == [{"subject_id": "p1", "ward": "A", "index_time": ward.now}]
    assert ward.rows(RISKS)[0]["probability"] == pytest.approx(0.3)  # p2's reading is the latest
    assert ward.events()[-2:] == [("risk", "p1"), ("left", "p2")]
    assert ward.rows(EVENTS)[-1]["body"] == {"merged_into": "p1", "survivor_ward": "A"}
    unmerge(ward)
    assert [(row["subject_id"], row["ward"]) for row in ward.rows(RISKS)] == [("p1", "A"), ("p2", "B")]
    assert [row["probability"] for row in ward.rows(RISKS)] == pytest.approx([0.1, 0.3])
    assert ward.online_store.rows["p1"]["index_time"] == instant(ward.now)


@pytest.mark.parametrize("is_restarted", [False, True])
def test_open_alarm_of_a_merged_subject_ends_and_sounds_for_the_survivor_whatever_the_budget(ward, is_restarted):
    (ward.home / "wards.toml").write_text("[default]\nalarms_per_patient_day = 0.1\n")
    ward.restart()
    ward.register("p3")
    ward.send("p3", 170)
    ward.rescore()  # takes the whole budget of ward A
    ward.send("p2", 170)
    ward.rescore()
    if is_restarted:
        ward.restart()
    merge(ward)
    assert alarms(ward)[1:] == [("p2", "B", 1, ward.now), ("p1", "A", 1, None)]


def test_alarm_is_not_carried_over_where_the_survivors_own_risk_is_low(ward):
    ward.send("p2", 170)
    ward.rescore()
    ward.send_hourly("p1", 70)  # later than p2's reading
    merge(ward)
    assert alarms(ward) == [("p2", "B", 1, ward.now)]


def test_time_for_which_news2_was_high_counts_on_for_the_survivor(ward):
    """Continuous signals sound after 40 minutes; the merge comes after 26, and 15 more suffice."""

    def minutes(patient, count):
        for _ in range(count):
            ward.wait(minutes=1)
            ward.send(patient, 100, **SICK)
        ward.rescore()

    minutes("p2", 5)
    assert not ward.events("alarm")
    minutes("p2", 26)
    assert not ward.events("alarm")
    merge(ward)
    assert not ward.events("alarm")
    minutes("p2", 15)
    assert ward.events("alarm") == [("alarm", "p1")]


def test_unmerge_sounds_for_whom_the_readings_are_and_marks_the_survivors_alarm(ward):
    merge(ward)
    ward.send("p2", 170)
    ward.rescore()
    assert ward.events("alarm") == [("alarm", "p1")]
    unmerge(ward)
    assert ward.events("alarm") == [("alarm", "p1"), ("alarm", "p2")]
    assert ("alarm_ended", "p1") in ward.events()
    first, second = ward.rows(ALARMS)
    assert (first["basis_retracted_at"], second["basis_retracted_at"]) == (ward.now, None)


def test_discharge_of_a_merged_subject_does_nothing_to_the_survivor(ward):
    ward.send("p2", 80)
    merge(ward)
    ward.wait(minutes=1)
    before = ward.events()
    ward.register("p2", ward="B", discharged=True)
    ward.rescore()
    assert ward.events() == before
    assert [row["subject_id"] for row in ward.rows(RISKS)] == ["p1"]
