"""From readings to risks and alarms, on a clock that tests set; whoever is killed goes on as if he had not been."""

import json

import numpy as np
import pytest

from models.alarms.policy import Net, Policy, State, decide
from serving.records.database import instant
from serving.records.prediction_log import PREDICTIONS
from serving.records.ward_state import ALARMS, EVENTS, RISKS
from serving.scoring.subject_state import MonitoredPatients
from tests.serving.bedside import SICK, Bedside, heart_model

ALARM_KINDS = ("alarm", "alarm_withheld", "alarm_ended")


@pytest.fixture
def bed(tmp_path):
    return Bedside(tmp_path, heart_model())


def budget(bed, per_day):
    (bed.home / "wards.toml").write_text(f"[default]\nalarms_per_patient_day = {per_day}\n")
    bed.begin()


def test_a_reading_becomes_a_risk(bed):
    bed.register("p1")
    bed.rescore()
    bed.pass_(minutes=1)
    bed.send("p1", 110, spo2=97.0)
    assert bed.rescore() == 1
    (risk,) = bed.rows(RISKS)
    assert (risk["patient"], risk["ward"], risk["index_time"]) == ("p1", "A", bed.now)
    assert (risk["basis"], risk["probability"], risk["band"]) == ("model", pytest.approx(0.3), "medium")
    assert (risk["news2"], risk["latest_reading_at"], risk["threshold"]) == (1, bed.now, 0.5)
    assert (risk["model_name"], risk["model_version"]) == ("deterioration", "1")
    logged = [row for row in bed.rows(PREDICTIONS) if row["prediction_id"] == risk["prediction_id"]]
    assert [(row["origin"], row["probability"], row["index_time"]) for row in logged] == [
        ("rescorer", risk["probability"], instant(bed.now).isoformat())
    ]
    assert bed.feast.rows["p1"]["index_time"] == instant(bed.now)
    assert bed.feast.rows["p1"]["heart_rate_last_24h"] == 110
    assert bed.board.progress() == (bed.now, instant(bed.now))
    assert bed.rescore() == 0


def test_readings_that_came_meanwhile_are_rescored_together(bed):
    for rate in range(60, 160, 10):
        bed.pass_(seconds=1)
        bed.send("p1", rate)
        bed.send("p2", 70)
    assert bed.rescore() == 2
    risks = bed.rows(RISKS, "patient", "probability")
    assert risks == [{"patient": "p1", "probability": pytest.approx(0.5)}, {"patient": "p2", "probability": pytest.approx(0.1)}]
    assert len(bed.rows(PREDICTIONS)) == 2


def test_who_follows_a_ward_is_told_what_is_new_and_not_what_is_not(bed):
    bed.hourly("p1", 100, 100, 101, 102, 90)  # 0.25, .25, .255, .26: the same; .2 is another band
    assert bed.events() == [("risk", "p1"), ("risk", "p1")]
    # One vital sign is too little to call a patient low.
    assert [json.loads(row["body"])["band"] for row in bed.rows(EVENTS)] == ["medium", "unknown"]


def test_one_episode_is_one_record_through_silence_alarm_again_and_end(bed):
    budget(bed, 10)
    bed.register("p1")
    bed.rescore()
    rates = [150, 170, 145, 150, *[160] * 6, 140, 120, 150, *[160] * 8, 60]
    state, policy, expected = State(), Policy(0.5), []
    for rate in rates:
        bed.hourly("p1", rate)
        decision = decide(policy, state, (rate - 50) / 200, Net(3, 3), bed.time)
        state = decision.state
        expected += [decision.event] if decision.event else []
    assert expected == ["sounded", "sounded_again", "ended", "sounded", "ended"]
    assert bed.events(*ALARM_KINDS) == [
        *(("alarm", "p1"), ("alarm", "p1"), ("alarm_ended", "p1"), ("alarm", "p1"), ("alarm_ended", "p1"))
    ]
    first, second = bed.rows(ALARMS)
    assert (first["sounded"], second["sounded"]) == (2, 1)
    assert first["opened_at"] < first["last_sounded_at"] < first["ended_at"] < second["opened_at"] < second["ended_at"]
    assert (second["ward"], second["status"], second["basis"]) == ("A", "open", "model")
    names = [json.loads(row["body"])["alarm_id"] for row in bed.rows(EVENTS) if row["kind"] in ALARM_KINDS]
    assert names == [first["alarm_id"]] * 3 + [second["alarm_id"]] * 2


