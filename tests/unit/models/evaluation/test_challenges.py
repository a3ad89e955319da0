"""Challenge scores, against the published rules written out hour by hour, and by hand."""

import numpy as np
import pandas as pd
import pytest

from vigil.models.evaluation.challenges import Utility, choose_event1_threshold, score_event1, score_event2


def of_one_stay(labels, alarms):
    """Return the utility of one stay, hour by hour, in the words of the rules of the challenge."""
    septic = any(labels)
    onset = labels.index(1) + 6 if septic else None
    total = 0.0
    for hour, alarm in enumerate(alarms):
        if not septic:
            total += -0.05 if alarm else 0.0
            continue
        since = hour - onset
        if since > 3:
            continue
        if since <= -6:
            total += max((since + 12) / 6, -0.05) if alarm else 0.0
        else:
            total += (3 - since) / 9 if alarm else -2 * (since + 6) / 9
    return total


def best_of_one_stay(labels):
    if not any(labels):
        return [0] * len(labels)
    onset = labels.index(1) + 6
    return [int(-12 <= hour - onset <= 3) for hour in range(len(labels))]


@pytest.fixture
def ward():
    rng = np.random.default_rng(3)
    stays = []
    for number in range(60):
        hours = int(rng.integers(2, 40))
        first = int(rng.integers(0, hours)) if number % 3 == 0 else hours
        stays.append([int(hour >= first) for hour in range(hours)])
    return stays


def test_utility_follows_the_rules_of_2019(ward):
    rng = np.random.default_rng(4)
    alarms = [[int(rng.random() < 0.4) for _ in stay] for stay in ward]
    silence = sum(of_one_stay(stay, [0] * len(stay)) for stay in ward)
    achieved = sum(of_one_stay(*both) for both in zip(ward, alarms, strict=True))
    best = sum(of_one_stay(stay, best_of_one_stay(stay)) for stay in ward)
    subject = pd.Series(np.repeat([f"s{n:03}" for n in range(len(ward))], [len(stay) for stay in ward]))
    utility = Utility.from_labels(np.concatenate(ward).astype(float), subject)
    normalised = utility.normalised(np.concatenate(alarms).astype(bool))
    assert normalised == pytest.approx((achieved - silence) / (best - silence), abs=1e-12)


def test_utility_threshold_is_the_best_of_all(ward):
    subject = pd.Series(np.repeat([f"s{n:03}" for n in range(len(ward))], [len(stay) for stay in ward]))
    label = np.concatenate(ward).astype(float)
    probability = np.round(np.random.default_rng(5).random(len(label)) * 0.7 + 0.3 * label, 2)  # with ties
    utility = Utility.from_labels(label, subject)
    best = max(utility.normalised(probability >= threshold) for threshold in np.unique(probability))
    assert utility.normalised(probability >= utility.threshold(probability)) == pytest.approx(best, abs=1e-12)


def test_utility_without_an_onset_is_nan():
    assert np.isnan(Utility.from_labels(np.zeros(3), pd.Series(["a", "a", "b"])).normalised(np.array([True, False, False])))


def test_event1_by_hand():
    label = np.array([1.0, 1, 0, 0, 1])
    alarm = np.array([True, False, True, False, False])
    assert score_event1(label, alarm) == pytest.approx(1 / 3)  # one of three deaths; one of two alarms
    assert score_event1(label, np.zeros(5, dtype=bool)) == 0
    probability = np.array([0.9, 0.8, 0.7, 0.2, 0.6])
    threshold = choose_event1_threshold(label, probability)
    assert threshold in {0.6, 0.7, 0.8}
    assert score_event1(label, probability >= threshold) == max(score_event1(label, probability >= p) for p in probability)


def test_event2_by_hand():
    probability = np.repeat([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95], 2)
    label = np.zeros(20)
    label[10:] = 1
    p = probability[::2]
    expected = sum((o - 2 * q) ** 2 / (2 * q * (1 - q) + 0.001) for o, q in zip([0] * 5 + [2] * 5, p, strict=True)) / 0.85
    assert score_event2(label, probability) == pytest.approx(expected)
    assert score_event2(label, np.full(20, 0.5)) == float("inf")
