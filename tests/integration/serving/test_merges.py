"""Merges in the journal: what counts for whom at each time, equal to a slow reference, in batch and online computation."""

import shutil
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from vigil.features.batch import build_features
from vigil.features.catalogue import STANDARD
from vigil.features.observations import TIME
from vigil.serving.records.journal import UNASSIGNED, Journal
from vigil.serving.records.not_recorded import NotRecordedError
from vigil.serving.records.registration import Registration
from vigil.serving.records.timestamps import instant, microsecond
from vigil.serving.scoring.subject_state import SubjectStates, features_as_of

NOW = datetime(2026, 2, 1, 12, tzinfo=UTC)
KEYS = ("a", "b", "c")


class Home:
    """A journal on a clock of its own, and a log of what was done to it."""

    def __init__(self, home):
        self.time = NOW
        self.journal = Journal(home, lambda: self.time)
        self.messages = []  # (key, observed_at, signal) of each original
        self.log = []  # (time, action, arguments)

    def send(self, key, value, back=0, message=None, status="final", signal="heart_rate"):
        """Send a reading, taken some hours ago, or a version of the message of a number; return its status."""
        self.time += timedelta(seconds=1)
        if message is None:
            self.messages.append((key, pd.Timestamp(self.time - timedelta(hours=back)).as_unit("us"), signal))
            message = len(self.messages) - 1
        _, observed_at, signal = self.messages[message]
        row = {"subject_id": key, "signal": signal, "value": None if status == "retracted" else float(value), "unit": None}
        row |= {"observed_at": observed_at, "device_id": None, "source": "g", "message_id": f"m{message}"}
        (receipt,) = self.journal.append(lambda: [row | {"status": status, "version": None}])
        self.log.append((self.journal.latest(), status, (message, value)))
        return receipt.status

    def merge(self, key, into):
        self.time += timedelta(seconds=1)
        if changed := self.journal.merge(key, into):
            self.log.append((self.journal.latest(), "merge", (key, into)))
        return changed

    def unmerge(self, key):
        self.time += timedelta(seconds=1)
        if changed := self.journal.unmerge(key):
            self.log.append((self.journal.latest(), "merge", (key, None)))
        return changed

    def values(self, key, until=2**61):
        """Return (value, hours of recording for the subject) of what counts for a subject, in order."""
        with self.journal.snapshot() as journal:
            rows = journal.observations(0, until, key)
        assert set(rows["subject_id"]) <= {key}
        return rows["value"].tolist()

    # The slow reference: the log is read from its beginning for every question.

    def known_at(self, subject, time):
        """Return (observed, recorded, signal, value) of what counts for a subject at a time, in plain Python."""
        into, since, rows, standing = {}, dict.fromkeys(KEYS, 0), [], {}
        for at, action, (one, two) in self.log:
            if at > time:
                break
            if action == "merge":
                roots = {key: root_of(key, into) for key in KEYS}
                into[one] = two
                since |= {key: at for key in KEYS if root_of(key, into) != roots[key]}
                continue
            key, observed_at, signal = self.messages[one]
            said = None if action == "retracted" else float(two)
            version, before = standing.get(one, (0, None))
            is_same = version > 0 and said == before
            new = 1 if action == "final" else version if is_same and version > 1 else max(version, 1) + 1
            if new <= version:
                continue
            standing[one] = (new, said)
            rows = [row for row in rows if row["message"] != one]
            is_known = any(
                (row["key"], row["signal"], row["at"], row["value"]) == (key, signal, observed_at, said) for row in rows
            )
            if said is not None and not is_known:
                rows.append({"message": one, "key": key, "signal": signal, "at": observed_at, "value": said, "recorded": at})
        found = [
            (max(row["recorded"], since[row["key"]]), row["at"], row["signal"], row["value"])
            for row in rows
            if root_of(row["key"], into) == subject
        ]
        found.sort(key=lambda row: row[0])  # stable: of those of one time the one that arrived first
        first = {}
        for recorded, observed_at, signal, value in found:
            first.setdefault((observed_at, signal, value), recorded)
        return sorted((observed_at, recorded, signal, value) for (observed_at, signal, value), recorded in first.items())

    def batch(self, subject, time):
        """Return what a batch computes of the reference."""
        rows = pd.DataFrame(self.known_at(subject, time), columns=["observed_at", "recorded_at", "signal", "value"])
        rows["observed_at"] = rows["observed_at"].astype(TIME)
        rows["recorded_at"] = pd.to_datetime(rows["recorded_at"].astype("int64"), unit="us", utc=True).astype(TIME)
        index = pd.DataFrame({"subject_id": [subject], "index_time": pd.Series([instant(time)], dtype=TIME)})
        index = index.assign(age=np.nan, sex=np.nan)
        for name in ("unit_admitted_at", "hospital_admitted_at"):
            index[name] = pd.Series([pd.NaT], dtype=TIME)
        return build_features(rows.assign(subject_id=subject), index, STANDARD)


