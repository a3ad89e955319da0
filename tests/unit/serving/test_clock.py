"""The steady clock follows its wall clock, except for jumps forward that do not last."""

from datetime import UTC, datetime, timedelta

import pytest

from vigil.serving.records.clock import SteadyClock

NOW = datetime(2026, 1, 31, 8, tzinfo=UTC)


class Machine:
    """A wall clock that may be wrong, and the time that passes."""

    def __init__(self):
        self.passed, self.wrong = 0.0, timedelta(0)

    def wall(self):
        return NOW + timedelta(seconds=self.passed) + self.wrong

    @property
    def right(self):
        return NOW + timedelta(seconds=self.passed)


@pytest.fixture
def machine():
    return Machine()


@pytest.fixture
def steady(machine):
    return SteadyClock(machine.wall, lambda: machine.passed)


def test_steady_clock_is_the_wall_clock_where_that_is_right(machine, steady):
    for machine.passed in (0, 0.5, 3_600, 86_400 * 30):
        assert steady() == machine.right


@pytest.mark.parametrize("wrong", [timedelta(seconds=61), timedelta(hours=2), timedelta(days=400)])
def test_steady_clock_does_not_follow_a_jump_ahead_and_logs_it_once(machine, steady, caplog, wrong):
    machine.passed = 10
    steady()
    machine.wrong = wrong
    for machine.passed in (11, 100, 599):
        assert steady() == machine.right
    assert caplog.text.count("ahead") == 1
    machine.wrong = timedelta(0)
    machine.passed = 700
    assert steady() == machine.right


def test_steady_clock_follows_a_jump_that_lasts(machine, steady):
    machine.wrong = timedelta(hours=2)
    machine.passed = 1
    steady()
    machine.passed = 1 + 601
    assert steady() == machine.right + timedelta(hours=2)
    machine.passed = 2_000
    assert steady() == machine.right + timedelta(hours=2)


@pytest.mark.parametrize("wrong", [timedelta(seconds=59), timedelta(seconds=-30), timedelta(hours=-2)])
def test_steady_clock_follows_small_steps_and_steps_back(machine, steady, wrong):
    machine.wrong = wrong
    machine.passed = 5
    assert steady() == machine.right + wrong


def test_steady_clock_follows_slow_drift_however_far_it_goes(machine, steady):
    for step in range(1, 200):
        machine.passed = step * 60
        machine.wrong = timedelta(seconds=step * 2)
        assert steady() == machine.right + machine.wrong
