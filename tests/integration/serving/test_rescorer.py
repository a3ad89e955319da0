"""The rescorer: from observations to risks and alarms, on a clock that tests set, with and without restarts."""

import numpy as np
import pytest

from tests.support.fake_ward import PREDICTIONS, SICK, FakeWard, heart_rate_model
from vigil.models.alarms.policy import AlarmState, Policy, SafetyNetScore, decide
from vigil.serving.records.timestamps import instant
from vigil.serving.records.ward_tables import ALARMS, EVENTS, RISKS
from vigil.serving.scoring.subject_state import SubjectStates

ALARM_KINDS = ("alarm", "alarm_withheld", "alarm_ended")


@pytest.fixture
def ward(tmp_path):
    return FakeWard(tmp_path, heart_rate_model())


def budget(ward, per_day):
    (ward.home / "wards.toml").write_text(f"[default]\nalarms_per_patient_day = {per_day}\n")
    ward.restart()


def test_observation_becomes_a_risk(ward):
    ward.register("p1")
    ward.rescore()
    ward.wait(minutes=1)
    ward.send("p1", 110, spo2=97.0)
    assert ward.rescore() == 1
    (risk,) = ward.rows(RISKS)
    assert (risk["subject_id"], risk["ward"], risk["index_time"]) == ("p1", "A", ward.now)
    assert (risk["basis"], risk["probability"], risk["band"]) == ("model", pytest.approx(0.3), "medium")
    assert (risk["news2"], risk["latest_reading_at"], risk["threshold"]) == (1, ward.now, 0.5)
    assert (risk["model_name"], risk["model_version"]) == ("deterioration", "1")
    logged = [row for row in ward.rows(PREDICTIONS) if row["prediction_id"] == risk["prediction_id"]]
    assert [(row["origin"], row["probability"], row["index_time"]) for row in logged] == [
        ("rescorer", risk["probability"], ward.now)
    ]
    assert ward.online_store.rows["p1"]["index_time"] == instant(ward.now)
    assert ward.online_store.rows["p1"]["heart_rate_last_24h"] == 110
    assert ward.ward_state.progress() == (ward.now, instant(ward.now))
    assert ward.rescore() == 0


def test_observations_that_arrived_meanwhile_are_rescored_together(ward):
    for rate in range(60, 160, 10):
        ward.wait(seconds=1)
        ward.send("p1", rate)
        ward.send("p2", 70)
    assert ward.rescore() == 2
    risks = ward.rows(RISKS, "subject_id", "probability")
    assert risks == [
        {"subject_id": "p1", "probability": pytest.approx(0.5)},
        {"subject_id": "p2", "probability": pytest.approx(0.1)},
    ]
    assert len(ward.rows(PREDICTIONS)) == 2


def test_risk_event_is_sent_only_when_the_risk_moved(ward):
    ward.send_hourly("p1", 100, 100, 101, 102, 90)  # 0.25, .25, .255, .26: the same; .2 is another band
    assert ward.events() == [("risk", "p1"), ("risk", "p1")]
    # One vital sign is too little to call a patient low.
    assert [row["body"]["band"] for row in ward.rows(EVENTS)] == ["medium", "unknown"]


def test_episode_is_one_record_through_refractory_period_second_alarm_and_end(ward):
    budget(ward, 10)
    ward.register("p1")
    ward.rescore()
    rates = [150, 170, 145, 150, *[160] * 6, 140, 120, 150, *[160] * 8, 60]
    state, policy, expected = AlarmState(), Policy(0.5), []
    for rate in rates:
        ward.send_hourly("p1", rate)
        decision = decide(policy, state, (rate - 50) / 200, SafetyNetScore(3, 3), ward.time)
        state = decision.state
        expected += [decision.event] if decision.event else []
    assert expected == ["sounded", "sounded_again", "ended", "sounded", "ended"]
    assert ward.events(*ALARM_KINDS) == [
        *(("alarm", "p1"), ("alarm", "p1"), ("alarm_ended", "p1"), ("alarm", "p1"), ("alarm_ended", "p1"))
    ]
    first, second = ward.rows(ALARMS)
    assert (first["sounded"], second["sounded"]) == (2, 1)
    assert first["opened_at"] < first["last_sounded_at"] < first["ended_at"] < second["opened_at"] < second["ended_at"]
    assert (second["ward"], second["status"], second["basis"]) == ("A", "open", "model")
    names = [row["body"]["alarm_id"] for row in ward.rows(EVENTS) if row["kind"] in ALARM_KINDS]
    assert names == [first["alarm_id"]] * 3 + [second["alarm_id"]] * 2


