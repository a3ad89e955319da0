"""Terms of a patient: their policy, their limits at the edge, and how often a limit sounds."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from vigil.models.alarms.patient_terms import PatientTerms, SignalLimits, find_breaches
from vigil.models.alarms.policy import AlarmState, Policy, decide, limit_name
from vigil.models.bedside import COMPONENTS, Component

START = datetime(2026, 2, 1, tzinfo=UTC)
ABOVE, BELOW = limit_name("heart_rate", "above", 130), limit_name("spo2", "below", 85)


def terms(**changes):
    return PatientTerms(recorded_at=10, by="dr", because="for this patient", **changes)


def breaches(value, hours=0.0, *, is_expired=False, **limits):
    components = dict.fromkeys(COMPONENTS, Component(None))
    components["heart_rate"] = Component(0, value, hours, is_expired)
    found = find_breaches(components, 4_000_000_000, terms(limits={"heart_rate": SignalLimits(**limits)}))
    return [(breach.name, breach.limit, breach.observed_at) for breach in found]


def events_of(*bounds, gap=60):
    """Return event and cause of risks at which some limits are reached, minutes apart."""
    at, state, events = START, AlarmState(), []
    for names in bounds:
        at += timedelta(minutes=gap)
        decision = decide(Policy(0.5), state, 0.1, None, at, bounds=names)
        state = decision.state
        events.append((decision.event, decision.cause))
    return events


@pytest.mark.parametrize(("value", "count"), [(129.99, 0), (130, 1), (131, 1), (45.01, 0), (45, 1), (44, 1)])
def test_limit_is_reached_at_its_edge(value, count):
    assert len(breaches(value, low=45, high=130)) == count


def test_breach_tells_which_limit_and_when_the_value_was_observed():
    assert breaches(140, hours=1, low=45, high=130) == [(ABOVE, 130, 400_000_000)]
    assert breaches(140, hours=float(np.float32(5 / 60)), high=130) == [(ABOVE, 130, 3_700_000_000)]  # ages are float32


def test_unknown_or_expired_value_reaches_no_limit():
    assert breaches(None, hours=None, high=130) == []
    assert breaches(140, hours=13, is_expired=True, high=130) == []


def test_terms_hold_from_their_recording_until_their_end():
    assert [terms(until=20).hold_at(time) for time in (9, 10, 19, 20)] == [False, True, True, False]
    assert terms().hold_at(10**15)


def test_policy_of_a_patient_replaces_what_their_terms_say():
    ward = Policy(0.5, timedelta(hours=4), 7)
    assert terms(alarm_threshold=0.3, news2_alarm_from=9).own_policy(ward) == Policy(0.3, timedelta(hours=4), 9)
    assert terms().own_policy(ward) == ward
    assert terms(alarm_threshold=0.3).own_policy(Policy(None)).threshold is None  # no model


def test_limit_sounds_once_in_the_refractory_period_however_often_the_value_crosses_it():
    sounded, *others = events_of((ABOVE,), (), (ABOVE,), (), (ABOVE,), gap=5)
    assert sounded == ("sounded", "patient_limit")
    assert {event for event, _ in others} <= {"ended", None}
    later = events_of((ABOVE,), (ABOVE,), gap=481)
    assert later == [("sounded", "patient_limit"), ("sounded_again", "patient_limit")]


def test_another_limit_sounds_in_the_same_episode():
    events = events_of((ABOVE,), (ABOVE, BELOW), (ABOVE,), (ABOVE, BELOW), gap=5)
    assert events == [("sounded", "patient_limit"), ("sounded_again", "patient_limit"), (None, None), (None, None)]


def test_limit_that_no_alarm_was_about_sounds_at_once_whatever_has_sounded_before():
    other = limit_name("heart_rate", "above", 120)  # new terms
    assert events_of((ABOVE,), (), (other,), gap=5)[2] == ("sounded", "patient_limit")
    assert events_of((ABOVE,), (), (BELOW,), gap=5)[2] == ("sounded", "patient_limit")
    by_model = decide(Policy(0.5), AlarmState(), 0.9, None, START)
    ended = decide(Policy(0.5), by_model.state, 0.1, None, START + timedelta(minutes=5))
    reached = decide(Policy(0.5), ended.state, 0.1, None, START + timedelta(minutes=10), bounds=(ABOVE,))
    assert (by_model.event, ended.event, reached.event, reached.cause) == ("sounded", "ended", "sounded", "patient_limit")


def test_episode_of_a_limit_goes_on_while_nothing_is_known():
    opened = decide(Policy(0.2), AlarmState(), 0.1, None, START, bounds=(ABOVE,))
    open_by_model = decide(Policy(0.2), opened.state, 0.19, None, START + timedelta(hours=1))
    silent = decide(Policy(0.2), open_by_model.state, None, None, START + timedelta(hours=14))
    assert (open_by_model.event, silent.event) == (None, None)


def test_critical_bound_does_not_wait_for_a_limit():
    events = events_of((ABOVE,), (ABOVE, "glucose_below_range"), gap=5)
    assert events[1] == ("sounded_again", "critical_bound")