def root_of(key, into):
    while into.get(key) is not None:
        key = into[key]
    return key


def bits(frame):
    return frame.iloc[:, 2:].to_numpy(np.float32).view(np.uint32).tolist()


@pytest.fixture
def home(tmp_path):
    home = Home(tmp_path)
    for number, key in enumerate(KEYS):
        home.send(key, 60 + 10 * number)
    return home


def test_from_the_merge_on_observations_count_for_the_survivor_and_not_before(home):
    before = home.journal.latest()
    assert home.merge("b", "a")
    merged_at = home.journal.latest()
    assert (home.values("a"), home.values("b")) == ([60, 70], [])
    with home.journal.snapshot() as journal:
        rows = journal.observations(0, merged_at, "a")
    assert rows["recorded_at"].tolist()[1] == instant(merged_at)
    assert (home.values("a", before), home.values("b", before)) == ([60], [70])
    home.send("b", 75)
    assert home.values("a") == [60, 70, 75]
    assert home.unmerge("b")
    assert (home.values("a"), home.values("b")) == ([60], [70, 75])
    assert home.values("a", merged_at) == [60, 70]


def test_chain_is_followed_to_its_end_and_a_member_takes_its_own_with_it(home):
    home.merge("c", "b")
    home.merge("b", "a")
    assert (home.values("a"), home.values("b"), home.values("c")) == ([60, 70, 80], [], [])
    home.unmerge("b")
    assert (home.values("a"), home.values("b"), home.values("c")) == ([60], [70, 80], [])


def test_merge_and_unmerge_again_store_nothing(home):
    assert [home.merge("b", "a"), home.merge("b", "a")] == [True, False]
    home.merge("a", "c")
    latest = home.journal.latest()
    assert [home.merge("b", "c"), home.merge("b", "a")] == [False, False]  # one person already
    assert home.unmerge("b")
    assert not home.unmerge("b")
    assert home.journal.latest() > latest


@pytest.mark.parametrize(
    ("merges", "asked", "rule", "field"),
    [
        ([], ("a", "a"), "merge_into_itself", "into"),
        ([], ("nobody", "a"), "not_in_journal", "patient_id"),
        ([], ("a", "nobody"), "not_in_journal", "into"),
        ([("b", "a")], ("a", "b"), "merge_cycle", "into"),
        ([("c", "b"), ("b", "a")], ("a", "c"), "merge_cycle", "into"),
        ([("b", "a")], ("b", "c"), "merged_elsewhere", "patient_id"),
        ([], ("a", None), "never_merged", "patient_id"),
        ([("b", "a")], ("a", None), "never_merged", "patient_id"),
        ([], ("nobody", None), "not_in_journal", "patient_id"),
    ],
)
def test_merge_that_cannot_be_is_refused_with_field_and_rule(home, merges, asked, rule, field):
    for merge in merges:
        assert home.merge(*merge)
    latest = home.journal.latest()
    with pytest.raises(NotRecordedError) as refused:
        home.unmerge(asked[0]) if asked[1] is None else home.merge(*asked)
    assert (refused.value.rule, refused.value.field) == (rule, field)
    assert home.journal.latest() == latest


def test_same_reading_under_both_identifiers_counts_once_after_the_merge(home):
    home.send("a", 90)
    *_, twin = home.messages
    home.messages.append(("b", *twin[1:]))
    home.send("b", 90, message=len(home.messages) - 1)
    assert (home.values("a"), home.values("b")) == ([60, 90], [70, 90])
    home.merge("b", "a")
    assert home.values("a") == [60, 90, 70]
    home.send("a", None, message=3, status="retracted")
    assert home.values("a") == [60, 70, 90]  # the other one was taken for itself, and stands
    home.unmerge("b")
    assert (home.values("a"), home.values("b")) == ([60], [70, 90])


def test_correction_under_the_survivor_replaces_what_the_message_said_under_the_other_identifier(home):
    home.merge("b", "a")
    assert home.send("a", 77, message=1, status="corrected") == "accepted"
    assert home.values("a") == [60, 77]
    home.unmerge("b")
    assert (home.values("a"), home.values("b")) == ([60], [77])