def test_alarm_budget_withholds_an_alarm_which_sounds_when_there_is_room(ward):
    budget(ward, 0.1)  # one alarm a day among up to nineteen patients
    ward.register("p1", "p2")
    for patient in ("p1", "p2"):
        ward.send(patient, 170)
    ward.rescore()
    assert ward.events(*ALARM_KINDS) == [("alarm", "p1"), ("alarm_withheld", "p2")]
    assert [(row["subject_id"], row["sounded"], row["last_sounded_at"] is None) for row in ward.rows(ALARMS)] == [
        *(("p1", 1, False), ("p2", 0, True))
    ]
    for _ in range(23):
        ward.send_hourly("p2", 170)
    assert len(ward.events(*ALARM_KINDS)) == 2  # sent once
    ward.wait(minutes=1)
    ward.send_hourly("p2", 170)
    assert ward.events(*ALARM_KINDS)[2:] == [("alarm", "p2")]
    assert [(row["subject_id"], row["sounded"]) for row in ward.rows(ALARMS)] == [("p1", 1), ("p2", 1)]


def test_alarm_budget_is_of_each_ward(ward):
    budget(ward, 0.1)
    ward.register("p1", ward="A")
    ward.register("p2", ward="B")
    for patient in ("p1", "p2"):
        ward.send(patient, 170)
    ward.rescore()
    assert ward.events(*ALARM_KINDS) == [("alarm", "p1"), ("alarm", "p2")]


def test_alarm_budget_withholds_no_emergency(ward):
    budget(ward, 0.1)
    ward.register("p1", "p2", "p3")
    ward.send("p1", 170)
    ward.rescore()
    ward.send("p2", 170, **SICK)  # NEWS2 of 12
    ward.send("p3", 170, spo2=85.0)  # of 6
    ward.rescore()
    assert ward.events(*ALARM_KINDS) == [("alarm", "p1"), ("alarm", "p2"), ("alarm_withheld", "p3")]
    assert {row["subject_id"]: row["news2"] for row in ward.rows(RISKS)} == {"p1": 3, "p2": 12, "p3": 6}


def test_ward_threshold_is_in_force_soon_after_it_is_written(ward):
    ward.register("p1")
    ward.send_hourly("p1", 110)
    (ward.home / "wards.toml").write_text("[wards.A]\nthreshold = 0.3\n")
    ward.wait(seconds=2)
    ward.rescore()  # looks at the file
    ward.send_hourly("p1", 111)
    assert ward.events("alarm") == [("alarm", "p1")]
    assert ward.rows(RISKS)[0]["threshold"] == 0.3


def test_discharge_ends_monitoring_and_open_alarms(ward):
    ward.register("p1", "p2")
    for patient in ("p1", "p2"):
        ward.send(patient, 170)
    ward.rescore()
    ward.wait(minutes=1)
    ward.register("p1", discharged=True)
    ward.rescore()
    assert [row["subject_id"] for row in ward.rows(RISKS)] == ["p2"]
    assert {row["subject_id"]: row["ended_at"] for row in ward.rows(ALARMS)} == {"p1": ward.now, "p2": None}
    assert ward.events()[-2:] == [("alarm_ended", "p1"), ("left", "p1")]
    ward.send_hourly("p1", 175)  # a device that was left on
    assert len(ward.rows(ALARMS)) == 2
    assert [row["subject_id"] for row in ward.rows(RISKS)] == ["p2"]
    ward.wait(hours=9)
    ward.register("p1")  # back again
    ward.send("p1", 170)
    ward.rescore()
    assert [(row["subject_id"], row["ended_at"] is None) for row in ward.rows(ALARMS)].count(("p1", True)) == 1


