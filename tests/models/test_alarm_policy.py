"""Alarms risk by risk: what sounds is what an evaluation counts, and an episode is one record, whatever a budget withholds."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.alarm_policy import REARM_SHARE, Episode, Policy, State, decide
from models.evaluation.alarms import SILENCE, Watch

START = datetime(2026, 2, 1, tzinfo=UTC)
POLICY = Policy.at(0.5)
LEVELS = st.sampled_from([0.1, 0.39, 0.4, 0.45, 0.5, 0.6, 0.9])  # around the threshold and the level where an episode ends
GAPS = st.sampled_from([1, 30, 60, 61, 240, 479, 480, 481, 900])  # minutes; the silence is 480
SERIES = st.lists(st.tuples(LEVELS, GAPS, st.booleans()), min_size=1, max_size=60)


def replayed(series, *, budget):
    """``(at, risk, event, state)`` of each risk in turn."""
    at, state, happened = START, State(), []
    for risk, gap, room in series:
        at += timedelta(minutes=gap)
        state, event = decide(POLICY, state, risk, at, room=room or not budget)
        happened.append((at, risk, event, state))
    return happened


def hours(*levels):
    """Events of hourly risks."""
    return [event for _, _, event, _ in replayed([(level, 60, True) for level in levels], budget=False)]


def test_the_silence_is_that_of_the_evaluation():
    assert POLICY.silence == SILENCE
    assert Policy.at(0.5).rearm == REARM_SHARE * 0.5


@settings(max_examples=300, deadline=None)
@given(SERIES)
def test_without_a_budget_what_sounds_is_what_the_evaluation_counts(series):
    happened = replayed(series, budget=False)
    frame = pd.DataFrame({"index_time": [at for at, *_ in happened], "probability": [risk for _, risk, *_ in happened]})
    frame["index_time"] = frame["index_time"].astype("datetime64[us, UTC]")
    frame = frame.assign(subject_id="a", onset=pd.Series(pd.NaT, frame.index, "datetime64[us, UTC]"), onset_known=True)
    fired = Watch.of(frame).fired(POLICY.threshold)
    assert [event in {"sounded", "sounded_again"} for *_, event, _ in happened] == fired.tolist()


@settings(max_examples=300, deadline=None)
@given(SERIES, st.booleans())
def test_an_episode_is_one_record_and_records_do_not_overlap(series, budget):
    records, under_way = [], None  # as whoever keeps them sees it: from events alone
    for at, risk, event, state in replayed(series, budget=budget):
        if event in {"sounded", "sounded_again", "withheld"} and under_way is None:
            under_way = {"opened_at": at, "sounded": 0}
            assert event != "sounded_again"
        elif event == "withheld":
            pytest.fail("withheld is said once an episode, when it opens")
        if event in {"sounded", "sounded_again"}:
            assert (event == "sounded") == (under_way["sounded"] == 0)
            assert risk >= POLICY.threshold
            under_way["sounded"] += 1
        if event == "ended":
            assert risk < POLICY.rearm
            records.append({**under_way, "ended_at": at})
            under_way = None
        assert state.episode == (Episode(**under_way) if under_way else None)
    for before, after in pairwise(records):
        assert before["ended_at"] < after["opened_at"]


@settings(max_examples=200, deadline=None)
@given(SERIES)
def test_no_two_alarms_sound_within_the_silence_and_none_beyond_the_budget(series):
    sounded = []
    for (at, _, event, state), (_, _, room) in zip(replayed(series, budget=True), series, strict=True):
        if event in {"sounded", "sounded_again"}:
            assert room
            assert not sounded or at - sounded[-1] >= SILENCE
            sounded.append(at)
        assert state.last_sounded_at == (sounded[-1] if sounded else None)


def test_a_risk_that_hovers_around_the_threshold_is_one_episode():
    assert hours(0.3, 0.5, 0.45, 0.5, 0.41, 0.6) == [None, "sounded", None, None, None, None]


def test_it_sounds_again_after_the_silence_and_ends_once():
    assert hours(*[0.6] * 10, 0.39, 0.1) == ["sounded", *[None] * 7, "sounded_again", None, "ended", None]


def test_an_episode_that_begins_within_the_silence_opens_when_it_may_sound():
    assert hours(0.6, 0.1, *[0.6] * 7) == ["sounded", "ended", *[None] * 6, "sounded"]


def test_what_was_withheld_sounds_once_there_is_room():
    state, first = decide(POLICY, State(), 0.7, START, room=False)
    state, second = decide(POLICY, state, 0.7, START + timedelta(hours=1), room=False)
    state, third = decide(POLICY, state, 0.7, START + timedelta(hours=2), room=True)
    assert (first, second, third) == ("withheld", None, "sounded")
    assert state == State(Episode(START, 1), START + timedelta(hours=2))
    assert decide(POLICY, state, 0.1, START + timedelta(hours=3)) == (State(None, START + timedelta(hours=2)), "ended")
