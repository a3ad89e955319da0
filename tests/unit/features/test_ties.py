"""Several values at the same time: the later recorded counts as the latest, else the worse; whatever the order of rows."""

import itertools

import numpy as np
import pandas as pd
import pytest

from vigil.features.batch import build_features, encode_observations, plan_computation
from vigil.features.observations import check
from vigil.features.online import SubjectFeatures
from vigil.features.signals import SIGNALS

T = pd.Timestamp("2026-03-01T08:00:00Z")
MINUTE = pd.Timedelta(minutes=1)


def features(rows, names):
    """Return features one hour later, computed as a batch and, the rows one group after the other, online."""
    frame = pd.DataFrame(rows).assign(subject_id="a", observed_at=T)
    frame["unit"] = frame["signal"].map({name: signal.unit for name, signal in SIGNALS.items()})
    accepted = check(frame).accepted
    index = pd.DataFrame({"subject_id": ["a"], "index_time": T + 60 * MINUTE, "age": 70.0, "sex": 0.0})
    index = index.assign(unit_admitted_at=T, hospital_admitted_at=T)
    batch = build_features(accepted, index)[names].iloc[0].tolist()
    online = SubjectFeatures(age=70.0, sex=0.0, unit_admitted_at=T, hospital_admitted_at=T)
    for _, group in frame.groupby("recorded_at"):
        online.insert(*encode_observations(check(group).accepted))
    row = online.at(np.array([(T + 60 * MINUTE).value // 1000]))[0]
    np.testing.assert_array_equal([row[plan_computation().features.index(name)] for name in names], batch)
    return batch


@pytest.mark.parametrize(
    ("signal", "values", "worst"),
    [
        ("spo2", (98, 84), 84),
        ("spo2", (98, 97), 97),
        ("heart_rate", (72, 140), 140),
        ("heart_rate", (72, 38), 38),
        ("heart_rate", (38, 140), 140),  # 3 points each; farther from the usual
        ("systolic_bp", (120, 88), 88),
        ("systolic_bp", (225, 105), 225),
        ("body_temperature", (37.0, 39.6), 39.6),
        ("body_temperature", (37.0, 34.5), 34.5),
        ("consciousness", (0, 2), 2),
        ("lactate", (1.1, 6.0), 6.0),
        ("ph", (7.4, 7.1), 7.1),
        ("spo2", (98, 84, 91), 84),
    ],
)
def test_of_values_recorded_together_the_worse_counts_in_any_order(signal, values, worst):
    name = f"{signal}_last_72h" if SIGNALS[signal].kind == "laboratory" else f"{signal}_last_24h"
    for order in itertools.permutations(values):
        rows = [{"signal": signal, "value": float(value), "recorded_at": T} for value in order]
        assert features(rows, [name])[0] == pytest.approx(worst)


def test_of_values_recorded_apart_the_later_counts():
    rows = [{"signal": "spo2", "value": value, "recorded_at": T + n * MINUTE} for n, value in enumerate((84.0, 98.0))]
    assert features(rows, ["spo2_last_24h", "spo2_min_24h", "spo2_count_24h"]) == [98.0, 84.0, 2.0]
    later_worse = [row | {"recorded_at": T + n * MINUTE} for n, row in enumerate(rows[::-1])]
    assert features(later_worse, ["spo2_last_24h"]) == [84.0]


@pytest.mark.parametrize(
    ("rows", "points"),
    [
        ([("fio2", 60)], 2),
        ([("fio2", 21)], 0),
        ([("on_oxygen", 1)], 2),
        ([("fio2", 60), ("on_oxygen", 1)], 2),
        ([("fio2", 60), ("on_oxygen", 0)], 2),  # they contradict each other: the worse
        ([("fio2", 21), ("on_oxygen", 1)], 2),
        ([], None),
    ],
)
def test_oxygen_is_known_by_the_inspired_fraction(rows, points):
    frame = [{"signal": "heart_rate", "value": 80.0, "recorded_at": T}]
    frame += [{"signal": signal, "value": float(value), "recorded_at": T} for signal, value in rows]
    for order in (frame, frame[::-1]):
        found = features(order, ["news2_on_oxygen"])[0]
        assert found == points or (points is None and np.isnan(found))


def test_oxygen_derived_from_a_fraction_is_counted_once_and_is_never_quarantined():
    rows = [("fio2", 60, "m1"), ("fio2", 50, "m2"), ("on_oxygen", 1, "m3"), ("fio2", 3, "m4")]
    frame = pd.DataFrame(rows, columns=["signal", "value", "message_id"]).assign(
        subject_id="a", observed_at=T, unit=["%", "%", "1", "%"]
    )
    checked = check(frame)
    accepted = [(row.signal, row.value) for row in checked.accepted.itertuples()]
    assert accepted == [("fio2", 50.0), ("fio2", 60.0), ("on_oxygen", 1.0)]
    assert checked.quarantined[["message_id", "reason"]].to_numpy().tolist() == [["m4", "implausible"]]