def test_what_a_budget_does_not_allow_is_withheld_said_and_sounds_once_there_is_room(bed):
    budget(bed, 0.1)  # one alarm a day among up to nineteen patients
    bed.register("p1", "p2")
    for patient in ("p1", "p2"):
        bed.send(patient, 170)
    bed.rescore()
    assert bed.events(*ALARM_KINDS) == [("alarm", "p1"), ("alarm_withheld", "p2")]
    assert [(row["patient"], row["sounded"], row["last_sounded_at"] is None) for row in bed.rows(ALARMS)] == [
        *(("p1", 1, False), ("p2", 0, True))
    ]
    for _ in range(23):
        bed.hourly("p2", 170)
    assert len(bed.events(*ALARM_KINDS)) == 2  # said once
    bed.pass_(minutes=1)
    bed.hourly("p2", 170)
    assert bed.events(*ALARM_KINDS)[2:] == [("alarm", "p2")]
    assert [(row["patient"], row["sounded"]) for row in bed.rows(ALARMS)] == [("p1", 1), ("p2", 1)]


def test_a_ward_has_its_own_budget(bed):
    budget(bed, 0.1)
    bed.register("p1", ward="A")
    bed.register("p2", ward="B")
    for patient in ("p1", "p2"):
        bed.send(patient, 170)
    bed.rescore()
    assert bed.events(*ALARM_KINDS) == [("alarm", "p1"), ("alarm", "p2")]


def test_no_budget_withholds_an_emergency(bed):
    budget(bed, 0.1)
    bed.register("p1", "p2", "p3")
    bed.send("p1", 170)
    bed.rescore()
    bed.send("p2", 170, **SICK)  # NEWS2 of 12
    bed.send("p3", 170, spo2=85.0)  # of 6
    bed.rescore()
    assert bed.events(*ALARM_KINDS) == [("alarm", "p1"), ("alarm", "p2"), ("alarm_withheld", "p3")]
    assert {row["patient"]: row["news2"] for row in bed.rows(RISKS)} == {"p1": 3, "p2": 12, "p3": 6}


def test_a_wards_own_threshold_holds_from_when_it_is_written(bed):
    bed.register("p1")
    bed.hourly("p1", 110)
    (bed.home / "wards.toml").write_text("[wards.A]\nthreshold = 0.3\n")
    bed.pass_(seconds=2)
    bed.rescore()  # looks at the file
    bed.hourly("p1", 111)
    assert bed.events("alarm") == [("alarm", "p1")]
    assert bed.rows(RISKS)[0]["threshold"] == 0.3


def test_who_is_discharged_is_watched_no_more(bed):
    bed.register("p1", "p2")
    for patient in ("p1", "p2"):
        bed.send(patient, 170)
    bed.rescore()
    bed.pass_(minutes=1)
    bed.register("p1", discharged=True)
    bed.rescore()
    assert [row["patient"] for row in bed.rows(RISKS)] == ["p2"]
    assert {row["patient"]: row["ended_at"] for row in bed.rows(ALARMS)} == {"p1": bed.now, "p2": None}
    assert ("left", "p1") in bed.events()
    bed.hourly("p1", 175)  # a device that was left on
    assert len(bed.rows(ALARMS)) == 2
    assert [row["patient"] for row in bed.rows(RISKS)] == ["p2"]
    bed.pass_(hours=9)
    bed.register("p1")  # back again
    bed.send("p1", 170)
    bed.rescore()
    assert [(row["patient"], row["ended_at"] is None) for row in bed.rows(ALARMS)].count(("p1", True)) == 1


def test_an_alarm_goes_with_its_patient(bed):
    bed.register("p1", ward="A")
    bed.send("p1", 170)
    bed.rescore()
    bed.pass_(minutes=5)
    bed.register("p1", ward="B")
    bed.rescore()
    (alarm,) = bed.rows(ALARMS, "ward", "sounded", "ended_at")
    assert alarm == {"ward": "B", "sounded": 1, "ended_at": None}
    told = [(row["ward"], row["kind"]) for row in bed.rows(EVENTS)]
    assert told == [("A", "risk"), ("A", "alarm"), ("A", "left"), ("B", "alarm_moved"), ("B", "risk")]


