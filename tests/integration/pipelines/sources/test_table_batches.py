"""Tables that pass through memory in batches: every stay is in one, and nothing depends on how they are divided."""

import gc
import tempfile

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import sqlalchemy as sa

from tests.support.tables import write_german_cohort
from vigil.pipelines.sources import open_source
from vigil.pipelines.sources.table import cohort, files, spool
from vigil.pipelines.sources.table.spool import PARTS, Spool

LONG = """
name = "long"
deidentified = true
database = "{database}"

[default]
time_zone = "UTC"

[[observations]]
{observations}
stay = "stay"
time = "time"
signal = "signal"
value = "value"

[stays]
{stays}
stay = "stay"
start = "start"
end = "end"
age = "age"

[outcomes]
{stays}
stay = "stay"
onset = "onset"
"""
TABLES = ("observations", "stays", "outcomes")


def whole(source):
    """Return the tables of all batches, in an order of their own, and the number of batches."""
    batches = list(source.batches())
    assert len(batches) == len(source)
    subjects = [subject for batch in batches for subject in batch.stays["subject_id"]]
    assert len(subjects) == len(set(subjects))
    for batch in batches:
        assert set(batch.outcomes["subject_id"]) <= set(batch.stays["subject_id"])
    tables = {}
    for name in TABLES:
        texts = pd.concat([getattr(batch, name).astype(str) for batch in batches], ignore_index=True)
        tables[name] = texts[sorted(texts)].sort_values(sorted(texts), ignore_index=True)
    return tables, batches


@pytest.fixture
def divided(monkeypatch):
    """Divide what would be one batch into many, and read few rows at a time."""
    monkeypatch.setattr(spool, "MOST_ROWS", 400)
    monkeypatch.setattr(files, "_ROWS", 150)
    monkeypatch.setattr(files, "_CSV_BLOCK", 4096)


def test_a_wide_file_gives_the_same_cohort_in_many_batches(tmp_path, monkeypatch):
    mapping, _ = write_german_cohort(tmp_path, 8)
    monkeypatch.setattr(spool, "MOST_ROWS", 400)
    monkeypatch.setattr(files, "_CSV_BLOCK", 100_000)
    several, batches = whole(open_source(None, None, mapping))
    monkeypatch.undo()
    one, single = whole(open_source(None, None, mapping))
    assert len(batches) > 5 > len(single) == 1
    for name in TABLES:
        pd.testing.assert_frame_equal(several[name], one[name])


@pytest.fixture
def rows():
    stays = pd.DataFrame({"stay": range(100, 140), "age": 60.0})
    stays["start"], stays["end"] = "2026-03-01T00:00:00Z", "2026-03-02T00:00:00Z"
    stays["onset"] = np.where(stays["stay"] % 4 == 0, "2026-03-01T20:00:00Z", None)
    hours = pd.DataFrame({"time": [f"2026-03-01T{hour:02}:30:00Z" for hour in range(20)]})
    observations = hours.merge(stays[["stay"]], how="cross")  # rows of a stay lie far from each other
    observations["signal"] = np.where(observations.index % 2, "heart_rate", "999")
    observations["value"] = 60.0 + observations.index % 50
    stray = pd.DataFrame({"stay": [7], "time": ["2026-03-01T01:00:00Z"], "signal": ["heart_rate"], "value": [80.0]})
    return pd.concat([observations, stray], ignore_index=True), stays


def open_tables(folder, kind, observations, stays):
    observations.to_csv(folder / "observations.csv", index=False)
    observations.to_parquet(folder / "observations.parquet", index=False)
    stays.to_csv(folder / "stays.csv", index=False)
    engine = sa.create_engine(f"sqlite:///{folder}/ehr.db")
    observations.to_sql("observations", engine, index=False, if_exists="replace")
    engine.dispose()
    origin = {
        "csv": 'file = "observations.csv"',
        "parquet": 'file = "observations.parquet"',
        "files": "query = \"SELECT * FROM 'observations.parquet'\"",
        "database": 'query = "SELECT * FROM observations"',
    }[kind]
    database = "sqlite:///ehr.db" if kind == "database" else "files"
    (folder / f"{kind}.toml").write_text(LONG.format(database=database, observations=origin, stays='file = "stays.csv"'))
    return open_source(None, None, folder / f"{kind}.toml")


@pytest.mark.parametrize("kind", ["csv", "parquet", "files", "database"])
def test_a_long_table_of_each_kind_gives_the_same_cohort(kind, rows, tmp_path, divided):  # noqa: ARG001
    observations, stays = rows
    source = open_tables(tmp_path, kind, observations, stays)
    tables, batches = whole(source)
    assert len(batches) > 2
    known = observations[observations["signal"] == "heart_rate"]
    assert sorted(tables["observations"]["subject_id"]) == sorted(known["stay"].astype(str))  # the stray one, too
    assert tables["stays"]["subject_id"].tolist() == [str(stay) for stay in stays["stay"]]
    assert tables["outcomes"]["subject_id"].tolist() == [str(stay) for stay in stays["stay"] if stay % 4 == 0]
    assert source.left_out[{"csv": "observations.csv", "parquet": "observations.parquet"}.get(kind, "query")] == {"999": 400}
    whole(source)
    assert sum(sum(codes.values()) for codes in source.left_out.values()) == 400  # read again, counted once


def test_the_number_of_stays_of_a_batch_is_limited(rows, tmp_path, monkeypatch):
    monkeypatch.setattr(cohort, "_STAYS_PER_BATCH", 10)
    _, batches = whole(open_tables(tmp_path, "csv", *rows))
    assert len(batches) > 3
    assert max(len(batch.stays) for batch in batches) <= 10


def test_temporary_files_are_removed(rows, tmp_path, divided, monkeypatch):  # noqa: ARG001
    room = tmp_path / "room"
    room.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(room))
    source = open_tables(tmp_path, "parquet", *rows)
    assert len(source) > 1
    (folder,) = room.iterdir()
    assert folder.stat().st_mode & 0o077 == 0
    del source
    gc.collect()
    assert list(room.iterdir()) == []


def test_rows_without_a_key_and_keys_of_any_type_are_in_one_part(monkeypatch):
    monkeypatch.setattr(spool, "MOST_ROWS", 2)
    rows = Spool()
    rows.add("texts", "key", [pa.table({"key": ["12", None, "x"], "n": [1, 2, 3]})])
    rows.add("numbers", "key", [pa.table({"key": [12.0, None], "n": [4, 5]}), pa.table({"key": [12], "n": [6]})])
    rows.finish()
    assert rows.keys("texts") == {"12", "x"}
    assert rows.keys("numbers") == {"12"}
    (own,) = [part for part in range(PARTS) if 6 in rows.read("numbers", [part])["n"].tolist()]
    assert rows.read("texts", [own])["n"].tolist()[0] == 1
    assert rows.read("numbers", [own])["n"].tolist()[-2:] == [4, 6]
    assert rows.read("texts", [0])["n"].tolist()[:1] == [2]
