"""Tables from files: two columns of one name are refused, whatever the format."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vigil.pipelines.drift.inputs import read_outcomes
from vigil.pipelines.jobs.score_readings import _read
from vigil.pipelines.sources._shared.parquet import read_columns
from vigil.pipelines.sources.cinc2012 import OUTCOME_COLUMNS, _read_results
from vigil.pipelines.table_files import RepeatedColumnError, read_csv, read_table


def test_read_csv_refuses_a_repeated_column_and_names_it(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("a,value,b,value\n1,98,2,84\n")
    with pytest.raises(RepeatedColumnError, match=r"table\.csv: column value is there more than once") as refused:
        read_csv(path)
    assert "98" not in str(refused.value)


@pytest.mark.parametrize("text", ["a,b\n1,2\n", "a,a.1\n1,2\n", "\ufeffa,b\n1,2\n", '"a","b",,\n1,2,,\n', "\n\na,b\n1,2\n"])
def test_read_table_takes_columns_of_different_names(tmp_path, text):
    path = tmp_path / "table.csv"
    path.write_text(text)
    table = read_table(path, dtype=str)
    assert table.iloc[0, :2].tolist() == ["1", "2"]
    assert table.columns[0] == "a"


def test_every_reader_of_tables_refuses_repeated_columns(tmp_path):
    texts = {
        _read: "subject_id,observed_at,signal,value,value",
        read_outcomes: "patient_id,end,onset,onset",
        _read_results: ", ".join(("RecordID", *OUTCOME_COLUMNS, "In-hospital_death")),
    }
    for number, (read, header) in enumerate(texts.items()):
        path = tmp_path / f"{number}.csv"
        path.write_text(f"{header}\n")
        with pytest.raises(RepeatedColumnError, match="is there more than once"):
            read(path)
    path = tmp_path / "table.parquet"
    pq.write_table(pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["record", "record"]), path)
    with pytest.raises(RepeatedColumnError, match="column record"):
        read_columns(path, "record")
    with pytest.raises(RepeatedColumnError, match="column record"):
        read_table(path)
