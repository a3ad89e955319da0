"""Mappings that come with Vigil, on small files in the official layouts, and on the open demonstration data."""

import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from vigil.features.observations import check
from vigil.pipelines.jobs.check_cohort import check_cohort
from vigil.pipelines.jobs.ingest import check_stays
from vigil.pipelines.sources import SourceError, open_source
from vigil.pipelines.sources.table.mapping import shipped


def read(name, folder):
    source = open_source("table", folder, Path(name))
    (batch,) = source.batches()
    check_stays(batch)
    return batch, check(batch.observations, declared=source.declared)


def write(folder, **tables):
    """Write tables as the publisher does: compressed CSV files, names with ``__`` for a slash."""
    for name, text in tables.items():
        path = folder / f"{name.replace('__', '/')}.csv.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(text.encode()))


def rows_of(checked):
    rows = checked.accepted.sort_values(["subject_id", "observed_at", "signal"])
    return [
        (subject, signal, f"{at:%m-%d %H:%M}", value)
        for subject, signal, at, value in rows[["subject_id", "signal", "observed_at", "value"]].itertuples(index=False)
    ]


def test_mimic_iv(tmp_path):
    write(
        tmp_path,
        icu__icustays="subject_id,hadm_id,stay_id,first_careunit,last_careunit,intime,outtime,los\n"
        "10,20,30,Medical Intensive Care Unit (MICU),MICU,2150-01-01 10:00:00,2150-01-02 10:00:00,1\n",
        hosp__patients="subject_id,gender,anchor_age,anchor_year,anchor_year_group,dod\n10,F,70,2149,2011 - 2013,\n",
        hosp__admissions="subject_id,hadm_id,admittime,dischtime,deathtime,hospital_expire_flag,race,insurance,language\n"
        "10,20,2150-01-01 08:00:00,2150-01-02 12:00:00,2150-01-02 09:30:00,1,WHITE,Medicare,English\n",
        icu__chartevents="subject_id,hadm_id,stay_id,caregiver_id,charttime,storetime,itemid,value,valuenum,valueuom,warning\n"
        "10,20,30,1,2150-01-01 11:00:00,2150-01-01 11:05:00,220045,80,80,bpm,0\n"
        "10,20,30,1,2150-01-01 11:00:00,2150-01-01 11:05:00,220210,18,18,insp/min,0\n"
        "10,20,30,1,2150-01-01 12:00:00,2150-01-01 12:05:00,223761,98.6,98.6,°F,0\n"
        "10,20,30,1,2150-01-01 12:00:00,2150-01-01 12:05:00,220045,300,300,bpm,1\n"
        "10,20,30,1,2150-01-01 12:00:00,2150-01-01 12:05:00,226228,F,,,0\n",
        hosp__labevents="labevent_id,subject_id,hadm_id,specimen_id,itemid,charttime,storetime,value,valuenum,valueuom\n"
        "1,10,20,5,50813,2150-01-01 09:00:00,2150-01-01 09:20:00,2.1,2.1,mmol/L\n"
        "2,10,20,5,50820,2150-01-01 09:00:00,2150-01-01 09:20:00,7.31,7.31,units\n"
        "3,10,20,5,50912,2150-02-01 09:00:00,2150-02-01 09:20:00,1,1,mg/dL\n",
    )
    batch, checked = read("mimic4", tmp_path)
    assert rows_of(checked) == [
        ("10~30", "lactate", "01-01 09:00", 2.1),
        ("10~30", "ph", "01-01 09:00", 7.31),
        ("10~30", "heart_rate", "01-01 11:00", 80.0),
        ("10~30", "respiratory_rate", "01-01 11:00", 18.0),
        ("10~30", "body_temperature", "01-01 12:00", 37.0),
    ]
    assert checked.quarantined.empty
    assert (checked.accepted["recorded_at"] > checked.accepted["observed_at"]).all()
    (stay,) = batch.stays.to_dict("records")
    assert (stay["age"], stay["sex"], stay["unit"]) == (71.0, 0.0, "Medical Intensive Care Unit (MICU)")
    assert (stay["ethnicity"], stay["insurance"], stay["language"]) == ("WHITE", "Medicare", "English")
    assert f"{batch.outcomes['onset'][0]:%m-%d %H:%M}" == "01-02 09:30"


