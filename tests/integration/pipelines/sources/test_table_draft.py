"""Drafts of mappings: what columns are taken for, in which unit, and what is left to people."""

import numpy as np
import pandas as pd
import pytest

from tests.support.tables import write_german_cohort
from vigil.pipelines.jobs.check_cohort import check_cohort
from vigil.pipelines.sources import SourceError, open_source
from vigil.pipelines.sources.table.draft import draft
from vigil.pipelines.sources.table.mapping import read_mapping


@pytest.fixture
def drafted(tmp_path):
    """``drafted("a.csv"=text or frame, time_zone=...)``: the draft as a mapping, and its doubts as one text."""

    def write(time_zone=None, **files):
        paths = [tmp_path / name.replace("_", ".") for name in files]
        for path, content in zip(paths, files.values(), strict=True):
            if isinstance(content, pd.DataFrame):
                content.to_parquet(path)
            else:
                path.write_bytes(content.encode("cp1252"))
        found = draft(paths, time_zone)
        (tmp_path / "drafted.toml").write_text(found.text, encoding="utf-8")
        return read_mapping(tmp_path / "drafted.toml")[0], "\n".join(found.doubts)

    return write


def rows_of(number=30, stay="a"):
    return "".join(
        f"{stay},2026-03-{1 + n // 24:02}T{n % 24:02}:00,{70 + n % 9},{98.1 + n % 3},{5 + n % 4}\n" for n in range(number)
    )


def test_a_german_export_is_drafted_as_it_was_mapped_by_hand(tmp_path):
    by_hand, _ = write_german_cohort(tmp_path, 12)
    found = draft([tmp_path / "cohort.csv"], "Europe/Berlin")
    (tmp_path / "drafted.toml").write_text(found.text, encoding="utf-8")
    expected, drafted = (read_mapping(path)[0] for path in (by_hand, tmp_path / "drafted.toml"))
    assert drafted.observations == expected.observations
    assert drafted.stays == expected.stays
    assert drafted.outcomes == expected.outcomes
    settings = [mapping.default.model_copy(update={"encoding": "utf-8"}) for mapping in (expected, drafted)]
    assert settings[0] == settings[1]  # nothing in this file tells its encoding
    assert len(found.doubts) == 1
    results = [check_cohort(open_source(None, None, path)) for path in (by_hand, tmp_path / "drafted.toml")]
    assert results[0].signals == results[1].signals


def test_units_come_from_names_and_values_and_are_doubted(drafted):
    text = "patient,time,Pulse,Temp,BZ (mmol/L)\n" + rows_of()
    mapping, doubts = drafted(v_csv=text, time_zone="UTC")
    assert mapping.observations[0].signals == {"heart_rate": "Pulse", "body_temperature": "Temp", "glucose": "BZ (mmol/L)"}
    assert mapping.default.units == {"body_temperature": "[degF]", "glucose": "mmol/L"}
    assert "Temp has a median of 99.1, so it is taken in [degF], and not in Cel" in doubts
    assert "no column looks like an outcome" in doubts
    assert "no column is called a start" in doubts


def test_a_unit_that_its_values_contradict_is_doubted(drafted):
    _, doubts = drafted(v_csv="patient,time,hr,temp (C),glu\n" + rows_of(), time_zone="UTC")
    assert "temp (C) has a median of 99.1, which fits [degF] better than C" in doubts


def test_times_that_could_be_two_dates_are_doubted(drafted):
    rows = "".join(f"a,0{n}/02/2026 08:00,{70 + n}\n" for n in range(1, 10))
    mapping, doubts = drafted(v_csv="patient,time,hr\n" + rows)
    assert "its times could be %d/%m/%Y %H:%M or %m/%d/%Y %H:%M; the first is taken" in doubts
    assert "its times have no zone" in doubts
    mapping, doubts = drafted(v_csv="patient,time,hr\n" + rows + "a,02/13/2026 09:00,71\n")
    assert mapping.default.time_format == "%m/%d/%Y %H:%M"
    assert "could be" not in doubts


def test_a_long_table_and_stays_in_two_files(drafted):
    codes = {"HR": 80, "Temperature F": 98.6, "Pain": 3}
    vitals = "".join(
        f"{s},{code},{value},2026-03-05T{h:02}:00:00Z\n" for s in (1, 2) for h in range(12) for code, value in codes.items()
    )
    mapping, doubts = drafted(
        v_csv="stay_id,itemid,valuenum,charttime\n" + vitals,
        s_csv="subject_id,stay_id,intime,outtime,gender,anchor_age,hospital_expire_flag\n"
        "10,1,2026-03-05T00:00:00Z,2026-03-06T00:00:00Z,F,70,0\n10,2,2026-03-05T00:00:00Z,2026-03-06T00:00:00Z,U,71,1\n",
    )
    table = mapping.observations[0]
    assert (table.stay, table.signal, table.value) == ("stay_id", "itemid", "valuenum")
    assert table.codes == {"HR": "heart_rate", "Temperature F": "body_temperature"}
    assert "1 codes are not known and left out: Pain (24)" in doubts
    assert (mapping.stays.patient, mapping.stays.start, mapping.stays.end) == ("subject_id", "intime", "outtime")
    assert "gender: what U mean is not known" in doubts
    assert (mapping.outcomes.event, mapping.task) == ("hospital_expire_flag", "mortality")
    assert "anchor_age differs within a stay" not in doubts


def test_hours_since_admission_and_a_label_a_row(drafted):
    frame = pd.DataFrame({"id": np.repeat([1, 2], 12), "hour": [*range(12)] * 2, "HR": 80.0, "SepsisLabel": [0] * 20 + [1] * 4})
    mapping, doubts = drafted(v_parquet=frame.rename(columns={"hour": "time"}))
    assert (mapping.observations[0].offset, mapping.outcomes.offset) == ("h", "h")
    assert (mapping.outcomes.label, mapping.outcomes.time, mapping.task) == ("SepsisLabel", "time", "sepsis")
    assert "write lead_hours = 6" in doubts


@pytest.mark.parametrize(
    ("files", "zone", "message"),
    [
        ({"v_csv": "a,b\n1,2\n"}, None, "no file has a time beside vital signs"),
        ({"v_csv": ""}, None, "has no rows"),
        ({"v_xlsx": "PK\x03\x04\x00\x00workbook"}, None, "is no text; .* a workbook has to be saved as CSV first"),
        ({"v_csv": "patient,time,hr\n" + rows_of()}, "Mars/Base", "Mars/Base is no time zone"),
    ],
)
def test_what_cannot_be_drafted_is_named(drafted, files, zone, message):
    with pytest.raises(SourceError, match=message):
        drafted(time_zone=zone, **files)