def test_open_alarm_moves_with_its_patient_to_another_ward(ward):
    ward.register("p1", ward="A")
    ward.send("p1", 170)
    ward.rescore()
    ward.wait(minutes=5)
    ward.register("p1", ward="B")
    ward.rescore()
    (alarm,) = ward.rows(ALARMS, "ward", "sounded", "ended_at")
    assert alarm == {"ward": "B", "sounded": 1, "ended_at": None}
    events = [(row["ward"], row["kind"]) for row in ward.rows(EVENTS)]
    assert events == [("A", "risk"), ("A", "alarm"), ("A", "left"), ("B", "alarm_moved"), ("B", "risk")]


def test_silence_event_is_sent_once_after_twelve_hours(ward):
    budget(ward, 10)
    ward.register("p1")
    ward.send("p1", 170)
    ward.rescore()
    silent_at = None
    for hour in range(1, 40):
        ward.wait(hours=1, seconds=1)
        ward.rescore()
        if ("silent", "p1") in ward.events() and silent_at is None:
            silent_at = hour
    assert silent_at == 12
    assert ward.events("silent") == [("silent", "p1")]
    (risk,) = ward.rows(RISKS)
    assert (risk["basis"], risk["probability"], risk["latest_reading_at"]) == ("news2", None, None)  # none for a day
    (alarm,) = ward.rows(ALARMS)
    assert alarm["ended_at"] is None  # silence of a device ends no alarm
    assert alarm["sounded"] == 1 + 2  # after 8 and 16 hours; beyond a day nothing speaks for a risk
    ward.send("p1", 60)
    ward.rescore()
    assert ward.events("alarm_ended") == [("alarm_ended", "p1")]


def test_silence_event_repeats_after_each_gap(ward):
    for _ in range(3):
        ward.send("p1", 100)
        ward.rescore()
        for _ in range(14):
            ward.wait(hours=1, seconds=1)
            ward.rescore()
    assert ward.events("silent") == [("silent", "p1")] * 3


def test_risk_of_a_silent_patient_is_renewed_every_hour(ward):
    ward.send("p1", 100)
    ward.rescore()
    seen = set()
    for _ in range(120):
        ward.wait(minutes=1)
        ward.rescore()
        seen |= {row["index_time"] for row in ward.rows(RISKS)}
    assert len(seen) == 2  # that of the observation, and one an hour later


def test_rescorer_without_a_model_uses_news2(tmp_path):
    ward = FakeWard(tmp_path)
    ward.register("p1", "p2")
    ward.send("p1", 135, **SICK)
    ward.send("p2", 135)
    ward.rescore()
    (alarm,) = ward.rows(ALARMS)
    assert (alarm["subject_id"], alarm["basis"], alarm["probability"], alarm["news2"]) == ("p1", "news2", None, 12)
    assert alarm["model_name"] is alarm["model_version"] is None
    assert {row["subject_id"]: (row["basis"], row["threshold"]) for row in ward.rows(RISKS)} == {
        "p1": ("news2", None),
        "p2": ("news2", None),
    }


def test_new_champion_takes_over_between_two_risks(ward):
    budget(ward, 10)
    ward.register("p1", "p2")
    for patient in ("p1", "p2"):
        ward.send(patient, 170)
    ward.rescore()
    ward.champion.model = heart_rate_model("2")
    ward.send_hourly("p1", 175)
    assert {row["subject_id"]: row["model_version"] for row in ward.rows(RISKS)} == dict.fromkeys(["p1", "p2"], "2")
    assert [row["sounded"] for row in ward.rows(ALARMS)] == [1, 1]  # the episode is the same
    ward.send_hourly("p1", 60)
    (ended,) = [row for row in ward.rows(ALARMS) if row["ended_at"]]
    assert (ended["subject_id"], ended["model_version"]) == ("p1", "1")  # of the risk that opened it


