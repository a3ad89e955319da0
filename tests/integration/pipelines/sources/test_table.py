"""Cohorts of any tables by a mapping: what is read, in which unit and zone, and what is refused."""

import sqlite3
from contextlib import closing

import numpy as np
import pandas as pd
import pytest

from tests.support.tables import write_german_cohort
from vigil.features.observations import check
from vigil.pipelines.home import Home
from vigil.pipelines.jobs.check_cohort import check_cohort
from vigil.pipelines.jobs.ingest import check_stays, ingest
from vigil.pipelines.sources import SourceError, open_source
from vigil.pipelines.table_files import RepeatedColumnError

HEAD = 'name = "ward"\n[default]\ntime_zone = "Europe/Berlin"\n'
VITALS = '[[observations]]\nfile = "v.csv"\nstay = "id"\ntime = "t"\nsignals = { heart_rate = "hr", glucose = "glu" }\n'
LONG = '[[observations]]\nfile = "v.csv"\nstay = "id"\ntime = "t"\nsignal = "what"\nvalue = "value"\nunit = "unit"\n'


@pytest.fixture
def cohort(tmp_path):
    """``cohort(mapping, "v.csv"=text or frame)``: the source of tables."""

    def write(mapping, **files):
        for name, content in files.items():
            path = tmp_path / name.replace("_", ".")
            if isinstance(content, pd.DataFrame):
                content.to_parquet(path)
            else:
                path.write_bytes(content if isinstance(content, bytes) else content.encode())
        (tmp_path / "cohort.toml").write_text(mapping, encoding="utf-8")
        return open_source(None, None, tmp_path / "cohort.toml")

    return write


def read(source):
    (batch,) = source.batches()
    check_stays(batch)
    return batch, check(batch.observations, declared=source.declared)


def test_a_german_export_gives_the_observations_it_was_made_of(tmp_path):
    mapping, made_of = write_german_cohort(tmp_path, 12)
    batch, checked = read(open_source(None, None, mapping))

    names = "F-" + made_of.stays["subject_id"].str.replace("~", "-")
    names = made_of.stays["subject_id"].str.partition("~")[0] + "~" + names
    expected = check(made_of.observations).accepted
    expected = expected.assign(
        subject_id=expected["subject_id"].map(dict(zip(made_of.stays["subject_id"], names, strict=True)))
    )
    expected = expected.assign(observed_at=expected["observed_at"].dt.floor("s"), signal=expected["signal"].astype(str))
    keys = ["subject_id", "signal", "observed_at"]
    found = checked.accepted.assign(signal=checked.accepted["signal"].astype(str))
    found, expected = (rows.drop_duplicates(keys, keep=False) for rows in (found, expected))  # some share a second
    both = found[[*keys, "value"]].merge(expected[[*keys, "value"]], on=keys, how="inner", suffixes=("", "_sent"))
    assert len(both) >= len(found) - 5 > 50_000
    assert np.abs(both["value"] - both["value_sent"]).max() < 0.06  # tenths of Fahrenheit
    stays, sent = batch.stays.set_index("subject_id"), made_of.stays.assign(subject_id=names).set_index("subject_id")
    for fact in ("start", "sex"):
        assert stays[fact].tolist() == sent.loc[stays.index, fact].tolist()
    assert len(batch.outcomes) == len(made_of.outcomes)


def test_values_units_and_times_are_those_that_are_declared(cohort):
    source = cohort(
        HEAD + 'units = { glucose = "mmol/L" }\n' + VITALS,
        v_csv='id,t,hr,glu\na,2026-03-05T08:00:00,80,5.5\na,2026-03-05T09:00:00Z,,Low\nb,2026-07-05T08:00:00," 90 ",\n',
    )
    batch, checked = read(source)
    rows = checked.accepted[["subject_id", "observed_at", "signal", "value"]]
    assert rows.astype(str).to_numpy().tolist() == [
        ["a", "2026-03-05 07:00:00+00:00", "glucose", "99.09"],
        ["a", "2026-03-05 07:00:00+00:00", "heart_rate", "80.0"],
        ["b", "2026-07-05 06:00:00+00:00", "heart_rate", "90.0"],
    ]
    assert checked.quarantined[["reason", "line"]].to_numpy().tolist() == [["undeclared_range", 3]]
    assert batch.stays[["subject_id", "site"]].to_numpy().tolist() == [["a", "ward"], ["b", "ward"]]