def test_a_patient_of_whom_nothing_comes_is_said_to_be_silent_once(bed):
    budget(bed, 10)
    bed.register("p1")
    bed.send("p1", 170)
    bed.rescore()
    silent_at = None
    for hour in range(1, 40):
        bed.pass_(hours=1, seconds=1)
        bed.rescore()
        if ("silent", "p1") in bed.events() and silent_at is None:
            silent_at = hour
    assert silent_at == 12
    assert bed.events("silent") == [("silent", "p1")]
    (risk,) = bed.rows(RISKS)
    assert (risk["basis"], risk["probability"], risk["latest_reading_at"]) == ("news2", None, None)  # none for a day
    (alarm,) = bed.rows(ALARMS)
    assert alarm["ended_at"] is None  # silence of a device ends no alarm
    assert alarm["sounded"] == 1 + 2  # after 8 and 16 hours; beyond a day nothing speaks for a risk
    bed.send("p1", 60)
    bed.rescore()
    assert bed.events("alarm_ended") == [("alarm_ended", "p1")]


def test_who_was_silent_and_is_as_he_was_is_silent_again(bed):
    for _ in range(3):
        bed.send("p1", 100)
        bed.rescore()
        for _ in range(14):
            bed.pass_(hours=1, seconds=1)
            bed.rescore()
    assert bed.events("silent") == [("silent", "p1")] * 3


def test_risks_of_the_silent_age_every_hour(bed):
    bed.send("p1", 100)
    bed.rescore()
    seen = set()
    for _ in range(120):
        bed.pass_(minutes=1)
        bed.rescore()
        seen |= {row["index_time"] for row in bed.rows(RISKS)}
    assert len(seen) == 2  # that of the reading, and one an hour later (the next is due)


def test_without_a_model_risks_and_alarms_are_news2(tmp_path):
    bed = Bedside(tmp_path)
    bed.register("p1", "p2")
    bed.send("p1", 135, **SICK)
    bed.send("p2", 135)
    bed.rescore()
    (alarm,) = bed.rows(ALARMS)
    assert (alarm["patient"], alarm["basis"], alarm["probability"], alarm["news2"]) == ("p1", "news2", None, 12)
    assert alarm["model_name"] is alarm["model_version"] is None
    assert {row["patient"]: (row["basis"], row["threshold"]) for row in bed.rows(RISKS)} == {
        "p1": ("news2", None),
        "p2": ("news2", None),
    }


def test_a_new_champion_takes_over_between_two_risks(bed):
    budget(bed, 10)
    bed.register("p1", "p2")
    for patient in ("p1", "p2"):
        bed.send(patient, 170)
    bed.rescore()
    bed.champion.model = heart_model("2")
    bed.hourly("p1", 175)
    assert {row["patient"]: row["model_version"] for row in bed.rows(RISKS)} == dict.fromkeys(["p1", "p2"], "2")
    assert [row["sounded"] for row in bed.rows(ALARMS)] == [1, 1]  # the episode is the same
    bed.hourly("p1", 60)
    (ended,) = [row for row in bed.rows(ALARMS) if row["ended_at"]]
    assert (ended["patient"], ended["model_version"]) == ("p1", "1")  # of the risk that opened it


def test_a_model_that_comes_later_goes_on_with_the_alarms_of_news2(tmp_path):
    bed = Bedside(tmp_path)
    bed.register("p1")
    bed.send("p1", 170, **SICK)
    bed.rescore()
    bed.champion.model = heart_model()
    bed.hourly("p1", 172)
    (alarm,) = bed.rows(ALARMS)
    assert (alarm["basis"], alarm["sounded"]) == ("news2", 1)
    assert bed.rows(RISKS)[0]["basis"] == "model"


# Killed at any step


def course(bed, seed, between):
    """Some days of a few patients; ``between`` happens before each rescoring."""
    generator = np.random.default_rng(seed)
    (bed.home / "wards.toml").write_text("[wards.A]\nalarms_per_patient_day = 0.1\n[wards.B]\nalarms_per_patient_day = 5\n")
    bed.begin()
    patients = ["p1", "p2", "p3", "p4"]
    bed.register("p1", "p2", ward="A")
    bed.register("p3", ward="B")
    for step in range(36):
        bed.pass_(minutes=int(generator.choice([2, 31, 61, 200, 500])))
        for patient in generator.permutation(patients)[: generator.integers(0, 4)]:
            others = SICK if generator.random() < 0.15 else {}
            bed.send(str(patient), int(generator.choice([80, 130, 135, 150, 170])), **others)
        if generator.random() < 0.08:
            ward, discharged = str(generator.choice(["A", "B"])), bool(generator.random() < 0.3)
            bed.register(str(generator.choice(patients)), ward=ward, discharged=discharged)
        if step == 18:
            bed.champion.model = heart_model("2")
        between(bed, generator)
        bed.rescore()
    return bed