def test_eicu(tmp_path):
    write(
        tmp_path,
        patient="patientunitstayid,uniquepid,gender,age,ethnicity,hospitalid,unittype,hospitaladmitoffset,unitdischargeoffset,"
        "unitdischargestatus\n1,002-1,Male,> 89,Hispanic,73,MICU,-120,600,Expired\n2,002-2,Female,55,,73,MICU,-60,700,Alive\n",
        vitalPeriodic="vitalperiodicid,patientunitstayid,observationoffset,temperature,sao2,heartrate,respiration,"
        "systemicsystolic,systemicdiastolic,systemicmean\n9,1,5,,97,80,16,,,\n10,1,-5,,97,81,16,,,\n",
        vitalAperiodic="vitalaperiodicid,patientunitstayid,observationoffset,noninvasivesystolic,noninvasivediastolic,"
        "noninvasivemean\n7,2,10,120,70,87\n",
        lab="labid,patientunitstayid,labresultoffset,labname,labresult,labmeasurenamesystem,labmeasurenameinterface\n"
        "5,2,-30,WBC x 1000,8.2,K/mcL,k/cmm\n6,2,30,something,1,,\n",
    )
    batch, checked = read("eicu", tmp_path)
    assert rows_of(checked) == [
        ("002-1~1", "heart_rate", "01-01 00:05", 80.0),
        ("002-1~1", "respiratory_rate", "01-01 00:05", 16.0),
        ("002-1~1", "spo2", "01-01 00:05", 97.0),
        ("002-2~2", "wbc", "12-31 23:30", 8.2),
        ("002-2~2", "diastolic_bp", "01-01 00:10", 70.0),
        ("002-2~2", "mean_bp", "01-01 00:10", 87.0),
        ("002-2~2", "systolic_bp", "01-01 00:10", 120.0),
    ]
    assert batch.stays[["age", "sex", "site"]].to_numpy().tolist() == [[90.0, 1.0, "73"], [55.0, 0.0, "73"]]
    assert batch.stays["ethnicity"].fillna("?").tolist() == ["Hispanic", "?"]
    assert batch.outcomes["subject_id"].tolist() == ["002-1~1"]


def test_omop(tmp_path):
    tables = {
        "person": pd.DataFrame({"person_id": [1], "gender_concept_id": [8507], "year_of_birth": [1950]}),
        "visit_occurrence": pd.DataFrame(
            {
                "visit_occurrence_id": [11], "person_id": [1], "visit_concept_id": [9201], "care_site_id": [3],
                "visit_start_datetime": [pd.Timestamp("2020-01-01 08:00")],
                "visit_end_datetime": [pd.Timestamp("2020-01-03 08:00")],
            }
        ),
        "measurement": pd.DataFrame(
            {
                "visit_occurrence_id": [11, 11, 11], "measurement_concept_id": [1001, 1002, 1003],
                "measurement_datetime": [pd.Timestamp("2020-01-01 09:00")] * 3,
                "value_as_number": [80.0, 98.6, 5.0], "unit_concept_id": [2001, 2002, np.nan],
            }
        ),
        "concept": pd.DataFrame(
            {
                "concept_id": [1001, 1002, 1003, 2001, 2002],
                "vocabulary_id": ["LOINC", "LOINC", "SNOMED", "UCUM", "UCUM"],
                "concept_code": ["8867-4", "8310-5", "1", "/min", "[degF]"],
            }
        ),
        "death": pd.DataFrame({"person_id": [1], "death_datetime": [pd.Timestamp("2020-01-03 12:00")]}),
    }  # fmt: skip
    for name, table in tables.items():
        table.to_parquet(tmp_path / f"{name}.parquet")
    batch, checked = read("omop", tmp_path)
    assert rows_of(checked) == [("1~11", "body_temperature", "01-01 09:00", 37.0), ("1~11", "heart_rate", "01-01 09:00", 80.0)]
    assert batch.stays[["age", "sex"]].to_numpy().tolist() == [[70.0, 1.0]]
    assert len(batch.outcomes) == 1


def test_meds_of_the_mimic_demo(tmp_path, mimic4_demo_meds):
    events = pq.read_table(mimic4_demo_meds / "meds_events.parquet").to_pandas().rename(columns={"value": "numeric_value"})
    for shard, part in enumerate(np.array_split(np.arange(len(events)), 3)):
        (tmp_path / "data" / "train").mkdir(parents=True, exist_ok=True)
        events.iloc[part].to_parquet(tmp_path / "data" / "train" / f"{shard}.parquet")
    result = check_cohort(open_source("table", tmp_path, Path("mimic4_meds")))
    assert (result.stays, result.patients) == (140, 100)
    heart = result.signals["heart_rate"]
    assert heart.accepted > 12_000
    assert 70 < heart.median < 100
    assert 36 < result.signals["body_temperature"].median < 38
    assert result.events > 5
    assert result.known["age"] == result.known["sex"] == 1


def test_what_a_query_lacks_is_named(tmp_path):
    with pytest.raises(
        SourceError, match="query: DuckDB cannot run it over .*: Catalog Error: Table with name chartevents does not exist"
    ):
        read("mimic4", tmp_path)
    with pytest.raises(SourceError, match="or name one that comes with Vigil: eicu, meds, mimic4, mimic4_meds, omop"):
        open_source("table", tmp_path, Path("mimic5"))
    assert shipped() == ["eicu", "meds", "mimic4", "mimic4_meds", "omop"]