@pytest.mark.parametrize(
    ("encoding", "delimiter", "start"),
    [("cp1252", ";", ""), ("utf-8-sig", ",", ""), ("utf-16", "\t", ""), ("cp1252", ";", "sep=;\r\n"), ("utf-8", "|", "")],
)
def test_files_as_programs_write_them(cohort, encoding, delimiter, start):
    rows = [["Fall", "Zeit", "Größe"], ["ä1", "2026-03-05T08:00", "180"], ["ä2", "2026-03-05T08:00", '"1\r\n80"']]
    text = start + "\r\n".join(delimiter.join(row) for row in rows) + "\r\n\r\n"
    written = f'encoding = "{encoding.removesuffix("-sig")}"\ndelimiter = "{delimiter}"\n'
    table = '[[observations]]\nfile = "v.csv"\nstay = "Fall"\ntime = "Zeit"\nsignals = { body_height = "Größe" }\n'
    source = cohort(
        HEAD + written + table,
        v_csv=text.encode(encoding),
    )
    _, checked = read(source)
    assert checked.accepted["subject_id"].tolist() == ["ä1"]
    assert checked.quarantined["reason"].tolist() == ["not_a_number"]


def test_a_long_table_has_codes_and_those_that_are_not_mapped_are_counted(cohort):
    source = cohort(
        HEAD + LONG + '[observations.codes]\n"220045" = "heart_rate"\nT = "body_temperature"\n',
        v_csv="id,t,what,value,unit\n1,2026-03-05T08:00:00Z,220045,80,bpm\n1,2026-03-05T08:00:00Z,T,98.6,°F\n"
        "1,2026-03-05T08:00:00Z,999,1,\n1,2026-03-05T08:00:00Z,999,2,\n",
    )
    _, checked = read(source)
    assert checked.accepted[["signal", "value"]].to_numpy().tolist() == [["body_temperature", 37.0], ["heart_rate", 80.0]]
    assert check_cohort(source).left_out == {"v.csv": {"999": 2}}


def test_without_codes_a_long_table_has_names_and_loinc_codes(cohort):
    source = cohort(
        HEAD + LONG, v_csv="id,t,what,value,unit\n1,2026-03-05T08:00:00Z,spo2,97,%\n1,2026-03-05T08:00:00Z,8867-4,80,/min\n"
    )
    _, checked = read(source)
    assert checked.accepted["signal"].tolist() == ["heart_rate", "spo2"]


def test_offsets_count_from_the_admission_and_parquet_has_types(cohort):
    rows = pd.DataFrame({"id": [7, 7], "t": [60, 120.0], "hr": [80, np.nan], "glu": [np.nan, 100.0]})
    mapping = HEAD + 'units = { glucose = "mg/dL" }\n' + VITALS.replace("v.csv", "v.parquet") + 'offset = "min"\n'
    batch, checked = read(cohort(mapping, v_parquet=rows))
    assert checked.accepted["observed_at"].dt.hour.tolist() == [2, 1]
    assert batch.stays["subject_id"].tolist() == ["7"]


def test_queries_read_a_database_and_its_password_comes_from_the_environment(tmp_path, cohort, monkeypatch):
    with closing(sqlite3.connect(tmp_path / "ehr.db")) as database:
        database.execute("CREATE TABLE obs (stay INTEGER, at TEXT, pulse REAL)")
        database.execute("INSERT INTO obs VALUES (1, '2026-03-05T08:00:00Z', 80.5)")
        database.commit()
    mapping = (
        'name = "ward"\ndatabase = "sqlite:///$EHR"\n[[observations]]\nquery = "SELECT stay, at, pulse FROM obs"\n'
        'stay = "stay"\ntime = "at"\nsignals = { heart_rate = "pulse" }\n'
    )
    with pytest.raises(SourceError, match="EHR: no such environment variable"):
        read(cohort(mapping))
    monkeypatch.setenv("EHR", "ehr.db")
    _, checked = read(cohort(mapping))
    assert checked.accepted["value"].tolist() == [80.5]
    monkeypatch.setenv("EHR", "other.db")
    with pytest.raises(SourceError, match=r"other.db: no such file"):
        read(cohort(mapping))
    assert not (tmp_path / "other.db").exists()