def test_correction_of_a_reading_sent_to_a_merged_key_concerns_the_survivor(home):
    home.merge("b", "a")
    states = SubjectStates(STANDARD, home.journal.latest())
    home.send("b", 71, message=1, status="corrected")
    with home.journal.snapshot() as journal:
        assert list(states.advance(journal, 100)) == ["a"]
        assert states.index_time("a") == home.journal.latest()


def test_ward_and_facts_are_those_of_the_survivor(home):
    home.journal.register([Registration("a", "A", age=70.0), Registration("b", "B", age=20.0)])
    home.merge("b", "a")
    assert home.journal.wards_of(["a", "b", "c"]) == {"a": "A", "b": "A", "c": UNASSIGNED}
    assert home.journal.registered_wards_of(["b"]) == {"b": "B"}
    home.journal.register([Registration("b", "B", discharged=True)])
    states = SubjectStates(STANDARD, home.journal.latest())
    with home.journal.snapshot() as journal:
        features = features_as_of(journal, STANDARD, ["a", "b"], home.journal.latest())
        states.load(journal, "a")
    assert features["subject_id"].tolist() == ["a"]
    assert features["age"].tolist() == [70]
    assert states.is_monitored("a")


def test_latest_of_the_survivor_follows_merges_and_readings_of_the_merged_key(home):
    home.merge("b", "a")
    assert home.journal.latest_of(["a"]) == {"a": home.journal.latest()}
    home.send("b", 71)
    assert home.journal.latest_of(["a"]) == {"a": home.journal.latest()}
    home.unmerge("b")
    times = home.journal.latest_of(["a", "b"])
    assert set(times.values()) == {home.journal.latest()}


def test_retention_keeps_a_merge_while_anything_of_the_person_is_left(home):
    home.journal.register([Registration("a", "A", age=70.0), Registration("b", "B")])
    home.merge("b", "a")
    home.time += timedelta(days=10)
    home.send("b", 71)
    home.journal.drop_before(pd.Timestamp(home.time - timedelta(days=5)))
    home.journal.delete_before(pd.Timestamp(home.time - timedelta(days=5)))
    assert home.values("a") == [71]
    assert home.journal.wards_of(["b"]) == {"b": "A"}
    assert home.journal.forget(["a", "b"], len) == 0
    home.time += timedelta(days=10)
    home.journal.drop_before(pd.Timestamp(home.time - timedelta(days=5)))
    home.journal.delete_before(pd.Timestamp(home.time - timedelta(days=5)))
    assert home.journal.survivors_of(["b"]) == {"b": "b"}
    assert home.journal.forget(["a", "b"], len) == 2


def test_clock_that_is_settled_moves_merges_with_everything_else(home):
    home.time += timedelta(hours=5)
    home.merge("b", "a")
    home.time -= timedelta(hours=4)
    home.journal.settle_clock()
    latest = home.journal.latest()
    assert latest <= microsecond(pd.Timestamp(home.time))
    assert home.journal.survivors_of(["b"], latest - 1) == {"b": "b"}
    assert home.journal.survivors_of(["b"], latest) == {"b": "a"}


def test_drift_reads_a_person_once_with_the_time_at_which_each_reading_arrived(home):
    arrived = [at for at, action, _ in home.log if action == "final"][:2]
    home.merge("b", "a")
    with home.journal.snapshot() as journal:
        rows = journal.observations(0, home.journal.latest())
    assert rows["subject_id"].tolist() == ["a", "a", "c"]
    assert [microsecond(at) for at in rows["recorded_at"].tolist()[:2]] == arrived


def test_repetition_under_another_identifier_of_what_memory_has_forgotten_counts_once(home):
    for _ in range(2):  # the first day is remembered
        home.time += timedelta(hours=30)
        home.send("a", 90)
    home.merge("b", "a")
    old = home.messages[-1]
    states = SubjectStates(STANDARD)
    for hours in (0, 100, 0):
        home.time += timedelta(hours=hours)
        if hours == 0 and len(states._subjects):
            home.messages.append(("b", *old[1:]))
            home.send("b", 90, message=len(home.messages) - 1)
        home.send("a", 95)
        with home.journal.snapshot() as journal:
            states.advance(journal, 100)
        states.evict(states.cursor, silent_since=0)
    online = states.features(["a"])
    assert online["heart_rate_count_so_far"].tolist() == [7]
    assert bits(online) == bits(home.batch("a", states.cursor))


ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.sampled_from(KEYS), st.sampled_from([60, 80, 100]), st.sampled_from([0, 1, 30])),
        st.tuples(st.just("twin"), st.integers(0, 30), st.sampled_from(KEYS), st.sampled_from([60, 80])),
        st.tuples(st.sampled_from(["corrected", "retracted"]), st.integers(0, 30), st.sampled_from([60, 80, 100])),
        st.tuples(st.just("merge"), st.sampled_from([("a", "b"), ("b", "a"), ("b", "c"), ("c", "b"), ("c", "a"), ("a", "c")])),
        st.tuples(st.just("unmerge"), st.sampled_from(KEYS)),
        st.tuples(st.just("wait"), st.sampled_from([1, 26, 80])),
    ),
    min_size=12,
    max_size=20,
)


