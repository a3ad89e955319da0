"""Whole cohorts: from the files of a source to features on disk, and to a training frame."""

import tempfile
from pathlib import Path

from tests.benchmarks.measure import Process, Section, format_seconds, in_process

_FEATURES = """
import sys, time
from pathlib import Path
from vigil.pipelines.environment import prepare_process
prepare_process()
from vigil.pipelines.home import Home
from vigil.pipelines.jobs.build_features import build
from vigil.pipelines.jobs.ingest import ingest
from vigil.pipelines.sources.{module} import {source}
started = time.perf_counter()
source = {source}({argument})
{limit}
home = Home(Path(sys.argv[1]))
ingest(source, home)
build(home)
print(time.perf_counter() - started)
"""
# What no way to the features can do without: every file unpacked, and all numbers read. One parse of all rows by pyarrow is the
# fastest that we know.
_PARSE = """
import io, sys, time, zipfile
import pyarrow, pyarrow.csv
started = time.perf_counter()
with zipfile.ZipFile(sys.argv[1]) as archive:
    files = [archive.read(name) for name in archive.namelist() if name.endswith(".psv")]
names = files[0].partition(b"\\n")[0].decode().strip().split("|")
table = pyarrow.csv.read_csv(
    io.BytesIO(b"".join(text.partition(b"\\n")[2] for text in files)),
    read_options=pyarrow.csv.ReadOptions(column_names=names),
    parse_options=pyarrow.csv.ParseOptions(delimiter="|"),
    convert_options=pyarrow.csv.ConvertOptions(column_types=dict.fromkeys(names, pyarrow.float64()), null_values=["NaN"]),
)
print(time.perf_counter() - started)
"""
_FRAME = """
import sys, time
from pathlib import Path
from vigil.pipelines.environment import prepare_process
prepare_process()
from vigil.features.store.client import Store
from vigil.models.cohort import index_times
from vigil.pipelines.cohort_store import CohortStore
started = time.perf_counter()
home = Path(sys.argv[1])
index = index_times(CohortStore(home).read("stays"))[["subject_id", "index_time"]]
frame = Store(home).read_training_frame(index, "everything")
assert len(frame) == len(index)
print(time.perf_counter() - started)
"""
STAYS = (1_000, 2_000, 5_000, 10_000)
WARD_PATIENTS = (80, 800, 8_000)  # about twelve thousand readings each


def cinc2019_section(data: Path) -> Section:
    """Measure Challenge 2019 set A by number of stays, and the training frame of all features."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for stays in (*STAYS, None):
            home = Path(folder) / str(stays)
            process = _compute_features(home, "cinc2019", "Cinc2019", "Path(sys.argv[2])", str(data), limit=stays)
            count, index_times = _size(home)
            rows.append(
                [
                    f"zip to feature Parquet, {count:,} stays, {index_times:,} index times",
                    *_cells(process),
                    f"{1e3 * process.work / count:.2f} ms",
                ]
            )
        parse = in_process(_PARSE, str(data))
        rows.append(
            [
                f"for comparison: unpacking and parsing the {count:,} files with pyarrow, and nothing else",
                *_cells(parse),
                f"{1e3 * parse.work / count:.2f} ms",
            ]
        )
        frame = in_process(_FRAME, str(home))
        rows.append(
            [
                f"training frame of all {count:,} stays through Feast, every feature",
                *_cells(frame),
                f"{1e3 * frame.work / count:.2f} ms",
            ]
        )
    return Section(
        "A cohort of real stays",
        "PhysioNet/CinC Challenge 2019, training set A, without sampling. Each row is one process. The first includes "
        "compiling the kernel if it was not compiled before.",
        ["step", "time", "peak memory", "per stay"],
        rows,
    )


def ward_section() -> Section:
    """Measure simulated wards of increasing size, which must not need increasing memory."""
    rows = []
    for patients in WARD_PATIENTS:
        with tempfile.TemporaryDirectory() as folder:
            process = _compute_features(Path(folder), "simulated", "SimulatedWard", f"patients={patients}")
            readings, index_times = _count_readings(Path(folder)), _size(Path(folder))[1]
            rows.append(
                [
                    f"{patients:,}",
                    f"{readings / 1e6:.1f} M",
                    f"{index_times:,}",
                    *_cells(process),
                    f"{readings / process.work / 1e3:.0f} k",
                ]
            )
    return Section(
        "The simulated ward, by size",
        "Simulation, ingest and features in one process, batch by batch.",
        ["patients", "readings", "index times", "time", "peak memory", "readings per second"],
        rows,
    )


def _compute_features(
    home: Path, module: str, source: str, argument: str, *arguments: str, limit: int | None = None
) -> Process:
    cut = f"source._files = source._files[:{limit}]" if limit else ""
    return in_process(_FEATURES.format(module=module, source=source, argument=argument, limit=cut), str(home), *arguments)


def _cells(process: Process) -> list[str]:
    return [format_seconds(process.seconds), f"{process.gigabytes:.1f} GB"]


def _size(home: Path) -> tuple[int, int]:
    """Return the numbers of stays and index times."""
    from vigil.models.cohort import index_times
    from vigil.pipelines.cohort_store import CohortStore

    stays = CohortStore(home).read("stays")
    return len(stays), len(index_times(stays))


def _count_readings(home: Path) -> int:
    """Return the number of readings, including quarantined ones."""
    from vigil.pipelines.cohort_store import CohortStore

    facts = CohortStore(home).facts
    return facts.observations + sum(facts.quarantined.values())
