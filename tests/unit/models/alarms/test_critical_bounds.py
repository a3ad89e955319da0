"""Critical bounds: which are, when one stands, and what they sound."""

from datetime import UTC, datetime, timedelta

import pytest

from vigil.features.scores import NEWS2_BANDS, assign_points
from vigil.features.signals import BOUNDS
from vigil.features.units import CONVERSIONS
from vigil.models.alarms.critical_bounds import CRITICAL_LIMITS, STANDS_US, Bound, applies, is_critical, standing_bounds
from vigil.models.alarms.policy import AlarmState, Policy, SafetyNetScore, decide

MINUTE = 60_000_000
LOW, HIGH = "glucose_below_range", "glucose_above_range"
START = datetime(2026, 2, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("name", "limit", "expected"),
    [
        (LOW, 40, True),
        (LOW, 54, True),
        (LOW, 55, False),
        (HIGH, 400, True),
        (HIGH, 249, False),
        ("spo2_below_range", 91, True),
        ("spo2_below_range", 92, False),
        ("spo2_above_range", 99, False),
        ("body_temperature_below_range", 35, True),
        ("body_temperature_above_range", 42, False),
        ("troponin_t_below_range", 0.01, False),
    ],
)
def test_bound_is_critical_if_all_that_it_leaves_possible_is(name, limit, expected):
    assert is_critical(name, limit) is expected


def test_critical_limits_are_those_of_their_sources():
    assert CRITICAL_LIMITS[LOW] == CONVERSIONS["glucose"]["mmol/L"].convert(3.0, 100)
    for signal in ("spo2", "body_temperature"):
        limit = CRITICAL_LIMITS[f"{signal}_below_range"]
        assert assign_points(NEWS2_BANDS[signal], [limit, limit + 0.6]).tolist() == [3, 1 if signal != "spo2" else 2]
    assert set(CRITICAL_LIMITS) <= set(BOUNDS)


def test_limits_of_news2_count_where_news2_applies():
    assert [applies(Bound("spo2_below_range", 70, 0), news2=news2) for news2 in (True, False)] == [True, False]
    assert applies(Bound(LOW, 40, 0), news2=False)


@pytest.mark.parametrize(
    ("values", "stands"),
    [
        ([], True),
        ([("glucose", 5 * MINUTE, 90.0)], False),
        ([("glucose", 5 * MINUTE, 45.0)], True),
        ([("glucose", 5 * MINUTE, 45.0), ("glucose", 6 * MINUTE, 60.0)], False),
        ([("glucose", -5 * MINUTE, 90.0), ("glucose", 0, 90.0)], True),  # observed before, or at once: the worse counts
        ([("heart_rate", 5 * MINUTE, 90.0)], True),
    ],
)
def test_bound_stands_until_a_later_value_that_is_not_critical(values, stands):
    low = Bound(LOW, 40, 0)
    assert standing_bounds([low], values, 10 * MINUTE) == ((low,) if stands else ())


def test_bound_stands_until_the_other_side_and_for_a_day_at_most():
    low, high = Bound(LOW, 40, 0), Bound(HIGH, 400, 5 * MINUTE)
    assert standing_bounds([low, high], [], 10 * MINUTE) == (high,)
    assert standing_bounds([low], [], STANDS_US - 1) == (low,)
    assert standing_bounds([low], [], STANDS_US) == ()
    assert standing_bounds([Bound("lactate_above_range", 15, 0)], [("lactate", 1, 16.0)], 10) == ()


def events(*steps):
    """Return event and cause of steps: risk, NEWS2, bounds and minutes since the step before."""
    state, at, found = AlarmState(), START, []
    for risk, score, bounds, minutes in steps:
        at += timedelta(minutes=minutes)
        net = None if score is None else SafetyNetScore(score, score)
        decision = decide(Policy(0.5), state, risk, net, at, bounds=bounds, room=False)
        state = decision.state
        found.append((decision.event, decision.cause))
    return found


SOUNDED, AGAIN, ENDED, NOTHING = (
    ("sounded", "critical_bound"),
    ("sounded_again", "critical_bound"),
    ("ended", None),
    (None, None),
)


def test_critical_bound_sounds_at_once_without_room_and_is_one_episode():
    assert events((0.1, 0, (LOW,), 1), *[(0.1, 0, (LOW,), 5)] * 12, (0.1, 0, (), 5)) == [SOUNDED, *[NOTHING] * 12, ENDED]


def test_critical_bound_sounds_again_after_the_refractory_period():
    assert events((0.1, 0, (LOW,), 1), (0.1, 0, (LOW,), 479), (0.1, 0, (LOW,), 1)) == [SOUNDED, NOTHING, AGAIN]


def test_critical_bound_sounds_and_ends_where_nothing_else_is_known():
    assert events((None, None, (LOW,), 1), (None, None, (), 5), (None, None, (), 5)) == [SOUNDED, ENDED, NOTHING]


def test_critical_bound_is_news_in_an_episode_of_another_cause():
    news2 = ("sounded", "news2")
    assert events((0.1, 8, (), 1), (0.1, 8, (LOW,), 5), (0.1, 8, (LOW, "spo2_below_range"), 5)) == [news2, AGAIN, AGAIN]
    assert events((0.1, 8, (LOW,), 1), (0.1, 8, (LOW,), 5)) == [news2, NOTHING]  # one alarm for both
    assert events((0.1, 0, (LOW,), 1), (0.1, 8, (LOW,), 5)) == [SOUNDED, ("sounded_again", "news2")]


def test_critical_bound_that_has_gone_is_news_when_it_comes_again():
    assert events((0.1, 6, (LOW,), 1), (None, 6, (), 5), (None, 6, (LOW,), 5)) == [SOUNDED, NOTHING, AGAIN]