OUTCOME_ROWS = (
    "id,t,hr,glu,label,died,onset\n"
    + "".join(f"a,2026-03-05T{hour:02}:00:00Z,80,,{int(hour >= 3)},1,\n" for hour in range(6))
    + "".join(f"b,2026-03-05T{hour:02}:00:00Z,80,,1,0,2026-03-05T04:30:00Z\n" for hour in range(3))
    + "c,2026-03-05T00:00:00Z,80,,0,0,\n"
)


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ('onset = "onset"', [["b", "2026-03-05T04:30", True]]),
        ('event = "died"', [["a", "2026-03-05T05:00", True]]),
        ('label = "label"\ntime = "t"\nlead_hours = 6', [["a", "2026-03-05T09:00", True], ["b", "2026-03-05T06:00", False]]),
    ],
)
def test_outcomes_are_onsets_events_or_labels(cohort, table, expected):
    batch, _ = read(cohort(HEAD + VITALS + f'[outcomes]\nfile = "v.csv"\nstay = "id"\n{table}\n', v_csv=OUTCOME_ROWS))
    rows = batch.outcomes.assign(onset=batch.outcomes["onset"].dt.strftime("%Y-%m-%dT%H:%M"))
    assert rows[["subject_id", "onset", "onset_known"]].to_numpy().tolist() == expected


def test_an_observation_of_no_stay_is_quarantined_and_counted(cohort):
    source = cohort(
        HEAD + VITALS + '[stays]\nfile = "s.csv"\nstay = "id"\nstart = "in"\nage = "age"\n',
        v_csv="id,t,hr,glu\na,2026-03-05T08:00:00Z,80,\nz,2026-03-05T08:00:00Z,80,\n",
        s_csv="id,in,age\na,2026-03-05T07:30:00Z,71\n",
    )
    result = check_cohort(source)
    assert (result.stays, result.signals["heart_rate"].accepted) == (1, 1)
    assert result.signals["heart_rate"].quarantined == {"no_stay": 1}
    assert result.known["age"] == 1
    assert any("no stay has the outcome" in warning for warning in result.warnings)


def test_attributes_are_columns_of_stays(cohort):
    source = cohort(
        HEAD + VITALS + '[stays]\nfile = "s.csv"\nstay = "id"\nattributes = { insurance = "payer", kin = "id" }\n',
        v_csv="id,t,hr,glu\na,2026-03-05T08:00:00Z,80,\nb,2026-03-05T08:00:00Z,80,\n",
        s_csv="id,payer\na,public\nb,\n",
    )
    (batch,) = source.batches()
    assert batch.stays["insurance"].fillna("?").tolist() == ["public", "?"]
    assert batch.stays["kin"].tolist() == ["a", "b"]


STAYS = '[stays]\nfile = "s.csv"\nstay = "id"\nstart = "in"\nend = "out"\n'
ONE = "id,t,hr,glu\na,2026-03-05T08:00:00Z,80,\n"


