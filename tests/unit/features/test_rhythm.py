"""The rhythm of a signal: what is regular, jittery, in bursts, late or rare, and from when on it is overdue."""

import numpy as np
import pytest

from vigil.features.rhythm import LEAST_INTERVALS, LEAST_US, MINUTE_US, Rhythm, rhythm_of


def minutes(rhythm, declared=None):
    limit = rhythm.overdue_after(None if declared is None else declared * MINUTE_US)
    return None if limit is None else limit / MINUTE_US


def live(*observed):
    """Observations recorded two seconds after they were made; times in minutes."""
    return rhythm_of((round(at * MINUTE_US), round(at * MINUTE_US) + 2_000_000) for at in observed)


def test_a_value_a_minute_is_overdue_after_minutes():
    assert minutes(live(*range(60))) == LEAST_US / MINUTE_US == 5


def test_a_cuff_is_overdue_after_three_of_its_own_intervals():
    assert minutes(live(*range(0, 600, 20))) == 60


def test_jitter_widens_the_rhythm_and_one_gap_does_not():
    jitter = np.random.default_rng(1).uniform(-4, 4, 60)
    regular = [20.0 * n for n in range(60)]
    assert 60 < minutes(live(*(regular + jitter))) < 3 * 28
    with_gap = [at + (300 if n >= 30 else 0) for n, at in enumerate(regular)]
    assert minutes(live(*with_gap)) == 60


def test_few_intervals_are_no_claim():
    assert minutes(live(*range(LEAST_INTERVALS))) is None
    assert minutes(live(*range(LEAST_INTERVALS + 1))) is not None
    assert minutes(Rhythm()) is None


def test_a_declaration_serves_until_something_is_learned_and_bounds_what_is():
    assert minutes(live(0, 1, 2), declared=30) == 30
    assert minutes(live(*range(0, 600, 20)), declared=30) == 30
    assert minutes(live(*range(60)), declared=30) == 5


def test_charting_every_four_hours_is_not_overdue_after_one():
    rounds = live(*range(0, 240 * 20, 240))
    assert minutes(rounds) is None or minutes(rounds) > 240
    assert minutes(live(*range(0, 240 * 5, 240))) is None


def test_rarer_than_the_longest_interval_between_checks_is_no_claim():
    assert minutes(live(*range(0, 480 * 20, 480))) is None


def test_a_burst_is_one_turn():
    bursts = [20 * turn + second / 60 for turn in range(20) for second in range(20)]
    assert minutes(live(*bursts)) == pytest.approx(60, abs=2)


def test_a_batch_that_is_uploaded_once_an_hour_is_no_rhythm_of_a_minute():
    hourly = [(at * MINUTE_US, (at // 60 + 1) * 60 * MINUTE_US) for at in range(60 * 20)]
    assert minutes(rhythm_of(hourly)) == 180
    assert minutes(rhythm_of(hourly[: 60 * 5])) is None  # five deliveries tell too little


def test_a_gap_of_the_last_day_is_waited_for_again_up_to_a_quarter_of_an_hour():
    def with_gap(length, then=120):
        return minutes(live(*range(60), *range(59 + length, 59 + length + then)))

    assert [with_gap(length) for length in (4, 8, 12, 25, 200)] == [5, 8, 12, 15, 15]
    assert with_gap(12, then=25 * 60) == 5  # a day later it is forgotten


def test_a_late_batch_is_a_gap_of_delivery():
    times = [(at * MINUTE_US, at * MINUTE_US if not 60 <= at < 70 else 70 * MINUTE_US) for at in range(120)]
    assert minutes(rhythm_of(times)) == 11


def test_the_same_time_again_counts_once():
    twice = rhythm_of((at * MINUTE_US, at * MINUTE_US) for at in [0, 20, 40] * 10)
    assert minutes(twice) is None


def test_one_by_one_is_the_same_as_all_at_once():
    times = [(at * 20 * MINUTE_US, at * 20 * MINUTE_US + 5) for at in range(40)]
    rhythm = Rhythm()
    for observed_at, recorded_at in times:
        rhythm.add(observed_at, recorded_at)
    assert rhythm == rhythm_of(times)
    rhythm.add(*times[3])  # history that arrives late is no interval
    assert rhythm == rhythm_of(times)
