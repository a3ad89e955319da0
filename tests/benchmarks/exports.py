"""Bulk export: readings a second and memory, of a ward with about a million readings."""

import tempfile
from pathlib import Path

from tests.benchmarks.measure import Process, Section, in_process
from tests.support.filled_ward import fill_ward
from vigil.serving.records import connection_tables
from vigil.serving.records.database import open_database
from vigil.serving.records.exports import Export, Exports
from vigil.serving.records.timestamps import microsecond, present

SIZES = {"a tenth of it": 10, "a million readings": 100}  # patients
MINUTES = 2_500  # of readings of each signal of each patient

_WRITE = """
import sys, time
from pathlib import Path
from vigil.serving.export_process import open_export_writer
from vigil.serving.settings import Settings
writer = open_export_writer(Settings(home=Path(sys.argv[1])))
started = time.process_time()
assert writer.write_all() == 1
print(time.process_time() - started)
"""


def exports_section() -> Section:
    """Measure an export of readings that monitors sent, and of the same sent as Observations."""
    rows = []
    for name, patients in SIZES.items():
        for by_clients in (False, True):
            with tempfile.TemporaryDirectory() as folder:
                readings = fill_ward(Path(folder), patients, MINUTES, by_clients=by_clients)
                ran = _export(Path(folder))
                size = sum(path.stat().st_size for path in (Path(folder) / "exports").rglob("*.gz"))
            kind = "sent as Observations" if by_clients else "from monitors"
            cells = [f"{readings:,}", f"{readings / ran.work:,.0f}", f"{ran.gigabytes * 1e3:.0f} MB", f"{size / 1e6:.0f} MB"]
            rows.append([f"{name}, {kind}", *cells])
    return Section(
        "Bulk export",
        "A ward of the journal to gzipped NDJSON, in the process that `vigil serve` starts for it: readings a second of "
        "processor time, and the peak of its resident memory with all imports. Memory does not grow with the readings.",
        ["ward", "readings", "readings a second", "memory", "files"],
        rows,
    )


def _export(home: Path) -> Process:
    now = microsecond(present())
    export = Export("benchmark", "benchmark", "", None, ["Patient", "Encounter", "Observation"], [], None, [], now, 2 * now)
    assert Exports(open_database(home, connection_tables.SCHEMA)).add(export, 1)
    return in_process(_WRITE, str(home))
