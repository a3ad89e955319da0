"""The alarm policy: it sounds what an evaluation counts, an episode is one record, and NEWS2 of 7 always sounds."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vigil.models.alarms.policy import REARM_SHARE, AlarmState, Decision, Episode, Policy, SafetyNetScore, decide
from vigil.models.alarms.safety_net import ALARM_FROM, ENDS_BELOW, HOLDS_FOR
from vigil.models.alarms.timeline import REFRACTORY_PERIOD, AlarmTimeline

START = datetime(2026, 2, 1, tzinfo=UTC)
POLICY = Policy(0.5)
LEVELS = st.sampled_from([None, 0.1, 0.39, 0.4, 0.45, 0.5, 0.6, 0.9])  # around the threshold and where an episode ends
# Around the limits of the safety net: of spot checks, of continuous signals, and of both.
SCORES = st.sampled_from(
    [
        None,
        SafetyNetScore(0, 0),
        SafetyNetScore(4, 0),
        SafetyNetScore(5, 5),
        SafetyNetScore(6, 3),
        SafetyNetScore(7, 7),
        SafetyNetScore(7, 0),
        SafetyNetScore(12, 3),
        SafetyNetScore(12, 8),
    ]
)
GAPS = st.sampled_from([1, 30, 60, 61, 240, 479, 480, 481, 900])  # minutes; the refractory period is 480
SERIES = st.lists(st.tuples(LEVELS, SCORES, GAPS, st.booleans()), min_size=1, max_size=60)
SOUNDED = {"sounded", "sounded_again"}


def spot(score):
    return SafetyNetScore(score, score)


def decide_in_turn(series, *, budget, policy=POLICY):
    """Return ``(at, risk, net, decision)`` of each risk in turn."""
    at, state, results = START, AlarmState(), []
    for risk, net, gap, room in series:
        at += timedelta(minutes=gap)
        decision = decide(policy, state, risk, net, at, room=room or not budget)
        state = decision.state
        results.append((at, risk, net, decision))
    return results


def events_of_risks(*levels):
    """Return the events of hourly risks."""
    return [decision.event for *_, decision in decide_in_turn([(level, spot(0), 60, True) for level in levels], budget=False)]


def events_of_scores(*scores, risk=0.1):
    """Return the events of hourly scores with a low risk."""
    return [
        decision.event for *_, decision in decide_in_turn([(risk, spot(score), 60, False) for score in scores], budget=True)
    ]


def timeline_of(results):
    frame = pd.DataFrame({"index_time": [at for at, *_ in results]}).astype({"index_time": "datetime64[us, UTC]"})
    frame["probability"] = [np.nan if risk is None else risk for _, risk, *_ in results]
    for name in ("score", "spot"):
        frame[f"net_{name}"] = [np.nan if net is None else getattr(net, name) for _, _, net, _ in results]
    return AlarmTimeline.from_frame(
        frame.assign(subject_id="a", onset=pd.Series(pd.NaT, frame.index, "datetime64[us, UTC]"), onset_known=True)
    )


def test_policy_has_the_refractory_period_of_the_evaluation():
    assert POLICY.refractory_period == REFRACTORY_PERIOD
    assert POLICY.rearm == REARM_SHARE * 0.5
    assert Policy(None).rearm is None


@settings(max_examples=400, deadline=None)
@given(SERIES, st.sampled_from([1, 4, 8]), st.sampled_from([6, 7, 12]))
def test_decide_without_a_budget_sounds_the_alarms_that_the_timeline_counts(series, silence, news2_from):
    policy = Policy(0.5, timedelta(hours=silence), news2_from)
    results = decide_in_turn(series, budget=False, policy=policy)
    timeline = replace(timeline_of(results), refractory_period=policy.refractory_period, news2_from=policy.news2_from)
    fired = timeline.alarms_at(policy.threshold)
    assert [decision.event in SOUNDED for *_, decision in results] == fired.tolist()


@settings(max_examples=400, deadline=None)
@given(SERIES, st.booleans())
def test_decide_always_sounds_an_alarm_for_an_emergency_by_news2_whatever_model_and_budget(series, model):
    since = None
    for at, risk, net, decision in decide_in_turn(series, budget=True, policy=POLICY if model else Policy(None)):
        if net is not None and net.score >= ALARM_FROM:
            since = since or at
            if net.spot >= ALARM_FROM or at - since >= HOLDS_FOR:  # without any dip
                assert decision.state.episode is not None
                assert decision.state.episode.sounded >= 1
                assert decision.state.episode.emergency
        elif net is not None or risk is not None:
            since = None


@settings(max_examples=300, deadline=None)
@given(SERIES, st.booleans())
def test_decide_makes_one_record_per_episode_and_records_do_not_overlap(series, budget):
    records, open_episode = [], None  # as rebuilt from the events alone
    for at, risk, net, decision in decide_in_turn(series, budget=budget):
        event, state = decision.event, decision.state
        assert (decision.cause is not None) == (event in {*SOUNDED, "withheld"})
        if event in {*SOUNDED, "withheld"} and open_episode is None:
            open_episode = {"opened_at": at, "sounded": 0}
            assert event != "sounded_again"
        elif event == "withheld":
            pytest.fail("an alarm is recorded as withheld once per episode, when it opens")
        if event in SOUNDED:
            assert (event == "sounded") == (open_episode["sounded"] == 0)
            reached = net.score >= ALARM_FROM if decision.cause == "news2" else risk >= POLICY.threshold
            assert reached
            open_episode["sounded"] += 1
        if event == "ended":
            assert risk is None or risk < POLICY.rearm
            assert net is None or net.score < ALARM_FROM
            records.append({**open_episode, "ended_at": at})
            open_episode = None
        if risk is None and net is None:
            assert event is None
        assert (state.episode is None) == (open_episode is None)
        if open_episode:
            assert (state.episode.opened_at, state.episode.sounded) == (open_episode["opened_at"], open_episode["sounded"])
    for before, after in pairwise(records):
        assert before["ended_at"] < after["opened_at"]


@settings(max_examples=200, deadline=None)
@given(SERIES)
def test_decide_keeps_refractory_period_and_budget_for_alarms_of_the_model(series):
    last = None
    for (at, _, _, decision), (_, _, _, room) in zip(decide_in_turn(series, budget=True), series, strict=True):
        if decision.event in SOUNDED:
            if decision.cause == "model":
                assert room
                assert last is None or at - last >= REFRACTORY_PERIOD
            last = at
        assert decision.state.last_sounded_at == last


def test_episode_lasts_while_a_risk_hovers_around_the_threshold():
    assert events_of_risks(0.3, 0.5, 0.45, 0.5, 0.41, 0.6) == [None, "sounded", None, None, None, None]


def test_alarm_sounds_again_after_the_refractory_period_and_the_episode_ends_once():
    assert events_of_risks(*[0.6] * 10, 0.39, 0.1) == ["sounded", *[None] * 7, "sounded_again", None, "ended", None]


def test_episode_that_begins_within_the_refractory_period_opens_after_it():
    assert events_of_risks(0.6, 0.1, *[0.6] * 7) == ["sounded", "ended", *[None] * 6, "sounded"]


def test_withheld_alarm_sounds_as_soon_as_there_is_room():
    state, decisions = AlarmState(), []
    for hour, room in enumerate([False, False, True]):
        decisions.append(decide(POLICY, state, 0.7, spot(0), START + timedelta(hours=hour), room=room))
        state = decisions[-1].state
    assert [decision.event for decision in decisions] == ["withheld", None, "sounded"]
    assert state == AlarmState(Episode(START, 1), START + timedelta(hours=2))
    ended = decide(POLICY, state, 0.1, spot(0), START + timedelta(hours=3))
    assert ended == Decision(AlarmState(None, START + timedelta(hours=2)), "ended")


def test_safety_net_sounds_at_once_for_news2_of_7_with_a_low_risk_and_a_spent_budget():
    assert events_of_scores(6, 7, 8) == [None, "sounded", None]


def test_episode_of_the_safety_net_lasts_while_news2_hovers_around_7_and_ends_below_5():
    assert events_of_scores(7, 6, 7, 5, 7, 4, 7) == ["sounded", None, None, None, None, "ended", "sounded"]


def test_safety_net_sounds_within_the_refractory_period_of_the_model():
    results = decide_in_turn([(0.6, spot(3), 60, True), (0.6, spot(7), 60, True), (0.6, spot(8), 60, True)], budget=True)
    assert [(decision.event, decision.cause) for *_, decision in results] == [
        ("sounded", "model"), ("sounded_again", "news2"), (None, None),
    ]  # fmt: skip


def test_episode_of_the_safety_net_goes_on_with_a_high_risk_of_the_model():
    results = decide_in_turn([(0.1, spot(7), 60, True), (0.6, spot(4), 60, True), (0.1, spot(4), 60, True)], budget=False)
    assert [decision.event for *_, decision in results] == ["sounded", None, "ended"]


def test_silent_devices_neither_sound_nor_end_an_alarm():
    results = decide_in_turn([(None, None, 60, True), (0.6, spot(7), 60, True), (None, None, 900, True)], budget=False)
    assert [decision.event for *_, decision in results] == [None, "sounded", None]
    assert results[-1][-1].state.episode is not None


def test_news2_decides_alone_without_a_risk_of_the_model():
    results = decide_in_turn([(0.6, spot(6), 60, True), (None, spot(5), 60, True), (None, spot(4), 60, True)], budget=False)
    assert [decision.event for *_, decision in results] == ["sounded", None, "ended"]
    assert ENDS_BELOW == 5


def test_policy_can_move_the_limit_of_the_safety_net():
    results = decide_in_turn(
        [(0.1, spot(score), 60, True) for score in (7, 8, 9)], budget=True, policy=Policy(0.5, news2_from=9)
    )
    assert [decision.event for *_, decision in results] == [None, None, "sounded"]


def first_alarm_minute(*scores_and_minutes):
    """Return the minute at which the net first sounds for continuous signals, assessed each minute; None if it does not."""
    series = [(0.1, SafetyNetScore(score, 2), 1, True) for score, minutes in scores_and_minutes for _ in range(minutes)]
    events = [decision.event for *_, decision in decide_in_turn(series, budget=True)]
    return events.index("sounded") if "sounded" in events else None


def test_safety_net_sounds_for_continuous_signals_when_news2_has_held():
    assert timedelta(minutes=40) == HOLDS_FOR
    assert first_alarm_minute((7, 60)) == 40
    assert first_alarm_minute((7, 39), (6, 20), (3, 100)) is None


def test_hold_survives_a_dip_of_minutes_and_restarts_after_a_longer_one():
    assert first_alarm_minute((7, 20), (6, 5), (7, 60)) == 40
    assert first_alarm_minute((7, 20), (6, 7), (7, 60)) == 27 + 40
    assert first_alarm_minute((7, 20), (4, 1), (7, 60)) == 21 + 40
    assert first_alarm_minute(*[(7, 19), (6, 1)] * 6) == 40  # a score that hovers


def test_safety_net_does_not_wait_for_a_spot_check_among_continuous_signals():
    minutes = [(0.1, SafetyNetScore(9, 2), 10, True), (0.1, SafetyNetScore(9, 7), 10, True)]
    assert [decision.event for *_, decision in decide_in_turn(minutes, budget=True)] == [None, "sounded"]