def do(home, action, *arguments):
    """Do one of the actions, if it is possible."""
    try:
        if action == "send":
            home.send(*arguments)
        elif action == "twin" and home.messages:  # the same time under another identifier, perhaps the same value
            number, key, value = arguments
            _, *rest = home.messages[number % len(home.messages)]
            home.messages.append((key, *rest))
            home.send(key, value, message=len(home.messages) - 1)
        elif action in {"corrected", "retracted"} and home.messages:
            number = arguments[0] % len(home.messages)
            home.send(home.messages[number][0], arguments[1], message=number, status=action)
        elif action == "merge":
            home.merge(*arguments[0])
        elif action == "unmerge":
            home.unmerge(*arguments)
        elif action == "wait":
            home.time += timedelta(hours=arguments[0])
    except NotRecordedError:
        pass


@pytest.fixture(scope="module")
def empty(tmp_path_factory):
    folder = tmp_path_factory.mktemp("empty")
    Journal(folder)._engine.dispose()
    return folder


def take_in(home, states):
    """Take in what is new; features are those of the batch, and states those of a process that restarts."""
    with home.journal.snapshot() as journal:
        while concerned := states.advance(journal, 1):
            online = [subject for subject in concerned if states.is_monitored(subject)]
            features = states.features(online)
            for subject, at, row in zip(online, features["index_time"], range(len(features)), strict=True):
                assert bits(features.iloc[[row]]) == bits(home.batch(subject, microsecond(at)))
        restarted = SubjectStates(STANDARD, states.cursor)
        for subject in KEYS:
            now, again = states.load(journal, subject), restarted.load(journal, subject)
            assert (again.index_time, again.merged_into) == (now.index_time, now.merged_into)


@settings(max_examples=12, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(actions=ACTIONS)
def test_what_counts_equals_the_reference_and_batch_equals_online_over_any_history(empty, tmp_path_factory, actions):
    folder = tmp_path_factory.mktemp("history")
    shutil.copytree(empty, folder, dirs_exist_ok=True)
    home, states, times = Home(folder), SubjectStates(STANDARD), []
    for number, action in enumerate([*(("send", key, 60 + 20 * place) for place, key in enumerate(KEYS)), *actions]):
        do(home, *action)
        if (latest := home.journal.latest()) is None or (times and latest == times[-1]):
            continue
        times.append(latest)
        if number % 3 == 2:
            continue  # so that several groups are taken in at once
        take_in(home, states)
        states.evict(states.cursor, silent_since=0)
    with home.journal.snapshot() as journal:  # as it was known then, whatever was merged since
        for time in times:
            for subject in KEYS:
                rows = journal.observations(0, time, subject)
                found = zip(
                    rows["observed_at"], rows["recorded_at"].map(microsecond), rows["signal"], rows["value"], strict=True
                )
                assert sorted(found) == home.known_at(subject, time)
        for time in times[::5]:
            for subject in (key for key in KEYS if home.known_at(key, time)):
                assert bits(features_as_of(journal, STANDARD, [subject], time)) == bits(home.batch(subject, time))
    assert all(first < second for first, second in pairwise(times))
    home.journal._engine.dispose()
    shutil.rmtree(folder)


def test_a_message_that_was_retracted_under_the_survivor_counts_no_more_when_it_is_sent_again(home):
    """Under either identifier."""
    home.merge("b", "a")
    before = home.values("a")
    home.unmerge("b")
    home.send("b", 55)
    message = len(home.messages) - 1
    home.merge("b", "a")
    assert home.send("a", None, message=message, status="retracted") == "accepted"
    for key in ("a", "b"):
        assert home.send(key, 55, message=message) == "duplicate"
        assert home.values("a") == before
