"""Subjects in memory: the features of the batch, bit for bit, however observations arrive and whenever a process restarts."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sa

from vigil.features.batch import build_features, plan_computation
from vigil.features.catalogue import STANDARD, VIEWS
from vigil.features.observations import TIME
from vigil.features.signals import SIGNALS
from vigil.serving.records.journal import UNASSIGNED, Journal
from vigil.serving.records.journal_tables import OBSERVATIONS, RETENTIONS
from vigil.serving.records.registration import Registration
from vigil.serving.records.timestamps import instant, microsecond
from vigil.serving.scoring.subject_state import SubjectStates, features_as_of

NOW = datetime(2026, 2, 1, 12, tzinfo=UTC)
RANGES = {"heart_rate": (60, 140), "respiratory_rate": (10, 30), "spo2": (85, 100), "systolic_bp": (80, 160), "lactate": (1, 6)}
SUBJECTS = ("p1", "p2", "p3")
FACTS = {
    "p1": {"age": 70.0, "sex": 1.0, "unit_admitted_at": NOW - timedelta(hours=50), "hospital_admitted_at": None},
    "p2": {"age": 31.0, "sex": None, "unit_admitted_at": None, "hospital_admitted_at": NOW - timedelta(hours=90)},
}


class FilledJournal:
    """A journal that a test fills group by group, on a clock of its own."""

    def __init__(self, home, seed=0):
        self.time = NOW - timedelta(hours=60)
        self.journal = Journal(home, lambda: self.time)
        self.generator = np.random.default_rng(seed)
        self.messages = 0
        self.sent = []

    def append_group(self, minutes, observations, subjects=SUBJECTS):
        """Append some observations a while later, many of them late."""
        self.time += timedelta(minutes=minutes)
        sent = []
        for _ in range(observations):
            signal = str(self.generator.choice(list(RANGES)))
            late = timedelta(minutes=float(self.generator.choice([0, 0, 1, 40, 400])))
            value = round(float(self.generator.uniform(*RANGES[signal])), 2)
            self.messages += 1
            row = {"subject_id": str(self.generator.choice(subjects)), "signal": signal, "value": value}
            row |= {"unit": SIGNALS[signal].unit, "observed_at": pd.Timestamp(self.time - late).as_unit("us")}
            row |= {"device_id": None, "source": None}
            sent.append(row | {"message_id": f"m{self.messages}"})
        assert {receipt.status for receipt in self.journal.append(lambda: sent)} == {"accepted"}
        self.sent += sent

    def revise(self, observations):
        """Correct or retract some of the observations sent so far, a minute later."""
        self.time += timedelta(minutes=1)
        revisions = []
        for _ in range(observations):
            former = self.sent[int(self.generator.integers(len(self.sent)))]
            value = round(float(self.generator.uniform(*RANGES[former["signal"]])), 2)
            retracted = {"status": "retracted", "value": None}
            change = retracted if self.generator.random() < 0.4 else {"status": "corrected", "value": value}
            revisions.append(former | {"version": None} | change)
        statuses = [receipt.status for receipt in self.journal.append(lambda: revisions)]
        assert set(statuses) <= {"accepted", "duplicate"}  # one may be retracted twice
        return {row["subject_id"] for row, status in zip(revisions, statuses, strict=True) if status == "accepted"}

    def register(self, subject, ward="A", **changes):
        facts = dict(FACTS[subject])
        for name in ("unit_admitted_at", "hospital_admitted_at"):
            facts[name] = None if facts[name] is None else microsecond(pd.Timestamp(facts[name]))
        self.journal.register([replace(Registration(subject, ward, **facts), **changes)])

    def observations(self):
        with self.journal._engine.connect() as connection:
            stored = pd.DataFrame(connection.execute(sa.select(OBSERVATIONS)).mappings().all())
        for column in ("observed_at", "recorded_at"):
            stored[column] = pd.to_datetime(stored[column], unit="us", utc=True).astype(TIME)
        ends = pd.to_numeric(stored["superseded_at"])
        return stored.assign(superseded_at=pd.to_datetime(ends, unit="us", utc=True).astype(TIME))

    def batch_features(self, subjects, times, views=STANDARD, facts=FACTS):
        """Return what a batch computes from the journal as of times (microseconds)."""
        index = pd.DataFrame({"subject_id": list(subjects), "index_time": [instant(time) for time in times]})
        for name in ("age", "sex"):
            known = [facts.get(subject, {}).get(name) for subject in subjects]
            index[name] = pd.Series([np.nan if value is None else value for value in known], dtype=float)
        for name in ("unit_admitted_at", "hospital_admitted_at"):
            index[name] = pd.Series([facts.get(subject, {}).get(name) for subject in subjects], dtype=TIME)
        stored = self.observations()
        return build_features(stored[stored["subject_id"].isin(subjects)], index, views)


def advance(states, filled, most=2_000):
    """Take in everything new; return the subjects concerned."""
    concerned = {}
    while True:
        with filled.journal.snapshot() as journal:
            new = states.advance(journal, most)
        if not new:
            return concerned
        for subject, time in new.items():
            concerned.setdefault(subject, time)


def assert_same(online, batch):
    online = online.sort_values("subject_id", ignore_index=True)
    batch = batch.sort_values("subject_id", ignore_index=True)
    pd.testing.assert_frame_equal(online, batch, check_exact=True, check_dtype=False)
    bits = [frame.iloc[:, 2:].to_numpy(np.float32).view(np.uint32) for frame in (online, batch)]
    np.testing.assert_array_equal(*bits)


@pytest.fixture
def filled(tmp_path):
    return FilledJournal(tmp_path)


@pytest.mark.parametrize("views", [STANDARD, tuple(VIEWS), ("dynamics", "baseline")])
@pytest.mark.parametrize("most", [1, 7, 2_000])
def test_features_group_by_group_are_those_of_the_batch(filled, views, most):
    states = SubjectStates(views)
    filled.register("p1")
    for step in range(12):
        filled.append_group(minutes=int(filled.generator.integers(1, 500)), observations=9)
        if step == 5:
            filled.register("p2")
        facts = {subject: FACTS[subject] for subject in (("p1",) if step < 5 else ("p1", "p2"))}
        concerned = list(advance(states, filled, most))
        online = states.features(concerned)
        times = [microsecond(time) for time in online["index_time"]]
        assert_same(online, filled.batch_features(concerned, times, views, facts))
        later = filled.journal.latest() + 3_600_000_000
        assert_same(states.features(concerned, later), filled.batch_features(concerned, [later] * len(concerned), views, facts))


@pytest.mark.parametrize("seed", range(4))
def test_features_after_a_restart_are_those_without_one(tmp_path, seed):
    filled = FilledJournal(tmp_path, seed)
    never = SubjectStates(STANDARD)
    for _ in range(10):
        filled.append_group(minutes=int(filled.generator.integers(1, 300)), observations=6)
        if filled.generator.random() < 0.3:
            filled.register(str(filled.generator.choice(["p1", "p2"])), ward=str(filled.generator.choice(["A", "B"])))
        cursor = never.cursor
        concerned = advance(never, filled)
        again = SubjectStates(STANDARD, cursor)  # as if killed just before
        assert advance(again, filled) == concerned
        assert again.cursor == never.cursor
        pd.testing.assert_frame_equal(again.features(list(concerned)), never.features(list(concerned)), check_exact=True)
        assert [again.ward(subject) for subject in concerned] == [never.ward(subject) for subject in concerned]
        with filled.journal.snapshot() as journal:
            past = features_as_of(journal, STANDARD, list(concerned), never.cursor)
        pd.testing.assert_frame_equal(past, never.features(list(concerned), never.cursor), check_exact=True)


def test_advance_never_divides_a_group_and_gives_the_first_time_of_each_subject(filled):
    filled.append_group(1, 5, subjects=("p1",))
    first = filled.journal.latest()
    filled.append_group(1, 5, subjects=("p1", "p2"))
    second = filled.journal.latest()
    states = SubjectStates(STANDARD)
    with filled.journal.snapshot() as journal:
        assert states.advance(journal, 1) == {"p1": first}
        assert states.cursor == first
        assert set(states.advance(journal, 1).values()) == {second}
        assert states.cursor == second
        assert states.advance(journal, 1) == {}
    with filled.journal.snapshot() as journal:  # both groups at once: a subject of both has the time of the first
        assert SubjectStates(STANDARD).advance(journal, 100)["p1"] == first


def test_advance_takes_in_nothing_after_a_time(filled):
    filled.append_group(1, 4)
    first = filled.journal.latest()
    filled.append_group(1, 4)
    states = SubjectStates(STANDARD)
    with filled.journal.snapshot() as journal:
        states.advance(journal, 100, until=first)
        assert states.cursor == first
        assert states.advance(journal, 100, until=first) == {}


def test_late_observation_changes_no_past_features(filled):
    filled.append_group(0, 12, subjects=("p1",))
    then = filled.journal.latest()

    def as_of_then():
        with filled.journal.snapshot() as journal:
            return features_as_of(journal, tuple(VIEWS), ["p1", "unknown"], then)

    before = as_of_then()
    assert list(before["subject_id"]) == ["p1"]
    for _ in range(5):
        filled.append_group(3, 10, subjects=("p1",))
    filled.register("p1")
    pd.testing.assert_frame_equal(as_of_then(), before, check_exact=True)


def test_registration_changes_the_facts_and_no_features_of_observations(filled):
    states = SubjectStates(STANDARD)
    filled.append_group(10, 20, subjects=("p1",))
    advance(states, filled)
    before = states.features(["p1"])
    assert (states.ward("p1"), states.is_monitored("p1")) == (UNASSIGNED, True)
    filled.register("p1", ward="B")
    assert list(advance(states, filled)) == ["p1"]
    after = states.features(["p1"], microsecond(before["index_time"].iloc[0]) + 10)
    assert states.ward("p1") == "B"
    changed = {name for name in plan_computation(STANDARD).features if not after[name].equals(before[name])}
    assert {"age", "sex", "hours_in_unit"} <= changed
    assert not {name for name in changed if name.startswith(("heart_rate_mean", "spo2_min"))}
    filled.register("p1", ward="B", discharged=True)
    advance(states, filled)
    assert not states.is_monitored("p1")
    filled.register("p1", ward="C")
    advance(states, filled)
    assert (states.ward("p1"), states.is_monitored("p1")) == ("C", True)


def test_unknown_subject_is_not_monitored(filled):
    filled.append_group(1, 1, subjects=("p1",))
    states = SubjectStates(STANDARD, filled.journal.latest())
    with filled.journal.snapshot() as journal:
        states.load(journal, "unknown")
        states.load(journal, "p1")
    assert not states.is_monitored("unknown")
    assert states.is_monitored("p1")


def test_evict_bounds_the_memory_and_leaves_features_as_they_are(filled):
    states, remembers = SubjectStates(STANDARD), SubjectStates(STANDARD)
    for _ in range(30):
        filled.append_group(120, 12, subjects=("p1", "p2"))
        concerned = advance(states, filled)
        advance(remembers, filled)
        pd.testing.assert_frame_equal(states.features(list(concerned)), remembers.features(list(concerned)), check_exact=True)
        states.evict(filled.journal.latest(), silent_since=0)
    sizes = [sum(len(subject.features) for subject in each._subjects.values()) for each in (states, remembers)]
    assert sizes[0] < sizes[1]


def test_evict_drops_a_silent_subject_who_is_loaded_again_on_return(filled):
    states = SubjectStates(STANDARD)
    filled.append_group(1, 10, subjects=("p1",))
    filled.append_group(60 * 49, 10, subjects=("p2",))
    advance(states, filled)
    present = filled.journal.latest()
    states.evict(present, silent_since=present - 48 * 3_600_000_000)
    assert set(states._subjects) == {"p2"}
    filled.append_group(1, 3, subjects=("p1",))
    advance(states, filled)
    assert_same(states.features(["p1"]), filled.batch_features(["p1"], [filled.journal.latest()], facts={}))


@pytest.mark.parametrize("is_deleted", [True, False])
def test_retention_removes_dropped_observations_from_memory(filled, is_deleted):
    """They count no more from the moment they are dropped, also while they are still being deleted."""
    states = SubjectStates(STANDARD)
    for _ in range(6):
        filled.append_group(60, 12, subjects=("p1",))
        advance(states, filled)
    cut = filled.journal.latest() - 2 * 3_600_000_000
    old = int((filled.observations()["recorded_at"] < instant(cut)).sum())
    assert filled.journal.drop_before(instant(cut)) == 0  # no one was registered
    with filled.journal._engine.connect() as connection:
        assert connection.execute(sa.select(RETENTIONS.c.before, RETENTIONS.c.observations)).all() == [(cut, old)]
    if is_deleted:
        assert filled.journal.delete_before(instant(cut)) == {
            "observations": old,
            "revisions": 0,
            "quarantine": 0,
            "repetitions": 0,
        }
    assert old > 0
    filled.append_group(5, 2, subjects=("p1",))
    advance(states, filled)
    present = [filled.journal.latest()]
    if not is_deleted:
        with_dropped = filled.batch_features(["p1"], present, facts={})
        filled.journal.delete_before(instant(cut))
        assert not with_dropped.equals(filled.batch_features(["p1"], present, facts={}))
    assert_same(states.features(["p1"]), filled.batch_features(["p1"], present, facts={}))


@pytest.mark.parametrize("seed", range(4))
def test_features_follow_corrections_and_retractions_and_stay_what_they_were_before_them(tmp_path, seed):
    filled = FilledJournal(tmp_path, seed)
    states, asked = SubjectStates(STANDARD), []
    for _ in range(8):
        filled.append_group(minutes=int(filled.generator.integers(1, 500)), observations=9)
        advance(states, filled)
        revised = filled.revise(3)
        assert set(advance(states, filled)) == revised
        present = filled.journal.latest()
        assert all(states.index_time(subject) == present for subject in revised)
        asked += [(subject, present) for subject in sorted(revised)]
        if revised:
            online = states.features(sorted(revised))
            assert_same(online, filled.batch_features(sorted(revised), [present] * len(revised), facts={}))
    with filled.journal.snapshot() as journal:
        for subject, time in asked:  # as they were known then, whatever was corrected since
            past = features_as_of(journal, STANDARD, [subject], time)
            assert_same(past, filled.batch_features([subject], [time], facts={}))


def test_corrected_observation_before_a_long_window_was_forgotten_is_computed_again(filled):
    states = SubjectStates(STANDARD)
    filled.append_group(1, 30, subjects=("p1",))
    first = dict(filled.sent[0])
    for _ in range(3):
        filled.append_group(4_000, 20, subjects=("p1",))
        advance(states, filled)
        states.evict(filled.journal.latest(), silent_since=0)
    filled.sent = [first]
    assert filled.revise(1) == {"p1"}
    advance(states, filled)
    present = filled.journal.latest()
    assert_same(states.features(["p1"]), filled.batch_features(["p1"], [present], facts={}))
