"""Task files of ACES: what is read, what is refused, and windows laid out by hand."""

import pandas as pd
import pytest

from vigil.pipelines.sources import SourceError
from vigil.pipelines.sources.table.aces import read_aces
from vigil.pipelines.sources.table.aces_windows import realise

TASK = """
predicates:
  admission: {code: {regex: "^ADMISSION//"}}
  discharge: {code: DISCHARGE}
  death: {code: DEATH}
  lactate: {code: {any: [LACTATE, LACTATE_GAS]}}
  high: {code: LACTATE, value_min: 2, value_min_inclusive: false, value_max: 50}
  leaves: {expr: "or(discharge, death)"}
trigger: admission
windows:
  input:
    start: null
    end: trigger + 24h
    start_inclusive: true
    end_inclusive: true
    has: {lactate: "(1, None)"}
    index_timestamp: end
  gap:
    start: trigger
    end: start + 1 day 12 hours
    start_inclusive: false
    end_inclusive: true
    has: {leaves: "(None, 0)"}
  target:
    start: gap.end
    end: start -> leaves
    start_inclusive: false
    end_inclusive: true
    label: death
"""


@pytest.fixture
def read(tmp_path):
    def reading(text):
        path = tmp_path / "leaving.aces.yaml"
        path.write_text(text)
        return read_aces(path)

    return reading


def events(*rows):
    frame = pd.DataFrame(rows, columns=["patient", "hour", "code", "value"])
    times = pd.Timestamp("2026-03-01T00:00Z") + pd.to_timedelta(frame.pop("hour"), unit="h")
    return frame.assign(time=times.dt.as_unit("us"))


def hours(rows, name):
    return ((rows[name] - pd.Timestamp("2026-03-01T00:00Z")) / pd.Timedelta(hours=1)).tolist()


def test_each_admission_that_fits_is_one_question(read):
    task, settings = read(TASK)
    rows = realise(
        task,
        events(
            ("a", 0, "ADMISSION//ward", None), ("a", 5, "LACTATE", 1.5), ("a", 40, "DEATH", None),  # dies after the gap
            ("b", 0, "ADMISSION//ward", None), ("b", 5, "LACTATE_GAS", None), ("b", 99, "DISCHARGE", None),
            ("b", 200, "ADMISSION//icu", None), ("b", 300, "DISCHARGE", None),  # an earlier lactate counts for it, too
            ("c", 0, "ADMISSION//ward", None), ("c", 5, "LACTATE", 1.0), ("c", 36, "DISCHARGE", None),  # leaves in the gap
            ("d", 0, "ADMISSION//ward", None), ("d", 25, "LACTATE", 1.0), ("d", 50, "DEATH", None),  # lactate too late
            ("e", 0, "ADMISSION//ward", None), ("e", 5, "LACTATE", 1.0),  # the record ends before they leave
        ),
    )  # fmt: skip
    assert rows["patient"].tolist() == ["a", "b", "b"]
    assert hours(rows, "asked_at") == [24, 24, 224]
    assert rows["label"].tolist() == [1, 0, 0]
    assert hours(rows, "onset")[0] == 40
    assert rows["onset"].isna().tolist() == [False, True, True]
    assert (settings.name, settings.outcome, settings.index, settings.horizon_hours) == ("leaving", "death", "end", 240_000)
    assert task.windows_after_the_question() == ["gap"]


def test_the_horizon_is_counted_from_the_question_also_where_an_event_decides_it(read):
    first = "  input: {start: trigger, end: start -> lactate, start_inclusive: false, index_timestamp: end}\n"
    rest = "  target: {start: input.end, end: start + 3 days, start_inclusive: false, label: death}\n"
    before = '  before: {start: end - 2h, end: input.end, has: {death: "(None, 0)"}}\n'
    task, settings = read(TASK[: TASK.index("  input:")] + first + before + rest)
    assert settings.horizon_hours == 72
    assert task.windows_after_the_question() == []


def test_values_limits_and_duplicates_count_as_aces_counts_them(read):
    target = "  target:\n    start: input.end\n    end: start + 10h\n    start_inclusive: false\n    label: high\n"
    text = TASK[: TASK.index("  gap:")] + target
    task, settings = read(text)
    rows = realise(
        task,
        events(
            ("a", 0, "ADMISSION//", None), ("a", 1, "LACTATE", 9.0), ("a", 24, "LACTATE", 9.0),  # at the question: not after
            ("a", 30, "LACTATE", 2.0), ("a", 34, "LACTATE", 2.1), ("a", 34, "LACTATE", 2.1), ("a", 35, "LACTATE", 9.0),
            ("b", 0, "ADMISSION//", None), ("b", 1, "LACTATE", 9.0), ("b", 30, "LACTATE", 51.0),
        ),
    )  # fmt: skip
    assert rows["label"].tolist() == [2, 0]
    assert hours(rows, "onset")[0] == 34
    assert settings.horizon_hours == 10


def test_demographics_are_facts_without_a_time(read):
    task, _ = read("patient_demographics: {female: {code: GENDER//F}}\n" + TASK)
    rows = [(who, hour, code, None) for who in "ab" for hour, code in ((0, "ADMISSION//"), (1, "LACTATE"), (50, "DISCHARGE"))]
    given = events(*rows, ("a", float("nan"), "GENDER//F", None), ("b", 2, "GENDER//F", None))
    assert realise(task, given)["patient"].tolist() == ["a"]


REFUSED = {
    "at every event": ("trigger: admission", "trigger: _ANY_EVENT", "trigger: _ANY_EVENT asks at every event"),
    "unknown predicate": ("label: death", "label: sepsis", "windows.target: sepsis: no such predicate; expected one of"),
    "unknown window": ("start: gap.end", "start: other.end", "windows.target: other.end: no such window"),
    "no label": ("    label: death\n", "", "windows: none have label; expected one window with it"),
    "two questions": ("    label: death", "    label: death\n    index_timestamp: start", "input, target have index_timestamp"),
    "other column": ("{code: DEATH}", "{code: DEATH, ward: icu}", "predicates.death.ward: Extra inputs"),
    "no anchor": ("start: trigger\n", "start: end - 3h\n", "windows.gap: Value error, expected one of start and end to depend"),
    "backwards": ("start + 1 day 12 hours", "start - 2h", "windows.gap: Value error, ends before it starts"),
    "no time": ("trigger + 24h", "trigger + 24 fortnights", "windows.input.end: Value error, '24 fortnights' is no time"),
    "nested": ("or(discharge, death)", "or(discharge, and(death, high))", "predicates.leaves.expr: String should match"),
    "circle": ("start: trigger\n", "start: target.end\n", "some depend on each other in a circle"),
    "no yaml": ("windows:", "windows: [", "leaving.aces.yaml: "),
}


@pytest.mark.parametrize("refused", REFUSED)
def test_what_cannot_be_a_question_is_refused_by_name(refused, read):
    before, after, says = REFUSED[refused]
    assert before in TASK
    with pytest.raises(SourceError) as error:
        read(TASK.replace(before, after))
    assert says in str(error.value)
    assert "supported are predicates of code" in str(error.value)


def test_a_label_that_is_known_at_the_question_is_refused(read):
    task, _ = read(TASK.replace("start: gap.end", "start: trigger"))
    rows = [("a", hour, code, None) for hour, code in ((0, "ADMISSION//"), (1, "LACTATE"), (50, "DISCHARGE"))]
    with pytest.raises(SourceError, match="windows.target: it begins before the question is asked"):
        realise(task, events(*rows))