def test_new_model_goes_on_with_the_alarms_of_news2(tmp_path):
    ward = FakeWard(tmp_path)
    ward.register("p1")
    ward.send("p1", 170, **SICK)
    ward.rescore()
    ward.champion.model = heart_rate_model()
    ward.send_hourly("p1", 172)
    (alarm,) = ward.rows(ALARMS)
    assert (alarm["basis"], alarm["sounded"]) == ("news2", 1)
    assert ward.rows(RISKS)[0]["basis"] == "model"


# Killed at any step


def course(ward, seed, between):
    """Some days of a few patients; ``between`` happens before each rescoring."""
    generator = np.random.default_rng(seed)
    (ward.home / "wards.toml").write_text("[wards.A]\nalarms_per_patient_day = 0.1\n[wards.B]\nalarms_per_patient_day = 5\n")
    ward.restart()
    patients = ["p1", "p2", "p3", "p4"]
    ward.register("p1", "p2", ward="A")
    ward.register("p3", ward="B")
    for step in range(36):
        ward.wait(minutes=int(generator.choice([2, 31, 61, 200, 500])))
        for patient in generator.permutation(patients)[: generator.integers(0, 4)]:
            others = SICK if generator.random() < 0.15 else {}
            ward.send(str(patient), int(generator.choice([80, 130, 135, 150, 170])), **others)
        if generator.random() < 0.08:
            to, discharged = str(generator.choice(["A", "B"])), bool(generator.random() < 0.3)
            ward.register(str(generator.choice(patients)), ward=to, discharged=discharged)
        if step == 18:
            ward.champion.model = heart_rate_model("2")
        between(ward, generator)
        ward.rescore()
    return ward