@pytest.mark.parametrize(
    ("mapping", "files", "message"),
    [
        (HEAD + VITALS.replace('"hr"', '"pulse"'), {"v_csv": ONE}, r"v\.csv: no column pulse; it has id, t, hr, glu"),
        (HEAD + 'delimiter = ";"\n' + VITALS, {"v_csv": ONE}, "is ';' its delimiter"),
        (HEAD + VITALS, {"v_csv": ONE + "a,b,c\n"}, "1 rows do not have 4 columns divided by ',', the first has 3"),
        (HEAD + VITALS, {"v_csv": "id,t,hr,hr\n"}, "column hr is there more than once"),
        (HEAD + VITALS, {"v_csv": "id,t,hr,glu\nä,b,c,d\n".encode("cp1252")}, "encoding"),
        (HEAD + VITALS, {}, "v.csv: cannot be read"),
        (
            HEAD + VITALS + STAYS.split("start", maxsplit=1)[0] + 'attributes = { payer = "payer" }\n',
            {"v_csv": ONE, "s_csv": "id,payer\na,public\na,private\n"},
            r"s\.csv: payer: 1 stays have several",
        ),
        (HEAD + VITALS + STAYS + 'attributes = { sex = "s" }\n', {}, "sex has a meaning of its own"),
        (HEAD + VITALS + STAYS + 'attributes = { "My Own" = "s" }\n', {}, "My Own is no name of an attribute"),
        (
            HEAD + VITALS + STAYS,
            {"v_csv": ONE, "s_csv": "id,in,out\na,gestern,\n"},
            "in: not understood in line 2; expected times",
        ),
        (
            HEAD + VITALS + STAYS,
            {"v_csv": ONE, "s_csv": "id,in,out\na,2026-03-05T08:00:00Z,2026-03-05T07:00:00Z\n"},
            "1 end before they start, line 2",
        ),
        (
            HEAD + VITALS + STAYS,
            {"v_csv": ONE, "s_csv": "id,in,out\na,2026-03-05T08:00:00Z,\na,2026-03-05T09:00:00Z,\n"},
            "in: 1 stays have several, first in lines 2, 3",
        ),
        (HEAD + VITALS + "[stay]\n", {"v_csv": ONE}, "stay: Extra inputs"),
        (HEAD + VITALS.replace("heart_rate", "pulse"), {"v_csv": ONE}, "pulse is no signal"),
        ('task = "x"\n' + HEAD + VITALS, {"v_csv": ONE}, "x is no task; expected one of"),
        (HEAD + "[files.other]\n" + VITALS, {"v_csv": ONE}, "other: no table reads it"),
        ("name =", {}, "expected TOML"),
    ],
)
def test_what_is_wrong_is_named(cohort, mapping, files, message):
    with pytest.raises((SourceError, RepeatedColumnError), match=message):
        read(cohort(mapping, **files))


def test_a_mapping_may_bring_its_own_task(cohort, tmp_path):
    task = '[task]\nname = "icu_transfer"\noutcome = "transfer to intensive care"\nhorizon_hours = 24\n'
    outcome = '[outcomes]\nfile = "v.csv"\nstay = "id"\nonset = "onset"\n'
    source = cohort(HEAD.replace("[default]", task + "[default]") + VITALS + outcome, v_csv=OUTCOME_ROWS)
    home = Home(tmp_path / "home")
    facts = ingest(source, home)
    assert facts.task == home.served_task == "icu_transfer"
    assert home.cohort.task == source.task
    assert home.cohort.task.horizon.total_seconds() == 24 * 3600
    with pytest.raises(SourceError, match="sepsis is built in"):
        cohort(HEAD.replace("[default]", task.replace("icu_transfer", "sepsis") + "[default]") + VITALS, v_csv=OUTCOME_ROWS)


def test_what_comes_with_the_end_or_after_the_onset_is_named(cohort):
    rows = ["id,t,hr,glu,rr,onset"]
    for stay in range(25):
        for hour in range(14):
            glucose = 100 if hour == 13 else ""  # at the discharge
            breaths = 20 if hour > 6 else ""  # once it was noticed
            rows.append(f"{stay},2026-03-05T{hour:02}:30:00Z,80,{glucose},{breaths},2026-03-05T06:00:00Z")
    mapping = (HEAD + VITALS).replace('glucose = "glu"', 'glucose = "glu", respiratory_rate = "rr"')
    mapping = mapping.replace('time_zone = "Europe/Berlin"', 'time_zone = "Europe/Berlin"\nunits = { glucose = "mg/dL" }')
    result = check_cohort(cohort(mapping + '[outcomes]\nfile = "v.csv"\nstay = "id"\nonset = "onset"\n', v_csv="\n".join(rows)))
    text = "; ".join(result.warnings)
    assert "glucose: 100% of it is charted in the last hour of a stay" in text
    assert "respiratory_rate: in 100% of the stays with the outcome it is first charted after the onset" in text
    assert "heart_rate" not in text
