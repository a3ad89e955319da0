"""Patients as the journal knows them: the batch's features, bit for bit, however readings came and whoever died meanwhile."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sa

from features.batch import build_features, computation
from features.catalogue import STANDARD, VIEWS
from features.observations import TIME
from serving.records.database import instant, microsecond, reading, writing
from serving.records.journal import READINGS, Journal
from serving.scoring.subject_state import UNASSIGNED, MonitoredPatients, features_as_of

NOW = datetime(2026, 2, 1, 12, tzinfo=UTC)
RANGES = {"heart_rate": (60, 140), "respiratory_rate": (10, 30), "spo2": (85, 100), "systolic_bp": (80, 160), "lactate": (1, 6)}
PATIENTS = ("p1", "p2", "p3")
FACTS = {
    "p1": {"age": 70.0, "sex": 1.0, "unit_admitted_at": NOW - timedelta(hours=50), "hospital_admitted_at": None},
    "p2": {"age": 31.0, "sex": None, "unit_admitted_at": None, "hospital_admitted_at": NOW - timedelta(hours=90)},
}


class Ward:
    """A journal that is filled group by group on a clock of its own; remembers what it was told."""

    def __init__(self, home, seed=0):
        self.time = NOW - timedelta(hours=60)
        self.journal = Journal(home, lambda: self.time)
        self.generator = np.random.default_rng(seed)
        self.messages = 0

    def group(self, minutes, readings, of=PATIENTS):
        """Some readings a while later, many of them late."""
        self.time += timedelta(minutes=minutes)
        sent = []
        for _ in range(readings):
            signal = str(self.generator.choice(list(RANGES)))
            late = timedelta(minutes=float(self.generator.choice([0, 0, 1, 40, 400])))
            value = round(float(self.generator.uniform(*RANGES[signal])), 2)
            self.messages += 1
            about = {"subject_id": str(self.generator.choice(of)), "signal": signal, "value": value, "unit": None}
            about |= {"observed_at": pd.Timestamp(self.time - late).as_unit("us"), "device_id": None, "source": None}
            sent.append(about | {"message_id": f"m{self.messages}"})
        assert {result.status for result in self.journal.append(sent)} == {"accepted"}

    def register(self, patient, **changes):
        known = {"ward": "A", "discharged": False, **FACTS[patient], **changes}
        for name in ("unit_admitted_at", "hospital_admitted_at"):
            known[name] = None if known[name] is None else microsecond(pd.Timestamp(known[name]))
        self.journal.register([{"patient": patient, **known}])

    def observations(self):
        with self.journal.engine.connect() as connection:
            kept = pd.DataFrame(connection.execute(sa.select(READINGS)).mappings().all())
        for column in ("observed_at", "recorded_at"):
            kept[column] = pd.to_datetime(kept[column], unit="us", utc=True).astype(TIME)
        return kept.rename(columns={"patient": "subject_id"})

    def batch(self, patients, times, views=STANDARD, facts=FACTS):
        """What a batch makes of the journal as of times (microseconds)."""
        index = pd.DataFrame({"subject_id": list(patients), "index_time": [instant(time) for time in times]})
        for name in ("age", "sex"):
            known = [facts.get(patient, {}).get(name) for patient in patients]
            index[name] = pd.Series([np.nan if value is None else value for value in known], dtype=float)
        for name in ("unit_admitted_at", "hospital_admitted_at"):
            index[name] = pd.Series([facts.get(patient, {}).get(name) for patient in patients], dtype=TIME)
        kept = self.observations()
        return build_features(kept[kept["subject_id"].isin(patients)], index, views)


def advance(patients, ward, most=2_000):
    """All that is new; returns whom it was about."""
    about = {}
    while True:
        with reading(ward.journal.engine) as connection:
            new = patients.advance(connection, most)
        if not new:
            return about
        for patient, time in new.items():
            about.setdefault(patient, time)


def assert_same(online, batch):
    online = online.sort_values("subject_id", ignore_index=True)
    batch = batch.sort_values("subject_id", ignore_index=True)
    pd.testing.assert_frame_equal(online, batch, check_exact=True, check_dtype=False)
    bits = [frame.iloc[:, 2:].to_numpy(np.float32).view(np.uint32) for frame in (online, batch)]
    np.testing.assert_array_equal(*bits)


@pytest.fixture
def ward(tmp_path):
    return Ward(tmp_path)


@pytest.mark.parametrize("views", [STANDARD, tuple(VIEWS), ("dynamics", "baseline")])
@pytest.mark.parametrize("most", [1, 7, 2_000])
def test_group_by_group_it_is_the_batch(ward, views, most):
    patients = MonitoredPatients(views)
    ward.register("p1")
    for step in range(12):
        ward.group(minutes=int(ward.generator.integers(1, 500)), readings=9)
        if step == 5:
            ward.register("p2")
        facts = {patient: FACTS[patient] for patient in (("p1",) if step < 5 else ("p1", "p2"))}
        about = list(advance(patients, ward, most))
        found = patients.at(about)
        times = [microsecond(time) for time in found["index_time"]]
        assert_same(found, ward.batch(about, times, views, facts))
        later = ward.journal.latest() + 3_600_000_000
        assert_same(patients.at(about, later), ward.batch(about, [later] * len(about), views, facts))


@pytest.mark.parametrize("seed", range(4))
def test_whoever_begins_anew_knows_what_the_other_knows(tmp_path, seed):
    ward = Ward(tmp_path, seed)
    never = MonitoredPatients(STANDARD)
    for _ in range(10):
        ward.group(minutes=int(ward.generator.integers(1, 300)), readings=6)
        if ward.generator.random() < 0.3:
            ward.register(str(ward.generator.choice(["p1", "p2"])), ward=str(ward.generator.choice(["A", "B"])))
        cursor = never.cursor
        about = advance(never, ward)
        again = MonitoredPatients(STANDARD, cursor)  # as if killed just before
        assert advance(again, ward) == about
        assert again.cursor == never.cursor
        pd.testing.assert_frame_equal(again.at(list(about)), never.at(list(about)), check_exact=True)
        assert [again.ward(patient) for patient in about] == [never.ward(patient) for patient in about]
        with reading(ward.journal.engine) as connection:
            past = features_as_of(connection, STANDARD, list(about), never.cursor)
        pd.testing.assert_frame_equal(past, never.at(list(about), never.cursor), check_exact=True)


def test_a_group_is_never_divided_and_each_patient_has_the_time_of_his_first(ward):
    ward.group(1, 5, of=("p1",))
    first = ward.journal.latest()
    ward.group(1, 5, of=("p1", "p2"))
    second = ward.journal.latest()
    patients = MonitoredPatients(STANDARD)
    with reading(ward.journal.engine) as connection:
        assert patients.advance(connection, 1) == {"p1": first}
        assert patients.cursor == first
        assert set(patients.advance(connection, 1).values()) == {second}
        assert patients.cursor == second
        assert patients.advance(connection, 1) == {}
    with reading(ward.journal.engine) as connection:  # both at once: to whom it was of the first is counted from the first
        assert MonitoredPatients(STANDARD).advance(connection, 100)["p1"] == first


def test_nothing_is_taken_in_beyond_a_time(ward):
    ward.group(1, 4)
    first = ward.journal.latest()
    ward.group(1, 4)
    patients = MonitoredPatients(STANDARD)
    with reading(ward.journal.engine) as connection:
        patients.advance(connection, 100, until=first)
        assert patients.cursor == first
        assert patients.advance(connection, 100, until=first) == {}


def test_a_late_reading_changes_no_past_answer(ward):
    ward.group(0, 12, of=("p1",))
    then = ward.journal.latest()

    def as_of_then():
        with reading(ward.journal.engine) as connection:
            return features_as_of(connection, tuple(VIEWS), ["p1", "nobody"], then)

    before = as_of_then()
    assert list(before["subject_id"]) == ["p1"]
    for _ in range(5):
        ward.group(3, 10, of=("p1",))
    ward.register("p1")
    pd.testing.assert_frame_equal(as_of_then(), before, check_exact=True)


def test_a_registration_changes_the_facts_and_nothing_else(ward):
    patients = MonitoredPatients(STANDARD)
    ward.group(10, 20, of=("p1",))
    advance(patients, ward)
    before = patients.at(["p1"])
    assert (patients.ward("p1"), patients.is_watched("p1")) == (UNASSIGNED, True)
    ward.register("p1", ward="B")
    assert list(advance(patients, ward)) == ["p1"]
    after = patients.at(["p1"], microsecond(before["index_time"].iloc[0]) + 10)
    assert patients.ward("p1") == "B"
    changed = {name for name in computation(STANDARD).features if not after[name].equals(before[name])}
    assert {"age", "sex", "hours_in_unit"} <= changed
    assert not {name for name in changed if name.startswith(("heart_rate_mean", "spo2_min"))}
    ward.register("p1", ward="B", discharged=True)
    advance(patients, ward)
    assert not patients.is_watched("p1")
    ward.register("p1", ward="C")
    advance(patients, ward)
    assert (patients.ward("p1"), patients.is_watched("p1")) == ("C", True)


def test_of_whom_nothing_is_known_nobody_watches(ward):
    ward.group(1, 1, of=("p1",))
    patients = MonitoredPatients(STANDARD, ward.journal.latest())
    with reading(ward.journal.engine) as connection:
        patients.entry(connection, "nobody")
        patients.entry(connection, "p1")
    assert not patients.is_watched("nobody")
    assert patients.is_watched("p1")


def test_forgetting_keeps_memory_flat_and_features_the_same(ward):
    patients, remembers = MonitoredPatients(STANDARD), MonitoredPatients(STANDARD)
    for _ in range(30):
        ward.group(120, 12, of=("p1", "p2"))
        about = advance(patients, ward)
        advance(remembers, ward)
        pd.testing.assert_frame_equal(patients.at(list(about)), remembers.at(list(about)), check_exact=True)
        patients.forget(ward.journal.latest(), silent_since=0)
    kept = [sum(len(entry.features) for entry in of._patients.values()) for of in (patients, remembers)]
    assert kept[0] < kept[1]


def test_who_was_long_silent_is_let_go_and_known_again_when_he_returns(ward):
    patients = MonitoredPatients(STANDARD)
    ward.group(1, 10, of=("p1",))
    ward.group(60 * 49, 10, of=("p2",))
    advance(patients, ward)
    present = ward.journal.latest()
    patients.forget(present, silent_since=present - 48 * 3_600_000_000)
    assert set(patients._patients) == {"p2"}
    ward.group(1, 3, of=("p1",))
    advance(patients, ward)
    assert_same(patients.at(["p1"]), ward.batch(["p1"], [ward.journal.latest()], facts={}))


def test_what_retention_dropped_lives_on_nowhere(ward):
    patients = MonitoredPatients(STANDARD)
    for _ in range(6):
        ward.group(60, 12, of=("p1",))
        advance(patients, ward)
    cut = ward.journal.latest() - 2 * 3_600_000_000
    gone, _ = ward.journal.drop(instant(cut))
    with writing(ward.journal.engine) as connection:
        assert connection.execute(READINGS.delete().where(READINGS.c.recorded_at < cut)).rowcount == gone
    assert gone > 0
    ward.group(5, 2, of=("p1",))
    advance(patients, ward)
    assert_same(patients.at(["p1"]), ward.batch(["p1"], [ward.journal.latest()], facts={}))