def outcome(bed, *, to_the_second=False):
    """What was put up and said. A silent patient's risk is of the moment: who makes it again does so a microsecond later."""

    def time(value):
        return value // 1_000_000 if to_the_second and value is not None else value

    alarms = [{name: time(v) if name.endswith("_at") else v for name, v in row.items()} for row in bed.rows(ALARMS)]
    ids = {} if to_the_second else dict.fromkeys(("alarm_id", "prediction_id"))
    alarms = [{name: v for name, v in row.items() if name not in {"alarm_id", "prediction_id"} - ids.keys()} for row in alarms]
    events = [(row["kind"], row["patient"], row["ward"], time(row["at"])) for row in bed.rows(EVENTS) if row["kind"] != "risk"]
    said = {(row["patient_id"], row["index_time"][:19], row["probability"]) for row in bed.rows(PREDICTIONS)}
    risks = [(row["patient"], row["ward"], time(row["index_time"]), row["probability"]) for row in bed.rows(RISKS)]
    return {"alarms": alarms, "events": events, "said": said, "risks": risks}


@pytest.mark.parametrize("seed", range(2))
def test_whoever_is_restarted_at_every_step_gives_the_alarms_of_whoever_is_not(tmp_path, seed):
    never = outcome(course(Bedside(tmp_path / "never", heart_model()), seed, lambda *_: None))
    always = outcome(course(Bedside(tmp_path / "always", heart_model()), seed, lambda bed, _: bed.begin()))
    assert len(never["alarms"]) > 3
    assert {kind for kind, *_ in never["events"]} >= {"alarm", "alarm_ended"}
    for part, rows in never.items():
        assert always[part] == rows, part


@pytest.mark.parametrize("seed", range(1))
@pytest.mark.parametrize("where", ["advance", "log", "board", "feast"])
def test_whoever_is_killed_within_a_step_does_it_again_and_nothing_is_said_twice(tmp_path, monkeypatch, seed, where):
    """Killed after having read, before or after the log, or after the board: the next one goes on."""

    class Killed(BaseException):
        pass

    def kill(bed, _):
        def dies(*_, **__):
            raise Killed

        def does_and_dies(method):
            def both(*arguments, **named):
                method(*arguments, **named)
                raise Killed

            return both

        place, name = {
            "advance": (MonitoredPatients, "at"),
            "log": (bed.log, "append"),
            "board": (bed.board, "publish"),
            "feast": (bed.feast, "put"),
        }[where]
        with monkeypatch.context() as patch:
            patch.setattr(place, name, dies if where in {"advance", "feast"} else does_and_dies(getattr(place, name)))
            try:
                bed.rescore()
            except Killed:
                bed.begin()

    never, killed = Bedside(tmp_path / "never", heart_model()), Bedside(tmp_path / "killed", heart_model())
    expected = outcome(course(never, seed, lambda *_: None), to_the_second=True)
    assert outcome(course(killed, seed, kill), to_the_second=True) == expected


def test_what_cannot_be_done_now_is_tried_again(bed, monkeypatch):
    monkeypatch.setattr("serving.stream.rescorer._RETRY_SECONDS", 0)
    publish, left = bed.board.publish, [3]

    def fails_at_first(*arguments, **named):
        left[0] -= 1
        if left[0] >= 0:
            raise OSError
        publish(*arguments, **named)

    monkeypatch.setattr(bed.board, "publish", fails_at_first)
    bed.send("p1", 170)
    bed.rescorer.run(stopped=lambda: bool(bed.rows(RISKS)))
    assert bed.events("alarm") == [("alarm", "p1")]
    assert len(bed.rows(PREDICTIONS)) == 1


# The safety net