def outcome(ward, *, to_the_second=False):
    """Return what was committed and logged. The risk of a silent patient is of the present, so one made again is later."""

    def time(value):
        return value // 1_000_000 if to_the_second and value is not None else value

    alarms = [{name: time(v) if name.endswith("_at") else v for name, v in row.items()} for row in ward.rows(ALARMS)]
    ids = {} if to_the_second else dict.fromkeys(("alarm_id", "prediction_id"))
    alarms = [{name: v for name, v in row.items() if name not in {"alarm_id", "prediction_id"} - ids.keys()} for row in alarms]
    events = [
        (row["kind"], row["subject_id"], row["ward"], time(row["at"])) for row in ward.rows(EVENTS) if row["kind"] != "risk"
    ]
    logged = {(row["subject_id"], row["index_time"] // 1_000_000, row["probability"]) for row in ward.rows(PREDICTIONS)}
    risks = [(row["subject_id"], row["ward"], time(row["index_time"]), row["probability"]) for row in ward.rows(RISKS)]
    return {"alarms": alarms, "events": events, "logged": logged, "risks": risks}


@pytest.mark.parametrize("seed", range(2))
def test_restart_at_every_step_gives_the_same_alarms(tmp_path, seed):
    never = outcome(course(FakeWard(tmp_path / "never", heart_rate_model()), seed, lambda *_: None))
    always = outcome(course(FakeWard(tmp_path / "always", heart_rate_model()), seed, lambda ward, _: ward.restart()))
    assert len(never["alarms"]) > 3
    assert {kind for kind, *_ in never["events"]} >= {"alarm", "alarm_ended"}
    for part, rows in never.items():
        assert always[part] == rows, part


@pytest.mark.parametrize("seed", range(1))
@pytest.mark.parametrize("where", ["features", "log", "ward_state", "online_store"])
def test_killed_within_a_step_the_step_is_repeated_and_nothing_is_sent_twice(tmp_path, monkeypatch, seed, where):
    """Killed after reading, after the log or after the commit of the ward state: the next rescorer continues."""

    class Killed(BaseException):
        pass

    def kill(ward, _):
        def dies(*_, **__):
            raise Killed

        def does_and_dies(method):
            def both(*arguments, **named):
                method(*arguments, **named)
                raise Killed

            return both

        owner, name = {
            "features": (SubjectStates, "features"),
            "log": (ward.log, "append"),
            "ward_state": (ward.ward_state, "commit"),
            "online_store": (ward.online_store, "put"),
        }[where]
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, dies if where in {"features", "online_store"} else does_and_dies(getattr(owner, name)))
            try:
                ward.rescore()
            except Killed:
                ward.restart()

    never, killed = FakeWard(tmp_path / "never", heart_rate_model()), FakeWard(tmp_path / "killed", heart_rate_model())
    expected = outcome(course(never, seed, lambda *_: None), to_the_second=True)
    assert outcome(course(killed, seed, kill), to_the_second=True) == expected


def test_failed_commit_is_tried_again(ward, monkeypatch):
    monkeypatch.setattr("vigil.serving.stream.rescorer._RETRY_SECONDS", 0)
    commit, left = ward.ward_state.commit, [3]

    def fails_at_first(*arguments, **named):
        left[0] -= 1
        if left[0] >= 0:
            raise OSError
        commit(*arguments, **named)

    monkeypatch.setattr(ward.ward_state, "commit", fails_at_first)
    ward.send("p1", 170)
    ward.rescorer.run(stopped=lambda: bool(ward.rows(RISKS)))
    assert ward.events("alarm") == [("alarm", "p1")]
    assert len(ward.rows(PREDICTIONS)) == 1


# The safety net


def test_safety_net_sounds_at_news2_of_7_despite_low_risk_and_spent_budget(ward):
    budget(ward, 0.1)
    ward.register("p1", "p2")
    ward.send("p1", 170)
    ward.rescore()  # spends the budget
    ward.send("p2", 60, **SICK, consciousness=1.0)
    ward.rescore()
    assert ward.events(*ALARM_KINDS) == [("alarm", "p1"), ("alarm", "p2")]
    body = [row for row in ward.rows(EVENTS) if row["kind"] == "alarm"][-1]["body"]
    assert (body["cause"], body["reasons"], body["decided_by"]) == ("news2", ["news2_7_or_more", "news2_single_3"], "news2")
    assert (body["probability"], body["band"]) == (pytest.approx(0.05), "high")
    alarm = ward.rows(ALARMS)[-1]
    assert (alarm["cause"], alarm["reasons"]) == ("news2", ["news2_7_or_more", "news2_single_3"])


def test_safety_net_limit_can_be_changed_in_writing(ward):
    text = '[wards.H1.safety_net]\nalarm_from = 15\nbecause = "hospice, goals of care agreed"\n'
    (ward.home / "wards.toml").write_text(text)
    ward.restart()
    ward.register("p1", ward="H1")
    ward.send("p1", 60, **SICK, consciousness=1.0)  # NEWS2 of 12
    ward.rescore()
    assert ward.events(*ALARM_KINDS) == []
    assert ward.rows(RISKS, "band") == [{"band": "high"}]


def test_safety_net_ignores_an_artefact_of_minutes_and_sounds_for_what_lasts_across_a_restart(ward):
    ward.register("p1")
    well, ill = {"spo2": 97.0, "respiratory_rate": 15.0}, {"spo2": 84.0, "respiratory_rate": 30.0}
    rates = {True: 135, False: 75}
    for minute in range(130):
        is_ill = 40 <= minute < 44 or minute >= 60
        ward.wait(minutes=1)
        ward.send("p1", rates[is_ill], **(ill if is_ill else well))
        if minute == 80:
            ward.restart()  # restarted while the score holds
        ward.rescore()
        sounded = ward.events("alarm")
        if minute < 60 + 7 + 40:  # half of the median's minutes, then those for which the score has to hold
            assert sounded == [], minute
    assert sounded == [("alarm", "p1")]
    shown = [row["body"] for row in ward.rows(EVENTS) if row["kind"] == "risk"]
    assert any("momentary" in body["findings"] and body["band"] == "high" for body in shown)


def test_safety_net_does_not_apply_to_a_child_and_the_episode_ends_when_the_age_is_known(ward):
    ward.champion.model = None
    ward.register("p1")
    ward.send("p1", 135, **SICK)
    ward.rescore()
    assert ward.events(*ALARM_KINDS) == [("alarm", "p1")]
    ward.register("p1", age=2.0)
    ward.rescore()
    assert ward.events(*ALARM_KINDS) == [("alarm", "p1"), ("alarm_ended", "p1")]
    (risk,) = ward.rows(RISKS)
    assert (risk["band"], risk["decided_by"]) == ("unknown", "nothing")
    assert "news2_not_for_children" in risk["findings"]


def test_safety_net_reopens_an_alarm_of_the_model_that_was_overridden(ward):
    ward.register("p1")
    ward.send("p1", 170)
    ward.rescore()
    (alarm,) = ward.rows(ALARMS)
    ward.ward_state.record_action(alarm["alarm_id"], "overridden", "nurse", "other", instant(ward.now))
    ward.wait(minutes=10)
    ward.send("p1", 171, **SICK)
    ward.rescore()
    (after,) = ward.rows(ALARMS)
    assert (after["alarm_id"], after["sounded"], after["cause"]) == (alarm["alarm_id"], 2, "news2")
    assert (after["status"], after["acted_by"], after["reason"]) == ("open", None, None)
    assert [action.action for action in ward.ward_state.alarm(alarm["alarm_id"]).actions] == ["overridden"]


def test_safety_net_sounds_when_the_score_has_held_although_nothing_arrives(ward):
    ward.register("p1")
    for minute in range(30):
        ward.wait(minutes=1)
        values = (135, 84.0, 30.0) if minute >= 10 else (75, 97.0, 15.0)
        ward.send("p1", values[0], spo2=values[1], respiratory_rate=values[2])
        ward.rescore()
    assert ward.events("alarm") == []
    for _ in range(45):  # silence
        ward.wait(minutes=1)
        ward.rescore()
    assert ward.events("alarm") == [("alarm", "p1")]


@pytest.mark.parametrize("value", [None, 80.0])
def test_alarm_whose_basis_is_retracted_says_so_and_the_patient_is_rescored_at_once(ward, value):
    ward.register("p1", "p2")
    ward.send("p2", 80)
    ward.send_hourly("p1", 80)
    before = ward.rows(PREDICTIONS, "prediction_id", "probability", "features")
    ward.wait(hours=1)
    ward.send("p1", 170)
    wrong, at = f"m{ward.messages}", ward.time
    ward.rescore()
    (alarm,) = ward.rows(ALARMS)
    assert (alarm["sounded"], alarm["basis_retracted_at"]) == (1, None)
    given = ward.rows(PREDICTIONS, "prediction_id", "probability")
    ward.wait(minutes=10)
    assert ward.revise(wrong, "heart_rate", value, at).status == "accepted"
    ward.rescore()
    (alarm,) = ward.rows(ALARMS)
    assert alarm["basis_retracted_at"] == ward.now
    assert alarm["ended_at"] == ward.now  # the risk that is left is low
    assert ward.events("alarm_basis_retracted") == [("alarm_basis_retracted", "p1")]
    risks = {row["subject_id"]: row for row in ward.rows(RISKS)}
    assert risks["p1"]["probability"] == before[-1]["probability"]
    assert ward.rows(PREDICTIONS, "prediction_id", "probability")[: len(given)] == given  # what was given stays
    ward.wait(minutes=10)
    assert ward.revise("m1", "heart_rate", 90.0, at, patient="p2").status == "accepted"  # no alarm of theirs is open
    ward.rescore()
    assert ward.events("alarm_basis_retracted") == [("alarm_basis_retracted", "p1")]


def test_correction_of_what_came_after_an_alarm_does_not_mark_it(ward):
    ward.register("p1")
    ward.send_hourly("p1", 170)
    ward.wait(minutes=30)
    ward.send("p1", 171)
    ward.rescore()
    ward.revise(f"m{ward.messages}", "heart_rate", 169.0, ward.time)
    ward.rescore()
    (alarm,) = ward.rows(ALARMS)
    assert alarm["basis_retracted_at"] is None
