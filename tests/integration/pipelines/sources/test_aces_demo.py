"""A task file of ACES on the open demonstration data, compared with its windows written out for each admission."""

from pathlib import Path

import pandas as pd
import pytest

from tests.support import ROOT
from vigil.models.cohort import index_times, label_index_times
from vigil.pipelines.jobs.check_cohort import check_cohort
from vigil.pipelines.sources import SourceError, open_source
from vigil.pipelines.sources.table.aces import read_aces
from vigil.pipelines.sources.table.aces_windows import realise

DEMO = ROOT.parent / "shared" / "data" / "mimic4_demo_meds" / "meds_events.parquet"
pytestmark = pytest.mark.skipif(not DEMO.exists(), reason=f"{DEMO} is missing")

DAY = pd.Timedelta(days=1)
DEATH = """
predicates:
  icu_admission: {code: {regex: "^ICU_ADMISSION//"}}
  icu_discharge: {code: {regex: "^ICU_DISCHARGE//"}}
  death: {code: MEDS_DEATH}
  leaves: {expr: "or(icu_discharge, death)"}
trigger: icu_admission
windows:
  input:
    start: null
    end: trigger + 24h
    start_inclusive: true
    end_inclusive: true
    has: {_ANY_EVENT: "(5, None)"}
    index_timestamp: end
  gap:
    start: trigger
    end: start + 24h
    start_inclusive: false
    end_inclusive: true
    has: {leaves: "(None, 0)", icu_admission: "(None, 0)"}
  target:
    start: gap.end
    end: start + 20d
    start_inclusive: false
    end_inclusive: true
    label: death
"""
LACTATE = """
metadata: {name: lactate_after_creatinine, outcome: raised lactate, feature_service: deterioration_v3}
patient_demographics: {female: {code: GENDER//F}}
predicates:
  admission: {code: {regex: "^HOSPITAL_ADMISSION//"}}
  discharge: {code: {regex: "^HOSPITAL_DISCHARGE//"}}
  creatinine: {code: LAB//50912//mg/dL, value_min: 0.5}
  raised: {code: LAB//50813//mmol/L, value_min: 2, value_min_inclusive: false}
trigger: admission
windows:
  stay: {start: trigger, end: start -> discharge, start_inclusive: false, has: {creatinine: "(2, None)"}}
  first: {start: trigger, end: start -> creatinine, start_inclusive: false, index_timestamp: end}
  before: {start: end <- discharge, end: trigger, start_inclusive: true, end_inclusive: false, has: {admission: "(None, 0)"}}
  target: {start: first.end, end: stay.end, label: raised}
"""
LACTATE_FIXED = LACTATE.replace("end: stay.end,", "end: start + 3 days, start_inclusive: false,")


@pytest.fixture(scope="module")
def events():
    rows = pd.read_parquet(DEMO).rename(columns={"subject_id": "patient"})
    return rows.assign(code=rows["code"].astype(str), time=rows["time"].dt.tz_localize("UTC"))


def read(folder, text):
    path = folder / "icu_mortality.aces.yaml"
    path.write_text(text)
    return read_aces(path)


def slow_death(events):
    for patient, own in events.dropna(subset="time").groupby("patient"):
        for trigger in sorted(own.loc[own["code"].str.startswith("ICU_ADMISSION//"), "time"].unique()):
            asked = trigger + DAY
            gap = own.loc[(own["time"] > trigger) & (own["time"] <= asked), "code"]
            leaves = gap.str.startswith("ICU_DISCHARGE//") | (gap == "MEDS_DEATH") | gap.str.startswith("ICU_ADMISSION//")
            if leaves.any() or own.loc[own["time"] <= asked, "time"].nunique() < 5:
                continue
            target = own[(own["time"] > asked) & (own["time"] <= asked + 20 * DAY)]
            yield patient, asked, int((target["code"] == "MEDS_DEATH").sum())


def slow_lactate(events):
    female = set(events.loc[events["time"].isna() & (events["code"] == "GENDER//F"), "patient"])
    for patient, own in events[events["patient"].isin(female)].dropna(subset="time").groupby("patient"):
        leaves = own.loc[own["code"].str.startswith("HOSPITAL_DISCHARGE//"), "time"]
        creatinine = own.loc[(own["code"] == "LAB//50912//mg/dL") & (own["value"] > 0.5), "time"]
        raised = own.loc[(own["code"] == "LAB//50813//mmol/L") & (own["value"] > 2), "time"]
        admitted = own.loc[own["code"].str.startswith("HOSPITAL_ADMISSION//"), "time"]
        for trigger in sorted(admitted.unique()):
            later, earlier, asked = leaves[leaves > trigger], leaves[leaves < trigger], creatinine[creatinine > trigger].min()
            if later.empty or earlier.empty or pd.isna(asked):
                continue
            in_stay = creatinine[(creatinine > trigger) & (creatinine <= later.min())]
            between = admitted[(admitted >= earlier.max()) & (admitted < trigger)]
            if len(in_stay) >= 2 and between.empty:
                yield patient, asked, int(((raised > asked) & (raised <= asked + 3 * DAY)).sum())


@pytest.mark.parametrize(("text", "slow"), [(DEATH, slow_death), (LACTATE_FIXED, slow_lactate)], ids=["death", "lactate"])
def test_windows_are_those_written_out_for_each_admission(text, slow, events, tmp_path):
    task, _ = read(tmp_path, text)
    rows = realise(task, events)
    found = list(zip(rows["patient"], rows["asked_at"], rows["label"], strict=True))
    assert found == list(slow(events))
    assert len(found) > 50
    assert 0 < sum(label > 0 for _, _, label in found) < len(found) / 2


def test_a_window_that_ends_with_another_window_is_refused_where_it_must_depend_on_its_own_start(tmp_path):
    with pytest.raises(SourceError, match="windows.target: Value error, expected one of start and end to depend on the other"):
        read(tmp_path, LACTATE)


def test_the_cohort_asks_its_questions_in_the_stays_of_the_mapping(events, tmp_path):
    _, settings = read(tmp_path, DEATH)
    folder = tmp_path / "data"
    (folder / "data").mkdir(parents=True)
    columns = {"patient": "subject_id", "value": "numeric_value"}
    stored = events.assign(time=events["time"].dt.tz_localize(None)).rename(columns=columns)
    stored.to_parquet(folder / "data" / "events.parquet", index=False)
    source = open_source(None, folder, Path("mimic4_meds"), tmp_path / "icu_mortality.aces.yaml")
    batch, expected = next(iter(source.batches())), list(slow_death(events))
    labelled = label_index_times(index_times(batch.stays, source.task.index), batch.outcomes, source.task)
    patient = labelled["subject_id"].str.partition("~")[0].astype(int)
    found = sorted(zip(patient, labelled["index_time"], labelled["label"].astype(int), strict=True))
    assert found == sorted((who, asked, int(label > 0)) for who, asked, label in expected)
    assert (
        batch.observations["subject_id"].map(batch.stays.set_index("subject_id")["end"]) >= batch.observations["observed_at"]
    ).all()
    assert source.own_task == settings
    result = check_cohort(source)
    assert (result.stays, result.index_times, result.positive) == (len(expected), len(expected), sum(row[2] for row in found))
    assert not [warning for warning in result.warnings if "after the end of their stay" in warning]