def test_news2_of_7_sounds_beside_a_low_risk_outside_any_budget_and_says_why(bed):
    budget(bed, 0.1)
    bed.register("p1", "p2")
    bed.send("p1", 170)
    bed.rescore()  # spends the budget
    bed.send("p2", 60, **SICK, consciousness=1.0)
    bed.rescore()
    assert bed.events(*ALARM_KINDS) == [("alarm", "p1"), ("alarm", "p2")]
    body = json.loads([row for row in bed.rows(EVENTS) if row["kind"] == "alarm"][-1]["body"])
    assert (body["cause"], body["reasons"], body["decided_by"]) == ("news2", ["news2_7_or_more", "news2_single_3"], "news2")
    assert (body["probability"], body["band"]) == (pytest.approx(0.05), "high")
    alarm = bed.rows(ALARMS)[-1]
    assert (alarm["cause"], alarm["reasons"]) == ("news2", ["news2_7_or_more", "news2_single_3"])


def test_a_hospital_moves_the_limit_in_writing(bed):
    text = '[wards.H1.safety_net]\nalarm_from = 15\nbecause = "hospice, goals of care agreed"\n'
    (bed.home / "wards.toml").write_text(text)
    bed.begin()
    bed.register("p1", ward="H1")
    bed.send("p1", 60, **SICK, consciousness=1.0)  # NEWS2 of 12
    bed.rescore()
    assert bed.events(*ALARM_KINDS) == []
    assert bed.rows(RISKS, "band") == [{"band": "high"}]


def test_an_artefact_of_minutes_sounds_nothing_and_what_lasts_does_across_a_restart(bed):
    bed.register("p1")
    well, ill = {"spo2": 97.0, "respiratory_rate": 15.0}, {"spo2": 84.0, "respiratory_rate": 30.0}
    rates = {True: 135, False: 75}
    for minute in range(130):
        is_ill = 40 <= minute < 44 or minute >= 60
        bed.pass_(minutes=1)
        bed.send("p1", rates[is_ill], **(ill if is_ill else well))
        if minute == 80:
            bed.begin()  # restarted while the score holds
        bed.rescore()
        sounded = bed.events("alarm")
        if minute < 60 + 7 + 40:  # half of the median's minutes, then those for which the score has to hold
            assert sounded == [], minute
    assert sounded == [("alarm", "p1")]
    shown = [json.loads(row["body"]) for row in bed.rows(EVENTS) if row["kind"] == "risk"]
    assert any("momentary" in body["findings"] and body["band"] == "high" for body in shown)


def test_a_child_has_no_alarm_by_news2_and_an_episode_ends_with_what_is_learned_of_the_patient(bed):
    bed.champion.model = None
    bed.register("p1")
    bed.send("p1", 135, **SICK)
    bed.rescore()
    assert bed.events(*ALARM_KINDS) == [("alarm", "p1")]
    facts = dict.fromkeys(("sex", "unit_admitted_at", "hospital_admitted_at"))
    bed.journal.register([{"patient": "p1", "ward": "A", "discharged": False, "age": 2.0, **facts}])
    bed.rescore()
    assert bed.events(*ALARM_KINDS) == [("alarm", "p1"), ("alarm_ended", "p1")]
    (risk,) = bed.rows(RISKS)
    assert (risk["band"], risk["decided_by"]) == ("unknown", "nothing")
    assert "news2_not_for_children" in risk["findings"]


def test_an_alarm_of_the_net_is_open_again_whatever_was_done_about_the_models(bed):
    bed.register("p1")
    bed.send("p1", 170)
    bed.rescore()
    (alarm,) = bed.rows(ALARMS)
    bed.board.act(alarm["alarm_id"], "overridden", "nurse", "other", instant(bed.now))
    bed.pass_(minutes=10)
    bed.send("p1", 171, **SICK)
    bed.rescore()
    (after,) = bed.rows(ALARMS)
    assert (after["alarm_id"], after["sounded"], after["cause"]) == (alarm["alarm_id"], 2, "news2")
    assert (after["status"], after["acted_by"], after["reason"]) == ("open", None, None)
    assert [action["action"] for action in bed.board.alarm(alarm["alarm_id"])["actions"]] == ["overridden"]


def test_an_urgent_score_sounds_when_it_has_held_although_nothing_comes_any_more(bed):
    bed.register("p1")
    for minute in range(30):
        bed.pass_(minutes=1)
        values = (135, 84.0, 30.0) if minute >= 10 else (75, 97.0, 15.0)
        bed.send("p1", values[0], spo2=values[1], respiratory_rate=values[2])
        bed.rescore()
    assert bed.events("alarm") == []
    for _ in range(45):  # silence
        bed.pass_(minutes=1)
        bed.rescore()
    assert bed.events("alarm") == [("alarm", "p1")]
